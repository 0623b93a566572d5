//! The journal's medium of a run: a [`FaultyMedium`] that knows what each call is for, so that the
//! power can go at a named one. It decides nothing of what a cut leaves; that is the inner one's.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use tidegate_edge_journal::media::{Aside, FaultyMedium, LogFile, Medium, Slot};

use crate::power::{CrashPoint, Power};

/// Clones mean the same medium.
#[derive(Clone, Debug)]
pub struct SimulatedMedium {
    inner: FaultyMedium,
    power: Power,
    files: Arc<Mutex<Files>>,
}

#[derive(Debug, Default)]
struct Files {
    /// Where the newest header was written: frames go there, and tables elsewhere.
    active: Option<Slot>,
    /// Slots that have had a header.
    used: BTreeSet<Slot>,
}

impl SimulatedMedium {
    pub fn new(inner: FaultyMedium, power: Power) -> Self {
        Self {
            inner,
            power,
            files: Arc::default(),
        }
    }

    fn log_file(&self, slot: Slot, inner: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        let medium = self.clone();
        Arc::new(SimulatedLogFile {
            medium,
            slot,
            inner,
        })
    }

    fn while_powered(&self) -> io::Result<()> {
        match self.power.is_gone() {
            true => Err(gone()),
            false => Ok(()),
        }
    }

    fn passes(&self, point: CrashPoint) -> io::Result<()> {
        match self.power.reach(point) {
            true => Err(gone()),
            false => Ok(()),
        }
    }

    /// What the write of a header is: the point behind it.
    fn begin_file(&self, slot: Slot) -> Vec<CrashPoint> {
        let mut files = self.files.lock().expect("nobody panics with it");
        files.active = Some(slot);
        let is_first = files.used.insert(slot);
        let reuse = (!is_first).then_some(CrashPoint::FileReuse);
        [CrashPoint::RollNewFileHeader]
            .into_iter()
            .chain(reuse)
            .collect()
    }

    fn is_active(&self, slot: Slot) -> bool {
        let files = self.files.lock().expect("nobody panics with it");
        files.active == Some(slot)
    }
}

fn gone() -> io::Error {
    io::Error::other("the power is gone")
}

impl Medium for SimulatedMedium {
    fn slots(&self) -> io::Result<Vec<Slot>> {
        self.inner.slots()
    }

    fn open(&self, slot: Slot) -> io::Result<Arc<dyn LogFile>> {
        Ok(self.log_file(slot, self.inner.open(slot)?))
    }

    fn create(&self, slot: Slot, bytes: usize) -> io::Result<Arc<dyn LogFile>> {
        self.while_powered()?;
        Ok(self.log_file(slot, self.inner.create(slot, bytes)?))
    }

    fn remove(&self, slot: Slot) -> io::Result<()> {
        self.while_powered()?;
        self.inner.remove(slot)
    }

    fn open_database(&self) -> Result<redb::Database, redb::DatabaseError> {
        let file = SimulatedDatabase {
            medium: self.clone(),
            inner: Box::new(self.inner.database_file()),
        };
        redb::Builder::new()
            .set_cache_size(1 << 20)
            .create_with_backend(file)
    }

    fn set_aside(&self, what: Aside) -> io::Result<String> {
        self.while_powered()?;
        self.inner.set_aside(what)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }

    fn hold_reserve(&self, bytes: u64) -> io::Result<()> {
        self.while_powered()?;
        self.inner.hold_reserve(bytes)
    }

    fn release_reserve(&self) -> io::Result<()> {
        self.while_powered()?;
        self.inner.release_reserve()
    }
}

#[derive(Debug)]
struct SimulatedLogFile {
    medium: SimulatedMedium,
    slot: Slot,
    inner: Arc<dyn LogFile>,
}

impl LogFile for SimulatedLogFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let medium = &self.medium;
        medium.while_powered()?;
        if offset == 0 {
            let points = medium.begin_file(self.slot);
            self.inner.write_at(offset, bytes)?;
            if medium.power.is_opening() {
                return medium.passes(CrashPoint::OpenRewrite);
            }
            return points
                .into_iter()
                .try_for_each(|point| medium.passes(point));
        }
        if medium.power.is_opening() {
            self.inner.write_at(offset, bytes)?;
            return medium.passes(CrashPoint::OpenRewrite);
        }
        if medium.is_active(self.slot) {
            medium.passes(CrashPoint::BeforeLogWrite)?;
            return self.inner.write_at(offset, bytes);
        }
        self.inner.write_at(offset, bytes)?;
        medium.passes(CrashPoint::RollTable)
    }

    fn sync(&self) -> io::Result<()> {
        self.medium.while_powered()?;
        if !self.medium.power.is_opening() {
            self.medium.passes(CrashPoint::LogWriteBeforeSync)?;
        }
        self.inner.sync()
    }
}

#[derive(Debug)]
struct SimulatedDatabase {
    medium: SimulatedMedium,
    inner: Box<dyn StorageBackend>,
}

impl SimulatedDatabase {
    /// Behind a write.
    fn written(&self) -> io::Result<()> {
        self.medium.passes(match self.medium.power.is_opening() {
            true => CrashPoint::OpenRedbWrites,
            false => CrashPoint::DuringRedbWrites,
        })
    }
}

impl StorageBackend for SimulatedDatabase {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.medium.while_powered()?;
        self.inner.set_len(length)?;
        self.written()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.medium.while_powered()?;
        if !self.medium.power.is_opening() {
            self.medium.passes(CrashPoint::RedbWritesBeforeSync)?;
        }
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.medium.while_powered()?;
        self.inner.write(offset, data)?;
        self.written()
    }
}
