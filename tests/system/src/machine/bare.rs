//! A machine that has BusyBox, linked statically, and nothing else: no C library, no `dpkg`, no service manager.

use std::path::Path;
use std::process::Command;

use super::{Machine, may_be_made, output};
use crate::scratch::Scratch;
use crate::workspace;

const FOLDERS: [&str; 6] = ["bin", "dev", "etc", "proc", "tmp", "var/lib"];

impl Machine {
    /// Beside root there is one user, with the number that is given. The reason where there can be none here, or is not
    /// to be.
    pub fn bare(scratch: &Scratch, user: &str, number: u32) -> Result<Self, String> {
        may_be_made(&[("busybox", "busybox-static")])?;
        let root = scratch.folder("root");
        let busybox = workspace::tool("busybox").expect("it was looked for");
        make(&root, &busybox, user, number).map_err(|error| error.to_string())?;
        let mut devices = Command::new("sh");
        devices
            .args([
                "-c",
                "cd $0 && mknod -m 666 null c 1 3 && mknod -m 666 random c 1 8 && mknod -m 666 urandom c 1 9",
            ])
            .arg(root.join("dev"));
        output(&mut devices)?;
        let mut install = Command::new("chroot");
        install.arg(&root);
        output(install.args(["/bin/busybox", "--install", "-s", "/bin"]))
            .map_err(|error| format!("BusyBox is not static (busybox-static): {error}"))?;
        Self::start_namespaces(root, scratch.path())
    }
}

fn make(root: &Path, busybox: &Path, user: &str, number: u32) -> std::io::Result<()> {
    for folder in FOLDERS {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    let users = format!("root:x:0:0::/:/bin/sh\n{user}:x:{number}:{number}::/:/bin/false\n");
    std::fs::write(root.join("etc/passwd"), users)?;
    let groups = format!("root:x:0:\n{user}:x:{number}:\n");
    std::fs::write(root.join("etc/group"), groups)
}
