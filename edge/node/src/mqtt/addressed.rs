//! Who gets a message as it comes: who has subscribed, and of what is for everybody or for one client, those whose session
//! ends with their connection. Other sessions read it from the journal, as what they have subscribed to.

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
        for (id, mailbox) in self.sessions.addressed(destination) {
            if way.online.iter().any(|online| online.id == id) {
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
            put(id, &mailbox, letter);
        }
    }

    /// The same at once.
    pub(super) fn fan_out(
        &self,
        publisher: ConnectionId,
        message: &Arc<Message>,
        qos: Qos,
        retain: bool,
    ) {
        let way = self.router.way(&message.topic);
        let deliver = |_, mailbox: &Arc<Mailbox>, letter| mailbox.deliver(letter);
        self.to_online(&way, publisher, message, qos, retain, deliver);
    }
}
