//! A Debian whose first process is systemd, in a container of `systemd-nspawn`: units run there as they do on a machine.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::debian::unpacked;
use super::{Machine, may_be_made, within};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait;

/// What the control groups of such machines begin with.
const GROUPS: &str = "tidegate-tests-";

/// A machine on which it takes longer cannot boot it.
const BOOT_MAX: Duration = Duration::from_secs(40);

/// The container has the newer kind of control groups whatever the machine has, below a group of its own. Those of
/// machines that are gone are empty, and go now: a machine that is killed cannot take its own away.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t proc proc /proc
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find /sys/fs/cgroup -depth -type d -path "/sys/fs/cgroup/$1*" -exec rmdir {} + 2>/dev/null || true
mkdir "/sys/fs/cgroup/$1$2"
echo 0 >"/sys/fs/cgroup/$1$2/cgroup.procs"
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd
exec systemd-nspawn --quiet --directory="$0" --boot --register=no --keep-unit --private-network \
    --link-journal=no --machine=tidegate-tests --console=pipe
"#;

impl Machine {
    /// The reason where it cannot be booted here, or is not to be.
    pub fn booted_debian(scratch: &Scratch) -> Result<Self, String> {
        may_be_made(&[("systemd-nspawn", "systemd-container")])?;
        let root = unpacked(scratch)?;
        let (namespaces, first) = boot(&root, scratch.path())?;
        Ok(Self {
            root,
            first,
            namespaces,
            logs: scratch.path().to_owned(),
        })
    }

    /// As after a power cut: nobody is told, and it boots again.
    #[track_caller]
    pub fn boot_again(&mut self) {
        self.namespaces.kill();
        let left = format!("/proc/{}", self.first);
        let gone = || (!Path::new(&left).exists()).then_some(());
        wait::until("its processes are gone", wait::SOON, gone);
        let booted = boot(&self.root, &self.logs);
        (self.namespaces, self.first) = booted.unwrap_or_else(|error| panic!("{error}"));
    }

    /// A property of a unit, as `systemctl show` has it.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let words = ["systemctl", "show", "--value", "--property", name, unit];
        self.run(&words).trim().to_owned()
    }
}

/// Returns its guard and, by its id outside, its first process, once that says that all is started.
fn boot(root: &Path, logs: &Path) -> Result<(Process, u32), String> {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .args(["sh", "-c", BOOT])
        .arg(root)
        .args([GROUPS, &std::process::id().to_string()]);
    let mut container = Process::start("systemd-nspawn", command, &logs.join("nspawn.log"));
    let deadline = Instant::now() + BOOT_MAX;
    let first = wait::until("systemd has booted", BOOT_MAX * 2, || {
        if let Some(status) = container.exited() {
            let log = container.log();
            return Some(Err(format!("systemd-nspawn: {status}: {}", log.trim())));
        }
        let booted = systemd_below(container.id()).filter(|first| has_started(*first));
        let late = || Err(format!("systemd has not booted within {BOOT_MAX:?}"));
        booted
            .map(Ok)
            .or_else(|| (Instant::now() > deadline).then(late))
    })?;
    Ok((container, first))
}

fn systemd_below(process: u32) -> Option<u32> {
    let children = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(children).ok()?;
    let mut children = children.split_whitespace().flat_map(str::parse);
    children.find_map(|child: u32| {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        if name.trim() == "systemd" {
            return Some(child);
        }
        systemd_below(child)
    })
}

/// Something of the machine may have failed: no unit of ours is there yet, or a test asks for it.
fn has_started(first: u32) -> bool {
    let said = within(first, &["systemctl", "is-system-running"]).output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    said.is_ok_and(|state| ["running", "degraded"].contains(&state.as_str()))
}
