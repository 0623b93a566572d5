//! What an MQTT 3 client published and the journal had no space for. That client can't be told, so its
//! acknowledgements are withheld: the messages wait here, in their order and with all that came behind
//! them, and the oldest is tried again now and then. It bounds what waits by not having more read.

use std::{collections::BTreeMap, time::Instant};

use super::event::PublishToken;
use crate::mqtt::{codec::Publish, limits::ConnectionLimits};

/// Of a message that waits, beside its topic and its payload.
const OVERHEAD_BYTES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Withheld {
    /// Tokens are in the order in which the messages came.
    waiting: BTreeMap<PublishToken, Waiting>,
    bytes: usize,
    /// Publishes that the driver has and has not answered.
    under_way: usize,
    /// The oldest, while it is tried again.
    probe: Option<PublishToken>,
    retry_at: Option<Instant>,
    /// A message found no space not long before.
    cautious_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    publish: Publish,
    /// The driver has had it before.
    again: bool,
}

/// What goes to the driver.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Submission {
    First(PublishToken, Publish),
    Again(PublishToken, Publish),
}

impl Withheld {
    /// A new message: gives it back if it may go to the driver at once. Behind one that waits it waits.
    pub(super) fn arrive(&mut self, token: PublishToken, publish: Publish) -> Option<Publish> {
        if self.waiting.is_empty() && self.probe.is_none() {
            self.under_way += 1;
            return Some(publish);
        }
        self.keep(token, publish, false);
        None
    }

    /// There was no space for it.
    pub(super) fn withhold(
        &mut self,
        now: Instant,
        limits: &ConnectionLimits,
        token: PublishToken,
        publish: Publish,
    ) {
        self.under_way -= 1;
        self.keep(token, publish, true);
        self.cautious_until = Some(now + limits.withheld_caution);
        if self.probe.take_if(|probe| *probe == token).is_some() || self.retry_at.is_none() {
            self.retry_at = Some(now + limits.withheld_retry_interval);
        }
    }

    /// The driver has answered it. Where it was the one that was tried, all that waits goes to the
    /// driver, in order.
    pub(super) fn answered(&mut self, token: PublishToken) -> impl Iterator<Item = Submission> {
        self.under_way -= 1;
        let all = match self.probe.take_if(|probe| *probe == token) {
            Some(_) => {
                self.retry_at = None;
                self.bytes = 0;
                std::mem::take(&mut self.waiting)
            }
            None => BTreeMap::new(),
        };
        self.under_way += all.len();
        all.into_iter().map(|(token, waiting)| match waiting.again {
            true => Submission::Again(token, waiting.publish),
            false => Submission::First(token, waiting.publish),
        })
    }

    /// The oldest, if it is time to try it: nothing else is under way then.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<(PublishToken, Publish)> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let (token, Waiting { publish, .. }) = self.waiting.pop_first()?;
        self.bytes -= bytes_of(&publish);
        self.probe = Some(token);
        self.under_way += 1;
        Some((token, publish))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry_at
            .filter(|_| self.under_way == 0 && !self.waiting.is_empty())
    }

    /// Whether to read on.
    pub(super) fn has_room(&self, now: Instant, limits: &ConnectionLimits) -> bool {
        let is_cautious = self.cautious_until.is_some_and(|until| now < until);
        let messages = match is_cautious {
            true => self.waiting.len() + self.under_way,
            false => self.len(),
        };
        messages < limits.withheld_messages_max && self.bytes < limits.withheld_bytes_max
    }

    /// Whether it is as good as new.
    pub(super) fn is_idle(&self) -> bool {
        self.len() == 0
            && self.under_way == 0
            && self.retry_at.is_none()
            && self.cautious_until.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.probe.is_some())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn keep(&mut self, token: PublishToken, mut publish: Publish, again: bool) {
        // What waits for long must not hold the buffer that it was read into.
        publish.message = publish.message.detached();
        self.bytes += bytes_of(&publish);
        self.waiting.insert(token, Waiting { publish, again });
    }
}

fn bytes_of(publish: &Publish) -> usize {
    publish.message.topic.len() + publish.message.payload.len() + OVERHEAD_BYTES
}
