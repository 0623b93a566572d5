//! Keyed streams in the node: which streams of the journal are whose lanes, kept beside the messages
//! in a row of the journal. What is decided about lanes is `bridge/protocol`'s; here they are opened,
//! stored and shared between the committer, which sends messages to them, and the uplink, which holds
//! them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tidegate_bridge_protocol::keyed::{Keyed, StoredLanes, lane_names, lanes_to_open};
use tidegate_bridge_protocol::lanes::{LANES_MAX, LaneEnd, Lanes};
use tidegate_edge_journal::{
    Journal, JournalReader, RowCommit, RowEntry, RowOperation, RowTable, StreamPolicy,
};
use tidegate_shared::fleet::EdgeSpec;
use tidegate_shared::id::{EdgeOffset, StreamId, StreamName, TopicName};
use tidegate_shared::record::Compression;

use crate::policy::policy_of;

/// One keyed stream, and how its lanes are opened.
#[derive(Clone, Debug)]
struct KeyedStream {
    keyed: Keyed,
    topic: TopicName,
    compression: Compression,
    policy: StreamPolicy,
}

/// All keyed streams, by the stream that routes name for each. Clones mean the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyedStreams(Arc<Mutex<BTreeMap<StreamId, KeyedStream>>>);

/// What the journal's rows say of lanes, by the stream's name.
pub(crate) fn load(journal: &Journal) -> anyhow::Result<BTreeMap<Bytes, StoredLanes>> {
    let mut stored = BTreeMap::new();
    for (name, row) in journal.rows(RowTable::Lanes)? {
        if let Some(value) = row.value {
            stored.insert(name, Lanes::decode(value)?);
        }
    }
    Ok(stored)
}

impl KeyedStreams {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, KeyedStream>> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Asks the keyed stream that a stream belongs to.
    fn of<T>(&self, stream: StreamId, ask: impl FnOnce(&mut KeyedStream) -> T) -> Option<T> {
        let mut all = self.lock();
        let of_stream = all.values_mut().find(|known| known.keyed.concerns(stream));
        of_stream.map(ask)
    }

    /// Opens a stream that has, or had, lanes; returns the one that routes name for it. `None`: it has
    /// none, and never had. Staged: the journal is to be committed, then [`KeyedStreams::opened`].
    pub(crate) fn open(
        &self,
        journal: &mut Journal,
        spec: &EdgeSpec,
        name: &StreamName,
        stored: Option<&StoredLanes>,
    ) -> anyhow::Result<Option<StreamId>> {
        let configured = spec.lanes_of(name);
        let Some(count) = lanes_to_open(configured, stored) else {
            return Ok(None);
        };
        let mut stream = KeyedStream {
            keyed: Keyed::new(name.clone(), configured, Vec::new()),
            topic: spec.topic_of(name)?,
            compression: spec.compression_of(name),
            policy: policy_of(spec, name),
        };
        let targets = stream.open_lanes(journal, count)?;
        let first = targets[0];
        stream.keyed = Keyed::new(name.clone(), configured, targets);
        self.lock().insert(first, stream);
        Ok(Some(first))
    }

    /// The streams are there: where lanes are others than before, what is in the old ones goes first.
    pub(crate) fn opened(
        &self,
        journal: &mut Journal,
        stored: &BTreeMap<Bytes, StoredLanes>,
    ) -> anyhow::Result<()> {
        let reader = journal.reader();
        let ends = ends(&reader);
        for KeyedStream { keyed, .. } in self.lock().values_mut() {
            let stored = stored.get(keyed.name().as_str().as_bytes());
            let before = lane_names(keyed.name(), stored.map_or(0, |(lanes, _)| *lanes))?;
            let previous = before.iter().filter_map(|name| reader.find(name));
            let previous: Vec<_> = previous.collect();
            if keyed.start(stored, &previous, &ends) {
                journal.stage_row(row(keyed), RowCommit::Awaited)?;
            }
        }
        Ok(())
    }

    /// Where a message goes that a route sends to `stream`.
    pub(crate) fn target(&self, stream: StreamId, key: Option<&[u8]>) -> StreamId {
        let all = self.lock();
        let target = all.get(&stream).and_then(|known| known.keyed.target(key));
        target.unwrap_or(stream)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// From where on a stream is not to be sent yet.
    pub(crate) fn hold(&self, stream: StreamId) -> Option<EdgeOffset> {
        self.of(stream, |known| known.keyed.hold(stream))?
    }

    /// How batches of a lane are packed; `None` where the stream is none.
    pub(crate) fn compression(&self, stream: StreamId) -> Option<Compression> {
        self.of(stream, |known| known.compression)
    }

    /// A stream has landed so far: the streams that may go on now, if it was the last of a switch.
    pub(crate) fn note_landed(&self, stream: StreamId, landed: EdgeOffset) -> Vec<StreamId> {
        let drained = self.of(stream, |KeyedStream { keyed, .. }| {
            let is_last = keyed.note_landed(stream, landed);
            is_last.then(|| keyed.targets().to_vec())
        });
        drained.flatten().unwrap_or_default()
    }

    /// The topic that a lane goes to has so many partitions.
    pub(crate) fn want(&self, stream: StreamId, partitions: u32) {
        if partitions > LANES_MAX {
            tracing::warn!(%stream, partitions, "more partitions than there may be lanes ({LANES_MAX})");
        }
        self.of(stream, |known| known.keyed.want(partitions));
    }

    /// Keyed streams that should have more lanes, and may.
    pub(crate) fn wanting(&self) -> Vec<StreamId> {
        let all = self.lock();
        let wanting = all
            .iter()
            .filter(|(_, known)| known.keyed.wanting().is_some());
        wanting.map(|(first, _)| *first).collect()
    }

    /// Makes the lanes that a stream should have; everything that was staged before is committed. They
    /// are to be committed before anything goes to them.
    pub(crate) fn grow(
        &self,
        journal: &mut Journal,
        first: StreamId,
    ) -> anyhow::Result<Option<Growth>> {
        let known = self.lock().get(&first).cloned();
        let Some((known, wanted)) = known.and_then(|known| {
            let wanted = known.keyed.wanting()?;
            Some((known, wanted))
        }) else {
            return Ok(None);
        };
        let targets = known.open_lanes(journal, wanted)?;
        let grown = known.keyed.grown(targets, &ends(&journal.reader()));
        // Gone with the commit, if there is no space for it.
        journal.stage_row(row(&grown), RowCommit::WithRecords)?;
        Ok(Some(Growth { first, grown }))
    }

    /// The growth is durable. What landed meanwhile has landed.
    pub(crate) fn take(&self, growth: Growth, reader: &JournalReader) -> Vec<StreamId> {
        let Growth { first, mut grown } = growth;
        grown.settle(&ends(reader));
        let targets = grown.targets().to_vec();
        if let Some(known) = self.lock().get_mut(&first) {
            known.keyed = grown;
        }
        targets
    }

    /// What says that a stream's lanes have all landed up to their switch.
    pub(crate) fn row_of(&self, stream: StreamId) -> Option<RowEntry> {
        self.of(stream, |known| row(&known.keyed))
    }
}

/// More lanes, not durable yet.
#[derive(Debug)]
pub(crate) struct Growth {
    first: StreamId,
    grown: Keyed,
}

impl KeyedStream {
    fn open_lanes(&self, journal: &mut Journal, lanes: u32) -> anyhow::Result<Vec<StreamId>> {
        let mut streams = Vec::new();
        for name in lane_names(self.keyed.name(), lanes)? {
            let stream = journal.open_stream(&name, &self.topic, self.compression)?;
            journal.set_policy(stream, self.policy);
            streams.push(stream);
        }
        Ok(streams)
    }
}

fn row(keyed: &Keyed) -> RowEntry {
    RowEntry {
        table: RowTable::Lanes,
        key: Bytes::copy_from_slice(keyed.name().as_str().as_bytes()),
        operation: RowOperation::Put(keyed.encode()),
    }
}

/// Where every stream stands.
fn ends(reader: &JournalReader) -> Vec<LaneEnd> {
    let statuses = reader.streams().into_iter();
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
