//! The file system that a folder lies on, as the kernel tells of it (`proc_pid_mountinfo(5)`).

use std::fs;
use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor`.
    pub device: String,
    pub point: PathBuf,
    pub kind: String,
    pub source: String,
    /// Of the mount and of the file system.
    pub options: Vec<String>,
}

impl Mount {
    pub fn all() -> Vec<Self> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        text.lines().filter_map(parse).collect()
    }

    /// The one that holds a path, whose folders exist.
    pub fn of(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        holding(&Self::all(), &path)
    }

    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }

    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|own| own == option)
    }
}

/// Of those mounted over each other the last one counts.
fn holding(mounts: &[Mount], path: &Path) -> Option<Mount> {
    let holds = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    holds
        .max_by_key(|mount| mount.point.components().count())
        .cloned()
}

/// `36 35 98:0 /root /point ro,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
fn parse(line: &str) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let (device, _, point, options) = (mount.next()?, mount.next()?, mount.next()?, mount.next()?);
    let mut system = system.split(' ');
    let (kind, source) = (system.next()?, system.next()?);
    let own = system.next().unwrap_or_default();
    let options = options.split(',').chain(own.split(','));
    Some(Mount {
        device: device.to_owned(),
        point: PathBuf::from(unescaped(point)),
        kind: kind.to_owned(),
        source: unescaped(source),
        options: options
            .filter(|own| !own.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

/// A space is written as `\040`, and so on.
fn unescaped(text: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const LINES: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw,nobarrier
23 22 0:5 / /var rw - tmpfs tmpfs rw,size=1k
24 22 179:2 / /var/lib/a\\040b ro,noatime shared:2 master:3 - vfat /dev/mmcblk0p2 rw
25 23 179:3 / /var rw - ext4 /dev/mmcblk0p3 rw";

    #[test]
    fn a_folder_lies_on_the_last_mount_that_holds_it() {
        let mounts: Vec<_> = LINES.lines().filter_map(parse).collect();
        let of = |path: &str| holding(&mounts, Path::new(path)).unwrap();
        let root = of("/home");
        assert!(root.has("nobarrier") && !root.is_read_only());
        let card = of("/var/lib/a b/c");
        assert_eq!(
            (card.kind.as_str(), card.device.as_str()),
            ("vfat", "179:2")
        );
        assert!(card.is_read_only());
        assert_eq!(of("/var/lib/a").source, "/dev/mmcblk0p3");
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(Mount::of(Path::new("/")).is_some());
    }
}
