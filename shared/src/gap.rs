//! Why an interval of a stream was lost: said by the edge's journal, and kept by the cloud's ledger.

use std::fmt;

/// The reason of a gap. Its number stands in log files, frames and commands, and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum GapReason {
    /// The disk was full, and the stream says `overflow: drop_oldest`.
    Overflow = 1,
    /// It was older than the stream's `retention.age`.
    Age = 2,
    /// The stream had more than its `retention.bytes`.
    Bytes = 3,
    /// The medium lost it.
    Damaged = 4,
    /// It had landed, the cloud lost it with a restore, and the edge no longer had it.
    CloudRestored = 5,
}

impl GapReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Overflow,
        Self::Age,
        Self::Bytes,
        Self::Damaged,
        Self::CloudRestored,
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// As metrics and log lines name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Age => "age",
            Self::Bytes => "bytes",
            Self::Damaged => "damaged",
            Self::CloudRestored => "cloud_restored",
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_numbers() {
        for (index, reason) in GapReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index + 1);
            assert_eq!(GapReason::from_number(reason as u8), Some(reason));
        }
        assert_eq!(GapReason::from_number(0), None);
    }
}
