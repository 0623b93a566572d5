//! Wills. A session has its will until the commit that holds the message and says that it was published; where the
//! journal is full, it is tried again.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_edge_journal::RowEntry;
use tidegate_edge_protocol::mqtt::codec::{Message, PublishProperties, Will};

use super::Context;
use super::driver::Task;
use super::posted::{Post, Posted};
use crate::router::ConnectionId;

impl Context {
    /// Hands a will to the committer. `row` goes into the same commit: it says that the will is published.
    async fn post_will(
        &self,
        will: Will,
        client_id: &Bytes,
        id: ConnectionId,
        row: Option<RowEntry>,
    ) -> Posted {
        let mut posted = Posted::default();
        // The rules were asked at the CONNECT that it came with, and when its connection ended.
        let (qos, retain) = (will.qos, will.retain);
        let post = Post {
            message: Arc::new(message_of(will)),
            qos,
            retain,
            row,
        };
        self.post(&mut posted, post, client_id, id).await;
        posted
    }

    async fn is_will_settled(&self, posted: Posted) -> bool {
        self.are_settled(posted).await == [true]
    }

    /// Publishes wills that are due, and ends sessions with them. Called about once a second.
    pub(super) async fn sweep(self: &Arc<Self>) {
        let context = Arc::clone(self);
        let swept = tokio::task::spawn_blocking(move || {
            context.sweep_retained();
            context.sessions.sweep()
        });
        let mut posted = Vec::new();
        let swept = swept
            .await
            .unwrap_or_else(|error| match error.try_into_panic() {
                // Sessions would not end any more, and nobody would know.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Vec::new(),
            });
        for due in swept {
            let client_id = due.client_id.as_bytes().clone();
            if self.is_silenced(&client_id) {
                self.committer.store(vec![due.row.clone()], None);
                self.sessions.will_settled(due);
                continue;
            }
            let (will, row) = (due.will.clone(), Some(due.row.clone()));
            let post = self.post_will(will, &client_id, self.next_id(), row);
            posted.push((post.await, due));
        }
        for (posted, due) in posted {
            if self.is_will_settled(posted).await {
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
        if self.context.is_will_settled(posted.await).await
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
        let is_settled = self.context.is_will_settled(posted.await).await;
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
