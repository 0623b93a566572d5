//! Facts as files of JSON lines.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::remote::show::{self, cell, items, print, said};
use crate::remote::{Output, Remote};

/// A file goes to the cloud in parts of whole lines, each no longer than this but for one line.
const PART_BYTES_MAX: usize = 32 << 20;

pub(super) fn export(
    remote: &Remote,
    query: &[(&'static str, &Option<String>)],
    file: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let query = query.iter();
    let query = query.filter_map(|(name, value)| Some((*name, value.as_ref()?.clone())));
    let query: Vec<_> = query.collect();
    let mut lines = remote
        .client()?
        .get_lines("/api/v1/offsets/export", &query)?;
    match file {
        None => match io::copy(&mut lines, &mut io::stdout().lock()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(ExitCode::SUCCESS),
        },
        Some(path) => {
            let (count, bytes) = write_whole(path, &mut lines)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            let shown = path.display().to_string();
            print(&match remote.output {
                Output::Json => {
                    json!({ "file": shown, "facts": count, "bytes": bytes }).to_string()
                }
                Output::Table => format!("{} in {shown}", show::count(count as u64, "fact")),
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The file is there whole or not at all: a broken connection leaves no half of it.
fn write_whole(path: &Path, lines: &mut impl Read) -> io::Result<(usize, usize)> {
    let mut text = Vec::new();
    lines.read_to_end(&mut text)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let mut out = File::create(&beside)?;
    out.write_all(&text)?;
    out.sync_all()?;
    std::fs::rename(&beside, path)?;
    let count = text.iter().filter(|byte| **byte == b'\n').count();
    Ok((count, text.len()))
}

fn read(file: &Path) -> anyhow::Result<String> {
    let read = match file.as_os_str() == "-" {
        true => io::read_to_string(io::stdin().lock()),
        false => std::fs::read_to_string(file),
    };
    read.with_context(|| format!("{} cannot be read", file.display()))
}

/// Whole lines, as many as fit.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        if end > begin && end + line.len() - begin > PART_BYTES_MAX {
            parts.push(&text[begin..end]);
            begin = end;
        }
        end += line.len();
    }
    parts.push(&text[begin..]);
    parts
}

pub(super) fn import(remote: &Remote, file: &Path) -> anyhow::Result<ExitCode> {
    let text = read(file)?;
    let client = remote.client()?;
    let (mut new, mut known) = (0, 0);
    for part in parts(&text) {
        let taken = client.post_lines("/api/v1/offsets/import", part);
        let taken = taken.with_context(|| format!("{} was not taken", file.display()))?;
        new += taken["new"].as_u64().unwrap_or_default();
        known += taken["known"].as_u64().unwrap_or_default();
    }
    print(&match remote.output {
        Output::Json => json!({ "new": new, "known": known }).to_string(),
        Output::Table => format!("{new} new, {known} known before"),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn verify(remote: &Remote, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let client = remote.client()?;
    let mut verdicts = vec![client.get("/api/v1/offsets/verify", &[])?];
    if let Some(file) = file {
        let text = read(file)?;
        for part in parts(&text) {
            verdicts.push(client.post_lines("/api/v1/offsets/verify", part)?);
        }
        if verdicts.iter().skip(1).all(|verdict| verdict["facts"] == 0) {
            bail!("{} holds no fact", file.display());
        }
    }
    let verdict = sum(&verdicts);
    let is_sound = verdict["wrong_count"] == 0;
    print(&match remote.output {
        Output::Json => verdict.to_string(),
        Output::Table => say(&verdict),
    })?;
    Ok(match is_sound {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What the cloud found of its own map, and of the file's parts.
fn sum(verdicts: &[Value]) -> Value {
    let count = |verdicts: &[Value], name: &str| -> u64 {
        verdicts
            .iter()
            .filter_map(|verdict| verdict[name].as_u64())
            .sum()
    };
    let wrong = verdicts.iter().flat_map(|verdict| items(verdict, "wrong"));
    json!({
        "facts": verdicts[0]["facts"],
        "facts_of_file": (verdicts.len() > 1).then(|| count(&verdicts[1..], "facts")),
        "wrong_count": count(verdicts, "wrong_count"),
        "wrong": wrong.collect::<Vec<_>>(),
    })
}

fn say(verdict: &Value) -> String {
    let mut lines: Vec<_> = items(verdict, "wrong").iter().map(said).collect();
    let facts = show::count(verdict["facts"].as_u64().unwrap_or_default(), "fact");
    let of_file = match verdict["facts_of_file"].as_u64() {
        Some(count) => format!(", {count} of the file"),
        None => String::new(),
    };
    lines.push(match verdict["wrong_count"].as_u64() {
        Some(0) => format!("{facts}{of_file}: all true both ways"),
        _ => format!("{facts}{of_file}: {} wrong", cell(&verdict["wrong_count"])),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_at_lines() {
        assert_eq!(parts("a\nb\n"), ["a\nb\n"]);
        let line = "x".repeat(PART_BYTES_MAX / 2) + "\n";
        let text = line.repeat(3) + "end";
        let cut = parts(&text);
        assert_eq!(cut.concat(), text);
        assert_eq!(cut.len(), 3);
        assert!(cut[..2].iter().all(|part| part.ends_with('\n')));
    }

    #[test]
    fn a_verdict_names_the_wrong_ones_and_counts_all() {
        let own = json!({"facts": 3, "wrong_count": 0, "wrong": []});
        assert_eq!(
            say(&sum(std::slice::from_ref(&own))),
            "3 facts: all true both ways"
        );
        let file = json!({"facts": 2, "wrong_count": 1, "wrong": ["fact 1: …"]});
        let said = say(&sum(&[own, file]));
        assert_eq!(said, "fact 1: …\n3 facts, 2 of the file: 1 wrong");
    }
}
