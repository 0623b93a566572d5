//! Wills: messages of the server's own accord. A session has its will until the commit that holds the
//! message and says that it was published; where the journal is full, it is tried again.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_journal::RowEntry;
use tidegate_edge_protocol::mqtt::codec::{Message, PublishProperties, Qos, Will};
use tidegate_edge_protocol::mqtt::connection::PublishRefused;

use super::Context;
use super::driver::Task;
use super::mailbox::{Answer, Mailbox};
use super::outbox::Outbox;
use super::publishing::{Incoming, Owed, TakenIn};
use crate::router::ConnectionId;

/// A will on its way to the journal.
pub(super) struct Posted {
    /// For this one answer.
    mailbox: Arc<Mailbox>,
    id: ConnectionId,
    message: Arc<Message>,
    qos: Qos,
    retain: bool,
    row: Option<RowEntry>,
}

impl Context {
    /// Hands a will to the committer. `row` goes into the same commit: it says that the will is published.
    pub(super) async fn post_will(
        &self,
        will: Will,
        client_id: &Bytes,
        id: ConnectionId,
        row: Option<RowEntry>,
    ) -> Posted {
        let (qos, retain) = (will.qos, will.retain);
        let posted = Posted {
            mailbox: Arc::default(),
            id,
            message: Arc::new(message_of(will)),
            qos,
            retain,
            row,
        };
        let incoming = Incoming {
            message: Arc::clone(&posted.message),
            qos,
            retain,
            no_local: false,
            row: posted.row.clone(),
            owed: Some((&posted.mailbox, Owed::Will)),
            received: None,
            patient: None,
            // Who is served as messages come has it when it is settled: it may be tried many times.
            is_repeated: true,
            // The rules were asked at the CONNECT that it came with, and when its connection ended.
            is_allowed: true,
        };
        match self.take_in(incoming, client_id, id, &mut Outbox::default()) {
            TakenIn::OnItsWay => {}
            TakenIn::Settled => posted.mailbox.answered(vec![(Answer::Will, Ok(()))]),
            TakenIn::Stuck(stuck) => self.wait_for_room(*stuck).await,
        }
        posted
    }

    /// Whether the will is done with, and its row durable or on its way. If not, there was no space: it is
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
        match outcome.map_or(Ok(()), |(_, outcome)| outcome) {
            Ok(()) => {
                let Posted { message, qos, .. } = posted;
                self.router.fan_out(posted.id, &message, qos, posted.retain);
                true
            }
            Err(PublishRefused::QuotaExceeded) => false,
            Err(refused) => {
                let topic = &posted.message.topic;
                tracing::warn!(?topic, why = ?refused, "a will cannot be published: it is dropped");
                self.metrics.mqtt_messages_dropped.inc();
                self.committer.store(posted.row.into_iter().collect(), None);
                true
            }
        }
    }

    /// Publishes wills that are due, and ends sessions with them. Called about once a second.
    pub(super) async fn sweep(self: &Arc<Self>) {
        let context = Arc::clone(self);
        let swept = tokio::task::spawn_blocking(move || {
            context.sweep_retained();
            context.sessions.sweep()
        });
        let mut posted = Vec::new();
        for due in swept.await.unwrap_or_default() {
            let client_id = due.client_id.as_bytes().clone();
            let (will, row) = (due.will.clone(), Some(due.row.clone()));
            let post = self.post_will(will, &client_id, self.next_id(), row);
            posted.push((post.await, due));
        }
        for (posted, due) in posted {
            if self.is_settled(posted).await {
                self.sessions.will_settled(due);
            }
        }
    }
}

impl Task {
    /// Now, or after its delay if the client does not come back.
    pub(super) async fn will_due(&mut self, will: Will) {
        if !self.keeps_will(&will) {
            return;
        }
        let delay_s = will.properties.will_delay_interval_s.unwrap_or(0);
        let stays = |held: &crate::sessions::Held| held.session().expiry_interval_s() > 0;
        if delay_s > 0 && self.held.as_ref().is_some_and(stays) {
            return;
        }
        let row = self.held.as_mut().and_then(|held| held.will_row());
        let posted = self.context.post_will(will, &self.client_id, self.id, row);
        if self.context.is_settled(posted.await).await
            && let Some(held) = &mut self.held
        {
            held.will_settled();
        }
    }

    /// The session ends, and so does the will's delay [MQTT-3.1.2-10], [MQTT-3.1.3-9]. Whether it has none
    /// any more.
    pub(super) async fn settle_will(&mut self) -> bool {
        let Some(held) = &mut self.held else {
            return true;
        };
        let Some(will) = held.session().will().cloned() else {
            return true;
        };
        let row = held.will_row();
        let posted = self.context.post_will(will, &self.client_id, self.id, row);
        let is_settled = self.context.is_settled(posted.await).await;
        if is_settled {
            held.will_settled();
        }
        is_settled
    }
}

fn message_of(will: Will) -> Message {
    let properties = PublishProperties {
        payload_is_utf8: will.properties.payload_is_utf8,
        message_expiry_interval_s: will.properties.message_expiry_interval_s,
        content_type: will.properties.content_type,
        response_topic: will.properties.response_topic,
        correlation_data: will.properties.correlation_data,
        user_properties: will.properties.user_properties,
    };
    Message {
        topic: will.topic,
        payload: will.payload,
        properties: properties.into(),
    }
}

#[cfg(test)]
mod tests;
