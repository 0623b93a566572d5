//! Spare log files: keeps some ready, makes more while it may, and takes dead ones back once no
//! reader holds them.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::{
    CLEANED_AHEAD_FILES_MAX, LEASED_FILES_BEFORE_LOSS_MAX, LOG_FILES_MIN,
    LOG_FILES_PER_CLEANED_AHEAD, Limits, SPARE_LOG_FILES,
};
use crate::log_file::OpenLogFile;
use crate::media::{self, Aside, LogFile, Medium, Slot};

/// Why no file is to be had.
#[derive(Debug, Error)]
pub(crate) enum PoolError {
    #[error("no log file is free")]
    Full,
    #[error(transparent)]
    Io(io::Error),
}

/// ENOSPC is overflow, wherever it comes from.
impl From<io::Error> for PoolError {
    fn from(error: io::Error) -> Self {
        match media::is_full(&error) {
            true => Self::Full,
            false => Self::Io(error),
        }
    }
}

/// What the next file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Records: they leave a spare behind, without which nothing could ever be freed.
    Records,
    /// State by which space is freed: it may take the last one, and one more.
    Freeing,
}

#[derive(Debug)]
pub(crate) struct Pool {
    medium: Arc<dyn Medium>,
    limits: Limits,
    next_slot: Slot,
    /// Log files that exist, wherever they are in use.
    slots: usize,
    spares: Vec<(Slot, Arc<dyn LogFile>)>,
    /// Dead by a durable checkpoint, but maybe still leased by a reader.
    leased: Vec<Arc<OpenLogFile>>,
    /// Dead and damaged: set aside as soon as no reader holds them.
    condemned: Vec<Arc<OpenLogFile>>,
    /// New names of files that were set aside, until somebody asks for them.
    pub set_aside: Vec<String>,
    /// Bytes written to fill new files with zeros.
    pub filled_bytes: u64,
    /// An opening may go over all bounds but the disk's: without it nothing is ever freed.
    pub is_opening: bool,
}

impl Pool {
    pub(crate) fn new(medium: Arc<dyn Medium>, limits: Limits, slots: &[Slot]) -> Self {
        Self {
            medium,
            limits,
            next_slot: slots.iter().max().map_or(0, |slot| slot + 1),
            slots: slots.len(),
            spares: Vec::new(),
            leased: Vec::new(),
            condemned: Vec::new(),
            set_aside: Vec::new(),
            filled_bytes: 0,
            is_opening: true,
        }
    }

    /// A file in which nothing lives.
    pub(crate) fn give_back(&mut self, slot: Slot, file: Arc<dyn LogFile>) {
        self.spares.push((slot, file));
    }

    pub(crate) fn take(&mut self, need: Need) -> Result<(Slot, Arc<dyn LogFile>), PoolError> {
        self.collect_leases();
        match need {
            Need::Records if self.spares.len() <= 1 => self.add(false)?,
            // Over the bound for a while: without it nothing could ever be freed.
            Need::Freeing if self.spares.is_empty() => self.add(true)?,
            _ => {}
        }
        self.spares.pop().ok_or(PoolError::Full)
    }

    /// The opening is done.
    pub(crate) fn opened(&mut self) {
        self.is_opening = false;
    }

    fn add(&mut self, forced: bool) -> Result<(), PoolError> {
        let forced = forced || self.is_opening;
        if self.slots >= self.limits.log_files_max && !forced {
            return Err(PoolError::Full);
        }
        let bytes = self.limits.log_file_bytes;
        // Looked at first: a file that is half made on a full disk only wears it.
        let has_floor = self.slots >= LOG_FILES_MIN && !forced;
        let floor = if has_floor {
            self.limits.free_disk_min_bytes
        } else {
            0
        };
        if self.medium.free_bytes()? < floor.saturating_add(bytes as u64) {
            return Err(PoolError::Full);
        }
        let file = self.medium.create(self.next_slot, bytes)?;
        self.filled_bytes += self.limits.log_file_bytes as u64;
        self.spares.push((self.next_slot, file));
        self.next_slot += 1;
        self.slots += 1;
        Ok(())
    }

    /// Makes spare files up to the number that is kept ready. A full disk is no error here: appends
    /// find out when they need a file.
    pub(crate) fn keep_spares(&mut self) -> io::Result<()> {
        self.collect_leases();
        while self.is_short() && (!self.is_opening || self.slots < LOG_FILES_MIN) {
            match self.add(false) {
                Ok(()) => {}
                Err(PoolError::Full) => break,
                Err(PoolError::Io(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes back files whose death a checkpoint has made durable.
    pub(crate) fn recycle(&mut self, dead: Vec<Arc<OpenLogFile>>) {
        self.leased.extend(dead);
        self.collect_leases();
    }

    /// As [`Pool::recycle`] for files that are damaged: they are not used again.
    pub(crate) fn condemn(&mut self, dead: Vec<Arc<OpenLogFile>>) {
        self.condemned.extend(dead);
        self.set_condemned_aside();
    }

    fn set_condemned_aside(&mut self) {
        for file in std::mem::take(&mut self.condemned) {
            match Arc::try_unwrap(file) {
                Ok(file) => {
                    // Where it cannot be renamed it is at least not used again by this process.
                    let name = self.medium.set_aside(Aside::Log(file.slot));
                    self.set_aside.extend(name);
                    self.slots -= 1;
                }
                Err(file) => self.condemned.push(file),
            }
        }
    }

    /// Whether fewer spares are there than are kept ready.
    fn is_short(&self) -> bool {
        self.spares.len() < SPARE_LOG_FILES
    }

    /// Whether files should be freed.
    pub(crate) fn wants_space(&self) -> bool {
        self.is_short() || self.slots > self.limits.log_files_max
    }

    /// Whether the cleaner may work ahead: no file can be added, and fewer than that are spare.
    pub(crate) fn wants_cleaning(&self) -> bool {
        let ahead = self.limits.log_files_max / LOG_FILES_PER_CLEANED_AHEAD;
        let spares = SPARE_LOG_FILES + ahead.min(CLEANED_AHEAD_FILES_MAX);
        self.wants_space()
            || (self.slots >= self.limits.log_files_max && self.spares.len() < spares)
    }

    /// Whether enough is dead already, and will be free when its readers are done.
    pub(crate) fn waits_for_readers(&self) -> bool {
        self.leased.len() >= LEASED_FILES_BEFORE_LOSS_MAX
    }

    fn collect_leases(&mut self) {
        self.set_condemned_aside();
        for file in std::mem::take(&mut self.leased) {
            match Arc::try_unwrap(file) {
                // Made while opening, beyond the bound.
                Ok(file) if self.slots > self.limits.log_files_max && !self.is_short() => {
                    self.slots -= usize::from(self.medium.remove(file.slot).is_ok());
                }
                Ok(file) => self.spares.push((file.slot, file.file)),
                Err(file) => self.leased.push(file),
            }
        }
    }

    /// Log files that exist, spares included.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn spares(&self) -> usize {
        self.spares.len()
    }
}
