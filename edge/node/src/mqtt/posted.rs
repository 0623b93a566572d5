//! Messages of the server's own accord: wills and delayed ones. Whatever they came from stays until the commit that holds
//! the message and takes it away; where the journal is full, it is tried again.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_journal::RowEntry;
use tidegate_edge_protocol::mqtt::codec::{Message, Qos};
use tidegate_edge_protocol::mqtt::connection::PublishRefused;

use super::Context;
use super::mailbox::{Answer, Mailbox};
use super::outbox::Outbox;
use super::publishing::{Incoming, Owed, TakenIn};
use crate::router::ConnectionId;

/// What is to be published. Nobody is asked whether it may.
pub(super) struct Post {
    pub message: Arc<Message>,
    pub qos: Qos,
    pub retain: bool,
    /// Goes into the same commit: it says that the message is published.
    pub row: Option<RowEntry>,
}

/// A message on its way to the journal.
pub(super) struct Posted {
    /// For this one answer.
    mailbox: Arc<Mailbox>,
    id: ConnectionId,
    post: Post,
}

impl Context {
    /// Hands a message to the committer.
    pub(super) async fn post(&self, mut post: Post, client_id: &Bytes, id: ConnectionId) -> Posted {
        post.message = self.told_now(post.message);
        let mailbox: Arc<Mailbox> = Arc::default();
        let incoming = Incoming {
            message: Arc::clone(&post.message),
            qos: post.qos,
            retain: post.retain,
            no_local: false,
            row: post.row.clone(),
            owed: Some((&mailbox, Owed::Posted)),
            received: None,
            patient: None,
            // Who is served as messages come has it when it is settled: it may be tried many times.
            is_repeated: true,
            is_allowed: true,
            is_certificate: false,
        };
        match self.take_in(incoming, client_id, id, &mut Outbox::default()) {
            TakenIn::OnItsWay => {}
            TakenIn::Settled => mailbox.answered(vec![(Answer::Posted, Ok(()))]),
            TakenIn::Stuck(stuck) => self.wait_for_room(*stuck).await,
        }
        Posted { mailbox, id, post }
    }

    /// Whether the message is done with, and its row durable or on its way. If not, there was no space: it is
    /// to be tried again.
    pub(super) async fn is_settled(&self, posted: Posted) -> bool {
        tokio::select! {
            // What was answered counts, also where the committer has ended since.
            biased;
            () = posted.mailbox.filled() => {}
            _ = self.committer.failed() => return false,
        }
        let contents = posted.mailbox.take(true).unwrap_or_default();
        let outcome = contents.outcomes.into_iter().next();
        let Posted { id, post, .. } = posted;
        match outcome.map_or(Ok(()), |(_, outcome)| outcome) {
            Ok(()) => {
                self.fan_out(id, &post.message, post.qos, post.retain);
                true
            }
            Err(PublishRefused::QuotaExceeded) => false,
            Err(refused) => {
                let topic = &post.message.topic;
                tracing::warn!(?topic, why = ?refused, "a message cannot be published: it is dropped");
                self.metrics.mqtt_messages_dropped.inc();
                self.committer.store(post.row.into_iter().collect(), None);
                true
            }
        }
    }
}
