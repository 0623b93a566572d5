//! What a commit costs on this disk: an aligned block appended to a file that is there already, and an fdatasync, as the
//! journal does it.

use std::fmt;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::pattern::{BLOCKS, Kind, encode, offset};
use super::plug;

/// Enough for a p99.
const COMMITS_MAX: u64 = 1_000;
const TIME_MAX: Duration = Duration::from_secs(4);
/// However slow they are.
const COMMITS_MIN: u64 = 20;

/// In microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    pub commits: u64,
    pub mean_us: u64,
    pub median_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// Measures, and leaves nothing behind.
///
/// # Errors
/// The folder cannot be written, or has no room.
pub fn measure(data: &Path, free_disk_min: u64) -> anyhow::Result<Cost> {
    let (file, path) = plug::make_file(data, free_disk_min)?;
    let start = Instant::now();
    let mut times_us = Vec::new();
    for number in 1..=COMMITS_MAX {
        let block = encode(Kind::Block, 0, number);
        let before = Instant::now();
        file.write_all_at(&block, offset(Kind::Block, number))?;
        file.sync_data()?;
        times_us.push(before.elapsed().as_micros() as u64);
        if number >= COMMITS_MIN && start.elapsed() > TIME_MAX {
            break;
        }
    }
    fs::remove_file(path)?;
    Ok(Cost::of(times_us))
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        let (median, p99, max) = (ms(self.median_us), ms(self.p99_us), ms(self.max_us));
        write!(
            formatter,
            "median {median:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"
        )
    }
}

impl Cost {
    fn of(mut times_us: Vec<u64>) -> Self {
        times_us.sort_unstable();
        let at = |share: f64| {
            let index = (times_us.len() as f64 * share) as usize;
            times_us
                .get(index.min(times_us.len().saturating_sub(1)))
                .copied()
        };
        Self {
            commits: times_us.len() as u64,
            mean_us: times_us.iter().sum::<u64>() / times_us.len().max(1) as u64,
            median_us: at(0.5).unwrap_or_default(),
            p99_us: at(0.99).unwrap_or_default(),
            max_us: at(1.0).unwrap_or_default(),
        }
    }
}

const _: () = assert!(COMMITS_MAX <= BLOCKS);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn times_are_told_by_their_place() {
        let cost = Cost::of((1..=1_000).rev().collect());
        assert_eq!(
            (cost.median_us, cost.p99_us, cost.max_us),
            (501, 991, 1_000)
        );
        assert_eq!(cost.to_string(), "median 0.50 ms, p99 0.99 ms, max 1.00 ms");
        assert_eq!(Cost::of(Vec::new()), Cost::default());
    }

    #[test]
    fn measuring_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cost = measure(folder.path(), 0).unwrap();
        assert!(cost.commits >= COMMITS_MIN && cost.max_us >= cost.median_us);
        assert!(!plug::file_path(folder.path()).exists());
        assert!(measure(folder.path(), 1 << 60).is_err(), "the floor holds");
    }
}
