//! What happened in a run: the last lines of it for a person, and a hash of all of them, by which two
//! runs are compared.

use std::collections::VecDeque;

/// Lines that are kept for a person to read.
const LINES_MAX: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    lines: VecDeque<String>,
    count: u64,
    hash: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            lines: VecDeque::new(),
            count: 0,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }
}

impl Trace {
    pub fn note(&mut self, line: String) {
        self.mix(line.as_bytes());
        self.count += 1;
        if self.lines.len() >= LINES_MAX {
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

    pub fn count(&self) -> u64 {
        self.count
    }
}
