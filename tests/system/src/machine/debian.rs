//! A clean Debian. PID 1 there is no service manager: what a package asks of one is written down, and a test starts the
//! services as their units say.

use std::path::PathBuf;
use std::process::Command;

use super::{Machine, may_be_made, output};
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

impl Machine {
    /// A Debian without a service manager. The reason where there can be none here, or is not to be.
    pub fn debian(scratch: &Scratch) -> Result<Self, String> {
        let root = unpacked(scratch)?;
        let script = root.join("usr/bin/systemctl");
        std::fs::rename(&script, root.join("usr/bin/systemctl.own"))
            .map_err(|error| error.to_string())?;
        std::fs::write(&script, SYSTEMCTL).map_err(|error| error.to_string())?;
        output(Command::new("chmod").arg("755").arg(&script))?;
        // Maintainer scripts take it for a machine that systemd has booted.
        std::fs::create_dir_all(root.join("run/systemd/system"))
            .map_err(|error| error.to_string())?;
        Self::start_namespaces(root, scratch.path())
    }

    /// Where there is none: what was asked of the service manager since this was called last, a line for each time.
    pub fn asked(&self) -> String {
        let asked = std::fs::read_to_string(self.root.join(ASKED)).unwrap_or_default();
        let _ = std::fs::remove_file(self.root.join(ASKED));
        asked
    }

    /// Where there is none: starts a service as the user, and with the command, that its unit names; returns once it says
    /// that it is ready.
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

/// Its root, in a folder of the test's.
pub(super) fn unpacked(scratch: &Scratch) -> Result<PathBuf, String> {
    may_be_made(&[("debootstrap", "debootstrap")])?;
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
