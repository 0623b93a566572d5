//! The data folder: that it can be written, what it lies on, and whether the journal has room there.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tidegate_shared::fleet::{ByteSize, EdgeSpec};

use super::card::{self, Kept, Verdict};
use super::owners::user_name;
use super::{Finding, Mount};

const CHECK: &str = "disk";

/// What is known of the data folder.
#[derive(Debug)]
pub(super) struct Disk {
    data: PathBuf,
    exists: bool,
    /// Of the folder, or of the one in which it would be made.
    writable: Result<(), String>,
    mount: Option<Mount>,
    free_bytes: u64,
    journal_bytes: u64,
    bytes_max: u64,
    free_disk_min: u64,
    /// A file that belongs to another user than the folder: path, its owner, the folder's.
    foreign: Option<(PathBuf, String, String)>,
    /// What the last test of the card has shown.
    verdict: Option<Verdict>,
}

pub(super) fn look(spec: &EdgeSpec) -> Disk {
    let data = spec.data.clone();
    let exists = data.is_dir();
    let there = nearest(&data);
    let free = rustix::fs::statvfs(&there);
    Disk {
        exists,
        writable: try_writing(&there).map_err(|error| error.to_string()),
        mount: Mount::of(&there),
        free_bytes: free.map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
        journal_bytes: used_bytes(&data.join("journal")),
        bytes_max: spec.journal.bytes_max.0,
        free_disk_min: spec.journal.free_disk_min.0,
        foreign: foreign(&data),
        verdict: card::kept_verdict(&data),
        data,
    }
}

/// The folder itself, or the nearest above it that is there.
fn nearest(data: &Path) -> PathBuf {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let there = absolute.ancestors().find(|path| path.exists());
    there.unwrap_or(Path::new("/")).to_owned()
}

fn try_writing(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".tidegate-doctor-{}", std::process::id()));
    let written = fs::File::create_new(&path).and_then(|file| file.sync_all());
    if written.is_ok() {
        fs::remove_file(&path)?;
    }
    written
}

/// Blocks that a folder's files take.
fn used_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(match metadata.is_dir() {
            true => used_bytes(&entry.path()),
            false => metadata.blocks() * 512,
        })
    });
    sizes.sum()
}

/// One that was started by another user once leaves files that the service cannot write.
fn foreign(data: &Path) -> Option<(PathBuf, String, String)> {
    let owner = fs::metadata(data).ok()?.uid();
    let journal = data.join("journal");
    let folders = [data.to_owned(), journal.clone(), journal.join("log")];
    let entries = folders.iter().flat_map(fs::read_dir).flatten().flatten();
    let of_other = |metadata: &Metadata| metadata.uid() != owner;
    let (path, uid) = entries.map(|entry| entry.path()).find_map(|path| {
        let metadata = fs::symlink_metadata(&path).ok().filter(of_other)?;
        Some((path, metadata.uid()))
    })?;
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = |uid| user_name(&users, uid).unwrap_or_else(|| format!("user {uid}"));
    Some((path, named(uid), named(owner)))
}

pub(super) fn judge(disk: &Disk) -> Vec<Finding> {
    let mut findings = vec![folder(disk)];
    findings.extend(disk.mount.iter().filter_map(medium));
    findings.push(room(disk));
    if let Some((path, file_owner, owner)) = &disk.foreign {
        let found = format!(
            "{} belongs to {file_owner}, and the data folder to {owner}",
            path.display()
        );
        let data = disk.data.display();
        let advice = format!("while no node runs: chown -R {owner}: {data}");
        findings.push(Finding::problem(CHECK, found, advice));
    }
    findings.extend(disk.verdict.as_ref().map(card));
    findings
}

fn folder(disk: &Disk) -> Finding {
    let data = disk.data.display();
    if let Some(mount) = disk.mount.as_ref().filter(|mount| mount.is_read_only()) {
        let point = mount.point.display();
        return Finding::problem(
            CHECK,
            format!("{data} lies on {point}, which is mounted read-only"),
            "where nobody has asked for that, the kernel has done it after an error: `dmesg` says which. Check and, most likely, replace the card or disk",
        );
    }
    if let Err(why) = &disk.writable {
        return Finding::problem(
            CHECK,
            format!("{data} cannot be written: {why}"),
            "the service's user must own it: chown tidegate-edge: DIR; under systemd, a folder elsewhere needs ReadWritePaths= (systemctl edit tidegate-edge)",
        );
    }
    let kind = disk
        .mount
        .as_ref()
        .map_or("an unknown file system", |mount| &mount.kind);
    Finding::ok(
        CHECK,
        match disk.exists {
            true => format!("{data} can be written, on {kind}"),
            false => format!("{data} is not there yet, and can be made, on {kind}"),
        },
    )
}

/// What is wrong with the file system itself.
fn medium(mount: &Mount) -> Option<Finding> {
    let (point, kind) = (mount.point.display(), mount.kind.as_str());
    if let Some(option) = ["nobarrier", "barrier=0"]
        .iter()
        .find(|option| mount.has(option))
    {
        return Some(Finding::problem(
            CHECK,
            format!(
                "{point} is mounted with {option}: what was acknowledged may be gone after a power cut"
            ),
            format!("take {option} out of /etc/fstab, and mount it anew"),
        ));
    }
    let (why, advice) = match kind {
        "tmpfs" | "ramfs" => (
            "everything is gone after a restart of the machine",
            "put data onto a disk or a card",
        ),
        "overlay" => (
            "a container's or a read-only image's own layer goes with the container, or with the next image",
            "mount a volume or a partition of its own for data",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "fuse.sshfs" => (
            "a network's file system is away with the network, and its locks and syncs are another machine's",
            "put data onto a disk of this machine",
        ),
        "vfat" | "exfat" | "msdos" => (
            "it has no journal: a power cut can damage it whole",
            "make it ext4 (or f2fs, xfs, btrfs)",
        ),
        _ => return None,
    };
    Some(Finding::warning(
        CHECK,
        format!("{point} is {kind}: {why}"),
        advice,
    ))
}

fn room(disk: &Disk) -> Finding {
    let (free, journal) = (disk.free_bytes, disk.journal_bytes);
    let may = disk.bytes_max.saturating_sub(journal);
    let fits = free.saturating_sub(disk.free_disk_min);
    let (free, journal) = (shown(free), shown(journal));
    if disk.free_bytes <= disk.free_disk_min {
        let min = shown(disk.free_disk_min);
        return Finding::problem(
            CHECK,
            format!(
                "{free} are free, no more than journal.free_disk_min ({min}): the journal ({journal}) does not grow"
            ),
            "make room on the file system, or lower journal.free_disk_min",
        );
    }
    if fits < may {
        let (max, fits) = (shown(disk.bytes_max), shown(fits));
        return Finding::warning(
            CHECK,
            format!(
                "{free} are free: of the {max} that journal.bytes_max allows, {journal} are taken and {fits} more fit"
            ),
            "fine if it was meant so: without a link, streams are full (overflow) sooner than bytes_max says. Else make room, or lower journal.bytes_max",
        );
    }
    Finding::ok(
        CHECK,
        format!("{free} are free; the journal takes {journal}"),
    )
}

fn card(verdict: &Verdict) -> Finding {
    let found = verdict.to_string();
    match verdict.kept {
        Kept::Word => Finding::ok(CHECK, found),
        Kept::NotShown => Finding::warning(CHECK, found, "do it again: tidegate-edge doctor disk"),
        Kept::Broken => Finding::problem(CHECK, found, card::LIES_ADVICE),
    }
}

fn shown(bytes: u64) -> String {
    // Whole units only would show most of them in bytes.
    let (unit, bytes_of_unit) = match bytes {
        0..1_048_576 => ("KiB", 1 << 10),
        1_048_576..10_737_418_240 => ("MiB", 1 << 20),
        _ => ("GiB", 1 << 30),
    };
    match bytes {
        0 => ByteSize(0).to_string(),
        _ => format!("{} {unit}", bytes / bytes_of_unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const MIB: u64 = 1 << 20;

    fn disk(kind: &str, options: &[&str]) -> Disk {
        Disk {
            data: PathBuf::from("/data"),
            exists: true,
            writable: Ok(()),
            mount: Some(Mount {
                point: PathBuf::from("/"),
                kind: kind.to_owned(),
                options: options.iter().map(|&option| option.to_owned()).collect(),
                ..Mount::default()
            }),
            free_bytes: 11 << 30,
            journal_bytes: 24 * MIB,
            bytes_max: 10 << 30,
            free_disk_min: 256 * MIB,
            foreign: None,
            verdict: None,
        }
    }

    fn worst(disk: &Disk) -> (Level, String) {
        let findings = judge(disk).into_iter();
        let worst = findings.max_by_key(|finding| finding.level);
        worst.map_or((Level::Ok, String::new()), |finding| {
            (finding.level, finding.found)
        })
    }

    #[test]
    fn what_the_folder_lies_on_matters() {
        for (kind, options, level) in [
            ("ext4", &["rw"][..], Level::Ok),
            ("f2fs", &["rw"], Level::Ok),
            ("ext4", &["ro"], Level::Problem),
            ("ext4", &["rw", "barrier=0"], Level::Problem),
            ("tmpfs", &["rw"], Level::Warning),
            ("overlay", &["rw"], Level::Warning),
            ("nfs4", &["rw"], Level::Warning),
            ("vfat", &["rw"], Level::Warning),
        ] {
            assert_eq!(worst(&disk(kind, options)).0, level, "{kind} {options:?}");
        }
    }

    #[test]
    fn the_journal_needs_room() {
        for (free_bytes, level, says) in [
            (11 << 30, Level::Ok, "11 GiB are free"),
            (1 << 30, Level::Warning, "768 MiB more fit"),
            (257 * MIB, Level::Warning, "1 MiB more fit"),
            (256 * MIB, Level::Problem, "does not grow"),
            (0, Level::Problem, "does not grow"),
        ] {
            let (found_level, found) = worst(&Disk {
                free_bytes,
                ..disk("ext4", &["rw"])
            });
            assert_eq!(found_level, level, "{found}");
            assert!(level == Level::Ok || found.contains(says), "{found}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_a_problem() {
        let refused = Disk {
            writable: Err("denied".to_owned()),
            ..disk("ext4", &["rw"])
        };
        assert!(worst(&refused).1.contains("denied"));
        let of_root = (
            "/data/lock".into(),
            "root".to_owned(),
            "tidegate-edge".to_owned(),
        );
        let foreign = Disk {
            foreign: Some(of_root),
            ..disk("ext4", &["rw"])
        };
        assert!(worst(&foreign).1.contains("belongs to root"));
    }
}
