//! A medium in memory that does to writes what a power cut does: what was not synced is kept, lost
//! or torn, each write for itself. For tests and simulations; deterministic from its seed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Aside, LogFile, Medium, Slot};

/// The unit in which a medium writes whole: a write may be torn between sectors, not inside one.
const SECTOR_BYTES: usize = 512;

/// What a power cut leaves of writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Each is kept, lost or torn by chance.
    Random,
    /// None is kept.
    Nothing,
    /// All are kept, as after `kill -9`.
    Everything,
}

/// A handle; clones mean the same medium.
#[derive(Clone, Debug, Default)]
pub struct FaultyMedium {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<FileName, FileState>,
    random: u64,
    /// I/O calls that change something, counted; the one with the armed number fails.
    writes: u64,
    fail_at: Option<u64>,
    failed: bool,
    /// What fails says ENOSPC, and stops failing when space is there again.
    fails_full: bool,
    database_is_full: bool,
    /// Bytes that all files together may have.
    space: Option<u64>,
    sync_is_ignored: bool,
    /// Handles opened before a power cut are dead after it.
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FileName {
    Database,
    Log(Slot),
    Reserve,
    /// Set aside: how many were before it.
    Aside(usize),
}

#[derive(Debug, Default)]
struct FileState {
    /// As a reader sees it now.
    seen: Vec<u8>,
    /// As the medium has it.
    durable: Vec<u8>,
    /// Since the last sync: where, and what.
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl FaultyMedium {
    pub fn new(seed: u64) -> Self {
        let medium = Self::default();
        medium.lock().random = seed;
        medium
    }

    /// Cuts the power: open handles die, and of unsynced writes `survival` decides.
    pub fn cut_power(&self, survival: Survival) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for file in state.files.values_mut() {
            for change in std::mem::take(&mut file.unsynced) {
                match change {
                    Change::Length(length) => file.durable.resize(length, 0),
                    Change::Write(offset, bytes) => {
                        survive(
                            &mut file.durable,
                            &mut state.random,
                            survival,
                            offset,
                            &bytes,
                        );
                    }
                }
            }
            file.seen = file.durable.clone();
        }
        state.generation += 1;
        state.fail_at = None;
        state.failed = false;
        state.fails_full = false;
    }

    /// Another medium with what is durable on this one, as if its card had been copied.
    pub fn copy_durable(&self) -> Self {
        let state = self.lock();
        let files = state.files.iter().map(|(name, file)| {
            let copied = FileState {
                seen: file.durable.clone(),
                durable: file.durable.clone(),
                unsynced: Vec::new(),
            };
            (*name, copied)
        });
        let copied = State {
            files: files.collect(),
            random: state.random ^ 0x9e37_79b9_7f4a_7c15,
            space: state.space,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copied)),
        }
    }

    /// From now on the `nth` changing call fails with EIO, and all after it, until the next cut.
    pub fn fail_at_write(&self, nth: u64) {
        let mut state = self.lock();
        state.fail_at = Some(state.writes + nth);
    }

    /// As [`FaultyMedium::fail_at_write`], with ENOSPC: until [`FaultyMedium::free_space`], every
    /// changing call fails but those that give space back.
    pub fn fill_up_at_write(&self, nth: u64) {
        self.fail_at_write(nth);
        self.lock().fails_full = true;
    }

    /// From now on the index cannot grow or be written: ENOSPC, until [`FaultyMedium::free_space`].
    pub fn fill_up_database(&self) {
        self.lock().database_is_full = true;
    }

    /// Whether the armed call has come.
    pub fn is_failing(&self) -> bool {
        self.lock().failed
    }

    /// There is space again.
    pub fn free_space(&self) {
        let mut state = self.lock();
        (state.fail_at, state.failed, state.fails_full) = (None, false, false);
        state.space = None;
        state.database_is_full = false;
    }

    /// All files together get at most so many bytes; growing beyond it is ENOSPC.
    pub fn limit_space(&self, bytes: u64) {
        self.lock().space = Some(bytes);
    }

    /// Bytes that all files have now.
    pub fn used_bytes(&self) -> u64 {
        let state = self.lock();
        state
            .files
            .values()
            .map(|file| file.seen.len() as u64)
            .sum()
    }

    /// Bytes of the index among them.
    pub fn index_bytes(&self) -> u64 {
        let state = self.lock();
        let database = state.files.get(&FileName::Database);
        database.map_or(0, |file| file.seen.len() as u64)
    }

    /// Files that were set aside.
    pub fn set_aside_files(&self) -> usize {
        let state = self.lock();
        let aside = |name: &&FileName| matches!(name, FileName::Aside(_));
        state.files.keys().filter(aside).count()
    }

    /// Flips a byte of the index or a log file on the medium itself: no write of anybody's.
    pub fn damage(&self, what: Aside, offset: usize) {
        let mut state = self.lock();
        if let Some(file) = state.files.get_mut(&name_of(what)) {
            for bytes in [&mut file.seen, &mut file.durable] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= 0xff;
                }
            }
        }
    }

    /// Takes a file away.
    pub fn lose(&self, what: Aside) {
        self.lock().files.remove(&name_of(what));
    }

    /// Changing calls so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Makes every sync a lie: for the test that shows that tests notice.
    pub fn ignore_sync(&self) {
        self.lock().sync_is_ignored = true;
    }

    /// What redb stores in, for a medium that stands around this one.
    pub fn database_file(&self) -> impl redb::StorageBackend + use<> {
        self.lock().files.entry(FileName::Database).or_default();
        self.handle(FileName::Database)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test thread panics while it holds the medium")
    }

    fn handle(&self, name: FileName) -> Handle {
        Handle {
            generation: self.lock().generation,
            medium: self.clone(),
            name,
        }
    }
}

fn name_of(what: Aside) -> FileName {
    match what {
        Aside::Database => FileName::Database,
        Aside::Log(slot) => FileName::Log(slot),
    }
}

fn survive(
    durable: &mut Vec<u8>,
    random: &mut u64,
    survival: Survival,
    offset: usize,
    bytes: &[u8],
) {
    let keep = match survival {
        Survival::Nothing => 0,
        Survival::Everything => bytes.len(),
        Survival::Random => match next_random(random) % 3 {
            0 => 0,
            1 => bytes.len(),
            _ => {
                // Torn: sectors land in any order, so each survives by its own chance.
                for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if next_random(random) & 1 == 0 {
                        overwrite(durable, offset + index * SECTOR_BYTES, sector);
                    }
                }
                return;
            }
        },
    };
    overwrite(durable, offset, &bytes[..keep]);
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// SplitMix64: small, and the same everywhere.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Medium for FaultyMedium {
    fn slots(&self) -> io::Result<Vec<Slot>> {
        let state = self.lock();
        let slots = state.files.keys().filter_map(|name| match name {
            FileName::Log(slot) => Some(*slot),
            _ => None,
        });
        Ok(slots.collect())
    }

    fn open(&self, slot: Slot) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(self.handle(FileName::Log(slot))))
    }

    fn create(&self, slot: Slot, bytes: usize) -> io::Result<Arc<dyn LogFile>> {
        let handle = self.handle(FileName::Log(slot));
        handle.fill(bytes)?;
        Ok(Arc::new(handle))
    }

    fn remove(&self, slot: Slot) -> io::Result<()> {
        self.lock().files.remove(&FileName::Log(slot));
        Ok(())
    }

    fn open_database(&self) -> Result<redb::Database, redb::DatabaseError> {
        redb::Builder::new()
            .set_cache_size(1 << 20)
            .create_with_backend(self.database_file())
    }

    fn set_aside(&self, what: Aside) -> io::Result<String> {
        let number = self.set_aside_files() + 1;
        let mut state = self.lock();
        let file = state.files.remove(&name_of(what));
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(FileName::Aside(number), file);
        Ok(format!("{what:?}.damaged-{number}"))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let (used, state) = (self.used_bytes(), self.lock());
        Ok(state
            .space
            .map_or(u64::MAX, |space| space.saturating_sub(used)))
    }

    fn hold_reserve(&self, bytes: u64) -> io::Result<()> {
        let handle = self.handle(FileName::Reserve);
        if handle.with(|file| file.seen.len() as u64)? == bytes {
            return Ok(());
        }
        handle.fill(bytes as usize)
    }

    fn release_reserve(&self) -> io::Result<()> {
        self.lock().files.remove(&FileName::Reserve);
        Ok(())
    }
}

/// One open file; dead after a power cut.
#[derive(Debug)]
struct Handle {
    medium: FaultyMedium,
    name: FileName,
    generation: u64,
}

impl Handle {
    fn with<T>(&self, act: impl FnOnce(&mut FileState) -> T) -> io::Result<T> {
        let mut state = self.medium.lock();
        if state.generation != self.generation {
            return Err(io::Error::other("the power was cut"));
        }
        Ok(act(state.files.entry(self.name).or_default()))
    }

    fn change<T>(&self, act: impl FnOnce(&mut FileState) -> T) -> io::Result<T> {
        {
            let mut state = self.medium.lock();
            state.writes += 1;
            state.failed |= state.fail_at.is_some_and(|nth| state.writes >= nth);
            if state.database_is_full && self.name == FileName::Database {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if state.failed && state.fails_full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if state.failed {
                return Err(io::Error::other("an injected I/O error"));
            }
        }
        self.with(act)
    }

    /// Makes room for a file of `length`, or says that there is none.
    fn grow(&self, length: usize) -> io::Result<()> {
        let before = self.with(|file| file.seen.len())?;
        let growth = length.saturating_sub(before) as u64;
        if growth > self.medium.free_bytes()? {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn fill(&self, bytes: usize) -> io::Result<()> {
        self.grow(bytes)?;
        self.change(|file| {
            *file = FileState {
                seen: vec![0; bytes],
                durable: vec![0; bytes],
                unsynced: vec![],
            };
        })
    }

    fn read_into(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|file| {
            let end = offset as usize + buffer.len();
            let bytes = file.seen.get(offset as usize..end);
            let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })?
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.grow(offset as usize + bytes.len())?;
        self.change(|file| {
            overwrite(&mut file.seen, offset as usize, bytes);
            file.unsynced
                .push(Change::Write(offset as usize, bytes.to_vec()));
        })
    }

    fn sync_now(&self) -> io::Result<()> {
        if self.medium.lock().sync_is_ignored {
            return Ok(());
        }
        self.change(|file| {
            for change in std::mem::take(&mut file.unsynced) {
                match change {
                    Change::Length(length) => file.durable.resize(length, 0),
                    Change::Write(offset, bytes) => overwrite(&mut file.durable, offset, &bytes),
                }
            }
        })
    }
}

impl LogFile for Handle {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_into(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_now()
    }
}

impl redb::StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_into(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.grow(length as usize)?;
        self.change(|file| {
            file.seen.resize(length as usize, 0);
            file.unsynced.push(Change::Length(length as usize));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_now()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Self::write(self, offset, data)
    }
}
