//! Clouds that come and go over one log, by a seed, on a store that is slow and loses answers: some are killed, some
//! live on beside their successors, all snapshot and delete what lies before. What one of them acknowledged, every
//! later one must have, in one order, and nothing twice.

mod sea;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::task::JoinHandle;

use self::sea::{Random, Sea};
use super::*;
use crate::log::{LogReader, OpenedPlace};
use crate::opening::{Opened, Replayed, in_store};
use crate::snapshots::{ObjectSnapshots, Snapshot};
use crate::store::{CacheLimits, CacheMetrics};

/// The numbers that were put into the log, as a cloud knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Numbers(Vec<u64>);

impl Replayed for Numbers {
    fn begin(snapshot: Option<Snapshot>) -> anyhow::Result<Self> {
        let mut bytes = snapshot.map(|snapshot| snapshot.ledger).unwrap_or_default();
        let mut numbers = Vec::new();
        while bytes.has_remaining() {
            numbers.push(bytes.get_u64_le());
        }
        Ok(Self(numbers))
    }

    fn replay(&mut self, _: &Appended, mut command: Bytes) -> anyhow::Result<()> {
        self.0.push(command.get_u64_le());
        Ok(())
    }
}

impl Numbers {
    fn snapshot(&self, end: LogEnd) -> Snapshot {
        let mut bytes = BytesMut::new();
        self.0.iter().for_each(|number| bytes.put_u64_le(*number));
        Snapshot {
            end,
            ledger_ms: 0,
            ledger: bytes.freeze(),
            offset_map: Bytes::new(),
        }
    }
}

#[derive(Debug, Default)]
struct History {
    /// The longest that any cloud knows.
    longest: Vec<u64>,
    /// How many of them were acknowledged.
    acknowledged: usize,
    next: u64,
    /// What happened, and how often.
    seen: BTreeMap<&'static str, u32>,
}

impl History {
    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// There is one order: of what two clouds know, one is the beginning of the other.
    fn knows(&mut self, numbers: &[u64]) {
        let common = numbers.len().min(self.longest.len());
        assert_eq!(numbers[..common], self.longest[..common], "two orders");
        if numbers.len() > common {
            let added = &numbers[common..];
            let is_new = |number| !self.longest.contains(number);
            assert!(added.iter().all(is_new), "twice: {added:?}");
            self.longest.extend(added);
        }
    }

    /// `before` were acknowledged when the opening began; another cloud may have gone on since.
    fn opened(&mut self, numbers: &[u64], before: usize) {
        assert!(
            numbers.len() >= before,
            "lost: {:?}",
            &self.longest[numbers.len()..before]
        );
        if numbers.len() > self.acknowledged {
            self.saw("on its way, and part of the log");
        }
        self.knows(numbers);
    }

    fn acknowledge(&mut self, numbers: &[u64]) {
        self.knows(numbers);
        self.acknowledged = self.acknowledged.max(numbers.len());
    }
}

#[derive(Clone, Debug)]
struct World {
    place: ObjectLogPlace,
    history: Arc<Mutex<History>>,
}

impl World {
    fn new(sea: &Sea) -> Self {
        let limits = CacheLimits::default();
        Self {
            place: ObjectLogPlace {
                store: Store::over(Arc::new(sea.clone())),
                cache: Cache::open(None, limits, &CacheMetrics::default()),
                linger: Duration::ZERO,
            },
            history: Arc::default(),
        }
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    async fn open(&self) -> anyhow::Result<(ObjectLog, Numbers)> {
        let before = self.history().acknowledged;
        let opened: Opened<ObjectLog, Numbers> = in_store(&self.place).await?;
        self.history().opened(&opened.state.0, before);
        Ok((opened.log, opened.state))
    }

    /// Runs a cloud until its log fails.
    async fn cloud(self, mut random: Random) {
        let ended = self.run(&mut random).await;
        let error = ended.unwrap_err();
        let what = match error.downcast_ref::<LogError>() {
            Some(LogError::Object(ObjectLogError::Fenced { .. })) => "fenced",
            Some(LogError::Object(ObjectLogError::Store(_))) => "store failed",
            Some(LogError::Object(ObjectLogError::Contested { .. })) => "contested",
            Some(error) => panic!("{error}"),
            None => "store failed, or another went on",
        };
        self.history().saw(what);
    }

    async fn run(&self, random: &mut Random) -> anyhow::Result<()> {
        let (mut log, mut numbers) = self.open().await?;
        let snapshots = ObjectSnapshots::new(self.place.store.clone());
        let mut waiting = VecDeque::new();
        let mut due = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                durable = log.durable(), if !waiting.is_empty() => {
                    durable?;
                    let (number, end) = waiting.pop_front().unwrap();
                    numbers.0.push(number);
                    self.history().acknowledge(&numbers.0);
                    if random.percent(4) {
                        self.shorten(&log, &snapshots, numbers.snapshot(end)).await?;
                    }
                }
                () = tokio::time::sleep_until(due), if log.has_room() => {
                    let number = {
                        let mut history = self.history();
                        history.next += 1;
                        history.next
                    };
                    log.append(&number.to_le_bytes(), &[Bytes::from_static(b"batch")])?;
                    waiting.push_back((number, log.end()));
                    due += Duration::from_millis(random.below(40));
                }
            }
        }
    }

    /// Snapshots, and deletes at once what no snapshot that is kept needs.
    async fn shorten(
        &self,
        log: &ObjectLog,
        snapshots: &ObjectSnapshots,
        snapshot: Snapshot,
    ) -> anyhow::Result<()> {
        let reader = LogReader::Object(log.reader());
        if let Ok(Some(oldest)) = snapshots.save(&snapshot).await {
            let before = reader.objects_before(oldest);
            let (removed, _) = reader.remove(before).await;
            if !removed.is_empty() {
                self.history().saw("deleted");
            }
        }
        Ok(())
    }

    /// Clouds come and go; then the weather is calm, and one more must have all that was acknowledged.
    async fn live(self, sea: Sea, mut random: Random) {
        let mut living: Vec<JoinHandle<()>> = Vec::new();
        for _ in 0..8 {
            if random.percent(70) {
                living.drain(..).for_each(|cloud| cloud.abort());
            } else if !living.is_empty() {
                self.history().saw("two at once");
            }
            let cloud = self.clone().cloud(Random::new(random.next()));
            living.push(tokio::spawn(cloud));
            tokio::time::sleep(Duration::from_millis(random.below(6_000))).await;
            for cloud in living.extract_if(.., |cloud| cloud.is_finished()) {
                cloud.await.unwrap();
            }
        }
        living.drain(..).for_each(|cloud| cloud.abort());
        if random.percent(50) {
            // All that was on its way has come to its end.
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        sea.calm();
        let (log, _) = self.open().await.unwrap();
        let newest = LogReader::Object(log.reader()).newest();
        if newest.is_some_and(|newest| newest + VOID_NUMBERS > log.next.number) {
            self.history().saw("void");
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_whoever_takes_over() {
    let seeds: u64 =
        std::env::var("TIDEGATE_TEST_SEEDS").map_or(100, |seeds| seeds.parse().unwrap());
    let first: u64 = std::env::var("TIDEGATE_TEST_SEED").map_or(0, |seed| seed.parse().unwrap());
    let mut seen: BTreeMap<&'static str, u32> = BTreeMap::new();
    for seed in first..first + seeds {
        println!("seed {seed}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let sea = Sea::new(seed);
        let of_world = runtime.block_on(async {
            let world = World::new(&sea);
            world.clone().live(sea, Random::new(seed ^ 0x5ea)).await;
            let history = world.history();
            history.seen.clone()
        });
        for (what, times) in of_world {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{seen:#?}");
    if seeds >= 100 {
        for what in [
            "on its way, and part of the log",
            "fenced",
            "two at once",
            "deleted",
            "void",
        ] {
            assert!(seen.contains_key(what), "{what} did not happen: {seen:?}");
        }
    }
}

/// On a store on which nothing goes wrong.
async fn calm() -> World {
    let sea = Sea::new(0);
    sea.calm();
    World::new(&sea)
}

/// Opens the log, and adds so many frames with a batch; returns their places.
async fn add(world: &World, count: u64, batch: &'static [u8]) -> (ObjectLog, Vec<Appended>) {
    let (mut log, _) = world.open().await.unwrap();
    let mut appended = Vec::new();
    for _ in 0..count {
        let number = {
            let mut history = world.history();
            history.next += 1;
            history.next
        };
        let batch = Bytes::from_static(batch);
        appended.push(log.append(&number.to_le_bytes(), &[batch]).unwrap());
        log.durable().await.unwrap();
    }
    (log, appended)
}

async fn refused(world: &World) -> String {
    world.open().await.unwrap_err().to_string()
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_missing_is_told_and_nothing_goes_on_without_it() {
    for lost in [2, 4] {
        let world = calm().await;
        let (log, frames) = add(&world, 5, b"batch").await;
        drop(log);
        // Whoever made this fence had read all five.
        drop(world.open().await.unwrap());
        let key = place::key(frames[lost].object);
        world.place.store.delete(&key).await.unwrap();
        let said = refused(&world).await;
        assert!(said.contains(&key) && said.contains("is missing"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_damaged_is_told() {
    let world = calm().await;
    let (log, frames) = add(&world, 5, b"batch").await;
    drop(log);
    let key = place::key(frames[3].object);
    let whole = world.place.store.read_whole(&key).await.unwrap();
    let mut damaged = whole.to_vec();
    damaged[frame::HEADER_BYTES] ^= 1;
    let put = world.place.store.put(&key, vec![damaged.into()]);
    put.await.unwrap();
    let said = refused(&world).await;
    assert!(said.contains(&key) && said.contains("CRC"), "{said}");
    let put = world
        .place
        .store
        .put(&key, vec![whole.slice(..whole.len() - 1)]);
    put.await.unwrap();
    let said = refused(&world).await;
    assert!(said.contains("another length"), "{said}");
}

/// The numbers are given again, and what a cache has of the objects that had them before is another life's.
#[tokio::test(start_paused = true)]
async fn a_store_that_was_put_back_is_not_read_from_the_cache_of_what_it_had() {
    let world = calm().await;
    drop(add(&world, 3, b"begin").await);
    let kept = world.place.store.list("log", None, 100).await.unwrap();
    let read = async |log: &ObjectLog, at: &Appended| {
        let place = tidegate_cloud_protocol::index::LogPlace {
            object: at.object,
            position: at.attachments_position,
        };
        let reader = LogReader::Object(log.reader());
        match reader.open(place, 5).await.unwrap() {
            OpenedPlace::Bytes(bytes) => bytes,
            OpenedPlace::File(_) => unreachable!("it has no files"),
        }
    };
    let (log, before) = add(&world, 3, b"older").await;
    assert_eq!(read(&log, &before[2]).await, "older");
    drop(log);
    let now = world.place.store.list("log", None, 100).await.unwrap();
    for object in now.objects.iter().filter(|one| !kept.objects.contains(one)) {
        world.place.store.delete(&object.key).await.unwrap();
    }
    *world.history() = History::default();
    let (log, after) = add(&world, 3, b"newer").await;
    assert_eq!(after[2], before[2], "the numbers are given again");
    assert_eq!(read(&log, &after[2]).await, "newer");
}
