//! Servers of the other kinds of store, on loopback, each ended with the test that has it. What `tests/stores`
//! builds prints its address and ends when its input does.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const STARTED: Duration = Duration::from_secs(120);

pub(crate) struct Server {
    child: Child,
    /// What a program that prints its address says further.
    output: Option<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
    /// Its files, if it has any.
    pub(crate) folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Who has children ends them when its input ends; the others do not look at it.
        let ends_itself = self.child.stdin.take().is_some();
        if !ends_itself {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The folder of what `tests/stores/build` makes; `None`, and it says how to get it, where a part is not there.
fn built(part: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap();
    let folder = target.join("tests/stores").join(part);
    if folder.join("stamp").exists() {
        return Some(folder);
    }
    println!("SKIPPED: tests/stores/{part} is not built: tests/run --full stores");
    None
}

/// Google's: fake-gcs-server.
pub(crate) fn gcs() -> Option<Server> {
    let program = built("gcs")?.join("server");
    Some(started(&mut Command::new(program)))
}

/// Azure's: Azurite.
pub(crate) fn azure() -> Option<Server> {
    let program = built("azure")?.join("server.js");
    Some(started(Command::new("node").arg(program)))
}

/// Hadoop's own small cluster.
pub(crate) fn hdfs() -> Option<Server> {
    let built = built("hdfs")?;
    let classes = format!("{0}/libs/*:{0}/classes", built.display());
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("java");
    command
        .args(["-Xmx512m", "-cp", &classes, "MiniCluster"])
        .arg(folder.path().join("cluster"));
    Some(started_in(folder, &mut command))
}

fn started(command: &mut Command) -> Server {
    started_in(tempfile::tempdir().unwrap(), command)
}

/// Of a program that prints its address.
fn started_in(folder: TempDir, command: &mut Command) -> Server {
    let log = folder.path().join("errors.log");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    match line.trim().parse() {
        Ok(address) => Server {
            child,
            output: Some(output),
            address,
            folder,
        },
        Err(_) => {
            let errors = fs::read_to_string(log).unwrap_or_default();
            panic!("{command:?} says {line:?} and not its address: {errors}");
        }
    }
}

/// Apache's web server, which can be read and, by WebDAV, listed.
pub(crate) fn apache() -> Option<Server> {
    const PROGRAM: &str = "/usr/sbin/apache2";
    if !Path::new(PROGRAM).exists() {
        println!("SKIPPED: apache2 is missing (apt-get install apache2-bin)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("files");
    fs::create_dir(&root).unwrap();
    // As root it serves as another user.
    for path in [folder.path(), &root] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let address = free_address();
    let settings = folder.path().join("apache.conf");
    fs::write(&settings, apache_settings(folder.path(), address)).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("-X").arg("-f").arg(&settings);
    Some(listening(folder, address, &mut command))
}

fn apache_settings(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    let mut settings = format!(
        "ServerRoot {folder}\nServerName {address}\nListen {address}\nUser www-data\nGroup www-data\n\
         PidFile {folder}/pid\nErrorLog {folder}/errors.log\nDefaultRuntimeDir {folder}\n\
         DavLockDB {folder}/locks\nDocumentRoot {folder}/files\n"
    );
    for module in ["mpm_event", "authz_core", "dav", "dav_fs"] {
        let line = "LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n";
        settings.push_str(&line.replace("{module}", module));
    }
    settings
        + &format!(
            "<Directory {folder}/files>\nDav On\nDavDepthInfinity On\n\
             <LimitExcept GET HEAD OPTIONS PROPFIND>\nRequire all denied\n</LimitExcept>\n</Directory>\n"
        )
}

/// Python's web server, which knows nothing of ranges.
pub(crate) fn without_ranges() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("files");
    fs::create_dir(&root).unwrap();
    let address = free_address();
    let port = address.port().to_string();
    let mut command = Command::new("python3");
    command
        .args(["-m", "http.server", "--bind", "127.0.0.1", &port])
        .arg("--directory")
        .arg(&root);
    listening(folder, address, &mut command)
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Of a program that was told its address.
fn listening(folder: TempDir, address: SocketAddr, command: &mut Command) -> Server {
    let log = folder.path().join("output.log");
    let output = File::create(&log).unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let mut server = Server {
        child,
        output: None,
        address,
        folder,
    };
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        let ended = server.child.try_wait().unwrap();
        if ended.is_some() || begun.elapsed() > STARTED {
            let output = fs::read_to_string(log).unwrap_or_default();
            panic!("{command:?} does not listen ({ended:?}): {output}");
        }
        std::thread::yield_now();
    }
    server
}

impl Server {
    /// Puts an object where a web server has its files.
    pub(crate) fn place(&self, key: &str, bytes: &[u8]) {
        let file = self.folder.path().join("files").join(key);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    /// Has something done to it: see `MiniCluster.java`.
    pub(crate) fn change(&mut self, wanted: &str) {
        assert_eq!(self.ask(wanted), "done", "{wanted}");
    }

    pub(crate) fn ask(&mut self, wanted: &str) -> String {
        writeln!(self.child.stdin.as_ref().unwrap(), "{wanted}").unwrap();
        let mut line = String::new();
        self.output.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}
