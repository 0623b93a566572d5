//! When a silent client is given up: one and a half times its keep alive `[MQTT-3.1.2-22]`.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct KeepAlive {
    /// `None` once it does not matter any more.
    heard_at: Option<Instant>,
    /// 0 is none.
    timeout_ms: u32,
    /// The client was not read from at some time since its last packet.
    paused: bool,
}

impl KeepAlive {
    /// Of a client that has come, and has not said yet what it wants.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard_at: Some(now),
            timeout_ms: 0,
            paused: false,
        }
    }

    /// With 0 seconds there is no deadline.
    pub(super) fn start(&mut self, now: Instant, keep_alive_s: u16) {
        self.timeout_ms = u32::from(keep_alive_s) * 1_500;
        self.handle_packet(now);
    }

    pub(super) fn handle_packet(&mut self, now: Instant) {
        self.heard_at = Some(now);
        self.paused = false;
    }

    /// We do not read: the client's silence is ours.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// When it came, until it is connected.
    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let timeout = Duration::from_millis(self.timeout_ms.into());
        self.heard_at
            .filter(|_| self.timeout_ms > 0)
            .map(|heard_at| heard_at + timeout)
    }

    /// Whether the client is to be given up. After a pause it has its whole time once more.
    pub(super) fn handle_timeout(&mut self, now: Instant, paused_still: bool) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
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
        self.heard_at = None;
    }
}
