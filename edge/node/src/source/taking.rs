//! What a source does with messages: to the journal, and back to the broker once they are durable.

use std::sync::Arc;
use std::time::Instant;

use tidegate_edge_protocol::mqtt::codec::{Message, Qos};
use tidegate_edge_protocol::mqtt::connection::PublishRefused;

use super::intake::{Action, Verdict};
use super::link::Arrived;
use super::{Driver, End};
use crate::limits::SOURCE_HELD_BYTES_MAX;
use crate::mqtt::Offered;

impl Driver {
    pub(super) async fn arrived(&mut self, arrived: Arrived) -> Result<(), End> {
        if !self.intake.is_open() {
            return Ok(());
        }
        let (receipt, retain) = (arrived.receipt, arrived.retain);
        self.figures.messages.inc();
        self.figures.bytes.inc_by(arrived.payload.len() as u64);
        let shown = arrived.topic.clone();
        let (message, reason) = match self.topics.take(arrived) {
            Ok(message) => (message, None),
            Err(reason) => (Message::default(), Some(reason)),
        };
        // It may wait for long, and must not hold the buffer that it was read into.
        let message = Arc::new(message.detached());
        let bytes = message.bytes();
        let offered = Offered {
            message,
            qos: receipt.qos,
            retain,
            is_repeated: false,
        };
        if let Some(reason) = reason {
            self.drop_one(reason, &String::from_utf8_lossy(&shown));
            if receipt.qos != Qos::AtMostOnce {
                self.intake.handle_unwanted(receipt, offered);
            }
            return self.acknowledge();
        }
        if receipt.qos == Qos::AtMostOnce {
            self.publish(offered, None).await;
            return Ok(());
        }
        if let Some(action) = self.intake.handle_message(receipt, offered, bytes) {
            self.act(action).await;
        }
        self.figures.held.set(self.intake.bytes() as i64);
        match self.intake.bytes() > 2 * SOURCE_HELD_BYTES_MAX {
            true => Err(End::Lost(
                "the broker sends more than can be held before it is acknowledged".to_owned(),
            )),
            false => Ok(()),
        }
    }

    async fn act(&mut self, action: Action<Offered>) {
        let (number, message, again) = match action {
            Action::Submit {
                number,
                message,
                again,
            } => (number, message, again),
            Action::Probe { number, message } => {
                self.inlet.open_gate();
                (number, message, true)
            }
        };
        let offered = Offered {
            is_repeated: again,
            ..message
        };
        self.publish(offered, Some(number)).await;
    }

    async fn publish(&mut self, offered: Offered, number: Option<u64>) {
        let message = Arc::clone(&offered.message);
        if !self.inlet.publish(offered, number).await {
            self.drop_one("unrouted", message.topic.as_str());
        }
    }

    pub(super) async fn try_again(&mut self) {
        if let Some(action) = self.intake.handle_timeout(Instant::now()) {
            self.act(action).await;
        }
    }

    /// The journal has answered for messages.
    pub(super) async fn answered(
        &mut self,
        answers: Vec<(u64, Result<(), PublishRefused>)>,
    ) -> Result<(), End> {
        for (number, outcome) in answers {
            let verdict = match outcome {
                Ok(()) => Verdict::Settled,
                Err(PublishRefused::QuotaExceeded) => Verdict::NoSpace,
                Err(refused) => {
                    self.drop_one("refused", &format!("{refused:?}"));
                    Verdict::Settled
                }
            };
            if verdict == Verdict::NoSpace {
                self.figures.refused.inc();
            }
            for action in self.intake.handle_answer(Instant::now(), number, verdict) {
                self.act(action).await;
            }
        }
        let is_full = self.intake.waits_for_space();
        if std::mem::replace(&mut self.told_full, is_full) != is_full {
            let source = &self.name;
            match is_full {
                true => tracing::warn!(
                    source,
                    "source: the journal is full: messages wait, and are not acknowledged"
                ),
                false => tracing::info!(source, "source: the journal takes messages again"),
            }
        }
        self.acknowledge()?;
        match self.stops_at.is_some() && self.intake.is_settled() {
            true => Ok(self.speaker.disconnect()?),
            false => Ok(()),
        }
    }

    fn acknowledge(&mut self) -> Result<(), End> {
        while let Some(receipt) = self.intake.poll_acknowledged() {
            self.speaker.acknowledge(receipt)?;
            self.unwritten += 1;
        }
        self.figures.held.set(self.intake.bytes() as i64);
        Ok(())
    }
}
