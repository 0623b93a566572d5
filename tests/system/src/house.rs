//! This machine's files and no network but loopback, in namespaces of their own: what is written there is gone with the
//! house, and every port is free. So a configuration that somebody published runs as it is, with its paths and ports.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;
use crate::scratch::Scratch;
use crate::{wait, workspace};

/// `$0` is where it is mounted; further arguments are folders that are the same within, and can be written to.
const MOUNTS: &str = r#"set -e
mount -t tmpfs tmpfs "$0"
mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
mount --rbind /dev "$0/root/dev"
mount -t proc proc "$0/root/proc"
for folder in "$@"; do mount --bind "$folder" "$0/root$folder"; done
ip link set lo up
exec chroot "$0/root" sleep infinity
"#;

const LISTENS: &str = "0A";

#[derive(Debug)]
pub struct House {
    /// The process that keeps it.
    holder: Process,
    logs: PathBuf,
}

impl House {
    /// The reason where there can be none here, or is not to be.
    pub fn new(scratch: &Scratch) -> Result<Self, String> {
        if !workspace::is_root() {
            return Err("this needs root, for chroot and namespaces".to_owned());
        }
        for (tool, package) in [("ip", "iproute2"), ("nsenter", "util-linux")] {
            if !workspace::has_tool(tool) {
                return Err(format!("{tool} is missing (apt-get install {package})"));
            }
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "sh", "-c", MOUNTS]);
        command.arg(scratch.folder("house"));
        command.arg(workspace::root()).arg(workspace::target());
        let mut holder = Process::start("unshare", command, &scratch.path().join("house.log"));
        let command = format!("/proc/{}/comm", holder.id());
        wait::until("the house stands", wait::SOON, || {
            if holder.exited().is_some() {
                return Some(Err(holder.log()));
            }
            let command = std::fs::read_to_string(&command).ok()?;
            (command.trim() == "sleep").then_some(Ok(()))
        })?;
        Ok(Self {
            holder,
            logs: scratch.path().to_owned(),
        })
    }

    /// A file within, by its path outside.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        Path::new(&root).join(path.trim_start_matches('/'))
    }

    /// Copies a file or folder to this path within.
    #[track_caller]
    pub fn put(&self, from: &Path, to: &str) {
        let to = self.path(to);
        let folder = to.parent().expect("it lies in a folder");
        std::fs::create_dir_all(folder).expect("the house can be written to");
        let copied = Command::new("cp").arg("-r").arg(from).arg(&to).status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "{}: it cannot be copied",
            from.display()
        );
    }

    /// A program within, by root, which starts in this folder.
    pub fn command(&self, folder: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.holder.id().to_string();
        command.args(["--target", &holder, "--mount", "--net", "--root"]);
        command.arg(format!("--wd={}", self.path(folder).display()));
        command.arg(program);
        command
    }

    /// A program of this machine, in the network of the house.
    pub fn beside(&self, program: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net"]);
        command.arg(program.get_program()).args(program.get_args());
        command
    }

    /// A server within, which listens at these ports.
    #[track_caller]
    pub fn serve(&self, name: &str, command: Command, ports: &[u16]) -> Process {
        let log = self.logs.join(format!("{name}.log"));
        let mut process = Process::start(name, command, &log);
        wait::until(&format!("{name} listens"), wait::SOON, || {
            assert_eq!(process.exited(), None, "{}", process.log());
            ports.iter().all(|port| self.listens(*port)).then_some(())
        });
        process
    }

    fn listens(&self, port: u16) -> bool {
        ["tcp", "tcp6"].iter().any(|family| {
            let table = format!("/proc/{}/net/{family}", self.holder.id());
            let table = std::fs::read_to_string(table).unwrap_or_default();
            let end = format!(":{port:04X}");
            table.lines().any(|line| {
                let mut words = line.split_whitespace().skip(1);
                let (local, state) = (words.next(), words.nth(1));
                local.is_some_and(|local| local.ends_with(&end)) && state == Some(LISTENS)
            })
        })
    }
}
