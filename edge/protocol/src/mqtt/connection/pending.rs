//! What a connection has for its driver and for its client, and what it waits to hear from the driver. It is
//! empty most of the time, and then not there.

use std::collections::{HashMap, VecDeque};

use super::{Connection, Event, Sent, SubscribeToken, on_demand::ById};
use crate::mqtt::{
    codec::{Packet, PacketId},
    limits::ConnectionLimits,
};

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Answers and farewells, before any delivery.
    pub(super) replies: VecDeque<Packet>,
    pub(super) events: VecDeque<Event>,
    /// The identifier and the number of filters.
    pub(super) subscribes: HashMap<SubscribeToken, (PacketId, usize), ById>,
    next_subscribe: u64,
    /// Not reported yet.
    pub(super) sent: Sent,
}

impl Pending {
    /// Notes a SUBSCRIBE or UNSUBSCRIBE of so many filters. Its token is not that of another that waits.
    pub(super) fn subscribe(&mut self, packet_id: PacketId, filters: usize) -> SubscribeToken {
        let token = SubscribeToken(self.next_subscribe);
        self.next_subscribe += 1;
        self.subscribes.insert(token, (packet_id, filters));
        token
    }

    /// Whether more of the client's packets may be read.
    pub(super) fn has_room(&self, limits: &ConnectionLimits) -> bool {
        self.replies.len() < limits.replies_queued_max
            && self.subscribes.len() < limits.subscribes_pending_max
    }

    /// Whether it is as good as new.
    pub(super) fn is_idle(&self) -> bool {
        self.replies.is_empty()
            && self.events.is_empty()
            && self.subscribes.is_empty()
            && self.sent == Sent::default()
    }
}

impl Connection {
    #[inline]
    pub(super) fn reply(&mut self, packet: Packet) {
        self.pending.get_mut().replies.push_back(packet);
    }

    pub(super) fn forget_replies(&mut self) {
        if let Some(pending) = self.pending.there() {
            pending.replies.clear();
        }
    }

    #[inline]
    pub(super) fn tell(&mut self, event: Event) {
        self.pending.get_mut().events.push_back(event);
    }
}
