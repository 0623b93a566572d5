//! Messages of the server's own accord: wills and delayed ones. Whatever they came from stays until the commit that holds
//! the message and takes it away; where the journal is full, it is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_journal::RowEntry;
use tidegate_edge_protocol::mqtt::codec::{Message, Qos};
use tidegate_edge_protocol::mqtt::connection::PublishRefused;

use super::Context;
use super::mailbox::{Answer, Mailbox};
use super::outbox::Outbox;
use super::taking_in::{Incoming, Owed, TakenIn};
use crate::router::ConnectionId;

/// What is to be published. Nobody is asked whether it may.
pub(super) struct Post {
    pub message: Arc<Message>,
    pub qos: Qos,
    pub retain: bool,
    /// Goes into the same commit: it says that the message is published.
    pub row: Option<RowEntry>,
}

/// Messages on their way to the journal, in their order: once one found no space, those behind it are to be tried again,
/// too.
#[derive(Default)]
pub(super) struct Posted {
    /// For their answers.
    mailbox: Arc<Mailbox>,
    posts: Vec<(ConnectionId, Post)>,
}

impl Context {
    /// Hands one more to the committer.
    pub(super) async fn post(
        &self,
        posted: &mut Posted,
        mut post: Post,
        client_id: &Bytes,
        id: ConnectionId,
    ) {
        post.message = self.told_now(post.message);
        let number = posted.posts.len() as u64;
        let incoming = Incoming {
            message: Arc::clone(&post.message),
            qos: post.qos,
            retain: post.retain,
            no_local: false,
            row: post.row.clone(),
            owed: Some((&posted.mailbox, Owed::Posted(number))),
            received: None,
            patient: None,
            // Who is served as messages come has it when it is settled: it may be tried many times.
            is_repeated: true,
            is_allowed: true,
            is_certificate: false,
        };
        match self.take_in(incoming, client_id, id, &mut Outbox::default()) {
            TakenIn::OnItsWay => {}
            TakenIn::Settled => {
                let answer = Answer::Posted(number);
                posted.mailbox.answered(vec![(answer, Ok(()))]);
            }
            TakenIn::Stuck(stuck) => self.wait_for_room(*stuck).await,
        }
        posted.posts.push((id, post));
    }

    /// Whether each is done with, and its row durable or on its way. If not, there was no space: it is to be tried again.
    pub(super) async fn are_settled(&self, posted: Posted) -> Vec<bool> {
        let Posted { mailbox, posts } = posted;
        let mut outcomes = BTreeMap::new();
        while outcomes.len() < posts.len() {
            tokio::select! {
                // What was answered counts, also where the committer has ended since.
                biased;
                () = mailbox.filled() => {}
                _ = self.committer.failed() => break,
            }
            let contents = mailbox.take(true).unwrap_or_default();
            for (answer, outcome) in contents.outcomes {
                if let Answer::Posted(number) = answer {
                    outcomes.insert(number, outcome);
                }
            }
        }
        let posts = (0..).zip(posts);
        let settled = posts.map(|(number, (id, post))| match outcomes.remove(&number) {
            Some(outcome) => self.is_settled(id, post, outcome),
            None => false,
        });
        settled.collect()
    }

    fn is_settled(
        &self,
        id: ConnectionId,
        post: Post,
        outcome: Result<(), PublishRefused>,
    ) -> bool {
        match outcome {
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
