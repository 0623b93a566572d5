//! Disks that are full, clocks that are wrong, and months without a link.

use super::super::cases::Case;
use super::super::node::{LIMITS, STREAMS};
use super::super::world::World;
use crate::{Stop, violated};

const DAY_MS: u64 = 24 * 3_600_000;

/// What a journal's index may take beside its log files.
const INDEX_BYTES_MAX: u64 = 512 << 10;

/// An opening writes all anew that lies past the checkpoint: at most twice `checkpoint_log_bytes_max` and the
/// commit that reached it, in files that each leave less than a commit free at their end. And there are two
/// spare log files.
const FILES_BESIDE_MAX: usize = (2 * LIMITS.checkpoint_log_bytes_max + LIMITS.commit_bytes_max)
    .div_ceil(LIMITS.log_file_bytes - LIMITS.commit_bytes_max)
    + 2;

/// An offset and the hash there.
const BOUNDARY_BYTES: usize = 24;

/// What may have been sent is bounded by the window and, after a start, by what the files hold.
const BOUNDARY_BYTES_MAX: usize = 64 << 10;

/// Commits that fill a journal up, of four large messages each.
const FILLING_COMMITS: u64 = 150;

/// Of four large messages each, on one of sixty days: the journal fills up many times over.
const OFFLINE_COMMITS_MAX: u64 = 10;

/// What the ledger may take for three edges with three streams and a dozen lanes each, forks and all.
const LEDGER_BYTES_MAX: usize = 16 << 10;

impl World {
    /// More is published than there is room for.
    pub(in crate::bridge) fn fill_disk(&mut self, at: usize, case: Case) -> Result<(), Stop> {
        let stream = match case {
            Case::DroppedInFlight => 1,
            _ => *self.random.pick(&[0, STREAMS.len()]),
        };
        let (refused, gaps) = (self.nodes[at].refused, self.gap_records(at));
        // Log files are used again meanwhile: what was in them must not be missed if the power goes now.
        let cut_at = self.random.below(2 * FILLING_COMMITS);
        for commit in 0..FILLING_COMMITS {
            if commit == cut_at && self.enabled.contains(&Case::EdgePowerCut) {
                return self.cut_power(at);
            }
            for _ in 0..4 {
                self.publish_large(at, stream);
            }
            if !self.commit(at)? {
                return Ok(());
            }
            if self.nodes[at].refused > refused {
                break;
            }
        }
        if self.nodes[at].refused > refused {
            self.cases.note(Case::EdgeDiskFull);
        }
        if self.gap_records(at) > gaps {
            self.cases.note(Case::DroppedInFlight);
        }
        self.note(|| format!("the disk of node {at} is full"));
        Ok(())
    }

    pub(in crate::bridge) fn gap_records(&self, at: usize) -> u64 {
        let statuses = self.nodes[at].statuses();
        statuses.iter().map(|status| status.gap_records).sum()
    }

    pub(in crate::bridge) fn shift_clock(&mut self, at: usize) -> Result<(), Stop> {
        self.cases.note(Case::WrongClock);
        let shifts = [-1_700_000_000_000, -(DAY_MS as i64), 0, 400 * DAY_MS as i64];
        self.nodes[at].wall_shift_ms = *self.random.pick(&shifts);
        Ok(())
    }

    /// Sixty days without a link, in which devices go on.
    pub(in crate::bridge) fn go_offline(&mut self, at: usize) -> Result<(), Stop> {
        if !self.random.percent(20) {
            return Ok(());
        }
        self.cases.note(Case::LongOffline);
        self.note(|| format!("node {at} is offline for 60 days"));
        self.cut_link(at)?;
        self.nodes[at].offline_until_ms = self.now_ms + 60 * DAY_MS;
        let cut_at = self.random.below(90);
        for day in 0..60 {
            self.now_ms += DAY_MS;
            for _ in 0..self.random.below(OFFLINE_COMMITS_MAX) {
                for _ in 0..4 {
                    let stream = self.random.below(STREAMS.len() as u64 + 1) as usize;
                    self.publish_large(at, stream);
                }
                if !self.commit(at)? {
                    return Ok(());
                }
            }
            let checkpoint = self.random.percent(50);
            if !self.keep_house(at, checkpoint)? {
                return Ok(());
            }
            self.check_bounds(at)?;
            if day == cut_at && self.enabled.contains(&Case::EdgePowerCut) {
                self.cut_power(at)?;
            }
        }
        self.nodes[at].tell_streams();
        self.check_bounds(at)
    }

    /// What a node has on its disk, in its index and in its tables of boundaries, and the ledger.
    pub(in crate::bridge) fn check_bounds(&mut self, at: usize) -> Result<(), Stop> {
        let node = &self.nodes[at];
        let (used, index) = (node.medium.used_bytes(), node.medium.index_bytes());
        let files = ((LIMITS.log_files_max + FILES_BESIDE_MAX) * LIMITS.log_file_bytes) as u64;
        let statuses = node.statuses();
        let boundaries: usize = statuses.iter().map(|status| status.boundaries).sum();
        let boundary_bytes = boundaries * BOUNDARY_BYTES;
        let log_files = (used - index) / LIMITS.log_file_bytes as u64;
        self.tally.log_files_max = self.tally.log_files_max.max(log_files);
        self.tally.index_bytes_max = self.tally.index_bytes_max.max(index);
        let boundaries = &mut self.tally.boundary_bytes_max;
        *boundaries = (*boundaries).max(boundary_bytes as u64);
        if used - index > files || index > INDEX_BYTES_MAX {
            let what = format!("{used} bytes, {index} of them the index");
            return violated("the edge's disk stays bounded", what);
        }
        if boundary_bytes > BOUNDARY_BYTES_MAX {
            let what = format!("{boundary_bytes} bytes");
            return violated("the boundaries that may have been sent stay bounded", what);
        }
        let bytes = match self.truth.replica.ledger_bytes() {
            Ok(bytes) => bytes,
            Err(what) => return violated("what has landed can be packed", what),
        };
        self.tally.ledger_bytes_max = self.tally.ledger_bytes_max.max(bytes as u64);
        match bytes > LEDGER_BYTES_MAX {
            true => violated("the ledger stays bounded", format!("{bytes} bytes")),
            false => Ok(()),
        }
    }
}
