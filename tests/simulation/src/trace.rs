//! What happened in a run: the last lines of it for a person, and a hash of all of them, by which two
//! runs are compared.

use std::collections::VecDeque;

/// Lines that are kept for a person to read, unless more are asked for.
pub const LINES_MAX: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    lines: VecDeque<String>,
    count: u64,
    hash: u64,
    lines_max: usize,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            lines: VecDeque::new(),
            count: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            lines_max: LINES_MAX,
        }
    }
}

impl Trace {
    /// Keeps so many lines.
    pub fn of_lines(lines_max: usize) -> Self {
        Self {
            lines_max,
            ..Self::default()
        }
    }

    pub fn note(&mut self, line: String) {
        self.mix(line.as_bytes());
        self.count += 1;
        if self.lines.len() >= self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Counts for the hash, and is no line: FNV-1a.
    pub fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Of all that was noted.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}
