//! Checkpoints: what changed since the last one goes to redb, in a durable transaction of its own,
//! while commits go on.
//!
//! [`Journal::begin_checkpoint`] freezes the changed rows at a frame boundary; the job may run on
//! another thread; [`Journal::finish_checkpoint`] takes the result, and only then are dead log files
//! used again. A checkpoint that finds no space is made again later, with all that it had to write.

use std::sync::Arc;

use redb::{Database, DatabaseError, StorageError};

use crate::journal::{CommitError, Journal};
use crate::limits::CLOCK_CHECKPOINT_INTERVAL_MS;
use crate::log_file::OpenLogFile;
use crate::media;
use crate::state::StreamState;
use crate::tables::{Rows, TableError};

/// A frozen checkpoint that waits to be written.
#[derive(Debug)]
pub struct CheckpointJob {
    database: Arc<Database>,
    frozen: Frozen,
}

/// A checkpoint that was written, or failed.
#[derive(Debug)]
pub struct CheckpointDone {
    result: Result<(), TableError>,
    frozen: Frozen,
}

#[derive(Debug)]
struct Frozen {
    rows: Rows,
    /// To be used again once the rows are durable.
    dead: Vec<Arc<OpenLogFile>>,
    /// To be set aside then.
    condemned: Vec<Arc<OpenLogFile>>,
    /// Log bytes written before it.
    bytes: u64,
}

impl CheckpointJob {
    /// Writes the rows; blocks until they are durable.
    pub fn run(self) -> CheckpointDone {
        CheckpointDone {
            result: self.frozen.rows.write(&self.database),
            frozen: self.frozen,
        }
    }
}

impl Journal {
    /// Freezes what changed. `None` where a checkpoint is under way already, or the index cannot be
    /// opened for want of space.
    pub fn begin_checkpoint(&mut self) -> Option<CheckpointJob> {
        if self.checkpoint_running || self.failed {
            return None;
        }
        let database = self.reopen_database()?;
        self.checkpoint_running = true;
        self.bytes_at_checkpoint = self.writer.bytes_written;
        self.staged.forget_landed();
        let mut dead = std::mem::take(&mut self.dead_unwritten);
        let mut condemned = std::mem::take(&mut self.condemned_unwritten);
        let mut shared = self.shared();
        for (file, damaged) in shared.state.take_dead_files() {
            if let Some(file) = shared.drop_file(file) {
                if damaged { &mut condemned } else { &mut dead }.push(file);
            }
        }
        shared.state.meta.tail = self.writer.tail;
        shared.state.meta.next_file = self.writer.next_file;
        let time = shared.state.meta.time;
        let rows = Rows::freeze(&mut shared.state);
        drop(shared);
        #[cfg(feature = "simulation")]
        if self.recycles_before_checkpoint {
            self.writer.pool.recycle(std::mem::take(&mut dead));
        }
        self.time_at_checkpoint = time;
        let bytes = self.bytes_at_checkpoint;
        Some(CheckpointJob {
            database,
            frozen: Frozen {
                rows,
                dead,
                condemned,
                bytes,
            },
        })
    }

    /// Breaks the rule that a log file is used again only after the checkpoint that records its
    /// death: for the simulation, which must notice it.
    #[cfg(feature = "simulation")]
    pub fn recycle_before_checkpoint(&mut self) {
        self.recycles_before_checkpoint = true;
    }

    /// Takes a checkpoint's result. One that found no space is made again later; after any other
    /// failure the journal must be opened again.
    pub fn finish_checkpoint(&mut self, done: CheckpointDone) -> Result<(), CommitError> {
        self.checkpoint_running = false;
        match done.result {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                self.postpone(done.frozen);
                return Ok(());
            }
            Err(error) => {
                self.failed = true;
                return Err(CommitError::Checkpoint(error));
            }
        }
        self.checkpoints += 1;
        self.bytes_checkpointed = done.frozen.bytes;
        if std::mem::take(&mut self.checkpoint_needs_space) || !self.reserve_is_held {
            self.hold_reserve();
        }
        self.writer.pool.condemn(done.frozen.condemned);
        self.writer.pool.recycle(done.frozen.dead);
        self.writer
            .pool
            .keep_spares()
            .map_err(|error| self.fail(error))
    }

    /// Everything that the checkpoint had to write is due again; the reserve is given up for it.
    fn postpone(&mut self, frozen: Frozen) {
        frozen.rows.put_back(&mut self.shared().state);
        self.dead_unwritten.extend(frozen.dead);
        // They are not used again in any case, and not set aside before their deaths are recorded.
        self.condemned_unwritten.extend(frozen.condemned);
        self.checkpoint_needs_space = true;
        self.bytes_at_checkpoint = self.bytes_checkpointed;
        // redb takes nothing more after a failed write: it is opened again.
        self.database = None;
        let _ = self.medium.release_reserve();
        self.reserve_is_held = false;
    }

    fn reopen_database(&mut self) -> Option<Arc<Database>> {
        if let Some(database) = &self.database {
            return Some(Arc::clone(database));
        }
        match self.medium.open_database() {
            Ok(database) => {
                let database = Arc::new(database);
                self.database = Some(Arc::clone(&database));
                Some(database)
            }
            Err(DatabaseError::Storage(StorageError::Io(error))) if media::is_full(&error) => None,
            Err(_) => {
                self.failed = true;
                None
            }
        }
    }

    /// Where there is no room for it, a later checkpoint asks again.
    pub(crate) fn hold_reserve(&mut self) {
        let (bytes, floor) = (self.limits.reserve_bytes, self.limits.free_disk_min_bytes);
        let free = self.medium.free_bytes().unwrap_or(0);
        self.reserve_is_held = bytes == 0
            || (free >= floor.saturating_add(bytes) && self.medium.hold_reserve(bytes).is_ok());
    }

    /// Does a whole checkpoint here and now.
    ///
    /// # Errors
    /// [`CommitError::Full`] where there is no space for it: the journal goes on.
    pub fn checkpoint(&mut self) -> Result<(), CommitError> {
        // The second time it has the reserve.
        for _ in 0..2 {
            let Some(job) = self.begin_checkpoint() else {
                break;
            };
            self.finish_checkpoint(job.run())?;
            if !self.checkpoint_needs_space {
                return Ok(());
            }
        }
        match self.checkpoint_needs_space && !self.failed {
            true => Err(CommitError::Full),
            false => Err(CommitError::Failed),
        }
    }

    /// Whether a job is out whose result was not taken yet.
    pub fn checkpoint_is_running(&self) -> bool {
        self.checkpoint_running
    }

    /// Whether enough was appended that a checkpoint is due before its time.
    pub fn checkpoint_is_due(&self) -> bool {
        let bytes = self.writer.bytes_written - self.bytes_at_checkpoint;
        bytes >= self.limits.checkpoint_log_bytes_max as u64 && !self.checkpoint_needs_space
    }

    /// Whether a checkpoint is due although nothing else changed: so that age goes on over restarts.
    pub fn clock_is_due(&self) -> bool {
        let shared = self.shared();
        let state = &shared.state;
        let passed = state.meta.time.0.saturating_sub(self.time_at_checkpoint.0);
        let ages = |stream: &StreamState| {
            let retention = &stream.policy.retention;
            retention.age_ms.is_some() || retention.keep_after_landed_ms > 0
        };
        passed >= CLOCK_CHECKPOINT_INTERVAL_MS && state.streams.values().any(ages)
    }

    /// Whether commits must wait for the checkpoint that is under way: so much was appended, or it
    /// is what frees the next log file.
    pub fn checkpoint_is_overdue(&self) -> bool {
        let bytes = self.writer.bytes_written - self.bytes_at_checkpoint;
        let long = bytes >= 2 * self.limits.checkpoint_log_bytes_max as u64;
        self.checkpoint_running && (long || self.writer.pool.spares() <= 1)
    }

    /// Whether the log has outgrown a checkpoint that finds no space: records are refused.
    pub(crate) fn must_wait_for_space(&self) -> bool {
        let bytes = self.writer.bytes_written - self.bytes_checkpointed;
        self.checkpoint_needs_space && bytes >= 2 * self.limits.checkpoint_log_bytes_max as u64
    }
}

impl TableError {
    fn is_full(&self) -> bool {
        let Self::Redb(error) = self else {
            return false;
        };
        matches!(&**error, redb::Error::Io(error) if media::is_full(error))
    }
}
