//! From the newest snapshot and the log behind it to what all commands have made. It knows a state only as what can
//! begin with a snapshot and go on by commands.

use std::path::Path;

use anyhow::bail;
use bytes::Bytes;
use uuid::Uuid;

use crate::limits::LOG_OPENINGS_MAX;
use crate::log::{Appended, LocalLog, LogEnd, ObjectLog, ObjectLogPlace};
use crate::snapshots::{ObjectSnapshots, Snapshot, Snapshots};

/// What commands make.
pub(crate) trait Replayed: Sized {
    /// As a snapshot has it, or as it is before any command.
    ///
    /// # Errors
    /// The snapshot is none of it.
    fn begin(snapshot: Option<Snapshot>) -> anyhow::Result<Self>;

    /// Goes on by a command.
    ///
    /// # Errors
    /// It is none.
    fn replay(&mut self, appended: &Appended, command: Bytes) -> anyhow::Result<()>;
}

/// A log, and what its commands have made.
#[derive(Debug)]
pub(crate) struct Opened<L, S> {
    pub(crate) log: L,
    pub(crate) state: S,
    /// The end of the snapshot of which the state was made.
    pub(crate) after: Option<LogEnd>,
    pub(crate) snapshots: Snapshots,
}

/// Opens a log in files. Blocks.
///
/// # Errors
/// The log or a snapshot cannot be read, or is damaged.
pub(crate) fn in_files<S: Replayed>(
    folder: &Path,
    snapshots: Snapshots,
) -> anyhow::Result<Opened<LocalLog, S>> {
    let (mut state, after) = begin::<S>(snapshots.load()?)?;
    let replay = |appended, command| state.replay(&appended, command);
    let log = LocalLog::open(folder, Uuid::new_v4().as_u128(), after, replay)?;
    Ok(Opened {
        log,
        state,
        after,
        snapshots,
    })
}

/// Opens a log in an object store, and takes it over. Where another cloud has gone on with it meanwhile, that may have
/// removed what was still to be read, and the numbers of what is gone are free for anybody's fence: so where there is
/// a newer snapshot by then, all is read anew from that. (Before there is one, nothing behind the older is removed.)
///
/// # Errors
/// As [`in_files`]; the object store does not answer; or another cloud does not stop to write to the log.
pub(crate) async fn in_store<S: Replayed>(
    place: &ObjectLogPlace,
) -> anyhow::Result<Opened<ObjectLog, S>> {
    let snapshots = ObjectSnapshots::new(place.store.clone());
    for _ in 0..LOG_OPENINGS_MAX {
        let (mut state, after) = begin::<S>(snapshots.load().await?)?;
        let ids = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u128());
        let replay = |appended, command| state.replay(&appended, command);
        let opened = ObjectLog::open(place.clone(), ids, after, replay).await;
        let read_from = after.map_or(0, |end| end.next_frame);
        if !snapshots.any_behind(read_from).await? {
            return Ok(Opened {
                log: opened?,
                state,
                after,
                snapshots: Snapshots::Objects(snapshots),
            });
        }
        tracing::warn!(
            read_from,
            "another cloud has gone on with this log meanwhile: it is read anew"
        );
    }
    bail!(
        "another cloud goes on with the log in {}: stop it, and start this one anew",
        place.store.url().as_str()
    )
}

fn begin<S: Replayed>(snapshot: Option<Snapshot>) -> anyhow::Result<(S, Option<LogEnd>)> {
    let end = snapshot.as_ref().map(|snapshot| snapshot.end);
    Ok((S::begin(snapshot)?, end))
}
