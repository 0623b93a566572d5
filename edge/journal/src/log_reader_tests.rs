//! The log in the order of positions, and the node's rows beside it, over power cuts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_shared::id::{Position, StoreId, StreamId, StreamName, TopicName};
use tidegate_shared::record::{Batch, Compression, Header, Record};
use tidegate_shared::topic::TopicFilter;

use crate::limits::Limits;
use crate::media::{FaultyMedium, Survival};
use crate::{Journal, RowCommit, RowEntry, RowOperation, RowTable, TOPIC_HEADER, TopicProbe};

const LIMITS: Limits = Limits {
    log_file_bytes: 64 << 10,
    commit_bytes_max: 8 << 10,
    record_bytes_max: 4 << 10,
    checkpoint_log_bytes_max: 128 << 10,
    log_files_max: 256,
    free_disk_min_bytes: 0,
    reserve_bytes: 0,
};

#[derive(Clone, Debug)]
enum Step {
    /// Of a topic, into the stream of its first level.
    Append(String, u8),
    Row(u8, RowOperation),
    Commit,
    Checkpoint,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let topic = || "[abc](/[xy]){0,2}".prop_map(String::from);
    let value = || prop::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from);
    prop_oneof![
        12 => (topic(), any::<u8>()).prop_map(|(topic, mark)| Step::Append(topic, mark)),
        2 => (0..3_u8, value()).prop_map(|(key, value)| Step::Row(key, RowOperation::Put(value))),
        4 => (0..3_u8, value()).prop_map(|(key, value)| Step::Row(key, RowOperation::Change(value))),
        1 => (0..3_u8).prop_map(|key| Step::Row(key, RowOperation::Delete)),
        6 => Just(Step::Commit),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Cut),
    ]
}

type Rows = BTreeMap<u8, (Option<Bytes>, Vec<Bytes>)>;

struct Life {
    medium: FaultyMedium,
    journal: Journal,
    /// By position: topic and mark.
    messages: Vec<(String, u8)>,
    rows: Rows,
    staged_messages: Vec<(String, u8)>,
    staged_rows: Vec<(u8, RowOperation)>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let medium = FaultyMedium::new(seed);
        let journal = open(&medium);
        Self {
            medium,
            journal,
            messages: Vec::new(),
            rows: Rows::new(),
            staged_messages: Vec::new(),
            staged_rows: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(topic, mark) => {
                let stream = StreamId(u32::from(topic.as_bytes()[0] - b'a'));
                let value = Bytes::from(vec![mark; 700]);
                let headers = vec![Header::new(TOPIC_HEADER, Bytes::from(topic.clone()))];
                let record = Record {
                    value: Some(value),
                    headers,
                    ..Record::default()
                };
                self.journal.append_marked(stream, &record, mark).unwrap();
                self.staged_messages.push((topic, mark));
                if self.journal.staged_is_full() {
                    self.commit();
                }
            }
            Step::Row(key, operation) => {
                let entry = RowEntry {
                    table: RowTable::ClientSessions,
                    key: Bytes::from(vec![key]),
                    operation: operation.clone(),
                };
                self.journal.stage_row(entry, RowCommit::Awaited).unwrap();
                self.staged_rows.push((key, operation));
            }
            Step::Commit => self.commit(),
            Step::Checkpoint => self.journal.checkpoint().unwrap(),
            Step::Cut => self.cut(),
        }
    }

    fn commit(&mut self) {
        self.journal.commit().unwrap();
        // One commit puts each stream's messages together, in the order of their first.
        let staged = std::mem::take(&mut self.staged_messages);
        let mut streams: Vec<u8> = Vec::new();
        for (topic, _) in &staged {
            if !streams.contains(&topic.as_bytes()[0]) {
                streams.push(topic.as_bytes()[0]);
            }
        }
        for stream in streams {
            let of_stream = staged
                .iter()
                .filter(|(topic, _)| topic.as_bytes()[0] == stream);
            self.messages.extend(of_stream.cloned());
        }
        for (key, operation) in std::mem::take(&mut self.staged_rows) {
            let row = self.rows.entry(key).or_default();
            match operation {
                RowOperation::Put(value) => *row = (Some(value), Vec::new()),
                RowOperation::Delete => *row = (None, Vec::new()),
                RowOperation::Change(change) => row.1.push(change),
            }
        }
    }

    /// What was not committed is gone; all else is there.
    fn cut(&mut self) {
        self.medium.cut_power(Survival::Nothing);
        self.journal = open(&self.medium);
        self.staged_messages.clear();
        self.staged_rows.clear();
        let found = self.journal.rows(RowTable::ClientSessions).unwrap();
        let found: Rows = found
            .into_iter()
            .map(|(key, row)| (key[0], (row.value, row.changes)))
            .collect();
        self.rows.retain(|_, row| *row != (None, Vec::new()));
        assert_eq!(found, self.rows);
    }

    /// Reads on from `from` as a session with `filter` does, and gives what matches.
    fn read(&self, from: u64, filter: &TopicFilter, bytes_max: usize) -> Vec<(u64, String, u8)> {
        let reader = self.journal.reader();
        let probe = TopicProbe::new([filter]);
        let (mut next, mut found) = (Position(from), Vec::new());
        while next < reader.next_position() {
            let read = reader.read_log(next, &probe, bytes_max).unwrap();
            assert!(read.next > next, "it goes on");
            for chunk in read.chunks {
                let records = Batch::parse(chunk.batch.clone())
                    .unwrap()
                    .records()
                    .unwrap();
                for (index, record) in records.enumerate() {
                    let position = chunk.position.0 + index as u64;
                    let topic = record.unwrap().1.headers[0].value.clone().unwrap();
                    let topic = String::from_utf8(topic.to_vec()).unwrap();
                    if position >= from && filter.matches(&topic) {
                        found.push((position, topic, chunk.mark(index)));
                    }
                }
            }
            next = read.next;
        }
        found
    }
}

fn open(medium: &FaultyMedium) -> Journal {
    let opened = Journal::open(Arc::new(medium.clone()), LIMITS, StoreId(1));
    let mut journal = opened.unwrap().0;
    for name in ["a", "b", "c"] {
        let (name, topic) = (StreamName::new(name), TopicName::new(name));
        journal
            .open_stream(&name.unwrap(), &topic.unwrap(), Compression::None)
            .unwrap();
    }
    journal.commit().unwrap();
    journal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_session_reads_what_matches_in_order(
        steps in prop::collection::vec(step(), 1..400),
        from in any::<prop::sample::Index>(),
        filter in prop_oneof![Just("#"), Just("a/#"), Just("a"), Just("b/x"), Just("+/y"), Just("c/x/+"), Just("d")],
        bytes_max in 1..20_000_usize,
        seed in any::<u64>(),
    ) {
        let mut life = Life::new(seed);
        for step in steps {
            life.step(step);
        }
        life.cut();
        let from = from.index(life.messages.len() + 1);
        let filter = TopicFilter::new(filter).unwrap();
        let expected: Vec<_> = life
            .messages
            .iter()
            .enumerate()
            .skip(from)
            .filter(|(_, (topic, _))| filter.matches(topic))
            .map(|(position, (topic, mark))| (position as u64, topic.clone(), *mark))
            .collect();
        prop_assert_eq!(life.read(from as u64, &filter, bytes_max), expected);
    }
}

/// A row that goes with a record is refused with it; others find the space that is kept for them.
#[test]
fn a_full_journal_refuses_rows_only_with_their_records() {
    let limits = Limits {
        log_files_max: 5,
        ..LIMITS
    };
    let medium = FaultyMedium::new(1);
    let opened = Journal::open(Arc::new(medium.clone()), limits, StoreId(1));
    let mut journal = opened.unwrap().0;
    let (name, topic) = (StreamName::new("a"), TopicName::new("a"));
    let stream = journal.open_stream(&name.unwrap(), &topic.unwrap(), Compression::None);
    let stream = stream.unwrap();
    let row = |key: &'static str| RowEntry {
        table: RowTable::ClientSessions,
        key: Bytes::from_static(key.as_bytes()),
        operation: RowOperation::Put(Bytes::from_static(b"value")),
    };
    let record = Record {
        value: Some(Bytes::from(vec![1; 4000])),
        ..Record::default()
    };
    loop {
        journal.append(stream, &record).unwrap();
        journal
            .stage_row(row("with"), RowCommit::WithRecords)
            .unwrap();
        journal
            .stage_row(row("without"), RowCommit::Awaited)
            .unwrap();
        if journal.commit().is_err() {
            break;
        }
        for key in ["with", "without"] {
            let operation = RowOperation::Delete;
            journal
                .stage_row(
                    RowEntry {
                        operation,
                        ..row(key)
                    },
                    RowCommit::Rides,
                )
                .unwrap();
        }
    }
    journal.commit().unwrap();
    drop(journal);
    medium.cut_power(Survival::Nothing);
    let journal = Journal::open(Arc::new(medium), LIMITS, StoreId(1))
        .unwrap()
        .0;
    let rows = journal.rows(RowTable::ClientSessions).unwrap();
    let keys: Vec<_> = rows.iter().map(|(key, _)| &key[..]).collect();
    assert_eq!(keys, [&b"without"[..]]);
}
