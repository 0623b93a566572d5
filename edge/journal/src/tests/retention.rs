//! Retention, overflow and gaps: what goes and what stays, that every loss is counted, and that what
//! may have been sent can still be proved.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_shared::gap::GapReason;
use tidegate_shared::id::Position;

use super::*;
use crate::media::Aside;
use crate::{JournalReader, Overflow, Retention, StreamPolicy, StreamStatus, Tick, ToSend};

/// A journal that is full after about 400 KiB.
const TIGHT: Limits = Limits {
    log_files_max: 8,
    ..SMALL
};

fn with_retention(journal: &mut Journal, stream: StreamId, retention: Retention) {
    let policy = StreamPolicy {
        retention,
        ..StreamPolicy::default()
    };
    journal.set_policy(stream, policy);
}

fn drop_oldest(journal: &mut Journal, stream: StreamId) {
    let policy = StreamPolicy {
        overflow: Overflow::DropOldest,
        ..StreamPolicy::default()
    };
    journal.set_policy(stream, policy);
}

fn tick(journal: &mut Journal, seconds: u64, wall_ms: i64) {
    journal.tick(Tick {
        monotonic_ms_since_open: seconds * 1000,
        wall_ms,
    });
}

fn put(journal: &mut Journal, stream: StreamId, payload: u64, bytes: usize) {
    journal.append(stream, &record(payload, bytes)).unwrap();
    journal.commit().unwrap();
}

fn land_all(journal: &mut Journal, stream: StreamId) {
    let status = journal.reader().stream(stream).unwrap();
    journal.advance_landed(stream, status.next, status.hash);
}

#[test]
fn what_is_too_old_goes_with_a_gap_and_steps_of_the_wall_clock_age_nothing() {
    const YEAR_MS: i64 = 365 * 86_400_000;
    let medium = FaultyMedium::new(1);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    let age_ms = Some(60_000);
    let retention = Retention {
        age_ms,
        ..Retention::default()
    };
    with_retention(&mut journal, stream, retention);
    tick(&mut journal, 1, 0);
    put(&mut journal, stream, 0, 100);
    // Boot in 1970, then the clock is set, then set back: nothing is a second older for it.
    for wall_ms in [0, 1_700_000_000_000, 1_700_000_000_000 + 90 * YEAR_MS, 5] {
        tick(&mut journal, 20, wall_ms);
        journal.retain().unwrap();
        assert_eq!(journal.reader().stream(stream).unwrap().gap_records, 0);
    }
    tick(&mut journal, 50, 5);
    put(&mut journal, stream, 1, 100);
    drop(journal); // no checkpoint: as after kill -9, long ago by the wall
    medium.cut_power(Survival::Nothing);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    tick(&mut journal, 2, 1_800_000_000_000);
    journal.retain().unwrap();
    assert_eq!(journal.reader().stream(stream).unwrap().gap_records, 0);
    // The policy is known by the first checkpoint; the clock goes on where it stood.
    with_retention(&mut journal, stream, retention);
    tick(&mut journal, 15, 1_800_000_000_000);
    journal.retain().unwrap();
    let status = journal.reader().stream(stream).unwrap();
    assert_eq!((status.first, status.gap_records), (EdgeOffset(1), 1));
    let gap = status.gaps[0];
    assert_eq!((gap.reason, gap.records()), (GapReason::Age, 1));
    assert_eq!(payloads(&journal, stream, status.first), [1]);
}

#[test]
fn a_stream_keeps_its_bytes_and_chunks_die_one_by_one() {
    let (mut journal, _) = open(&FaultyMedium::new(2), SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    let bytes = Some(20_000);
    let retention = Retention {
        bytes,
        ..Retention::default()
    };
    with_retention(&mut journal, stream, retention);
    let (name, topic) = ("telemetry", TopicName::new("telemetry").unwrap());
    let name = StreamName::new(name).unwrap();
    journal
        .open_stream(&name, &topic, Compression::None)
        .unwrap();
    for payload in 0..200 {
        put(&mut journal, stream, payload, 1000);
        journal.retain().unwrap();
        let status = journal.reader().stream(stream).unwrap();
        assert!(status.bytes <= 20_000, "{}", status.bytes);
        let kept = status.next.0 - status.first.0;
        assert_eq!(status.gap_records + kept, payload + 1);
        assert!(payload < 100 || kept >= 15, "{kept} chunks are kept");
        if payload % 20 == 0 {
            journal.checkpoint().unwrap();
        }
    }
    let first = journal.reader().stream(stream).unwrap().first;
    let expected: Vec<u64> = (first.0..200).collect();
    assert_eq!(payloads(&journal, stream, first), expected);
    assert!(journal.stats().log_files <= 10, "{:?}", journal.stats());
}

#[test]
fn what_landed_stays_for_as_long_as_it_is_to_be_kept() {
    let medium = FaultyMedium::new(3);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    let retention = Retention {
        keep_after_landed_ms: 60_000,
        ..Retention::default()
    };
    journal.commit().unwrap();
    with_retention(&mut journal, stream, retention);
    for payload in 0..100 {
        tick(&mut journal, payload, 0);
        put(&mut journal, stream, payload, 3000);
        land_all(&mut journal, stream);
        journal.retain().unwrap();
    }
    let first = journal.reader().stream(stream).unwrap().first.0;
    assert!(
        (10..45).contains(&first),
        "{first}: about 60 seconds are kept"
    );
    journal.checkpoint().unwrap();
    drop(journal);
    let (mut journal, _) = open(&medium, SMALL).unwrap();
    let again = journal.reader().stream(stream).unwrap();
    assert_eq!(again.first.0, first, "opening lets go of nothing");
    tick(&mut journal, 70, 0);
    journal.retain().unwrap();
    let status = journal.reader().stream(stream).unwrap();
    assert_eq!((status.first, status.gap_records), (status.next, 0));
}

#[test]
fn a_full_journal_drops_the_oldest_of_streams_that_say_so_and_of_no_other() {
    let medium = FaultyMedium::new(4);
    let (mut journal, _) = open(&medium, TIGHT).unwrap();
    let (old, kept) = (
        open_stream(&mut journal, "telemetry"),
        open_stream(&mut journal, "alarms"),
    );
    journal.commit().unwrap();
    drop_oldest(&mut journal, old);
    put(&mut journal, kept, 7, 100);
    for payload in 0..1000 {
        put(&mut journal, old, payload, 3000);
    }
    assert!(journal.stats().log_files <= 8);
    assert_eq!(payloads(&journal, kept, EdgeOffset(0)), [7]);
    let status = journal.reader().stream(old).unwrap();
    assert_eq!(status.gap_records, status.first.0);
    assert!(status.gap_records > 700 && status.gap_records < 1000);
    assert_eq!(status.gaps.len(), 1, "neighbours of one reason are one gap");
    assert_eq!(status.gaps[0].reason, GapReason::Overflow);
    // All that is left to take is the other stream's: it is not taken.
    let mut refused = false;
    for payload in 8..400 {
        journal.append(kept, &record(payload, 3000)).unwrap();
        refused |= matches!(journal.commit(), Err(CommitError::Full));
    }
    assert!(refused);
    assert_eq!(journal.reader().stream(kept).unwrap().gap_records, 0);
}

#[test]
fn a_file_that_sessions_need_does_not_die() {
    let (mut journal, _) = open(&FaultyMedium::new(5), TIGHT).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    journal.commit().unwrap();
    drop_oldest(&mut journal, stream);
    journal.set_needed_from(Position(20));
    let mut refused = 0;
    for payload in 0..300 {
        journal.append(stream, &record(payload, 3000)).unwrap();
        refused += u64::from(journal.commit().is_err());
    }
    assert!(refused > 0, "what is needed pins");
    let first = journal.reader().stream(stream).unwrap().first;
    assert!(first.0 <= 20, "{first}");
    journal.set_needed_from(Position(u64::MAX));
    put(&mut journal, stream, 300, 3000);
}

#[test]
fn no_new_file_is_made_below_the_floor_of_free_disk() {
    let medium = FaultyMedium::new(6);
    medium.limit_space(2 << 20);
    let limits = Limits {
        free_disk_min_bytes: 1 << 20,
        ..SMALL
    };
    let (mut journal, _) = open(&medium, limits).unwrap();
    let stream = open_stream(&mut journal, "telemetry");
    let refused = (0..1000).find(|payload| {
        journal.append(stream, &record(*payload, 3000)).unwrap();
        matches!(journal.commit(), Err(CommitError::Full))
    });
    assert!(refused.is_some_and(|taken| taken > 50), "{refused:?}");
    assert!(medium.free_bytes().unwrap() >= 1 << 20);
    land_all(&mut journal, stream);
    journal.checkpoint().unwrap();
    put(&mut journal, stream, 0, 3000);
}

/// An alarm now and then among telemetry that comes and goes: what would pin every file is copied.
#[test]
fn the_cleaner_moves_what_lives_and_nobody_notices() {
    let medium = FaultyMedium::new(7);
    let (mut journal, _) = open(&medium, TIGHT).unwrap();
    let telemetry = open_stream(&mut journal, "telemetry");
    let alarms = open_stream(&mut journal, "alarms");
    journal.commit().unwrap();
    drop_oldest(&mut journal, telemetry);
    let mut expected = Vec::new();
    let mut hashes = Vec::new();
    for payload in 0..3000 {
        put(&mut journal, telemetry, payload, 3000);
        if payload % 25 == 0 {
            put(&mut journal, alarms, payload, 100);
            expected.push(payload);
            let status = journal.reader().stream(alarms).unwrap();
            hashes.push((status.next, status.hash));
        }
        if payload % 40 == 0 {
            journal.retain().unwrap();
        }
        if payload % 500 == 499 {
            let stats = journal.stats();
            drop(journal);
            medium.cut_power(Survival::Random);
            assert!(stats.cleaned_bytes > 0, "{stats:?}");
            let verification = crate::verify(&medium, TIGHT).unwrap();
            assert_eq!(verification.damage, Vec::<String>::new());
            journal = open(&medium, TIGHT).unwrap().0;
        }
    }
    assert_eq!(payloads(&journal, alarms, EdgeOffset(0)), expected);
    for (offset, hash) in hashes {
        assert_eq!(
            journal.reader().hash_at(alarms, offset).unwrap(),
            Some(hash)
        );
    }
    let positions: Vec<Position> = journal
        .reader()
        .read(alarms, EdgeOffset(0), 1 << 20)
        .unwrap()
        .iter()
        .map(|chunk| chunk.position)
        .collect();
    assert!(positions.is_sorted() && positions[0] == Position(1));
    // Once they land, nothing is left of the copies.
    land_all(&mut journal, alarms);
    land_all(&mut journal, telemetry);
    journal.checkpoint().unwrap();
    for payload in 0..40 {
        put(&mut journal, telemetry, payload, 3000);
    }
    journal.checkpoint().unwrap();
    assert!(journal.stats().log_files <= 9, "{:?}", journal.stats());
    let runs = journal.shared().state.streams[&alarms].runs.len();
    assert!(runs <= 1, "{runs}");
}

/// A random life with drops, landings and power cuts, and an uplink that reads to send.
struct Drops {
    medium: FaultyMedium,
    journal: Option<Journal>,
    random: u64,
    /// What each offset of each stream holds: certain below `durable`.
    payloads: BTreeMap<StreamId, Vec<u64>>,
    durable: BTreeMap<StreamId, usize>,
    /// Boundaries that were ever sent, with their hashes.
    sent: BTreeMap<StreamId, BTreeMap<EdgeOffset, BoundaryHash>>,
    hub: BTreeMap<StreamId, Landings>,
    next_payload: u64,
    seconds: u64,
    dropped: u64,
    cleaned: u64,
    dropped_and_landed: u64,
}

/// What the hub has of one stream, whether the edge knows or not.
struct Landings {
    next: EdgeOffset,
    hash: BoundaryHash,
    /// Offsets that landed as lost.
    lost: BTreeSet<u64>,
    /// What the edge counts as lost and was not: of gaps that it may have told of before it was cut.
    /// `None`: there are such gaps still.
    miscounted: Option<u64>,
}

impl Default for Landings {
    fn default() -> Self {
        Self {
            next: EdgeOffset(0),
            hash: BoundaryHash::START,
            lost: BTreeSet::new(),
            miscounted: Some(0),
        }
    }
}

const STREAMS: u32 = 3;

/// The bytes of all that a stream still has.
fn living_bytes(reader: &JournalReader, status: &StreamStatus) -> u64 {
    let (mut at, mut bytes) = (status.first, 0);
    while at < status.next {
        for chunk in reader.read(status.stream, at, 1 << 16).unwrap() {
            bytes += (chunk.marks.len() + chunk.batch.len()) as u64;
            at = chunk.end();
        }
    }
    bytes
}

impl Drops {
    fn new(seed: u64) -> Self {
        let medium = FaultyMedium::new(seed);
        let (mut journal, _) = open(&medium, TIGHT).unwrap();
        for name in ["telemetry", "alarms", "events"] {
            open_stream(&mut journal, name);
        }
        journal.commit().unwrap();
        let mut life = Self {
            medium,
            journal: Some(journal),
            random: seed,
            payloads: (0..STREAMS).map(|id| (StreamId(id), vec![])).collect(),
            durable: BTreeMap::new(),
            sent: BTreeMap::new(),
            hub: BTreeMap::new(),
            dropped_and_landed: 0,
            next_payload: 0,
            seconds: 0,
            dropped: 0,
            cleaned: 0,
        };
        life.set_policies();
        life.journal().checkpoint().unwrap();
        life
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    /// One stream drops when full, one has few bytes, one refuses and lands fast.
    fn set_policies(&mut self) {
        drop_oldest(self.journal(), StreamId(0));
        let retention = Retention {
            bytes: Some(50_000),
            age_ms: Some(40_000),
            ..Retention::default()
        };
        with_retention(self.journal(), StreamId(1), retention);
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
            0..55 => self.append(),
            55..80 => self.send(),
            80..92 => self.retain(),
            92..95 => drop(self.journal().checkpoint()),
            95..97 => self.cut(),
            _ => self.check(),
        }
    }

    fn append(&mut self) {
        let stream = StreamId(self.random(2) as u32);
        let stream = if self.random(12) == 0 {
            StreamId(2)
        } else {
            stream
        };
        let count = self.random(6) + 1;
        for _ in 0..count {
            let payload = self.next_payload;
            self.next_payload += 1;
            self.journal()
                .append(stream, &record(payload, 900))
                .unwrap();
            self.payloads.get_mut(&stream).unwrap().push(payload);
        }
        match self.journal().commit() {
            Ok(_) => {}
            Err(CommitError::Full) => {
                let payloads = self.payloads.get_mut(&stream).unwrap();
                payloads.truncate(payloads.len() - count as usize);
            }
            Err(error) => panic!("{error}"),
        }
        let payloads = self.payloads[&stream].len();
        self.durable.insert(stream, payloads);
    }

    fn retain(&mut self) {
        self.seconds += 1;
        let seconds = self.seconds;
        tick(self.journal(), seconds, 0);
        self.journal().retain().unwrap();
    }

    /// Sends some from where the hub stands, and has it take some of it.
    fn send(&mut self) {
        let stream = StreamId(self.random(u64::from(STREAMS)) as u32);
        let reader = self.journal().reader();
        let mut hub = self.hub.remove(&stream).unwrap_or_default();
        let mut at = hub.next;
        let mut gaps = Vec::new();
        for _ in 0..self.random(6) + 1 {
            let (end, hash) = match reader.read_to_send(stream, at, 5000).unwrap() {
                ToSend::Chunks(chunks) => match chunks.last() {
                    Some(last) => (last.end(), last.hash_after),
                    None => break,
                },
                ToSend::Gap(gap) => {
                    gaps.push(gap);
                    (gap.to, gap.hash_after)
                }
                ToSend::Later | ToSend::Gone { .. } => panic!("nothing is being dropped"),
            };
            self.sent.entry(stream).or_default().insert(end, hash);
            at = end;
            if self.random(3) > 0 {
                (hub.next, hub.hash) = (end, hash);
            }
        }
        let lost = gaps.iter().filter(|gap| gap.to <= hub.next);
        hub.lost.extend(lost.flat_map(|gap| gap.from.0..gap.to.0));
        // Often the answer is lost, or late: sent, and maybe landed, but not known to be.
        if self.random(3) == 0 {
            self.journal().advance_landed(stream, hub.next, hub.hash);
        }
        self.hub.insert(stream, hub);
    }

    fn cut(&mut self) {
        self.cleaned += self.journal().stats().cleaned_bytes;
        self.journal = None;
        self.medium.cut_power(Survival::Random);
        let (journal, report) = open(&self.medium, TIGHT).unwrap();
        assert_eq!(report.damage, Vec::<String>::new());
        self.journal = Some(journal);
        self.seconds = 0;
        for hub in self.hub.values_mut() {
            hub.miscounted = None;
        }
        self.check();
    }

    /// Everything past the landed offset is there, or declared lost; and every boundary that was
    /// ever sent can be proved.
    fn check(&mut self) {
        let reader = self.journal().reader();
        for (stream, payloads) in &self.payloads {
            let status = reader.stream(*stream).unwrap();
            assert_eq!(status.next.0 as usize, payloads.len());
            let mut at = status.landed;
            let mut pending = 0;
            while at < status.next {
                if let Some(gap) = status.gaps.iter().find(|gap| gap.covers(at)) {
                    pending += gap.to.0 - at.0;
                    at = gap.to;
                    continue;
                }
                let chunk = reader.read(*stream, at, 1).unwrap().remove(0);
                let batch = Batch::parse(chunk.batch.clone()).unwrap();
                for found in batch.records().unwrap() {
                    let (offset, found) = found.unwrap();
                    let value = found.value.unwrap();
                    let payload = u64::from_le_bytes(value[..8].try_into().unwrap());
                    assert_eq!(payload, payloads[offset as usize]);
                }
                at = chunk.end();
            }
            let lost = status.gap_records - status.gap_records_landed - pending;
            self.dropped_and_landed += status.gap_records_landed;
            let hub = self.hub.entry(*stream).or_default();
            let landed_as_lost = hub.lost.range(..status.landed.0).count() as u64;
            assert!(
                landed_as_lost <= lost,
                "{stream}: {landed_as_lost} of {lost}"
            );
            match hub.miscounted {
                Some(miscounted) => assert_eq!(lost, landed_as_lost + miscounted, "{stream}"),
                None if status.gaps.is_empty() => hub.miscounted = Some(lost - landed_as_lost),
                None => {}
            }
            assert_eq!(living_bytes(&reader, &status), status.bytes, "{stream}");
            for (offset, hash) in self.sent.entry(*stream).or_default().range(status.landed..) {
                let proof = reader.hash_at(*stream, *offset).unwrap();
                assert_eq!(proof, Some(*hash), "{stream} at {offset}");
            }
            self.dropped += pending;
        }
        assert_eq!(reader.stream(StreamId(2)).unwrap().gap_records, 0);
    }
}

/// Any bytes of any log files are damaged, and some files are gone, after any life: the journal opens,
/// and accounts for each record up to where a stream ends. What it hands out is right.
#[test]
fn a_journal_opens_over_any_damage_and_accounts_for_every_record() {
    let (mut found, mut lost, mut shortened) = (0, 0, 0);
    for seed in 0..150 {
        println!("seed: {seed}");
        let mut life = Drops::new(seed);
        for _ in 0..300 {
            life.step();
        }
        let slots = life.medium.slots().unwrap();
        life.journal = None;
        life.medium.cut_power(Survival::Random);
        for _ in 0..life.random(6) + 1 {
            let slot = slots[life.random(slots.len() as u64) as usize];
            let at = life.random(TIGHT.log_file_bytes as u64) as usize;
            match life.random(8) {
                0 => life.medium.lose(Aside::Log(slot)),
                // A header.
                1 => life.medium.damage(Aside::Log(slot), at % 60),
                _ => life.medium.damage(Aside::Log(slot), at),
            }
        }
        let (mut journal, _) = open(&life.medium, TIGHT).unwrap();
        let reader = journal.reader();
        for (stream, payloads) in &life.payloads {
            let status = reader.stream(*stream).unwrap();
            assert!(status.next.0 as usize <= payloads.len());
            shortened += payloads.len() as u64 - status.next.0;
            let mut at = status.landed;
            let mut hash = None;
            while at < status.next {
                let read = reader.read_to_send(*stream, at, 1 << 16);
                let chunks = match read {
                    Ok(ToSend::Gap(gap)) => {
                        assert!(hash.is_none_or(|hash| hash == gap.hash_before));
                        lost += gap.records();
                        (at, hash) = (gap.to, Some(gap.hash_after));
                        continue;
                    }
                    Ok(ToSend::Chunks(chunks)) => chunks,
                    Ok(ToSend::Later | ToSend::Gone { .. }) => panic!("nothing is being dropped"),
                    Err(_) => {
                        let gap = journal.declare_damage(*stream, at).unwrap();
                        assert_eq!(gap.map(|gap| gap.from), Some(at));
                        continue;
                    }
                };
                for chunk in chunks {
                    assert!(hash.is_none_or(|hash| hash == chunk.hash_before));
                    let batch = Batch::parse(chunk.batch.clone()).unwrap();
                    for record in batch.records().unwrap() {
                        let (offset, record) = record.unwrap();
                        let value = record.value.unwrap();
                        let payload = u64::from_le_bytes(value[..8].try_into().unwrap());
                        assert_eq!(payload, payloads[offset as usize]);
                        found += 1;
                    }
                    (at, hash) = (chunk.end(), Some(chunk.hash_after));
                }
            }
            assert_eq!(at, status.next);
        }
        // It goes on, and comes back.
        journal.append(StreamId(0), &record(1, 10)).unwrap();
        let _ = journal.commit();
        drop(journal);
        open(&life.medium, TIGHT).unwrap();
    }
    println!("{found} found, {lost} lost, {shortened} lost at streams' ends");
    assert!(found > 10_000 && lost > 1_000);
}

#[test]
fn every_loss_is_declared_and_what_was_sent_can_be_proved() {
    let (mut dropped, mut landed, mut cleaned) = (0, 0, 0);
    for seed in 0..60 {
        println!("seed: {seed}");
        let mut life = Drops::new(seed);
        for _ in 0..1200 {
            life.step();
        }
        life.cut();
        dropped += life.dropped;
        cleaned += life.cleaned;
        landed += life.dropped_and_landed;
    }
    println!("{dropped} seen dropped, {landed} of what had landed, {cleaned} bytes cleaned");
    assert!(dropped > 3_000 && landed > 300 && cleaned > 10_000);
}
