//! The test itself: writes until it is stopped or the power goes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, StatxFlags, statx};

use super::check;
use super::pattern::{BLOCK_BYTES, FILE_BYTES, Header, Kind, Life, encode, offset};
use super::wear::{Measured, started_s};
use crate::random;

/// The plug is to be pulled after so long at the earliest: whatever a card delays is older by then.
const PULL_AFTER: Duration = Duration::from_secs(3);

/// The same in blocks, whatever a sync costs.
const PULL_FROM_MIN: u64 = 100;
const PULL_FROM_MAX: u64 = 10_000;

/// Below `data`.
const FOLDER: &str = "doctor";
const FILE: &str = "plug-test";

/// A test that runs. Its file goes with it, but not with the power.
#[derive(Debug)]
pub struct PlugTest {
    file: File,
    path: PathBuf,
    header: Header,
    number: u64,
}

/// A block that is on the disk, by the card's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub number: u64,
    /// The plug may be pulled.
    pub is_due: bool,
}

pub(super) fn folder(data: &Path) -> PathBuf {
    data.join(FOLDER)
}

pub(super) fn file_path(data: &Path) -> PathBuf {
    folder(data).join(FILE)
}

/// As this process sees it.
pub(super) fn life(file: &File) -> Life {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = u128::from_str_radix(&boot.trim().replace('-', ""), 16).unwrap_or_default();
    // STATX_MNT_ID_UNIQUE: of Linux 6.8 and newer; the older ids are given again.
    let unique = StatxFlags::from_bits_retain(0x4000);
    let mount = statx(file, "", AtFlags::EMPTY_PATH, unique).ok();
    let told = mount.filter(|found| found.stx_mask & unique.bits() != 0);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Life {
        boot,
        mount: told.map_or(0, |found| found.stx_mnt_id),
        started_ms: started_s(&stat).map_or(0, |seconds| (seconds * 1_000.0) as u64),
    }
}

/// Zero-filled and synced, as the journal's files are, and of the data folder's owner.
pub(super) fn make_file(data: &Path, free_disk_min: u64) -> anyhow::Result<(File, PathBuf)> {
    let owner = fs::metadata(data);
    let owner = owner.with_context(|| {
        format!(
            "there is no data folder {}: start a node once, or make it",
            data.display()
        )
    })?;
    let stat = rustix::fs::statvfs(data)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < FILE_BYTES + free_disk_min {
        bail!(
            "{free} bytes are free: the test needs {FILE_BYTES} beside journal.free_disk_min ({free_disk_min})"
        );
    }
    let folder = folder(data);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = file_path(data);
    let mut options = File::options();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = opened.with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        bail!("another test runs on {}", path.display());
    }
    file.set_len(0)?;
    fill(&file).with_context(|| format!("cannot write {}", path.display()))?;
    for path in [&folder, &path] {
        let metadata = fs::metadata(path)?;
        if metadata.uid() != owner.uid() || metadata.gid() != owner.gid() {
            chown(path, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    for path in [&folder, data] {
        File::open(path)?.sync_all()?;
    }
    Ok((file, path))
}

fn fill(file: &File) -> io::Result<()> {
    let zeros = vec![0; 1 << 16];
    for offset in (0..FILE_BYTES).step_by(zeros.len()) {
        let length = zeros.len().min((FILE_BYTES - offset) as usize);
        file.write_all_at(&zeros[..length], offset)?;
    }
    file.sync_all()
}

impl PlugTest {
    /// Prepares the file. What an earlier test has left or shown is gone then.
    ///
    /// # Errors
    /// The folder cannot be written, or has no room.
    pub fn begin(data: &Path, free_disk_min: u64, measured: Measured) -> anyhow::Result<Self> {
        let (file, path) = make_file(data, free_disk_min)?;
        let header = Header {
            run: u64::from_le_bytes(random::bytes()?),
            pull_from: pull_from(measured.cost.mean_us),
            life: life(&file),
            measured,
        };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        check::forget(data)?;
        Ok(Self {
            file,
            path,
            header,
            number: 0,
        })
    }

    pub fn pull_from(&self) -> u64 {
        self.header.pull_from
    }

    /// Writes the next block and its promise. Once it returns, the card has called both stored.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn step(&mut self) -> io::Result<Progress> {
        let number = self.number + 1;
        for kind in [Kind::Block, Kind::Promise] {
            let block = encode(kind, self.header.run, number);
            debug_assert_eq!(block.len(), BLOCK_BYTES);
            self.file.write_all_at(&block, offset(kind, number))?;
            self.file.sync_data()?;
        }
        self.number = number;
        Ok(Progress {
            number,
            is_due: number >= self.header.pull_from,
        })
    }

    /// Ends it without a cut: nothing is left.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn give_up(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Two syncs a block.
fn pull_from(commit_us: u64) -> u64 {
    let block_us = (2 * commit_us).max(1);
    let blocks = PULL_AFTER.as_micros() as u64 / block_us;
    blocks.clamp(PULL_FROM_MIN, PULL_FROM_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_card_is_written_to_for_as_long_as_a_fast_one() {
        assert_eq!(
            (pull_from(0), pull_from(10)),
            (PULL_FROM_MAX, PULL_FROM_MAX)
        );
        assert_eq!(pull_from(1_000), 1_500);
        assert_eq!(pull_from(1_000_000), PULL_FROM_MIN);
    }
}
