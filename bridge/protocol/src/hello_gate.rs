//! How often an edge may say Hello: each one costs the ledger a command, so a node that connects in a
//! loop, or a stranger with a stolen key, is held back before anything of it is decided.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_shared::id::EdgeId;

/// So many Hellos an edge may say at once.
pub const HELLO_BURST_MAX: u32 = 10;

/// Each so long it may say another one.
pub const HELLO_INTERVAL: Duration = Duration::from_secs(2);

/// Counts Hellos of edges. An edge that was quiet for long enough costs nothing.
#[derive(Debug, Default)]
pub struct HelloGate {
    /// When the edge's last Hello is forgotten: later by one interval with each.
    full_until: BTreeMap<EdgeId, Instant>,
}

impl HelloGate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the edge may say Hello now; if so it is counted.
    pub fn admit(&mut self, now: Instant, edge: &EdgeId) -> bool {
        self.full_until.retain(|_, until| *until > now);
        let until = self.full_until.get(edge).copied().unwrap_or(now);
        let after = until + HELLO_INTERVAL;
        if after > now + HELLO_INTERVAL * HELLO_BURST_MAX {
            return false;
        }
        self.full_until.insert(edge.clone(), after);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_held_back_and_the_others_are_not() {
        let mut gate = HelloGate::new();
        let start = Instant::now();
        let (loud, quiet) = (EdgeId::new("loud").unwrap(), EdgeId::new("quiet").unwrap());
        let admitted = (0..1_000).filter(|_| gate.admit(start, &loud)).count();
        assert_eq!(admitted, HELLO_BURST_MAX as usize);
        assert!(gate.admit(start, &quiet));
        let later = start + HELLO_INTERVAL;
        assert!(gate.admit(later, &loud));
        assert!(!gate.admit(later, &loud));
        assert!(gate.admit(start + HELLO_INTERVAL * 100, &loud));
        assert_eq!(gate.full_until.len(), 1);
    }
}
