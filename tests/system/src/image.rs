//! A file system of its own whose power can be cut: what was synced is there after a remount, what was
//! not is gone. Needs root, and an ext4 that can be mounted from a file.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::Scratch;
use crate::workspace;

/// What is written and not synced before the cut.
const UNSYNCED: &[u8] = b"gone after the cut";

/// An ext4 file system in a file, mounted while this lives.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    pub mount: PathBuf,
}

impl Image {
    /// One with room for everything. The reason where a file system cannot be mounted here, or is not
    /// to be.
    pub fn new(scratch: &Scratch) -> Result<Self, String> {
        Self::of_size(scratch, "2G")
    }

    /// One of a size as `truncate` reads it, which may well be too small.
    pub fn of_size(scratch: &Scratch, size: &str) -> Result<Self, String> {
        may_mount()?;
        let file = scratch.path().join("image");
        let mount = scratch.folder("mount");
        let image = Self { file, mount };
        make(&image.file, size)?;
        image.mount()?;
        Ok(image)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop"], &[&self.file, &self.mount])
            .map_err(|error| format!("no loop-mounted ext4 here: {error}"))
    }

    /// Cuts the power while `stop` ends the processes that use it, and mounts it again. A file that
    /// is written just before and not synced shows that the cut is one.
    pub fn power_cycle(&self, stop: impl FnOnce()) {
        let unsynced = self.mount.join("unsynced");
        // Anew each time: what is written over an old file of the name is synced by ext4 itself.
        let _ = std::fs::remove_file(&unsynced);
        std::fs::write(&unsynced, UNSYNCED).expect("the file system can be written");
        self.cut_power();
        stop();
        self.remount();
        // Its name may be there: a sync of another file commits the file system's whole transaction.
        let kept = std::fs::read(&unsynced).unwrap_or_default();
        assert_ne!(
            kept, UNSYNCED,
            "the cut kept what was not synced: it proves nothing"
        );
    }

    /// Until what is returned is dropped, whoever writes to it waits, as for a disk that does not answer.
    pub fn freeze(&self) -> Frozen<'_> {
        let frozen = run("fsfreeze", &["--freeze"], &[&self.mount]);
        frozen.expect("what is mounted can be frozen");
        Frozen(self)
    }

    /// All I/O fails from here on, and what was not synced is lost.
    fn cut_power(&self) {
        let status = workspace::python("shutdown_fs.py")
            .arg(&self.mount)
            .status()
            .expect("python can be run");
        assert!(status.success(), "the shutdown ioctl: {status}");
    }

    fn remount(&self) {
        let again = run("umount", &[], &[&self.mount]).and_then(|()| self.mount());
        again.expect("what was mounted can be mounted again");
    }
}

/// A file system that does not answer who writes.
#[derive(Debug)]
pub struct Frozen<'a>(&'a Image);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = run("fsfreeze", &["--unfreeze"], &[&self.0.mount]) {
            println!("{error}");
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Processes that still use it are killed by their own guards, which are dropped before.
        if let Err(error) = run("umount", &["--lazy"], &[&self.mount]) {
            println!("{error}");
        }
    }
}

/// The reason where nothing can be mounted here, or is not to be.
pub(crate) fn may_mount() -> Result<(), String> {
    if std::env::var("TIDEGATE_TEST_FULL").as_deref() != Ok("1") {
        return Err("this mounts a file system: tests/run --full does it".to_owned());
    }
    if !workspace::is_root() {
        return Err("this needs root, for mount".to_owned());
    }
    if !workspace::has_tool("mkfs.ext4") {
        return Err("mkfs.ext4 is missing (apt-get install e2fsprogs)".to_owned());
    }
    Ok(())
}

/// An ext4 in a file.
pub(crate) fn make(file: &Path, size: &str) -> Result<(), String> {
    run("truncate", &[&format!("--size={size}")], &[file])?;
    run("mkfs.ext4", &["-q", "-F", "-m", "0"], &[file])
}

pub(crate) fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<(), String> {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let mut command = Command::new(program);
    let output = command
        .env("PATH", path)
        .args(arguments)
        .args(paths)
        .output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
