//! A clean Debian, as `debootstrap` makes it, with its own network and processes. Either PID 1 there is no service
//! manager: what a package asks of one is written down, and a test starts the services as their units say. Or it is
//! systemd.

mod booted;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::Process;
use crate::scratch::Scratch;
use crate::service_manager::ServiceManager;
use crate::{wait, workspace};

const SUITE: &str = "bookworm";

/// Where what was asked of `systemctl` is written down.
const ASKED: &str = "var/log/systemctl";

/// Stands in `systemctl`'s place: what needs no PID 1 that one does, all else is only written down.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>/var/log/systemctl
case " $* " in
    *" --root="* | *" is-enabled "*) exec /usr/bin/systemctl.own --root=/ "$@" ;;
    *" is-active "*) echo active ;;
esac
"#;

const ENVIRONMENT: [&str; 4] = [
    "-i",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
];

/// A root with processes of its own, which end with it.
#[derive(Debug)]
pub struct Debian {
    pub root: PathBuf,
    /// The first process within, by its id outside.
    first: u32,
    namespaces: Process,
    logs: PathBuf,
}

impl Debian {
    /// One without a service manager. The reason where there can be none here, or is not to be.
    pub fn new(scratch: &Scratch) -> Result<Self, String> {
        let root = unpacked(scratch)?;
        let script = root.join("usr/bin/systemctl");
        std::fs::rename(&script, root.join("usr/bin/systemctl.own"))
            .map_err(|error| error.to_string())?;
        std::fs::write(&script, SYSTEMCTL).map_err(|error| error.to_string())?;
        output(Command::new("chmod").arg("755").arg(&script))?;
        // Maintainer scripts take it for a machine that systemd has booted.
        std::fs::create_dir_all(root.join("run/systemd/system"))
            .map_err(|error| error.to_string())?;
        Self::unbooted(root, scratch.path())
    }

    fn unbooted(root: PathBuf, logs: &Path) -> Result<Self, String> {
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

    /// Where there is none: what was asked of the service manager since this was called last, a line for each time.
    pub fn asked(&self) -> String {
        let asked = std::fs::read_to_string(self.root.join(ASKED)).unwrap_or_default();
        let _ = std::fs::remove_file(self.root.join(ASKED));
        asked
    }

    /// Where there is no service manager: starts a service as the user, and with the command, that its unit names; returns once it says that it is ready.
    #[track_caller]
    pub fn start(&self, service: &str, manager: &ServiceManager) -> Process {
        let unit = ["/etc/systemd/system", "/lib/systemd/system"]
            .map(|folder| format!("{folder}/{service}.service"));
        let unit = unit.iter().find(|path| self.path(path).exists());
        let unit = self.read(unit.unwrap_or_else(|| panic!("{service} has no unit")));
        let value = |key: &str| {
            let found = unit.lines().find_map(|line| line.strip_prefix(key));
            found.unwrap_or_else(|| panic!("{service}.service has no {key}"))
        };
        let [socket, watchdog] = manager
            .environment(&self.root)
            .map(|(name, value)| format!("{name}={value}"));
        let (user, group) = (value("User="), value("Group="));
        let mut words = vec![
            socket.as_str(),
            &watchdog,
            "setpriv",
            "--init-groups",
            "--reuid",
            user,
            "--regid",
            group,
        ];
        words.extend(value("ExecStart=").split_whitespace());
        let log = self.logs.join(format!("{service}.log"));
        let process = Process::start(service, self.command(&words), &log);
        manager.wait_for("READY=1", wait::SOON);
        process
    }
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

/// Its root, in a folder of the test's.
fn unpacked(scratch: &Scratch) -> Result<PathBuf, String> {
    if std::env::var("TIDEGATE_TEST_FULL").as_deref() != Ok("1") {
        return Err("this makes a Debian of its own: tests/run --full does it".to_owned());
    }
    if !workspace::is_root() {
        return Err("this needs root, for chroot and namespaces".to_owned());
    }
    for (tool, package) in [("debootstrap", "debootstrap"), ("ip", "iproute2")] {
        if !workspace::has_tool(tool) {
            return Err(format!("{tool} is missing (apt-get install {package})"));
        }
    }
    let root = scratch.folder("root");
    let tarball = tarball()?;
    output(
        Command::new("tar")
            .arg("-xpf")
            .arg(tarball)
            .arg("-C")
            .arg(&root),
    )?;
    Ok(root)
}

/// The root as it was made, kept below the target folder.
fn tarball() -> Result<PathBuf, String> {
    let folder = workspace::target().join("tests/debian");
    let kept = folder.join(format!("{SUITE}.tar"));
    if kept.exists() {
        return Ok(kept);
    }
    let (root, new) = (folder.join("root"), folder.join("new.tar"));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    output(Command::new("rm").arg("-rf").arg(&root))?;
    let mut make = Command::new("debootstrap");
    output(
        make.args(["--variant=minbase", "--include=systemd", SUITE])
            .arg(&root),
    )?;
    let mut pack = Command::new("tar");
    pack.args(["--exclude=./var/cache/apt/archives/*.deb", "-cpf"])
        .arg(&new)
        .arg("-C")
        .arg(&root);
    output(pack.arg("."))?;
    output(Command::new("rm").arg("-rf").arg(&root))?;
    std::fs::rename(&new, &kept).map_err(|error| error.to_string())?;
    Ok(kept)
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
