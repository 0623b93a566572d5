//! What a cloud's data folder holds, as a copy of it needs to know: the newest snapshot, the log behind it, and the
//! ledger that they make. It is read as a start would read it, so what was read this way opens; nothing is changed.

use std::path::Path;

use thiserror::Error;
use tidegate_cloud_protocol::ledger::{ApplyError, Command, DecodeError, Ledger, Segment};

use super::manifest::{Position, StoreState, TopicState};
use super::names::Crc;
use crate::log::{LogCopy, LogError, LogFile, older_files, read_for_copy};
use crate::snapshots::{self, SnapshotError, SnapshotFile};
use crate::state::place_of;

/// Why a data folder cannot be read.
#[derive(Debug, Error)]
pub enum ContentsError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the ledger cannot be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("the ledger cannot follow its log: {0}")]
    Apply(#[from] ApplyError),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) snapshot: Option<SnapshotFile>,
    /// Those that a start reads, and older ones in which something lies that is not packed.
    pub(super) log_files: Vec<LogFile>,
    pub(super) ledger: Ledger,
    log: LogCopy,
}

impl Contents {
    /// Reads a data folder up to a frame of its log, or a little further, where a snapshot was made since;
    /// without a frame, up to where the log ends: then nobody may be writing. Blocks.
    ///
    /// # Errors
    /// Something of it is missing or damaged.
    pub(super) fn read(data: &Path, until: Option<u64>) -> Result<Self, ContentsError> {
        let snapshot = snapshots::read_newest(&data.join("snapshots"))?;
        let after = snapshot.as_ref().map(|file| file.snapshot.end);
        let mut ledger = match &snapshot {
            Some(file) => Ledger::restore(file.snapshot.ledger.clone())?,
            None => Ledger::new(),
        };
        let until = until.map(|frame| after.map_or(frame, |end| frame.max(end.next_frame)));
        let directory = data.join("log");
        let log = read_for_copy(&directory, after, until, |appended, bytes| {
            ledger.apply(Command::decode(bytes)?, place_of(&appended))?;
            Ok::<(), ContentsError>(())
        })?;
        let mut log_files = older_files(&directory, &log, ledger.needed_log_objects())?;
        log_files.extend(log.files.iter().cloned());
        Ok(Self {
            snapshot,
            log_files,
            ledger,
            log,
        })
    }

    pub(super) fn store_id(&self) -> u128 {
        self.log.end.store_id
    }

    pub(super) fn position(&self) -> Position {
        Position {
            frame: self.log.end.next_frame,
            previous_crc: Crc(self.log.end.previous_crc),
            ledger_ms: self.ledger.now_ms(),
        }
    }

    pub(super) fn topics(&self) -> Vec<TopicState> {
        let topics = self.ledger.topics().map(|(id, topic)| TopicState {
            name: topic.name.to_string(),
            topic_id: id.to_string(),
            start: topic
                .partitions()
                .iter()
                .map(|one| one.log_start.0)
                .collect(),
            end: topic.partitions().iter().map(|one| one.next.0).collect(),
        });
        topics.collect()
    }

    /// Object stores beside the cluster's.
    pub(super) fn stores(&self) -> Vec<StoreState> {
        let stores = self.ledger.stores().map(|(number, url)| StoreState {
            number,
            url: url.to_owned(),
        });
        stores.collect()
    }

    /// All that are read.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.ledger.logs().flat_map(|(_, log)| log.segments())
    }
}
