//! The cache against a plain map, and what it promises about requests, damage and its folder.

use std::fs;
use std::path::Path;

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::store::{Operation, StoreMetrics, StoreOptions};

const BLOCK: usize = BLOCK_BYTES as usize;

/// Bytes of which no two blocks are alike.
fn body(length: usize, seed: u8) -> Bytes {
    (0..length)
        .map(|at| (at as u8) ^ (at >> 8) as u8 ^ (at >> 16) as u8 ^ seed)
        .collect::<Vec<_>>()
        .into()
}

fn memory_store() -> Store {
    let url = "memory://".parse().unwrap();
    Store::open(&url, &StoreOptions::default(), &StoreMetrics::default()).unwrap()
}

fn folder_store(folder: &Path) -> Store {
    let url = crate::store::StoreUrl::folder(folder);
    Store::open(&url, &StoreOptions::default(), &StoreMetrics::default()).unwrap()
}

fn cache(folder: Option<&Path>, limits: CacheLimits) -> Cache {
    Cache::open(folder.map(Path::to_owned), limits, &CacheMetrics::default())
}

fn gets(store: &Store) -> u64 {
    store.usage().requests(Operation::Get)
}

/// All that was to be written to the cache's folder has been, or was given up.
async fn saved(cache: &Cache) {
    let saves = CACHE_SAVES_MAX as u32;
    drop(cache.shared.saves.acquire_many(saves).await.unwrap());
}

async fn ahead(cache: &Cache) {
    let aheads = READ_AHEADS_MAX as u32;
    drop(cache.shared.aheads.acquire_many(aheads).await.unwrap());
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let within = |path: std::path::PathBuf| {
        fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    within(folder.to_owned()).flat_map(within).collect()
}

#[tokio::test]
async fn concurrent_misses_make_one_request() {
    let (store, cache) = (memory_store(), cache(None, CacheLimits::default()));
    let object = body(3 * BLOCK, 1);
    store.put("a", vec![object.clone()]).await.unwrap();
    let range = 100..2 * BLOCK_BYTES + 7;
    let reads = (0..50).map(|_| cache.read(&store, "a", range.clone()));
    for read in join_all(reads).await {
        assert_eq!(read.unwrap(), object.slice(100..2 * BLOCK + 7));
    }
    assert_eq!(gets(&store), 1);
    let counts = cache.counts();
    assert_eq!((counts.missed, counts.joined, counts.fetched), (3, 147, 3));
}

#[tokio::test]
async fn who_began_may_go_away() {
    let (store, cache) = (memory_store(), cache(None, CacheLimits::default()));
    store.put("a", vec![body(10, 1)]).await.unwrap();
    let mut first = Box::pin(cache.read(&store, "a", 0..10));
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(first);
    assert_eq!(cache.read(&store, "a", 0..10).await.unwrap(), body(10, 1));
    assert_eq!(gets(&store), 1);
}

#[tokio::test]
async fn an_error_is_told_to_all_and_forgotten() {
    let (store, cache) = (memory_store(), cache(None, CacheLimits::default()));
    let reads = (0..5).map(|_| cache.read(&store, "a", 0..10));
    for read in join_all(reads).await {
        assert!(read.unwrap_err().is_not_found());
    }
    assert_eq!(gets(&store), 1);
    store.put("a", vec![body(10, 1)]).await.unwrap();
    assert_eq!(cache.read(&store, "a", 0..10).await.unwrap(), body(10, 1));
}

#[tokio::test]
async fn a_range_past_the_end_is_an_error_that_says_so() {
    let (store, cache) = (memory_store(), cache(None, CacheLimits::default()));
    store.put("a", vec![body(BLOCK + 5, 1)]).await.unwrap();
    let ends = [
        5..BLOCK_BYTES + 6,
        BLOCK_BYTES + 5..BLOCK_BYTES + 6,
        9 * BLOCK_BYTES..10 * BLOCK_BYTES,
    ];
    for wanted in ends {
        let error = cache.read(&store, "a", wanted.clone()).await.unwrap_err();
        match &error {
            StoreError::OutOfRange { range, size, .. } => {
                assert_eq!((range, *size), (&wanted, BLOCK_BYTES + 5));
            }
            _ => panic!("{error}"),
        }
        assert!(!error.may_pass());
    }
    assert_eq!(cache.read(&store, "a", 7..7).await.unwrap(), Bytes::new());
}

#[tokio::test]
async fn memory_is_bounded() {
    let limits = CacheLimits {
        memory_bytes_max: 3 * BLOCK_BYTES,
        ..CacheLimits::default()
    };
    let (store, cache) = (memory_store(), cache(None, limits));
    store.put("a", vec![body(12 * BLOCK, 1)]).await.unwrap();
    let whole = cache.read(&store, "a", 0..12 * BLOCK_BYTES).await.unwrap();
    assert_eq!(whole, body(12 * BLOCK, 1));
    assert!(cache.counts().memory_bytes <= 3 * BLOCK_BYTES);
}

#[tokio::test]
async fn a_sequential_reader_finds_what_it_wants() {
    let (store, cache) = (memory_store(), cache(None, CacheLimits::default()));
    let blocks = 24;
    let object = body(blocks * BLOCK, 1);
    store.put("a", vec![object.clone()]).await.unwrap();
    let step = BLOCK / 4;
    for at in (0..object.len()).step_by(step) {
        let range = at as u64..(at + step) as u64;
        let read = cache.read(&store, "a", range).await.unwrap();
        assert_eq!(read, object.slice(at..at + step));
        ahead(&cache).await;
    }
    // One for the first block; then each brings half of what is read ahead, or more.
    let half = (READ_AHEAD_BYTES / BLOCK_BYTES / 2) as usize;
    assert!(
        gets(&store) as usize <= 2 + blocks / half,
        "{} requests",
        gets(&store)
    );
    assert_eq!(cache.counts().missed, 1, "{:?}", cache.counts());
    assert_eq!(store.usage().read_bytes, object.len() as u64);
}

#[tokio::test]
async fn a_random_reader_gets_nothing_ahead() {
    let (store, cache) = (memory_store(), cache(None, CacheLimits::default()));
    store.put("a", vec![body(24 * BLOCK, 1)]).await.unwrap();
    for block in [20, 3, 11, 7, 15, 0, 22] {
        let begin = block * BLOCK_BYTES;
        cache.read(&store, "a", begin..begin + 10).await.unwrap();
    }
    assert_eq!((cache.counts().ahead, gets(&store)), (0, 7));
}

#[tokio::test]
async fn a_restart_finds_its_blocks_on_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let (objects, folder) = (scratch.path().join("objects"), scratch.path().join("cache"));
    let store = folder_store(&objects);
    store.put("a", vec![body(2 * BLOCK + 9, 1)]).await.unwrap();
    let all = 0..2 * BLOCK_BYTES + 9;
    let first = cache(Some(&folder), CacheLimits::default());
    first.read(&store, "a", all.clone()).await.unwrap();
    saved(&first).await;
    let second = cache(Some(&folder), CacheLimits::default());
    assert!(second.counts().disk_bytes > 2 * BLOCK_BYTES);
    assert_eq!(
        second.read(&store, "a", all).await.unwrap(),
        body(2 * BLOCK + 9, 1)
    );
    assert_eq!((gets(&store), second.counts().disk), (1, 3));
}

#[tokio::test]
async fn what_is_damaged_or_anothers_is_fetched_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (objects, folder) = (scratch.path().join("objects"), scratch.path().join("cache"));
    let store = folder_store(&objects);
    for key in ["a", "b"] {
        store
            .put(key, vec![body(1_000, key.as_bytes()[0])])
            .await
            .unwrap();
    }
    type Harm = fn(&Path, &Path);
    let harms: [Harm; 6] = [
        |file, _| flip(file, 700),
        |file, _| flip(file, 3),
        |file, _| flip(file, 13),
        |file, _| fs::write(file, &fs::read(file).unwrap()[..900]).unwrap(),
        |file, _| fs::write(file, b"").unwrap(),
        |file, other| drop(fs::copy(other, file).unwrap()),
    ];
    for (at, harm) in harms.into_iter().enumerate() {
        let first = cache(Some(&folder), CacheLimits::default());
        first.read(&store, "a", 0..1_000).await.unwrap();
        saved(&first).await;
        let of_a = files(&folder);
        first.read(&store, "b", 0..1_000).await.unwrap();
        saved(&first).await;
        let of_b: Vec<_> = files(&folder)
            .into_iter()
            .filter(|file| !of_a.contains(file))
            .collect();
        harm(&of_a[0], &of_b[0]);
        let before = gets(&store);
        let second = cache(Some(&folder), CacheLimits::default());
        let read = second.read(&store, "a", 0..1_000).await.unwrap();
        assert_eq!(read, body(1_000, b'a'), "harm {at}");
        assert_eq!(
            (gets(&store) - before, second.counts().damaged),
            (1, 1),
            "harm {at}"
        );
        saved(&second).await;
        fs::remove_dir_all(&folder).unwrap();
    }
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn the_folder_may_be_deleted_while_it_is_used() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("cache");
    let limits = CacheLimits {
        memory_bytes_max: 0,
        ..CacheLimits::default()
    };
    let (store, cache) = (memory_store(), cache(Some(&folder), limits));
    store.put("a", vec![body(BLOCK, 1)]).await.unwrap();
    for round in 0..3 {
        let read = cache.read(&store, "a", 0..BLOCK_BYTES).await.unwrap();
        assert_eq!(read, body(BLOCK, 1));
        saved(&cache).await;
        assert_eq!(gets(&store), round + 1);
        cache.read(&store, "a", 0..BLOCK_BYTES).await.unwrap();
        assert_eq!(gets(&store), round + 1, "it was on disk");
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_as_none() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    let (store, cache) = (memory_store(), cache(Some(&file), CacheLimits::default()));
    store.put("a", vec![body(10, 1)]).await.unwrap();
    assert_eq!(cache.read(&store, "a", 0..10).await.unwrap(), body(10, 1));
    saved(&cache).await;
    assert_eq!(cache.counts().not_saved, 1);
}

#[tokio::test]
async fn disk_is_bounded_and_the_oldest_go() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("cache");
    let limits = CacheLimits {
        memory_bytes_max: 0,
        disk_bytes_max: 3 * BLOCK_BYTES,
        ..CacheLimits::default()
    };
    let (store, cache) = (memory_store(), cache(Some(&folder), limits));
    store.put("a", vec![body(5 * BLOCK, 1)]).await.unwrap();
    for block in 0..5 {
        let begin = block * BLOCK_BYTES;
        cache.read(&store, "a", begin..begin + 1).await.unwrap();
        saved(&cache).await;
        ahead(&cache).await;
    }
    let kept: u64 = files(&folder)
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert_eq!(kept, cache.counts().disk_bytes);
    assert!((BLOCK_BYTES..=3 * BLOCK_BYTES).contains(&kept), "{kept}");
    let before = gets(&store);
    cache
        .read(&store, "a", 4 * BLOCK_BYTES..4 * BLOCK_BYTES + 1)
        .await
        .unwrap();
    assert_eq!(gets(&store), before, "the newest is there");
}

/// One step of a reader, or of those who harm the cache.
#[derive(Clone, Debug)]
enum Step {
    Read {
        object: usize,
        from: u64,
        length: u64,
    },
    ReadOn {
        object: usize,
        length: u64,
    },
    DeleteFolder,
    Flip {
        file: usize,
        at: usize,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = 0..3 * BLOCK_BYTES / 2;
    let step = prop_oneof![
        6 => (0..3_usize, 0..5 * BLOCK_BYTES, length.clone())
            .prop_map(|(object, from, length)| Step::Read { object, from, length }),
        6 => (0..3_usize, length).prop_map(|(object, length)| Step::ReadOn { object, length }),
        1 => Just(Step::DeleteFolder),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(file, at)| Step::Flip { file, at }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

async fn as_a_map(steps: Vec<Step>) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("cache");
    let limits = CacheLimits {
        memory_bytes_max: 3 * BLOCK_BYTES,
        disk_bytes_max: 6 * BLOCK_BYTES,
        ..CacheLimits::default()
    };
    let store = folder_store(&scratch.path().join("objects"));
    let lengths = [4 * BLOCK + 17, 3 * BLOCK, 900];
    let map: Vec<_> = (0..3).map(|at| body(lengths[at], at as u8)).collect();
    for (at, object) in map.iter().enumerate() {
        store
            .put(&format!("objects/{at}"), vec![object.clone()])
            .await
            .unwrap();
    }
    let mut cache = cache(Some(&folder), limits);
    let mut positions = [0_u64; 3];
    for step in steps {
        let (object, from, length) = match step {
            Step::Read {
                object,
                from,
                length,
            } => (object, from, length),
            Step::ReadOn { object, length } => {
                let rest = map[object].len() as u64 - positions[object];
                (object, positions[object], length.min(rest))
            }
            Step::DeleteFolder => {
                let _ = fs::remove_dir_all(&folder);
                continue;
            }
            Step::Flip { file, at } => {
                saved(&cache).await;
                if let Some(path) = folder
                    .is_dir()
                    .then(|| files(&folder))
                    .filter(|all| !all.is_empty())
                {
                    let path = &path[file % path.len()];
                    flip(path, at % path.metadata().unwrap().len() as usize);
                }
                continue;
            }
            Step::Restart => {
                saved(&cache).await;
                cache = super::tests::cache(Some(&folder), limits);
                continue;
            }
        };
        let read = cache
            .read(&store, &format!("objects/{object}"), from..from + length)
            .await;
        let wanted = map[object].get(from as usize..(from + length) as usize);
        match wanted {
            _ if length == 0 => assert_eq!(read.unwrap(), Bytes::new()),
            Some(wanted) => {
                assert_eq!(read.unwrap(), wanted);
                positions[object] = from + length;
            }
            None => assert!(
                matches!(read, Err(StoreError::OutOfRange { .. })),
                "{read:?}"
            ),
        }
        assert!(cache.counts().memory_bytes <= limits.memory_bytes_max);
        assert!(cache.counts().disk_bytes <= limits.disk_bytes_max);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_reads_as_a_map(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(as_a_map(steps));
    }
}

#[test]
fn names_of_files_are_read_back() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = Disk::open(scratch.path().to_owned(), 1 << 20);
    let block = Block {
        bytes: body(10, 1),
        object_bytes: 10,
    };
    let id = BlockId {
        object: 7,
        number: 0,
    };
    disk.save(id, "a", &block).unwrap();
    fs::write(scratch.path().join("00/0.1.unfinished"), b"torn").unwrap();
    fs::write(scratch.path().join("00/README"), b"somebody's").unwrap();
    let again = Disk::open(scratch.path().to_owned(), 1 << 20);
    assert!(again.bytes() > 10);
    assert_eq!(
        files(scratch.path()).len(),
        2,
        "the torn one is gone, somebody's is not"
    );
}
