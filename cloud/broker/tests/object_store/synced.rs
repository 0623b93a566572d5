//! In a folder, an object is durable when `put` or `create` returns: file before name, and name before return.
//! Read from a trace of the system calls of this very test, run again as another process.

use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use tidegate_cloud::store::{Created, StoreUrl};

const FOLDER: &str = "TIDEGATE_TEST_SYNCED_FOLDER";

/// What the process that is traced does; without its variable, nothing.
#[tokio::test]
async fn writes_for_the_trace() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let store = crate::local(&StoreUrl::folder(Path::new(&folder)));
    let bytes = Bytes::from_static(b"durable");
    store.put("topic/0/put", vec![bytes.clone()]).await.unwrap();
    std::fs::metadata("/put has returned").unwrap_err();
    assert_eq!(
        store.create("topic/1/create", bytes).await.unwrap(),
        Created::New
    );
    std::fs::metadata("/create has returned").unwrap_err();
}

#[test]
fn an_object_in_a_folder_is_durable_when_it_is_written() {
    let strace = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    if strace.is_err() {
        println!("SKIPPED: strace is missing (apt-get install strace)");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().canonicalize().unwrap().join("new/store");
    let trace = scratch.path().join("trace");
    let status = Command::new("strace")
        .args(["-f", "-y", "-s", "500", "-o"])
        .arg(&trace)
        .args(["-e", "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,statx,stat,newfstatat"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "synced::writes_for_the_trace", "--test-threads=1"])
        .env(FOLDER, &root)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let trace = std::fs::read_to_string(trace).unwrap();
    let put = order(&trace, &root, "topic/0/put", "rename", "/put has returned");
    let create = order(
        &trace,
        &root,
        "topic/1/create",
        "linkat",
        "/create has returned",
    );
    put.and(create)
        .unwrap_or_else(|missing| panic!("{missing}\n{trace}"));
}

/// Holds the order of calls that makes one object durable.
fn order(trace: &str, root: &Path, key: &str, publish: &str, returned: &str) -> Result<(), String> {
    let file = root.join(key).display().to_string();
    let mut above: Vec<String> = Path::new(&file)
        .ancestors()
        .skip(1)
        .take_while(|folder| folder.starts_with(root))
        .map(|folder| folder.display().to_string())
        .collect();
    above.reverse();
    let lines: Vec<String> = trace.lines().map(without_numbers).collect();
    let staged = format!("{file}#1");
    let synced = |path: &str| format!("sync(N<{path}>");
    let folder = above.last().cloned().unwrap_or_default();
    let steps = [
        ("", synced(&staged)),
        (publish, format!("\"{staged}\"")),
        ("", synced(&folder)),
        ("", format!("\"{returned}\"")),
    ];
    let mut places = Vec::new();
    for (call, text) in &steps {
        let from = places.last().map_or(0, |last| last + 1);
        let found = lines[from..]
            .iter()
            .position(|line| line.contains(call) && line.contains(text.as_str()));
        places.push(from + found.ok_or(format!("{call} {text} is missing, or not in its place"))?);
    }
    // Each new folder is synced into the one above it before the object has its name.
    for pair in above.windows(2) {
        let made = format!("mkdir(\"{}\"", pair[1]);
        let made = lines
            .iter()
            .position(|line| line.contains(&made) && line.ends_with("= 0"));
        let made = made.ok_or(format!("{} was not made", pair[1]))?;
        let between = lines.get(made..places[1]).unwrap_or_default();
        if !between.iter().any(|line| line.contains(&synced(&pair[0]))) {
            return Err(format!(
                "{} was not synced after {} was made",
                pair[0], pair[1]
            ));
        }
    }
    Ok(())
}

/// `fsync(7</a/b>)` as `fsync(N</a/b>)`.
fn without_numbers(line: &str) -> String {
    let Some((before, after)) = line.split_once("sync(") else {
        return line.to_owned();
    };
    let after = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
    format!("{before}sync(N{after}")
}

#[test]
fn the_check_notices_what_is_missing() {
    let good = [
        "1 mkdir(\"/r/t\", 0777) = 0",
        "1 fsync(3</r>) = 0",
        "1 fsync(4</r/t/a#1>) = 0",
        "1 rename(\"/r/t/a#1\", \"/r/t/a\") = 0",
        "1 fsync(4</r/t>) = 0",
        "1 statx(AT_FDCWD, \"/done\", 0) = -1",
    ];
    let check =
        |lines: &[&str]| order(&lines.join("\n"), Path::new("/r"), "t/a", "rename", "/done");
    assert_eq!(check(&good), Ok(()));
    for missing in 1..good.len() {
        let mut lines = good.to_vec();
        lines.remove(missing);
        assert!(check(&lines).is_err(), "without {}", good[missing]);
    }
    let mut late = good.to_vec();
    late.swap(4, 5);
    assert!(check(&late).is_err());
}
