//! Keyed streams in the node: which streams of the journal are whose lanes, kept beside the messages
//! in a row of the journal. What the lanes mean is `bridge/protocol`'s; here they are opened, stored
//! and shared between the committer, which sends messages to them, and the uplink, which holds them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tidegate_bridge_protocol::lanes::{LANES_MAX, LaneEnd, Lanes};
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
    /// Lanes that there should be, by the configuration and the topic's partitions; 0 where the
    /// configuration wants none (any more).
    wanted: u32,
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
        // While a switch is under way its lanes stay: the next one begins behind it.
        let is_switching = stored.is_some_and(|(_, barriers)| !barriers.is_empty());
        let stored = stored.map_or(0, |(lanes, _)| *lanes);
        let count = match (is_switching, configured) {
            (true, _) => stored,
            (false, 0) => 0,
            (false, _) => configured.max(stored),
        };
        let keyed = Keyed {
            name: name.clone(),
            topic: spec.topic_of(name)?,
            compression: spec.compression_of(name),
            policy: policy_of(spec, name),
            lanes: Lanes::default(),
            wanted: configured,
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
                journal.stage_row(keyed.row(), RowCommit::Awaited)?;
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

    /// The topic that a lane goes to has so many partitions.
    pub(crate) fn want(&self, stream: StreamId, partitions: u32) {
        let mut keyed = self.lock();
        let of_stream = keyed.values_mut().find(|keyed| keyed.concerns(stream));
        if let Some(keyed) = of_stream.filter(|keyed| keyed.wanted > 0) {
            if partitions > LANES_MAX {
                tracing::warn!(%stream, partitions, "more partitions than there may be lanes ({LANES_MAX})");
            }
            keyed.wanted = keyed.wanted.max(partitions.min(LANES_MAX));
        }
    }

    /// Keyed streams that should have more lanes, and may.
    pub(crate) fn wanting(&self) -> Vec<StreamId> {
        let keyed = self.lock();
        let wanting = keyed.iter().filter(|(_, keyed)| keyed.is_wanting());
        wanting.map(|(first, _)| *first).collect()
    }

    /// Makes the lanes that a stream should have; everything that was staged before is committed. They
    /// are to be committed before anything goes to them.
    pub(crate) fn grow(
        &self,
        journal: &mut Journal,
        first: StreamId,
    ) -> anyhow::Result<Option<Growth>> {
        let keyed = self.lock().get(&first).cloned();
        let Some(mut grown) = keyed.filter(Keyed::is_wanting) else {
            return Ok(None);
        };
        let before = grown.lanes.targets().to_vec();
        let targets = grown.open_streams(journal, grown.wanted)?;
        grown.lanes.switch(targets, ends(&journal.reader(), before));
        // Gone with the commit, if there is no space for it.
        journal.stage_row(grown.row(), RowCommit::WithRecords)?;
        Ok(Some(Growth { first, grown }))
    }

    /// The growth is durable. What landed meanwhile has landed.
    pub(crate) fn take(&self, growth: Growth, reader: &JournalReader) -> Vec<StreamId> {
        let mut grown = growth.grown;
        grown.settle(reader);
        let targets = grown.lanes.targets().to_vec();
        self.lock().insert(growth.first, grown);
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

    /// Whether more lanes are wanted, and none waits for another.
    fn is_wanting(&self) -> bool {
        self.wanted as usize > self.lanes.targets().len() && !self.lanes.is_switching()
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

#[cfg(test)]
mod tests {
    use tidegate_edge_journal::limits::Limits;
    use tidegate_edge_journal::media::FaultyMedium;
    use tidegate_shared::fleet::StreamSpec;
    use tidegate_shared::id::{BoundaryHash, StoreId};
    use tidegate_shared::record::Record;

    use super::*;

    const LIMITS: Limits = Limits {
        log_file_bytes: 64 << 10,
        commit_bytes_max: 8 << 10,
        record_bytes_max: 4 << 10,
        checkpoint_log_bytes_max: 128 << 10,
        log_files_max: 64,
        free_disk_min_bytes: 0,
        reserve_bytes: 0,
    };

    struct Life {
        journal: Journal,
        keyed: KeyedStreams,
        first: StreamId,
    }

    /// Opens the journal as a node with so many lanes configured does.
    fn open(medium: &FaultyMedium, lanes: u32) -> Life {
        let name = StreamName::new("telemetry").unwrap();
        let mut spec = EdgeSpec::default();
        let settings = StreamSpec {
            lanes,
            ..StreamSpec::default()
        };
        spec.streams.insert(name.clone(), settings);
        let opened = Journal::open(Arc::new(medium.clone()), LIMITS, StoreId(1));
        let mut journal = opened.unwrap().0;
        let stored = load(&journal).unwrap();
        let keyed = KeyedStreams::default();
        let of_name = stored.get(name.as_str().as_bytes());
        let first = keyed.open(&mut journal, &spec, &name, of_name).unwrap();
        journal.commit().unwrap();
        keyed.opened(&mut journal, &stored).unwrap();
        journal.commit().unwrap();
        let first = first.expect("it has lanes");
        Life {
            journal,
            keyed,
            first,
        }
    }

    impl Life {
        fn put(&mut self, key: u8) -> StreamId {
            let stream = self.keyed.target(self.first, Some(&[key]));
            let record = Record {
                key: Some(vec![key].into()),
                ..Record::default()
            };
            self.journal.append(stream, &record).unwrap();
            self.journal.commit().unwrap();
            stream
        }

        fn land(&mut self, stream: StreamId) -> Vec<StreamId> {
            let status = self.journal.reader().stream(stream).unwrap();
            let (next, hash) = (status.next, status.hash);
            self.journal.advance_landed(stream, next, hash);
            self.keyed.note_landed(stream, next)
        }

        fn grow(&mut self, partitions: u32) -> usize {
            self.keyed.want(self.first, partitions);
            let Some(first) = self.keyed.wanting().first().copied() else {
                return 0;
            };
            let growth = self.keyed.grow(&mut self.journal, first).unwrap().unwrap();
            self.journal.commit().unwrap();
            self.keyed.take(growth, &self.journal.reader()).len()
        }

        fn held(&self) -> usize {
            let streams = self.journal.reader().streams().into_iter();
            let held = streams.filter(|status| self.keyed.hold(status.stream).is_some());
            held.count()
        }
    }

    #[test]
    fn a_topic_that_grows_holds_lanes_only_for_what_has_not_landed() {
        let medium = FaultyMedium::new(1);
        let mut life = open(&medium, 2);
        let streams: Vec<_> = (0..20).map(|key| life.put(key)).collect();
        for stream in &streams {
            life.land(*stream);
        }
        assert_eq!((life.grow(5), life.held()), (5, 0));
        let stream = life.put(3);
        assert_eq!(life.grow(7), 7);
        assert_eq!(life.held(), 7, "until it has landed");
        // It is wanted while a switch is under way, and made up for behind it.
        assert_eq!(life.grow(9), 0);
        assert_eq!(life.land(stream).len(), 7);
        assert_eq!((life.held(), life.grow(0)), (0, 9));
        assert_eq!(life.grow(u32::MAX), LANES_MAX as usize);
    }

    /// What lands between the look at where lanes end and the growth's commit has landed.
    #[test]
    fn what_lands_while_lanes_are_made_is_not_waited_for() {
        let mut life = open(&FaultyMedium::new(2), 2);
        let stream = life.put(1);
        life.keyed.want(life.first, 4);
        let growth = life.keyed.grow(&mut life.journal, life.first);
        let growth = growth.unwrap().unwrap();
        assert_eq!(life.land(stream), []);
        life.journal.commit().unwrap();
        life.keyed.take(growth, &life.journal.reader());
        assert_eq!(life.held(), 0);
    }

    #[test]
    fn a_switch_outlives_a_restart_with_more_lanes_configured() {
        let medium = FaultyMedium::new(3);
        let mut life = open(&medium, 2);
        let old = life.put(3);
        assert_eq!(life.grow(4), 4);
        let new: Vec<_> = (0..20).map(|key| life.put(key)).collect();
        let before = life.keyed.hold(old);
        drop(life);
        let mut life = open(&medium, 8);
        assert_eq!(
            life.keyed.hold(old),
            before,
            "nothing of after goes before it"
        );
        let drained = life.land(old);
        assert_eq!(drained.len(), 4);
        for stream in new {
            life.land(stream);
        }
        assert_eq!((life.grow(0), life.held()), (8, 0));
    }

    #[test]
    fn a_stream_that_gets_lanes_sends_first_what_it_had() {
        let medium = FaultyMedium::new(4);
        let opened = Journal::open(Arc::new(medium.clone()), LIMITS, StoreId(1));
        let mut journal = opened.unwrap().0;
        let (name, topic) = (StreamName::new("telemetry"), TopicName::new("telemetry"));
        let base = journal.open_stream(&name.unwrap(), &topic.unwrap(), Compression::None);
        let base = base.unwrap();
        journal.append(base, &Record::default()).unwrap();
        journal.commit().unwrap();
        drop(journal);
        let mut life = open(&medium, 3);
        assert_eq!(life.keyed.hold(base), Some(EdgeOffset(1)));
        let lane = life.put(9);
        assert_eq!(life.keyed.hold(lane), Some(EdgeOffset(0)));
        assert_eq!(life.land(base).len(), 3);
        assert_eq!(life.held(), 0);
        let hash = life.journal.reader().stream(base).unwrap().landed_hash;
        assert_ne!(hash, BoundaryHash::START);
    }
}
