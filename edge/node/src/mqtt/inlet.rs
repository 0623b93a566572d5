//! Where a part of the node itself publishes, beside the connections of clients: what a source brings goes the same way,
//! and no client's rights are asked.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::{Message, Qos};
use tidegate_edge_protocol::mqtt::connection::PublishRefused;

use super::Context;
use super::mailbox::{Answer, Mailbox};
use super::outbox::Outbox;
use super::taking_in::{Incoming, Owed, TakenIn};
use crate::router::ConnectionId;

/// One publisher.
#[derive(Debug)]
pub(crate) struct Inlet {
    context: Arc<Context>,
    mailbox: Arc<Mailbox>,
    id: ConnectionId,
    /// Of the publisher, as routes with `key: client_id` and subscribers' logs have it.
    client_id: Bytes,
}

/// What it publishes.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub message: Arc<Message>,
    pub qos: Qos,
    pub retain: bool,
    /// Who is served as messages come has had it.
    pub is_repeated: bool,
}

impl Inlet {
    pub(crate) fn new(context: Arc<Context>, client_id: &str) -> Self {
        let id = context.next_id();
        Self {
            context,
            mailbox: Arc::default(),
            id,
            client_id: Bytes::copy_from_slice(client_id.as_bytes()),
        }
    }

    /// Hands a message over; waits while the committer's queue is full. With a number, [`Inlet::answers`] tells what
    /// became of it; once one is refused, those behind it are, until [`Inlet::open_gate`]. Gives whether it is kept: else no
    /// route and no session wants it.
    pub(crate) async fn publish(&self, offered: Offered, number: Option<u64>) -> bool {
        let Offered {
            message,
            qos,
            retain,
            is_repeated,
        } = offered;
        let context = &self.context;
        if !is_repeated {
            context.metrics.messages_received.inc();
        }
        let owed = number.map(|number| (&self.mailbox, Owed::Posted(number)));
        let incoming = Incoming {
            message,
            qos,
            retain,
            no_local: false,
            row: None,
            owed,
            received: None,
            patient: None,
            is_repeated,
            is_allowed: true,
            is_certificate: false,
        };
        let mut outbox = Outbox::default();
        let taken = context.take_in(incoming, &self.client_id, self.id, &mut outbox);
        drop(outbox);
        match taken {
            TakenIn::OnItsWay => true,
            TakenIn::Stuck(stuck) => {
                context.wait_for_room(*stuck).await;
                true
            }
            TakenIn::Settled => {
                context.metrics.messages_unrouted.inc();
                if let Some(number) = number {
                    self.mailbox
                        .answered(vec![(Answer::Posted(number), Ok(()))]);
                }
                false
            }
        }
    }

    /// Waits for what became of messages, in the order of the commits. Safe to cancel.
    pub(crate) async fn answers(&self) -> Vec<(u64, Result<(), PublishRefused>)> {
        self.mailbox.filled().await;
        let contents = self.mailbox.take(true).unwrap_or_default();
        let outcomes = contents.outcomes.into_iter();
        let of_source = outcomes.filter_map(|(answer, outcome)| match answer {
            Answer::Posted(number) => Some((number, outcome)),
            _ => None,
        });
        of_source.collect()
    }

    /// The oldest of what was refused is tried again; nothing is under way.
    pub(crate) fn open_gate(&self) {
        self.mailbox.open_gate();
    }
}
