//! Checkpoints: what changed since the last one goes to redb, in a durable transaction of its own,
//! while commits go on.
//!
//! [`Journal::begin_checkpoint`] freezes the changed rows at a frame boundary; the job may run on
//! another thread; [`Journal::finish_checkpoint`] takes the result, and only then are dead log files
//! used again.

use std::sync::Arc;

use redb::Database;

use crate::journal::{CommitError, Journal};
use crate::log_file::OpenLogFile;
use crate::tables::{Rows, TableError};

/// A frozen checkpoint that waits to be written.
#[derive(Debug)]
pub struct CheckpointJob {
    database: Arc<Database>,
    rows: Rows,
    dead: Vec<Arc<OpenLogFile>>,
}

/// A checkpoint that was written, or failed.
#[derive(Debug)]
pub struct CheckpointDone {
    result: Result<(), TableError>,
    dead: Vec<Arc<OpenLogFile>>,
}

impl CheckpointJob {
    /// Writes the rows; blocks until they are durable.
    pub fn run(self) -> CheckpointDone {
        CheckpointDone {
            result: self.rows.write(&self.database),
            dead: self.dead,
        }
    }
}

impl Journal {
    /// Freezes what changed. `None` where a checkpoint is under way already.
    pub fn begin_checkpoint(&mut self) -> Option<CheckpointJob> {
        if self.checkpoint_running || self.failed {
            return None;
        }
        self.checkpoint_running = true;
        self.bytes_at_checkpoint = self.writer.bytes_written;
        self.staged.forget_landed();
        let mut shared = self.shared();
        let dead_files = shared.state.take_dead_files();
        let dead = dead_files
            .into_iter()
            .filter_map(|file| shared.drop_file(file))
            .collect();
        shared.state.meta.tail = self.writer.tail;
        shared.state.meta.next_file = self.writer.next_file;
        let rows = Rows::freeze(&mut shared.state);
        drop(shared);
        Some(CheckpointJob {
            database: Arc::clone(&self.database),
            rows,
            dead,
        })
    }

    /// Takes a checkpoint's result. After a failure the journal must be opened again.
    pub fn finish_checkpoint(&mut self, done: CheckpointDone) -> Result<(), CommitError> {
        self.checkpoint_running = false;
        if let Err(error) = done.result {
            self.failed = true;
            return Err(CommitError::Checkpoint(error));
        }
        self.checkpoints += 1;
        self.writer.pool.recycle(done.dead);
        self.writer
            .pool
            .keep_spares()
            .map_err(|error| self.fail(error))
    }

    /// Does a whole checkpoint here and now.
    pub fn checkpoint(&mut self) -> Result<(), CommitError> {
        let Some(job) = self.begin_checkpoint() else {
            return Err(CommitError::Failed);
        };
        self.finish_checkpoint(job.run())
    }

    /// Whether a job is out whose result was not taken yet.
    pub fn checkpoint_is_running(&self) -> bool {
        self.checkpoint_running
    }

    /// Whether enough was appended that a checkpoint is due before its time.
    pub fn checkpoint_is_due(&self) -> bool {
        let bytes = self.writer.bytes_written - self.bytes_at_checkpoint;
        bytes >= self.limits.checkpoint_log_bytes_max as u64
    }

    /// Whether so much was appended that commits must wait for the checkpoint that is under way.
    pub fn checkpoint_is_overdue(&self) -> bool {
        let bytes = self.writer.bytes_written - self.bytes_at_checkpoint;
        self.checkpoint_running && bytes >= 2 * self.limits.checkpoint_log_bytes_max as u64
    }
}
