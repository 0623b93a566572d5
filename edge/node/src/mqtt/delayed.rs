//! Publishes delayed messages when they are due.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Context;
use super::posted::{Post, Posted};
use crate::delayed::{DelayedMessage, Due};
use crate::limits::{DELAYED_AGAIN, DELAYED_AT_ONCE_MAX};

/// Until told to stop.
pub(crate) async fn publish_delayed(context: Arc<Context>, mut stopping: watch::Receiver<bool>) {
    loop {
        let wait = context.delayed.first_at_ms().map(|at_ms| {
            let wait_ms = at_ms.saturating_sub(context.clock.now_ms());
            Duration::from_millis(wait_ms)
        });
        tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
            () = context.delayed.changed() => continue,
            _ = stopping.changed() => return,
        }
        if context.publish_due().await {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(DELAYED_AGAIN) => {}
            _ = stopping.changed() => return,
        }
    }
}

impl Context {
    /// Whether all that it took up is settled: if not, the journal has no space.
    async fn publish_due(&self) -> bool {
        let now_ms = self.clock.now_ms();
        let (mut posted, mut all) = (Posted::default(), Vec::new());
        for (due, delayed) in self.delayed.due(now_ms, DELAYED_AT_ONCE_MAX) {
            let is_silenced = self.is_silenced(&delayed.publisher);
            let Some(message) = delayed.at(now_ms).filter(|_| !is_silenced) else {
                self.give_up(due);
                continue;
            };
            let DelayedMessage {
                qos,
                retain,
                publisher,
                ..
            } = delayed;
            let post = Post {
                message,
                qos,
                retain,
                row: Some(due.settled()),
            };
            // Its publisher's connection may be over.
            self.post(&mut posted, post, &publisher, self.next_id())
                .await;
            all.push(due);
        }
        let settled = self.are_settled(posted).await;
        for (due, _) in all.into_iter().zip(&settled).filter(|(_, is)| **is) {
            self.delayed.settle(due);
        }
        !settled.contains(&false)
    }

    /// It has expired, or is not to be published any more.
    fn give_up(&self, due: Due) {
        self.metrics.mqtt_messages_dropped.inc();
        self.committer.store(vec![due.settled()], None);
        self.delayed.settle(due);
    }
}
