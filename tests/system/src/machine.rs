//! Machines of a test's own: a root, with its own network and processes, which end with it. A clean Debian, as
//! `debootstrap` makes it, either with a first process that is no service manager or with systemd; or one that has
//! nothing but BusyBox.

mod bare;
mod booted;
mod debian;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::Process;
use crate::{wait, workspace};

const ENVIRONMENT: [&str; 4] = [
    "-i",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
];

/// A root with processes of its own, which end with it.
#[derive(Debug)]
pub struct Machine {
    pub root: PathBuf,
    /// The first process within, by its id outside.
    first: u32,
    namespaces: Process,
    logs: PathBuf,
}

impl Machine {
    fn start_namespaces(root: PathBuf, logs: &Path) -> Result<Self, String> {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c"])
            .arg("mount -t proc proc \"$0/proc\" && ip link set lo up && exec chroot \"$0\" sleep infinity")
            .arg(&root);
        let mut namespaces = Process::start("unshare", command, &logs.join("unshare.log"));
        let parent = namespaces.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        let first = wait::until("the namespaces are there", wait::SOON, || {
            if namespaces.exited().is_some() {
                return Some(Err(namespaces.log()));
            }
            let children = std::fs::read_to_string(&children).ok()?;
            let first: u32 = children.split_whitespace().next()?.parse().ok()?;
            let command = std::fs::read_to_string(format!("/proc/{first}/comm")).ok()?;
            (command.trim() == "sleep").then_some(Ok(first))
        });
        Ok(Self {
            root,
            first: first?,
            namespaces,
            logs: logs.to_owned(),
        })
    }

    /// A program of this machine, in the network of that one.
    pub fn beside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--net", program]);
        command
    }

    /// As a device does it.
    #[track_caller]
    pub fn publish(&self, port: &str, payload: &str) {
        let mut device = self.beside("mosquitto_pub");
        device.args(["-h", "127.0.0.1", "-p", port, "-q", "1"]);
        device.args(["-t", "plant/line1", "-m", payload]);
        output(&mut device).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until a Kafka client has these of a topic, and nothing else.
    #[track_caller]
    pub fn wait_consumed(&self, broker: &str, topic: &str, payloads: &[&str]) {
        wait::until("a Kafka client has them all", wait::SOON, || {
            let mut client = self.beside("kcat");
            client.args(["-q", "-b", broker, "-t", topic]);
            let output = client.args(["-C", "-e", "-o", "beginning"]).output();
            let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
            (text.lines().collect::<Vec<_>>() == payloads).then_some(())
        });
    }

    /// A program there, by root.
    pub fn command(&self, words: &[&str]) -> Command {
        within(self.first, words)
    }

    /// The same to its end, which must be a good one; what it has said to its standard output.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        output(&mut self.command(words)).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        let read = std::fs::read_to_string(self.path(path));
        read.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// The reason where there can be no such machine here, or is not to be. Tools, each with the package that it is in.
fn may_be_made(tools: &[(&str, &str)]) -> Result<(), String> {
    if std::env::var("TIDEGATE_TEST_FULL").as_deref() != Ok("1") {
        return Err("this makes a machine of its own: tests/run --full does it".to_owned());
    }
    if !workspace::is_root() {
        return Err("this needs root, for chroot and namespaces".to_owned());
    }
    for (tool, package) in [tools, &[("ip", "iproute2")]].concat() {
        if !workspace::has_tool(tool) {
            return Err(format!("{tool} is missing (apt-get install {package})"));
        }
    }
    Ok(())
}

/// The service's own process: what has started it waits for it.
pub fn main_process(service: &Process) -> u32 {
    let id = service.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let first = children.unwrap_or_default();
    first
        .split_whitespace()
        .next()
        .map_or(id, |child| child.parse().expect("a number"))
}

/// As the service manager does.
#[track_caller]
pub fn terminate(service: &mut Process) {
    let id = main_process(service).to_string();
    let killed = Command::new("kill").args(["-s", "TERM", &id]).status();
    assert!(killed.is_ok_and(|status| status.success()), "kill {id}");
    let status = service.wait(wait::SOON);
    assert!(status.success(), "{status}");
}

/// A program where a process is.
fn within(process: u32, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &process.to_string()])
        .args(["--mount", "--net", "--pid", "--root", "--wd=/", "env"])
        .args(ENVIRONMENT)
        .args(words);
    command
}

/// Runs it to its end; what it has said where that is a bad one.
fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let ended = command
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    let Output {
        status,
        stdout,
        stderr,
    } = ended;
    let out = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(out);
    }
    let error = String::from_utf8_lossy(&stderr);
    Err(format!("{shown}: {status}\n{out}{error}"))
}
