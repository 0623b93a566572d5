//! A journal that is too small for what comes: whatever the policies, nothing is lost without a gap, and
//! nothing is refused while something could still make room; also while the medium fails under the
//! cleaner's hands. And frames of another store, which are not ours however well they fit.

use std::collections::BTreeMap;

use super::*;
use crate::{Overflow, Retention, StreamPolicy, Tick, ToSend};

/// Ten files, each large beside blocks and tables.
const PRESSED: Limits = Limits {
    log_file_bytes: 256 << 10,
    commit_bytes_max: 64 << 10,
    record_bytes_max: 4 << 10,
    checkpoint_log_bytes_max: 512 << 10,
    log_files_max: 10,
    free_disk_min_bytes: 0,
    reserve_bytes: 64 << 10,
};

/// A refusal is right only if what must stay is at least this much of the disk, in per cent.
const STAYS_PER_CENT_MIN: u64 = 55;

#[derive(Clone, Copy, Debug)]
struct Wish {
    overflow: Overflow,
    age_s: Option<u64>,
    bytes: Option<u64>,
    lands: bool,
}

fn wish() -> impl Strategy<Value = Wish> {
    let overflow = prop_oneof![Just(Overflow::Reject), Just(Overflow::DropOldest)];
    let age_s = prop::option::weighted(0.3, 5..60_u64);
    let bytes = prop::option::weighted(0.3, (64_u64 << 10)..(1_u64 << 20));
    (overflow, age_s, bytes, any::<bool>()).prop_map(|(overflow, age_s, bytes, lands)| Wish {
        overflow,
        age_s,
        bytes,
        lands,
    })
}

impl Wish {
    fn policy(&self) -> StreamPolicy {
        StreamPolicy {
            retention: Retention {
                age_ms: self.age_s.map(|age_s| age_s * 1000),
                bytes: self.bytes,
                ..Retention::default()
            },
            overflow: self.overflow,
        }
    }
}

/// A journal under pressure, and what it acknowledged.
struct Pressed {
    medium: FaultyMedium,
    journal: Journal,
    wishes: Vec<Wish>,
    streams: Vec<StreamId>,
    acknowledged: BTreeMap<StreamId, Vec<u64>>,
    second: u64,
    opened_at: u64,
    next_payload: u64,
    refused: u64,
}

impl Pressed {
    fn new(seed: u64, wishes: Vec<Wish>) -> Self {
        let medium = FaultyMedium::new(seed);
        let (mut journal, _) = open(&medium, PRESSED).unwrap();
        let streams: Vec<_> = (0..wishes.len())
            .map(|number| open_stream(&mut journal, &format!("stream-{number}")))
            .collect();
        journal.commit().unwrap();
        for (stream, wish) in streams.iter().zip(&wishes) {
            journal.set_policy(*stream, wish.policy());
        }
        Self {
            medium,
            journal,
            wishes,
            streams,
            acknowledged: BTreeMap::new(),
            second: 0,
            opened_at: 0,
            next_payload: 0,
            refused: 0,
        }
    }

    /// A second of messages to one stream or another. Whether the medium still answers.
    fn second(&mut self, pick: usize, records: usize, bytes: usize) -> bool {
        self.second += 1;
        self.journal.tick(Tick {
            monotonic_ms_since_open: (self.second - self.opened_at) * 1000,
            wall_ms: 0,
        });
        let stream = self.streams[pick % self.streams.len()];
        let mut staged = Vec::new();
        for _ in 0..records {
            let payload = self.next_payload;
            self.next_payload += 1;
            self.journal
                .append(stream, &record(payload, bytes))
                .unwrap();
            staged.push(payload);
        }
        match self.journal.commit() {
            Ok(_) => self.acknowledged.entry(stream).or_default().extend(staged),
            Err(CommitError::Full) => {
                self.refused += 1;
                if !self.medium.is_failing() {
                    self.check_refusal();
                }
            }
            Err(_) => return false,
        }
        for (stream, wish) in self.streams.iter().zip(&self.wishes) {
            let status = self.journal.reader().stream(*stream).unwrap();
            if wish.lands && status.landed < status.next {
                self.journal
                    .advance_landed(*stream, status.next, status.hash);
            }
        }
        let keeps =
            |result: Result<(), CommitError>| matches!(result, Ok(()) | Err(CommitError::Full));
        keeps(self.journal.retain()) && keeps(self.journal.checkpoint())
    }

    /// Nothing that may go is left that would make room: what has to stay fills the disk.
    fn check_refusal(&self) {
        let statuses = self.journal.reader().streams();
        let stays = statuses.iter().zip(&self.wishes).filter(|(status, wish)| {
            wish.overflow == Overflow::Reject && status.landed < status.next
        });
        let stays: u64 = stays.map(|(status, _)| status.bytes).sum();
        let disk = (PRESSED.log_files_max * PRESSED.log_file_bytes) as u64;
        let at_least = disk * STAYS_PER_CENT_MIN / 100;
        assert!(
            stays >= at_least,
            "refused with {stays} of {disk} that must stay"
        );
    }

    fn crash(&mut self) {
        self.medium.cut_power(Survival::Random);
        let (journal, _) = open(&self.medium, PRESSED).unwrap();
        self.journal = journal;
        self.opened_at = self.second;
        for (stream, wish) in self.streams.iter().zip(&self.wishes) {
            self.journal.set_policy(*stream, wish.policy());
        }
        // What was not acknowledged may be there all the same.
        for stream in &self.streams {
            let next = self.journal.reader().stream(*stream).unwrap().next.0;
            let known = self.acknowledged.entry(*stream).or_default();
            assert!(next >= known.len() as u64, "what was acknowledged is there");
            known.resize(next as usize, u64::MAX);
        }
    }

    /// Of each stream everything that has not landed is there, or in a gap; the counts add up.
    fn check(&mut self) {
        for stream in self.streams.clone() {
            let reader = self.journal.reader();
            let status = reader.stream(stream).unwrap();
            let known = self.acknowledged.entry(stream).or_default();
            assert_eq!(status.next.0, known.len() as u64);
            let (mut at, mut hash) = (status.landed, status.landed_hash);
            while at < status.next {
                match reader.read_to_send(stream, at, 32 << 10).unwrap() {
                    ToSend::Gap(gap) => {
                        assert_eq!((gap.from, gap.hash_before), (at, hash));
                        (at, hash) = (gap.to, gap.hash_after);
                    }
                    ToSend::Chunks(chunks) => {
                        for chunk in chunks {
                            assert_eq!((chunk.base_offset, chunk.hash_before), (at, hash));
                            check_chunk(&chunk.batch, at.0, known);
                            (at, hash) = (chunk.end(), chunk.hash_after);
                        }
                    }
                    ToSend::Later | ToSend::Gone { .. } => panic!("nothing is being dropped"),
                }
            }
            assert_eq!((at, hash), (status.next, status.hash));
        }
    }
}

fn check_chunk(batch: &Bytes, first: u64, known: &[u64]) {
    let batch = Batch::parse(batch.clone()).unwrap();
    for (record, offset) in batch.records().unwrap().zip(first..) {
        let value = record.unwrap().1.value.unwrap();
        let payload = u64::from_le_bytes(value[..8].try_into().unwrap());
        let expected = known[offset as usize];
        assert!(expected == payload || expected == u64::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_the_policies_nothing_goes_uncounted_and_nothing_is_refused_for_nothing(
        seed in any::<u64>(),
        wishes in prop::collection::vec(wish(), 1..5),
        steps in prop::collection::vec((any::<usize>(), 1..40_usize, 50..900_usize, 0..60_u8), 200..400),
    ) {
        let mut pressed = Pressed::new(seed, wishes);
        for (pick, records, bytes, chance) in steps {
            prop_assert!(pressed.second(pick, records, bytes), "the medium is sound");
            if chance == 0 {
                pressed.crash();
                pressed.check();
            }
        }
        pressed.check();
    }
}

/// The medium fails at one write after another while the cleaner copies and the oldest is dropped: with
/// EIO the journal stops, with ENOSPC it refuses; in either case all that was acknowledged is there, or
/// counted, and it goes on.
#[test]
fn errors_under_the_cleaners_hands_lose_nothing() {
    let wishes = [
        (Overflow::Reject, Some(40), true),
        (Overflow::DropOldest, None, false),
        (Overflow::Reject, Some(25), false),
    ];
    let wishes = wishes.map(|(overflow, age_s, lands)| Wish {
        overflow,
        age_s,
        bytes: None,
        lands,
    });
    let mut cleaned = 0;
    for nth in (1..2_000).step_by(37) {
        let mut pressed = Pressed::new(nth, wishes.to_vec());
        let mut pick = 0;
        while pick < 120 {
            assert!(pressed.second(pick, 25, 700));
            pick += 1;
        }
        let is_full = nth % 2 == 0;
        match is_full {
            true => pressed.medium.fill_up_at_write(nth),
            false => pressed.medium.fail_at_write(nth),
        }
        let mut goes_on = true;
        while goes_on && pick < 240 {
            goes_on = pressed.second(pick, 25, 700);
            pick += 1;
        }
        cleaned += pressed.journal.stats().cleaned_bytes;
        pressed.medium.free_space();
        if !goes_on {
            pressed.crash();
        }
        pressed.check();
        let refused = pressed.refused;
        for pick in 0..20 {
            assert!(
                pressed.second(pick, 25, 700),
                "it goes on after write {nth}"
            );
        }
        assert_eq!(pressed.refused, refused, "there is space again");
        pressed.check();
    }
    assert!(cleaned > 1 << 20, "the cleaner was at work: {cleaned}");
}

/// What a store has committed: `count` records, one a commit.
fn store(store_id: StoreId, count: u64) -> FaultyMedium {
    let medium = FaultyMedium::new(7);
    let opened = Journal::open(Arc::new(medium.clone()), SMALL, store_id);
    let mut journal = opened.unwrap().0;
    let stream = open_stream(&mut journal, "telemetry");
    for payload in 0..count {
        journal.append(stream, &record(payload, 100)).unwrap();
        journal.commit().unwrap();
    }
    drop(journal);
    medium.cut_power(Survival::Nothing);
    medium
}

/// A frame of `from` that lies behind the last one of `to`, in the same file at the same place.
fn transplant(from: &FaultyMedium, to: &FaultyMedium) {
    for slot in to.slots().unwrap() {
        let (source, target) = (from.open(slot).unwrap(), to.open(slot).unwrap());
        let mut block = [0; 4096];
        let mut ours = [0; 4096];
        for at in (4096..SMALL.log_file_bytes as u64).step_by(4096) {
            source.read_at(at, &mut block).unwrap();
            target.read_at(at, &mut ours).unwrap();
            if ours == [0; 4096] && block != [0; 4096] {
                target.write_at(at, &block).unwrap();
                target.sync().unwrap();
            }
        }
    }
}

#[test]
fn a_frame_of_another_store_ends_the_replay() {
    let records = |medium: &FaultyMedium, store_id| {
        let (journal, report) = Journal::open(Arc::new(medium.clone()), SMALL, store_id).unwrap();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        let name = StreamName::new("telemetry").unwrap();
        let stream = journal.reader().find(&name).unwrap();
        payloads(&journal, stream, EdgeOffset(0)).len()
    };
    // The same store's next frame would be taken: it fits in all but the store.
    let ours = store(StoreId(1), 9);
    transplant(&store(StoreId(1), 10), &ours);
    assert_eq!(records(&ours, StoreId(1)), 10);
    let ours = store(StoreId(1), 9);
    transplant(&store(StoreId(2), 10), &ours);
    assert_eq!(records(&ours, StoreId(1)), 9);
}
