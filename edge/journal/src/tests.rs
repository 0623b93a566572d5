//! The journal against media that lie: power cuts with lost and torn writes, I/O errors at every
//! write, full media. A model keeps what was acknowledged; after each crash the journal must hold it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, SessionEpoch, StoreId, StreamId,
    StreamName, TopicName,
};
use tidegate_shared::record::{Batch, Compression, Record};

use crate::limits::Limits;
use crate::media::{Directory, FaultyMedium, Medium, Survival};
use crate::{CheckpointJob, CommitError, Journal, OpenError, OpenReport};

mod damage;
mod month;
mod openings;
mod pressure;
mod retention;
mod rows;
mod survey;

const SMALL: Limits = Limits {
    log_file_bytes: 64 << 10,
    commit_bytes_max: 8 << 10,
    record_bytes_max: 4 << 10,
    checkpoint_log_bytes_max: 128 << 10,
    log_files_max: 64,
    free_disk_min_bytes: 0,
    reserve_bytes: 64 << 10,
};
const STORE: StoreId = StoreId(42);

fn open(medium: &FaultyMedium, limits: Limits) -> Result<(Journal, OpenReport), OpenError> {
    Journal::open(Arc::new(medium.clone()), limits, STORE)
}

fn open_stream(journal: &mut Journal, name: &str) -> StreamId {
    let name = StreamName::new(name).unwrap();
    let topic = TopicName::new("telemetry").unwrap();
    journal
        .open_stream(&name, &topic, Compression::Zstd)
        .unwrap()
}

fn record(payload: u64, bytes: usize) -> Record {
    // No two bytes follow a rule that a compressor knows: what is written is what is counted.
    let mut random = payload ^ 0x9e37_79b9_7f4a_7c15;
    let mut value: Vec<u8> = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    })
    .take(bytes.max(8))
    .collect();
    value[..8].copy_from_slice(&payload.to_le_bytes());
    Record {
        value: Some(value.into()),
        ..Record::default()
    }
}

/// Every payload of a stream from `from`, with offsets checked to be dense and hashes to chain.
fn payloads(journal: &Journal, stream: StreamId, from: EdgeOffset) -> Vec<u64> {
    let reader = journal.reader();
    let mut found = Vec::new();
    let mut next = from;
    let mut hash: Option<BoundaryHash> = None;
    loop {
        let chunks = reader.read(stream, next, 16 << 10).unwrap();
        let Some(last) = chunks.last() else {
            return found;
        };
        let end = last.end();
        for chunk in chunks {
            assert!(
                chunk.base_offset <= next && chunk.end() > next,
                "chunks leave no hole"
            );
            assert!(
                hash.is_none_or(|hash| hash == chunk.hash_before),
                "hashes chain"
            );
            hash = Some(chunk.hash_after);
            for record in Batch::parse(chunk.batch.clone())
                .unwrap()
                .records()
                .unwrap()
            {
                let (offset, record) = record.unwrap();
                if offset as u64 >= next.0 {
                    let value = record.value.unwrap();
                    found.push(u64::from_le_bytes(value[..8].try_into().unwrap()));
                }
            }
            next = chunk.end();
        }
        assert_eq!(next, end);
    }
}

#[test]
fn what_was_committed_is_there_after_a_clean_start() {
    let medium = FaultyMedium::new(1);
    let (mut journal, report) = open(&medium, SMALL).unwrap();
    assert!(report.created);
    let stream = open_stream(&mut journal, "telemetry");
    for payload in 0..100 {
        journal.append(stream, &record(payload, 40)).unwrap();
        if payload % 7 == 0 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
    journal.checkpoint().unwrap();
    drop(journal);
    let (journal, report) = open(&medium, SMALL).unwrap();
    assert_eq!((report.created, report.frames_replayed), (false, 0));
    assert_eq!(
        payloads(&journal, stream, EdgeOffset(0)),
        (0..100).collect::<Vec<_>>()
    );
    assert_eq!(
        payloads(&journal, stream, EdgeOffset(33)),
        (33..100).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_staged_is_not_seen() {
    let medium = FaultyMedium::new(1);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    journal.append(stream, &record(1, 10)).unwrap();
    assert_eq!(journal.reader().streams(), []);
    journal.commit().unwrap();
    assert_eq!(journal.reader().stream(stream).unwrap().next, EdgeOffset(1));
}

#[test]
fn a_record_over_the_limit_is_refused() {
    let (mut journal, _) = open(&FaultyMedium::new(1), SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    assert!(
        journal
            .append(stream, &record(1, SMALL.record_bytes_max))
            .is_err()
    );
    assert!(!journal.staged_is_full());
}

/// What the model knows of one stream.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Acknowledged, from offset 0.
    committed: Vec<u64>,
    /// Staged since the last commit, or in a commit that failed: may or may not be there.
    unsure: Vec<u64>,
    landed: u64,
}

/// One random life of a journal: appends, commits, landings, checkpoints and power cuts.
struct Life {
    medium: FaultyMedium,
    journal: Option<Journal>,
    known: BTreeMap<StreamId, Known>,
    running: Option<CheckpointJob>,
    next_payload: u64,
    random: u64,
    survival: Survival,
    granted: Option<u64>,
}

impl Life {
    fn new(seed: u64, survival: Survival) -> Self {
        let medium = FaultyMedium::new(seed);
        let (mut journal, _) = open(&medium, SMALL).unwrap();
        let names = ["telemetry", "alarms#0", "alarms#1"];
        let streams = names.map(|name| open_stream(&mut journal, name));
        journal.commit().unwrap();
        Self {
            medium,
            journal: Some(journal),
            known: streams.map(|stream| (stream, Known::default())).into(),
            running: None,
            next_payload: 0,
            random: seed,
            survival,
            granted: None,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % below
    }

    fn step(&mut self) {
        match self.random(100) {
            0..60 => self.append(),
            60..85 => self.commit(),
            85..90 => self.land(),
            90..92 => self.grant(),
            92..96 => self.checkpoint(),
            _ => self.cut(),
        }
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    fn append(&mut self) {
        let stream = StreamId(self.random(3) as u32);
        let bytes = if self.random(10) == 0 { 3000 } else { 60 };
        let payload = self.next_payload;
        self.next_payload += 1;
        self.journal()
            .append(stream, &record(payload, bytes))
            .unwrap();
        self.known.get_mut(&stream).unwrap().unsure.push(payload);
        if self.journal().staged_is_full() {
            self.commit();
        }
    }

    fn commit(&mut self) {
        match self.journal().commit() {
            Ok(_) => {
                for known in self.known.values_mut() {
                    known.committed.append(&mut known.unsure);
                }
            }
            Err(CommitError::Full) => {
                self.known
                    .values_mut()
                    .for_each(|known| known.unsure.clear());
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn land(&mut self) {
        let stream = StreamId(self.random(3) as u32);
        let reader = self.journal().reader();
        let status = reader.stream(stream).unwrap();
        let Some(chunk) = reader.read(stream, status.landed, 4096).unwrap().pop() else {
            return;
        };
        self.journal()
            .advance_landed(stream, chunk.end(), chunk.hash_after);
        self.known.get_mut(&stream).unwrap().landed = chunk.end().0;
    }

    fn grant(&mut self) {
        let incarnation = self.random(1000) + 1;
        self.journal().grant(StreamId(0), Incarnation(incarnation));
        let cluster = ClusterIncarnation { counter: 1, id: 1 };
        self.journal()
            .see_session(cluster, SessionEpoch(incarnation));
        self.commit();
        self.granted = Some(incarnation);
    }

    fn checkpoint(&mut self) {
        match self.running.take() {
            None => self.running = self.journal().begin_checkpoint(),
            Some(job) => {
                let done = job.run();
                self.journal().finish_checkpoint(done).unwrap();
            }
        }
    }

    fn cut(&mut self) {
        let survival = self.survival;
        self.running = None;
        self.medium.cut_power(survival);
        self.journal = None;
        let (journal, _) = open(&self.medium, SMALL).unwrap();
        for (stream, known) in &mut self.known {
            let status = journal.reader().stream(*stream).unwrap();
            assert!(status.first.0 <= known.landed, "only what landed is let go");
            let found = payloads(&journal, *stream, status.first);
            let mut expected = known.committed.clone();
            expected.append(&mut known.unsure);
            let committed = known.committed.len();
            known.committed = expected;
            known.committed.truncate(status.next.0 as usize);
            assert!(
                status.next.0 as usize >= committed,
                "all that was acknowledged is there"
            );
            assert_eq!(
                found,
                known.committed[status.first.0 as usize..],
                "and in order"
            );
            known.landed = status.landed.0;
        }
        if let Some(granted) = self.granted {
            assert_eq!(
                journal.reader().stream(StreamId(0)).unwrap().incarnation.0,
                granted
            );
            assert_eq!(journal.reader().session().1, SessionEpoch(granted));
        }
        self.journal = Some(journal);
    }
}

fn live(seed: u64, survival: Survival) {
    let mut life = Life::new(seed, survival);
    for _ in 0..400 {
        life.step();
    }
    life.cut();
}

#[test]
fn nothing_acknowledged_is_lost_in_power_cuts() {
    for seed in 0..60 {
        println!("seed: {seed}");
        live(seed, Survival::Random);
        live(seed, Survival::Nothing);
        live(seed, Survival::Everything);
    }
}

/// The test above can fail: a medium whose syncs do nothing makes it.
#[test]
fn a_sync_that_lies_is_noticed() {
    let lost = std::panic::catch_unwind(|| {
        let mut life = Life::new(3, Survival::Nothing);
        life.journal().checkpoint().unwrap();
        life.medium.ignore_sync();
        life.append();
        life.commit();
        life.cut();
    });
    assert!(lost.is_err());
}

/// Each changing call of a scripted run fails once: the journal says so, never panics, and what was
/// acknowledged before is there after it is opened again.
#[test]
fn an_io_error_at_any_write_loses_nothing_acknowledged() {
    for nth in 1.. {
        let medium = FaultyMedium::new(nth);
        let (mut journal, _) = open(&medium, SMALL).unwrap();
        let stream = open_stream(&mut journal, "telemetry");
        journal.commit().unwrap();
        medium.fail_at_write(nth);
        let mut acknowledged = 0;
        let failed = (0..80).any(|payload| {
            journal.append(stream, &record(payload, 1500)).unwrap();
            let committed = journal.commit().is_ok();
            acknowledged += u64::from(committed);
            !committed || (payload % 9 == 8 && journal.checkpoint().is_err())
        });
        if failed {
            assert!(matches!(journal.commit(), Err(CommitError::Failed)));
        }
        drop(journal);
        medium.cut_power(Survival::Random);
        let (journal, _) = open(&medium, SMALL).unwrap();
        let found = payloads(&journal, stream, EdgeOffset(0));
        assert!(found.len() as u64 >= acknowledged, "at write {nth}");
        assert!(found.iter().copied().eq(0..found.len() as u64));
        if !failed {
            assert!(nth > 100, "the script writes often");
            return;
        }
    }
}

/// Opening writes too: whichever of its writes a crash hits, the next opening finds everything.
#[test]
fn a_crash_while_opening_loses_nothing() {
    for nth in 1.. {
        let medium = FaultyMedium::new(nth);
        let (mut journal, _) = open(&medium, SMALL).unwrap();
        let stream = open_stream(&mut journal, "telemetry");
        // Frames past the checkpoint in several files.
        for payload in 0..60 {
            journal.append(stream, &record(payload, 3000)).unwrap();
            journal.commit().unwrap();
        }
        drop(journal);
        medium.cut_power(Survival::Nothing);
        medium.fail_at_write(nth);
        let opened = open(&medium, SMALL);
        let done = opened.is_ok();
        drop(opened);
        medium.cut_power(Survival::Random);
        let (journal, _) = open(&medium, SMALL).unwrap();
        let found = payloads(&journal, stream, EdgeOffset(0));
        assert!(
            found.into_iter().eq(0..60),
            "a crash at write {nth} of the opening"
        );
        if done {
            assert!(nth > 60, "the opening writes every frame again");
            return;
        }
    }
}

/// A process dies before a sync, the next one while it opens, and then the power goes: frames of an
/// opening that never was are not taken for those of a later one.
#[test]
fn an_opening_that_was_cut_short_leaves_nothing_behind() {
    for (seed, nth) in (0..30).flat_map(|seed| (2..30).map(move |nth| (seed, nth))) {
        let medium = FaultyMedium::new(seed);
        let (mut journal, _) = open(&medium, SMALL).unwrap();
        let stream = open_stream(&mut journal, "telemetry");
        journal.commit().unwrap();
        journal.checkpoint().unwrap();
        // Written, and never synced.
        journal.append(stream, &record(0, 3000)).unwrap();
        medium.fail_at_write(2);
        assert!(journal.commit().is_err());
        drop(journal);
        medium.free_space();
        medium.fail_at_write(nth);
        drop(open(&medium, SMALL));
        medium.cut_power(Survival::Random);
        let (journal, first) = open(&medium, SMALL).unwrap();
        let found = payloads(&journal, stream, EdgeOffset(0));
        drop(journal);
        medium.cut_power(Survival::Nothing);
        let (journal, second) = open(&medium, SMALL).unwrap();
        assert_eq!(
            (first.damage, second.damage),
            (vec![], vec![]),
            "{seed} {nth}"
        );
        assert_eq!(
            payloads(&journal, stream, EdgeOffset(0)),
            found,
            "{seed} {nth}"
        );
    }
}

#[test]
fn a_full_journal_refuses_and_goes_on_when_space_is_freed() {
    let medium = FaultyMedium::new(5);
    let limits = Limits {
        log_files_max: 6,
        ..SMALL
    };
    let (mut journal, _) = open(&medium, limits).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    let mut taken = 0;
    let refused = loop {
        journal.append(stream, &record(taken, 3000)).unwrap();
        match journal.commit() {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CommitError::Full));
    assert_eq!(
        payloads(&journal, stream, EdgeOffset(0)).len() as u64,
        taken
    );
    let status = journal.reader().stream(stream).unwrap();
    journal.advance_landed(stream, status.next, status.hash);
    journal.checkpoint().unwrap();
    journal.append(stream, &record(taken, 3000)).unwrap();
    journal.commit().unwrap();
    assert_eq!(payloads(&journal, stream, status.next), [taken]);
}

#[test]
fn log_files_are_used_again_and_the_disk_stays_bounded() {
    let medium = FaultyMedium::new(6);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    for round in 0..200 {
        for payload in 0..10 {
            journal
                .append(stream, &record(round * 10 + payload, 1000))
                .unwrap();
            journal.commit().unwrap();
        }
        let status = journal.reader().stream(stream).unwrap();
        journal.advance_landed(stream, status.next, status.hash);
        journal.checkpoint().unwrap();
    }
    assert!(journal.stats().log_files <= 6, "{:?}", journal.stats());
}

/// A reader's lease keeps its file from being used again under it.
#[test]
fn a_file_is_not_recycled_under_a_reader() {
    let medium = FaultyMedium::new(7);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    journal.append(stream, &record(0, 100)).unwrap();
    journal.commit().unwrap();
    let lease = journal
        .shared()
        .files
        .values()
        .next()
        .map(Arc::clone)
        .unwrap();
    let before = {
        let mut bytes = vec![0; 8192];
        lease.file.read_at(0, &mut bytes).unwrap();
        bytes
    };
    for payload in 1..200 {
        journal.append(stream, &record(payload, 1000)).unwrap();
        journal.commit().unwrap();
        let status = journal.reader().stream(stream).unwrap();
        journal.advance_landed(stream, status.next, status.hash);
        if payload % 5 == 0 {
            journal.checkpoint().unwrap();
        }
    }
    let mut after = vec![0; 8192];
    lease.file.read_at(0, &mut after).unwrap();
    assert_eq!(before, after);
}

#[test]
fn damage_before_the_tail_is_told_from_the_tail() {
    let medium = FaultyMedium::new(8);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    for payload in 0..3 {
        journal.append(stream, &record(payload, 100)).unwrap();
        journal.commit().unwrap();
    }
    let slot = journal.writer.active.slot;
    drop(journal);
    let file = medium.open(slot).unwrap();
    // Block 0 is the header, then three frames: hit the second.
    file.write_at(2 * 4096 + 50, &[0xff]).unwrap();
    file.sync().unwrap();
    let (journal, report) = open(&medium, SMALL).unwrap();
    assert_eq!((report.damage.len(), report.gap_records), (1, 1));
    let gaps = journal.reader().stream(stream).unwrap().gaps;
    assert_eq!((gaps[0].from, gaps[0].to), (EdgeOffset(1), EdgeOffset(2)));
}

#[test]
fn a_real_folder_holds_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let medium = Arc::new(Directory::open(folder.path().join("journal")).unwrap());
        Journal::open(medium, Limits::default(), STORE).unwrap()
    };
    let (mut journal, _) = open();
    let stream = open_stream(&mut journal, "telemetry");
    let payload = Record {
        timestamp_ms: 1_700_000_000_000,
        key: Some(Bytes::from_static(b"plant/7")),
        value: Some(Bytes::from_static(b"21.5")),
        ..Record::default()
    };
    journal.append(stream, &payload).unwrap();
    journal.commit().unwrap();
    drop(journal); // no checkpoint: as after kill -9
    let (journal, report) = open();
    assert_eq!((report.frames_replayed, report.records_replayed), (1, 1));
    let chunks = journal.reader().read(stream, EdgeOffset(0), 1).unwrap();
    let batch = Batch::parse(chunks[0].batch.clone()).unwrap();
    let records: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
    assert_eq!(records, [(0, payload)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn boundary_hashes_are_found_at_every_boundary(sizes in prop::collection::vec(1..5_u64, 1..30)) {
        let (mut journal, _) = open(&FaultyMedium::new(9), SMALL).unwrap();
        let stream = open_stream(&mut journal, "telemetry");
        let mut boundaries = Vec::new();
        let mut payload = 0;
        for size in sizes {
            for _ in 0..size {
                journal.append(stream, &record(payload, 900)).unwrap();
                payload += 1;
            }
            journal.commit().unwrap();
            boundaries.push((EdgeOffset(payload), journal.reader().stream(stream).unwrap().hash));
        }
        for (offset, hash) in boundaries {
            prop_assert_eq!(journal.reader().hash_at(stream, offset).unwrap(), Some(hash));
        }
        prop_assert_eq!(journal.reader().hash_at(stream, EdgeOffset(payload + 1)).unwrap(), None);
    }
}
