//! Writes snapshots on a thread of its own, one at a time, and decides when the next is due. The sequencer waits
//! for it only where the log has grown by two of them meanwhile: a snapshot that fails, or does not come, only
//! lets the log grow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use crate::limits::{SNAPSHOT_LOG_BYTES_MIN, SNAPSHOT_LOG_RATIO};
use crate::log::LogEnd;
use crate::snapshots::{Snapshot, Snapshots};

/// What the snapshots that are kept stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Frames before this one are not replayed any more.
    pub(crate) replayed_from: u64,
    /// The ledger's time in the oldest of them.
    pub(crate) ledger_ms: i64,
}

/// The sequencer's end.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    /// One is written, and none waits: else it is not given.
    writer: Option<mpsc::SyncSender<Snapshot>>,
    thread: Option<JoinHandle<()>>,
    /// Bytes that the log has grown since the last snapshot.
    grown: u64,
    /// Of the last one.
    bytes: u64,
    /// Where the last one was made.
    newest: Option<LogEnd>,
    /// One is being written.
    busy: Arc<AtomicBool>,
}

impl Snapshotter {
    /// `newest` is the snapshot of which the state was made. The receiver says what the snapshots stand for
    /// that are kept since a later one was written.
    pub(crate) fn start(
        place: Snapshots,
        newest: Option<LogEnd>,
    ) -> std::io::Result<(Self, watch::Receiver<Kept>)> {
        let (writer, given) = mpsc::sync_channel(0);
        let (kept, watched) = watch::channel(Kept::default());
        let busy = Arc::new(AtomicBool::new(false));
        let is_busy = Arc::clone(&busy);
        let run = move || write_all(&place, given, &kept, &is_busy);
        let thread = thread::Builder::new()
            .name("snapshots".to_owned())
            .spawn(run)?;
        let snapshotter = Self {
            writer: Some(writer),
            thread: Some(thread),
            grown: 0,
            bytes: 0,
            newest,
            busy,
        };
        Ok((snapshotter, watched))
    }

    pub(crate) fn grown(&mut self, bytes: u64) {
        self.grown += bytes;
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Whether the log has grown so much that a snapshot is worth its bytes.
    pub(crate) fn is_due(&self) -> bool {
        self.grown >= SNAPSHOT_LOG_BYTES_MIN.max(self.bytes * SNAPSHOT_LOG_RATIO)
    }

    /// Has a snapshot written, unless nothing is new. While the one before it is being written, it waits
    /// for that: so snapshots never pile up, and bound how far the log may grow.
    pub(crate) fn write(&mut self, end: LogEnd, make: impl FnOnce() -> Snapshot) {
        if self.newest == Some(end) {
            return;
        }
        let Some(writer) = &self.writer else {
            return;
        };
        let snapshot = make();
        self.bytes = (snapshot.ledger.len() + snapshot.offset_map.len()) as u64;
        self.busy.store(true, Ordering::Release);
        if writer.send(snapshot).is_ok() {
            self.newest = Some(end);
            self.grown = 0;
        } else {
            self.busy.store(false, Ordering::Release);
            tracing::error!("no snapshots are written any more: the log is kept, and grows");
        }
    }

    /// Returns once the last one is written.
    pub(crate) fn finish(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes snapshots has failed");
        }
    }
}

fn write_all(
    place: &Snapshots,
    given: mpsc::Receiver<Snapshot>,
    kept: &watch::Sender<Kept>,
    busy: &AtomicBool,
) {
    // Of those that were there at the start it is not known which are whole: only these count.
    let mut written: Vec<(u64, i64)> = Vec::new();
    for snapshot in given {
        let saved = place.save(&snapshot);
        busy.store(false, Ordering::Release);
        let oldest = match saved {
            Ok(oldest) => oldest,
            Err(error) => {
                tracing::error!(%error, "cannot write a snapshot: the log is kept, and grows");
                continue;
            }
        };
        written.push((snapshot.end.next_frame, snapshot.ledger_ms));
        let Some(oldest) = oldest else {
            continue;
        };
        written.retain(|(next_frame, _)| *next_frame >= oldest);
        if let Some((replayed_from, ledger_ms)) = written.first().copied()
            && replayed_from == oldest
        {
            kept.send_replace(Kept {
                replayed_from,
                ledger_ms,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn end(next_frame: u64) -> LogEnd {
        LogEnd {
            store_id: 1,
            next_frame,
            previous_crc: 0,
        }
    }

    fn snapshot(next_frame: u64) -> Snapshot {
        Snapshot {
            end: end(next_frame),
            ledger_ms: next_frame as i64 * 10,
            ledger: Bytes::from_static(b"ledger"),
            offset_map: Bytes::new(),
        }
    }

    #[test]
    fn what_has_not_changed_is_not_written_again_and_the_older_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let place = Snapshots::Folder(folder.path().to_owned());
        let started = Snapshotter::start(place.clone(), Some(end(3)));
        let (mut snapshotter, kept) = started.unwrap();
        snapshotter.write(end(3), || panic!("it is there"));
        for next_frame in [5, 8, 9] {
            snapshotter.write(end(next_frame), || snapshot(next_frame));
        }
        snapshotter.finish();
        let expected = Kept {
            replayed_from: 8,
            ledger_ms: 80,
        };
        assert_eq!(*kept.borrow(), expected);
        let newest = place.load().unwrap();
        assert_eq!(newest, Some(snapshot(9)));
    }

    #[test]
    fn one_is_due_once_the_log_has_grown() {
        let folder = tempfile::tempdir().unwrap();
        let place = Snapshots::Folder(folder.path().to_owned());
        let (mut snapshotter, _) = Snapshotter::start(place, None).unwrap();
        assert!(!snapshotter.is_due());
        snapshotter.grown(SNAPSHOT_LOG_BYTES_MIN);
        assert!(snapshotter.is_due());
        snapshotter.write(end(1), || snapshot(1));
        assert!(!snapshotter.is_due());
        snapshotter.finish();
    }
}
