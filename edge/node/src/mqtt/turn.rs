//! What gathers in one turn of a connection: letters for others, and what is counted. It lives as long as
//! the turn, so that a connection that waits holds none of it.

use super::driver::Task;
use super::outbox::Outbox;

#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Of what came in, for those who are served as messages come.
    pub(super) outbox: Outbox,
    pub(super) counts: Counts,
}

/// Counted while packets are read and messages handed over; metrics get them in one go.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) packets: u64,
    pub(super) received: u64,
    pub(super) unrouted: u64,
    pub(super) delivered: u64,
}

impl Task {
    /// Others see what was gathered so far.
    pub(super) fn pass_on(&mut self, turn: &mut Turn) {
        turn.outbox.flush();
        let counts = std::mem::take(&mut turn.counts);
        let metrics = &self.context.metrics;
        for (counter, count) in [
            (&metrics.mqtt_packets_received, counts.packets),
            (&metrics.messages_received, counts.received),
            (&metrics.messages_unrouted, counts.unrouted),
            (&metrics.mqtt_messages_delivered, counts.delivered),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
        let sent = self.machine.take_sent();
        if sent.packets > 0 {
            metrics.mqtt_packets_sent.inc_by(sent.packets);
            metrics.mqtt_publishes_sent.inc_by(sent.publishes);
        }
    }
}
