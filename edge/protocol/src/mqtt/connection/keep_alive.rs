//! When a silent client is given up: one and a half times its keep alive `[MQTT-3.1.2-22]`.

use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    timeout: Duration,
    deadline: Option<Instant>,
    /// The client was not read from at some time since its last packet.
    paused: bool,
}

impl KeepAlive {
    /// With 0 seconds there is no deadline.
    pub(super) fn start(&mut self, now: Instant, keep_alive_s: u16) {
        self.timeout = Duration::from_secs(u64::from(keep_alive_s)) * 3 / 2;
        self.handle_packet(now);
    }

    pub(super) fn handle_packet(&mut self, now: Instant) {
        self.deadline = (!self.timeout.is_zero()).then(|| now + self.timeout);
        self.paused = false;
    }

    /// We do not read: the client's silence is ours.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the client is to be given up. After a pause it has its whole time once more.
    pub(super) fn handle_timeout(&mut self, now: Instant, paused_still: bool) -> bool {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return false;
        }
        if self.paused || paused_still {
            self.handle_packet(now);
            self.paused = paused_still;
            return false;
        }
        true
    }

    pub(super) fn stop(&mut self) {
        self.deadline = None;
    }
}
