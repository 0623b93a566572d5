//! Spare log files: keeps some ready, makes more while it may, and takes dead ones back once no
//! reader holds them.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::{Limits, SPARE_LOG_FILES};
use crate::log_file::OpenLogFile;
use crate::media::{LogFile, Medium, Slot};

/// Why no file is to be had.
#[derive(Debug, Error)]
pub(crate) enum PoolError {
    #[error("no log file is free")]
    Full,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the next file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Records: they leave a spare behind, without which nothing could ever be freed.
    Records,
    /// State by which space is freed: it may take the last one.
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
    /// Bytes written to fill new files with zeros.
    pub filled_bytes: u64,
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
            filled_bytes: 0,
        }
    }

    /// A file in which nothing lives.
    pub(crate) fn give_back(&mut self, slot: Slot, file: Arc<dyn LogFile>) {
        self.spares.push((slot, file));
    }

    pub(crate) fn take(&mut self, need: Need) -> Result<(Slot, Arc<dyn LogFile>), PoolError> {
        self.collect_leases();
        let keep = if need == Need::Records { 1 } else { 0 };
        if self.spares.len() <= keep {
            self.add()?;
        }
        self.spares.pop().ok_or(PoolError::Full)
    }

    fn add(&mut self) -> Result<(), PoolError> {
        if self.slots >= self.limits.log_files_max {
            return Err(PoolError::Full);
        }
        let made = self
            .medium
            .create(self.next_slot, self.limits.log_file_bytes);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PoolError::Full,
            _ => PoolError::Io(error),
        })?;
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
        while self.spares.len() < SPARE_LOG_FILES {
            match self.add() {
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

    fn collect_leases(&mut self) {
        for file in std::mem::take(&mut self.leased) {
            match Arc::try_unwrap(file) {
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
