//! Who gets a message as it comes: who has subscribed, and of what is for everybody or for one client, those whose session
//! ends with their connection. Other sessions read it from the journal, as what they have subscribed to.

use std::collections::HashSet;
use std::sync::Arc;

use tidegate_edge_protocol::mqtt::codec::{Message, Qos};
use tidegate_edge_protocol::mqtt::destination::Destination;

use super::{Context, Letter, Mailbox};
use crate::router::{ConnectionId, Way, expires_at};

impl Context {
    /// Gives each its letter.
    pub(super) fn to_online(
        &self,
        way: &Way,
        publisher: ConnectionId,
        message: &Arc<Message>,
        qos: Qos,
        retain: bool,
        mut put: impl FnMut(ConnectionId, &Arc<Mailbox>, Letter),
    ) {
        let is_addressed = message.topic.as_bytes().starts_with(b"$");
        if way.online.is_empty() && !is_addressed {
            return;
        }
        let expires_at = expires_at(message);
        let priority = self.topics.priorities.of(message, way);
        for online in &way.online {
            let letter = online.letter(publisher, message, qos, retain, expires_at, priority);
            if let Some(letter) = letter {
                put(online.id, &online.mailbox, letter);
            }
        }
        if !is_addressed {
            return;
        }
        let Ok(destination) = Destination::of(&message.topic) else {
            return;
        };
        let subscribed: HashSet<_> = way.online.iter().map(|online| online.id).collect();
        for (id, mailbox) in self.sessions.addressed(destination) {
            // Who sends it has it.
            if id == publisher || subscribed.contains(&id) {
                continue;
            }
            let letter = Letter {
                message: Arc::clone(message),
                qos,
                qos_max: Qos::ExactlyOnce,
                retain: false,
                identifiers: Vec::new(),
                expires_at,
                shared: None,
                priority,
            };
            // By itself: an outbox has few boxes.
            mailbox.deliver(letter);
        }
    }

    /// How urgent a message is that was taken in before.
    pub(super) fn priority_of(&self, message: &Message) -> u8 {
        if !self.topics.priorities.counts() && !self.router.has_priorities() {
            return 0;
        }
        let way = self.router.way(&message.topic);
        self.topics.priorities.of(message, &way)
    }

    /// The same at once.
    pub(super) fn fan_out(
        &self,
        publisher: ConnectionId,
        message: &Arc<Message>,
        qos: Qos,
        retain: bool,
    ) {
        if let Ok(Destination::Delayed { .. }) = Destination::of(&message.topic) {
            // Not yet.
            return;
        }
        let way = self.router.way(&message.topic);
        let deliver = |_, mailbox: &Arc<Mailbox>, letter| mailbox.deliver(letter);
        self.to_online(&way, publisher, message, qos, retain, deliver);
    }
}
