//! How much happened in a run.

/// How much happened: a run in which little does shows little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub landed: u64,
    pub gaps: u64,
    pub forks: u64,
    pub duplicates: u64,
    pub refusals: u64,
    pub quarantines: u64,
    pub begins: u64,
    /// The largest snapshot of the ledger.
    pub ledger_bytes_max: u64,
    /// The largest index of a journal, and its largest tables of boundaries, in sixty days offline.
    pub index_bytes_max: u64,
    pub boundary_bytes_max: u64,
    /// Log files of a journal that may have twelve.
    pub log_files_max: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.landed += other.landed;
        self.gaps += other.gaps;
        self.forks += other.forks;
        self.duplicates += other.duplicates;
        self.refusals += other.refusals;
        self.quarantines += other.quarantines;
        self.begins += other.begins;
        self.ledger_bytes_max = self.ledger_bytes_max.max(other.ledger_bytes_max);
        self.log_files_max = self.log_files_max.max(other.log_files_max);
        self.index_bytes_max = self.index_bytes_max.max(other.index_bytes_max);
        self.boundary_bytes_max = self.boundary_bytes_max.max(other.boundary_bytes_max);
    }
}
