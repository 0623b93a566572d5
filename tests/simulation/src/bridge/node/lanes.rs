//! The keyed stream of a node, as the product's committer has it: what is decided about its lanes is
//! `bridge/protocol`'s.

use bytes::Bytes;
use tidegate_bridge_protocol::keyed::{Keyed, StoredLanes, lane_names, lanes_to_open};
use tidegate_bridge_protocol::lanes::{LaneEnd, Lanes};
use tidegate_edge_journal::{
    CommitError, Journal, Overflow, RowCommit, RowEntry, RowOperation, RowTable,
};
use tidegate_shared::id::{EdgeOffset, StreamId};

use super::{Node, Report, open_stream, stream_name};
use crate::{Stop, violated};

/// The keyed stream and its topic, which grows.
pub const KEYED: (&str, &str) = ("readings", "readings");

/// With so many lanes it begins.
pub const LANES_FIRST: u32 = 2;

/// A message's key is in its number.
pub fn key_of(payload: u64) -> u8 {
    payload as u8
}

/// What came of the wish for more lanes.
#[derive(Debug)]
pub enum Growth {
    /// So many lanes are durable. `waits`: some of before have not landed.
    Grown {
        lanes: usize,
        waits: bool,
    },
    NoRoom,
    PowerGone,
}

impl Node {
    /// One of the nodes' journals lets go of lanes' oldest where it is full; the others refuse.
    pub fn keyed_overflow(edge: &str) -> Overflow {
        match edge.ends_with('1') {
            true => Overflow::DropOldest,
            false => Overflow::Reject,
        }
    }

    pub(super) fn open_keyed(&self, journal: &mut Journal, stored: Option<&StoredLanes>) -> Keyed {
        let count = lanes_to_open(LANES_FIRST, stored).expect("lanes are configured");
        let targets = self.open_lanes(journal, count);
        Keyed::new(stream_name(KEYED.0), LANES_FIRST, targets)
    }

    fn open_lanes(&self, journal: &mut Journal, lanes: u32) -> Vec<StreamId> {
        let overflow = Self::keyed_overflow(self.edge.as_str());
        let names = lane_names(&stream_name(KEYED.0), lanes).expect("a short name");
        let open = |name| open_stream(journal, &name, KEYED.1, overflow);
        names.into_iter().map(open).collect()
    }

    pub fn publish_keyed(&mut self, payload: u64, bytes: usize) {
        let key = [key_of(payload)];
        let target = self
            .keyed
            .as_ref()
            .and_then(|keyed| keyed.target(Some(&key)));
        let name = target.and_then(|target| self.streams.get(&target).cloned());
        if let (Some(target), Some(name)) = (target, name) {
            self.append(target, name, Some(key), payload, bytes);
        }
    }

    pub(super) fn hold(&self, stream: StreamId) -> Option<EdgeOffset> {
        let keyed = self.keyed.as_ref();
        let keyed = keyed.filter(|keyed| keyed.concerns(stream));
        keyed.and_then(|keyed| keyed.hold(stream))
    }

    pub(super) fn lane_has_partitions(&mut self, stream: StreamId, partitions: u32) {
        if let Some(keyed) = self.keyed.as_mut().filter(|keyed| keyed.concerns(stream)) {
            keyed.want(partitions);
        }
    }

    pub(super) fn lane_landed(
        &mut self,
        stream: StreamId,
        landed: EdgeOffset,
        reports: &mut Vec<Report>,
    ) {
        let (Some(keyed), Some(journal)) = (&mut self.keyed, &mut self.journal) else {
            return;
        };
        if keyed.note_landed(stream, landed) {
            stage(journal, keyed, RowCommit::Rides);
            self.is_untold = true;
            reports.push(Report::LanesLetGo);
        }
    }

    pub fn lanes(&self) -> usize {
        let keyed = self.keyed.as_ref();
        keyed.map_or(0, |keyed| keyed.targets().len())
    }

    /// Lanes by their streams' numbers, which frames have.
    pub fn lane_names(&self) -> String {
        let targets = self.keyed.iter().flat_map(|keyed| keyed.targets());
        let names = targets.map(|stream| format!("{} is stream {stream}", self.streams[stream]));
        names.collect::<Vec<_>>().join(", ")
    }

    pub fn is_switching(&self) -> bool {
        self.keyed.as_ref().is_some_and(Keyed::is_switching)
    }

    pub fn wants_lanes(&self) -> bool {
        let keyed = self.keyed.as_ref();
        keyed.is_some_and(|keyed| keyed.wanting().is_some())
    }

    /// Makes the lanes that are wanted; everything that was staged before is committed.
    pub fn grow(&mut self) -> Growth {
        let (Some(keyed), Some(mut journal)) = (self.keyed.clone(), self.journal.take()) else {
            return Growth::NoRoom;
        };
        let targets = self.open_lanes(&mut journal, keyed.wanting().unwrap_or_default());
        let mut grown = keyed.grown(targets.clone(), &ends(&journal));
        stage(&mut journal, &grown, RowCommit::WithRecords);
        let committed = journal.commit();
        grown.settle(&ends(&journal));
        self.journal = Some(journal);
        match committed {
            Ok(_) => {}
            Err(CommitError::Full) => return Growth::NoRoom,
            Err(_) => return Growth::PowerGone,
        }
        let names = lane_names(grown.name(), targets.len() as u32).expect("a short name");
        self.streams.extend(targets.into_iter().zip(names));
        let (lanes, waits) = (grown.targets().len(), grown.is_switching());
        self.keyed = Some(grown);
        self.tell_durable();
        Growth::Grown { lanes, waits }
    }
}

/// What the journal's row says.
pub(super) fn load(journal: &Journal) -> Result<Option<StoredLanes>, Stop> {
    let rows = match journal.rows(RowTable::Lanes) {
        Ok(rows) => rows,
        Err(error) => return violated("the journal opens", error.to_string()),
    };
    let of_keyed = |(name, _): &(Bytes, _)| name == KEYED.0.as_bytes();
    let value = rows
        .into_iter()
        .find(of_keyed)
        .and_then(|(_, row)| row.value);
    match value.map(Lanes::decode).transpose() {
        Ok(stored) => Ok(stored),
        Err(error) => violated("the journal opens", error.to_string()),
    }
}

/// The lanes are durable.
pub(super) fn start(keyed: &mut Keyed, journal: &mut Journal, stored: Option<&StoredLanes>) {
    let before = stored.map_or(0, |(lanes, _)| *lanes);
    let names = lane_names(keyed.name(), before).expect("a short name");
    let reader = journal.reader();
    let previous: Vec<_> = names.iter().filter_map(|name| reader.find(name)).collect();
    if keyed.start(stored, &previous, &ends(journal)) {
        stage(journal, keyed, RowCommit::Awaited);
    }
}

fn stage(journal: &mut Journal, keyed: &Keyed, when: RowCommit) {
    let row = RowEntry {
        table: RowTable::Lanes,
        key: Bytes::from_static(KEYED.0.as_bytes()),
        operation: RowOperation::Put(keyed.encode()),
    };
    journal.stage_row(row, when).expect("a small row");
}

/// Where every stream stands.
fn ends(journal: &Journal) -> Vec<LaneEnd> {
    let statuses = journal.reader().streams().into_iter();
    let ends = statuses.map(|status| LaneEnd {
        stream: status.stream,
        next: status.next,
        landed: status.landed,
    });
    ends.collect()
}
