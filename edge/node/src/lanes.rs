//! Keyed streams in the node: which streams of the journal are whose lanes, kept beside the messages
//! in a row of the journal. What the lanes mean is `bridge/protocol`'s; here they are opened, stored
//! and shared between the committer, which sends messages to them, and the uplink, which holds them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tidegate_bridge_protocol::lanes::{LaneEnd, Lanes};
use tidegate_edge_journal::{
    Journal, JournalReader, RowCommit, RowEntry, RowOperation, RowTable, StreamPolicy,
};
use tidegate_shared::fleet::EdgeSpec;
use tidegate_shared::id::{EdgeOffset, StreamId, StreamName, TopicName};
use tidegate_shared::record::Compression;

use crate::policy::policy_of;

/// One keyed stream.
#[derive(Clone, Debug)]
struct Keyed {
    name: StreamName,
    topic: TopicName,
    compression: Compression,
    policy: StreamPolicy,
    lanes: Lanes,
}

/// All keyed streams, by the stream that routes name for each. Clones mean the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyedStreams(Arc<Mutex<BTreeMap<StreamId, Keyed>>>);

/// What is stored of a keyed stream: how many lanes, and the barriers.
type Stored = (u32, BTreeMap<StreamId, EdgeOffset>);

/// What the journal's rows say of lanes, by the stream's name.
pub(crate) fn load(journal: &Journal) -> anyhow::Result<BTreeMap<Bytes, Stored>> {
    let mut stored = BTreeMap::new();
    for (name, row) in journal.rows(RowTable::Lanes)? {
        if let Some(value) = row.value {
            stored.insert(name, Lanes::decode(value)?);
        }
    }
    Ok(stored)
}

impl KeyedStreams {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Keyed>> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Opens a stream that has, or had, lanes; returns the one that routes name for it. `None`: it has
    /// none, and never had. Staged: the journal is to be committed, then [`KeyedStreams::opened`].
    pub(crate) fn open(
        &self,
        journal: &mut Journal,
        spec: &EdgeSpec,
        name: &StreamName,
        stored: Option<&Stored>,
    ) -> anyhow::Result<Option<StreamId>> {
        let configured = spec.lanes_of(name);
        if configured == 0 && stored.is_none() {
            return Ok(None);
        }
        let count = match configured {
            0 => 0,
            _ => configured.max(stored.map_or(0, |(lanes, _)| *lanes)),
        };
        let keyed = Keyed {
            name: name.clone(),
            topic: spec.topic_of(name)?,
            compression: spec.compression_of(name),
            policy: policy_of(spec, name),
            lanes: Lanes::default(),
        };
        let targets = keyed.open_streams(journal, count)?;
        let first = targets[0];
        let lanes = Lanes::restore(targets, BTreeMap::new());
        self.lock().insert(first, Keyed { lanes, ..keyed });
        Ok(Some(first))
    }

    /// The streams are there: where lanes are others than before, what is in the old ones goes first.
    pub(crate) fn opened(
        &self,
        journal: &mut Journal,
        stored: &BTreeMap<Bytes, Stored>,
    ) -> anyhow::Result<()> {
        let reader = journal.reader();
        for keyed in self.lock().values_mut() {
            let stored = stored.get(keyed.name.as_str().as_bytes());
            let before = stored.map_or(0, |(lanes, _)| *lanes);
            let previous = keyed.names(before)?;
            let previous: Vec<_> = previous
                .iter()
                .filter_map(|name| reader.find(name))
                .collect();
            let barriers = stored.map_or_else(BTreeMap::new, |(_, barriers)| barriers.clone());
            let targets = keyed.lanes.targets().to_vec();
            keyed.lanes = Lanes::restore(targets.clone(), barriers);
            if previous != targets {
                keyed.lanes.switch(targets, ends(&reader, previous));
                journal.stage_row(keyed.row(), RowCommit::Awaited);
            }
            keyed.settle(&reader);
        }
        Ok(())
    }

    /// Where a message goes that a route sends to `stream`.
    pub(crate) fn target(&self, stream: StreamId, key: Option<&[u8]>) -> StreamId {
        let keyed = self.lock();
        let target = keyed.get(&stream).and_then(|keyed| keyed.lanes.target(key));
        target.unwrap_or(stream)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// From where on a stream is not to be sent yet.
    pub(crate) fn hold(&self, stream: StreamId) -> Option<EdgeOffset> {
        let keyed = self.lock();
        let of_stream = keyed.values().find(|keyed| keyed.concerns(stream));
        of_stream?.lanes.hold(stream)
    }

    /// How batches of a lane are packed; `None` where the stream is none.
    pub(crate) fn compression(&self, stream: StreamId) -> Option<Compression> {
        let keyed = self.lock();
        let of_stream = keyed.values().find(|keyed| keyed.concerns(stream));
        of_stream.map(|keyed| keyed.compression)
    }

    /// A stream has landed so far: the streams that may go on now, if it was the last of a switch.
    pub(crate) fn note_landed(&self, stream: StreamId, landed: EdgeOffset) -> Vec<StreamId> {
        let mut keyed = self.lock();
        let of_stream = keyed.values_mut().find(|keyed| keyed.concerns(stream));
        let Some(keyed) = of_stream else {
            return Vec::new();
        };
        match keyed.lanes.note_landed(stream, landed) {
            true => keyed.lanes.targets().to_vec(),
            false => Vec::new(),
        }
    }

    /// Makes lanes for a topic that has more partitions than a stream has lanes, unless a switch is
    /// under way. Everything that was staged before is committed. Returns the lanes, where there are
    /// new ones: they are to be committed before anything goes to them.
    pub(crate) fn grow(
        &self,
        journal: &mut Journal,
        stream: StreamId,
        partitions: u32,
    ) -> anyhow::Result<Option<Growth>> {
        let keyed = self.lock();
        let found = keyed.iter().find(|(_, keyed)| keyed.concerns(stream));
        let Some((first, keyed)) = found.map(|(first, keyed)| (*first, keyed.clone())) else {
            return Ok(None);
        };
        let count = keyed.lanes.targets().len() as u32;
        let is_keyed = keyed.lanes.targets()[0] == first && !keyed.is_base(&journal.reader());
        if !is_keyed || partitions <= count || keyed.lanes.is_switching() {
            return Ok(None);
        }
        let before = keyed.lanes.targets().to_vec();
        let targets = keyed.open_streams(journal, partitions)?;
        let mut grown = keyed;
        grown.lanes.switch(targets, ends(&journal.reader(), before));
        // Gone with the commit, if there is no space for it.
        journal.stage_row(grown.row(), RowCommit::WithRecords);
        Ok(Some(Growth { first, grown }))
    }

    /// The growth is durable.
    pub(crate) fn take(&self, growth: Growth) -> Vec<StreamId> {
        let targets = growth.grown.lanes.targets().to_vec();
        self.lock().insert(growth.first, growth.grown);
        targets
    }

    /// What says that a stream's lanes have all landed up to their switch.
    pub(crate) fn row_of(&self, stream: StreamId) -> Option<RowEntry> {
        let keyed = self.lock();
        let of_stream = keyed.values().find(|keyed| keyed.concerns(stream));
        of_stream.map(Keyed::row)
    }
}

/// More lanes, not durable yet.
#[derive(Debug)]
pub(crate) struct Growth {
    first: StreamId,
    grown: Keyed,
}

impl Keyed {
    fn concerns(&self, stream: StreamId) -> bool {
        self.lanes.targets().contains(&stream) || self.lanes.waits_for(stream)
    }

    /// Whether its messages go to the stream of its own name, without lanes.
    fn is_base(&self, reader: &JournalReader) -> bool {
        reader.find(&self.name) == self.lanes.targets().first().copied()
    }

    /// The names of so many lanes; none: the stream's own.
    fn names(&self, lanes: u32) -> anyhow::Result<Vec<StreamName>> {
        if lanes == 0 {
            return Ok(vec![self.name.clone()]);
        }
        let names = (0..lanes).map(|lane| self.name.with_lane(lane));
        Ok(names.collect::<Result<_, _>>()?)
    }

    fn open_streams(&self, journal: &mut Journal, lanes: u32) -> anyhow::Result<Vec<StreamId>> {
        let mut streams = Vec::new();
        for name in self.names(lanes)? {
            let stream = journal.open_stream(&name, &self.topic, self.compression)?;
            journal.set_policy(stream, self.policy);
            streams.push(stream);
        }
        Ok(streams)
    }

    /// What had landed before this process began.
    fn settle(&mut self, reader: &JournalReader) {
        for status in reader.streams() {
            self.lanes.note_landed(status.stream, status.landed);
        }
    }

    fn row(&self) -> RowEntry {
        RowEntry {
            table: RowTable::Lanes,
            key: Bytes::copy_from_slice(self.name.as_str().as_bytes()),
            operation: RowOperation::Put(self.lanes.encode()),
        }
    }
}

fn ends(reader: &JournalReader, streams: Vec<StreamId>) -> Vec<LaneEnd> {
    let statuses = streams
        .into_iter()
        .filter_map(|stream| reader.stream(stream));
    let ends = statuses.map(|status| LaneEnd {
        stream: status.stream,
        next: status.next,
        landed: status.landed,
    });
    ends.collect()
}
