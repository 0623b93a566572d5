//! What others want of a connection's task: deliveries, results of commits, and that it end. The
//! mailbox is bounded in messages and bytes; who does not empty it loses QoS 0 messages, and is
//! disconnected rather than have a QoS 1 message skipped.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tidegate_edge_protocol::mqtt::codec::{
    Message, PacketId, Publish, PublishQos, Qos, SubscriptionIdentifier,
};
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, DeliveryToken, PublishRefused, PublishToken, ReleaseToken, SubscribeToken,
    SubscriptionRequest,
};
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;

use crate::limits::{DETACHED_BYTES_MAX, LETTERS_ATTACHED_MAX, LETTERS_TAKEN_MAX};
use crate::sessions::SharedDelivery;

/// A message for a subscriber, before its session gives it a packet.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub message: Arc<Message>,
    pub qos: Qos,
    pub qos_max: Qos,
    pub retain: bool,
    pub identifiers: Vec<SubscriptionIdentifier>,
    pub expires_at: Option<Instant>,
    /// There where a group waits for the delivery's end.
    pub shared: Option<SharedDelivery>,
    /// Goes before those that wait with a lower one.
    pub priority: u8,
}

impl Letter {
    /// In memory of its own where it is small: it must not keep alive, while it waits, the buffer that it
    /// was read into.
    pub(super) fn detach(&mut self) {
        if self.message.bytes() <= DETACHED_BYTES_MAX {
            self.message = Arc::new(self.message.detached());
        }
    }

    fn bytes(&self) -> usize {
        self.message.bytes() + 64
    }
}

/// What hangs on a message's commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Of QoS 2: free again if the message is refused.
    pub received: Option<PacketId>,
    /// What is needed to try again, where the publisher is one that waits for space.
    pub again: Option<Again>,
}

/// A publish that may be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    pub message: Arc<Message>,
    pub qos: PublishQos,
    pub retain: bool,
}

impl Again {
    pub(crate) fn publish(self) -> Publish {
        Publish {
            duplicate: false,
            qos: self.qos,
            retain: self.retain,
            topic_alias: None,
            subscription_identifiers: Vec::new(),
            message: Arc::unwrap_or_clone(self.message),
        }
    }
}

/// What a connection says once its journal commit is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Publish(PublishToken, Box<Published>),
    /// Of the node's own, by its number in a mailbox of their own.
    Posted(u64),
    Released(ReleaseToken),
    Assigned(DeliveryToken),
    Received(DeliveryToken),
    /// One reason per filter, and for which of them retained messages follow.
    Subscribed {
        token: SubscribeToken,
        reasons: Vec<ReasonCode>,
        with_retained: Vec<SubscriptionRequest>,
        identifier: Option<SubscriptionIdentifier>,
    },
    Unsubscribed(SubscribeToken, Vec<ReasonCode>),
    /// And what the client has of itself for which retained messages follow.
    Accepted(Box<Accepted>, Vec<SubscriptionRequest>),
}

/// And what became of it: only publishes are ever refused.
pub(crate) type Outcome = (Answer, Result<(), PublishRefused>);

/// All that gathered since the mailbox was last emptied.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// At most as many as the windows in both directions.
    pub outcomes: Vec<Outcome>,
    /// Those of a higher priority first.
    pub letters: VecDeque<Letter>,
    letters_bytes: usize,
    pub shut_down: Option<ReasonCode>,
    /// There are some that were not asked for.
    pub letters_left: bool,
    /// What the client may do is to be asked again.
    pub judge_again: bool,
    /// Nobody empties it any more.
    is_closed: bool,
}

impl Contents {
    fn take_letters(&mut self) -> VecDeque<Letter> {
        if self.letters.len() <= LETTERS_TAKEN_MAX {
            self.letters_bytes = 0;
            return std::mem::take(&mut self.letters);
        }
        let taken: VecDeque<_> = self.letters.drain(..LETTERS_TAKEN_MAX).collect();
        self.letters_bytes -= taken.iter().map(Letter::bytes).sum::<usize>();
        taken
    }
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    letters_max: usize,
    bytes_max: usize,
    contents: Mutex<Contents>,
    filled: AtomicBool,
    /// See [`crate::committer::Gate`].
    gate_is_closed: AtomicBool,
    waker: AtomicWaker,
    dropped_qos0: AtomicUsize,
}

impl Default for Mailbox {
    /// With the bounds of a connection whose listener says nothing.
    fn default() -> Self {
        Self::new(&ConnectionLimits::default())
    }
}

impl Mailbox {
    /// What waits here is bounded as what waits in the connection's own queue.
    pub(crate) fn new(limits: &ConnectionLimits) -> Self {
        Self {
            letters_max: limits.outbound_queue_messages_max,
            bytes_max: limits.outbound_queue_bytes_max,
            contents: Mutex::default(),
            filled: AtomicBool::default(),
            gate_is_closed: AtomicBool::default(),
            waker: AtomicWaker::new(),
            dropped_qos0: AtomicUsize::default(),
        }
    }

    fn put(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.contents.lock().expect("nobody panics with it"));
        // Who has not taken what came before is on the way.
        if !self.filled.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    pub(crate) fn answered(&self, outcomes: Vec<Outcome>) {
        self.put(|contents| contents.outcomes.extend(outcomes));
    }

    pub(crate) fn shut_down(&self, reason: ReasonCode) {
        self.put(|contents| contents.shut_down = contents.shut_down.or(Some(reason)));
    }

    /// The rules have changed.
    pub(super) fn judge_again(&self) {
        self.put(|contents| contents.judge_again = true);
    }

    pub(crate) fn deliver(&self, letter: Letter) {
        self.put(|contents| self.add(contents, letter));
    }

    /// The same, for many.
    pub(crate) fn deliver_all(&self, letters: Vec<Letter>) {
        let bytes: usize = letters.iter().map(Letter::bytes).sum();
        self.put(|contents| {
            let is_empty = contents.letters.is_empty() && !contents.is_closed;
            let is_urgent = letters.iter().any(|letter| letter.priority > 0);
            let fits = letters.len() <= self.letters_max && bytes <= self.bytes_max;
            if is_empty && fits && !is_urgent {
                contents.letters_bytes = bytes;
                contents.letters = letters.into();
                return;
            }
            letters
                .into_iter()
                .for_each(|letter| self.add(contents, letter));
        });
    }

    fn add(&self, contents: &mut Contents, mut letter: Letter) {
        let bytes = letter.bytes();
        let full = contents.letters.len() >= self.letters_max
            || contents.letters_bytes + bytes > self.bytes_max;
        if contents.is_closed {
            return;
        }
        if !full {
            contents.letters_bytes += bytes;
            if contents.letters.len() >= LETTERS_ATTACHED_MAX {
                letter.detach();
            }
            let behind = contents.letters.iter().rev();
            let overtaken = behind
                .take_while(|it| it.priority < letter.priority)
                .count();
            let at = contents.letters.len() - overtaken;
            contents.letters.insert(at, letter);
        } else if letter.qos.min(letter.qos_max) == Qos::AtMostOnce {
            self.dropped_qos0.fetch_add(1, Ordering::Relaxed);
        } else {
            contents.shut_down = contents.shut_down.or(Some(ReasonCode::QuotaExceeded));
        }
    }

    /// Its connection has ended: what is in it goes, and nothing more comes in.
    pub(super) fn close(&self) {
        let mut contents = self.contents.lock().expect("nobody panics with it");
        *contents = Contents {
            is_closed: true,
            ..Contents::default()
        };
    }

    /// What is there, if anything is; letters only if they are asked for, and then so many.
    pub(crate) fn take(&self, with_letters: bool) -> Option<Contents> {
        if !self.filled.swap(false, Ordering::Acquire) {
            return None;
        }
        let mut contents = self.contents.lock().expect("nobody panics with it");
        let mut taken = std::mem::take(&mut *contents);
        contents.is_closed = taken.is_closed;
        contents.letters_bytes = taken.letters_bytes;
        contents.letters = std::mem::take(&mut taken.letters);
        if with_letters {
            taken.letters = contents.take_letters();
        }
        taken.letters_left = !contents.letters.is_empty();
        Some(taken)
    }

    /// Letters that were left when the rest was taken, so many.
    pub(super) fn take_letters(&self) -> (VecDeque<Letter>, bool) {
        let mut contents = self.contents.lock().expect("nobody panics with it");
        let letters = contents.take_letters();
        (letters, !contents.letters.is_empty())
    }

    /// Returns once something is there. Safe to cancel; for the connection's own task alone.
    pub(crate) async fn filled(&self) {
        poll_fn(|context| self.poll_filled(context)).await;
    }

    pub(super) fn poll_filled(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.filled.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        match self.filled.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// The oldest of what waits for space is tried again; nothing is under way.
    pub(crate) fn open_gate(&self) {
        self.gate_is_closed.store(false, Ordering::Release);
    }

    pub(crate) fn close_gate(&self) {
        self.gate_is_closed.store(true, Ordering::Release);
    }

    pub(crate) fn has_closed_gate(&self) -> bool {
        self.gate_is_closed.load(Ordering::Acquire)
    }

    /// QoS 0 messages that found no room.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped_qos0.swap(0, Ordering::Relaxed) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(qos: Qos, bytes: usize) -> Letter {
        let payload = vec![0; bytes].into();
        let message = Arc::new(Message {
            payload,
            ..Message::default()
        });
        Letter {
            message,
            qos,
            qos_max: qos,
            retain: false,
            identifiers: Vec::new(),
            expires_at: None,
            shared: None,
            priority: 0,
        }
    }

    #[test]
    fn what_is_urgent_overtakes_what_waits() {
        let mailbox = Mailbox::default();
        let letter = |bytes, priority| Letter {
            priority,
            ..letter(Qos::AtMostOnce, bytes)
        };
        let count = LETTERS_TAKEN_MAX + 2;
        mailbox.deliver_all(vec![letter(0, 0); count]);
        mailbox.deliver(letter(1, 7));
        mailbox.deliver_all(vec![letter(2, 9), letter(3, 7), letter(4, 0)]);
        let of = |letters: VecDeque<Letter>| {
            let sizes = letters.iter().map(|letter| letter.message.payload.len());
            sizes.collect::<Vec<_>>()
        };
        let contents = mailbox.take(true).unwrap();
        assert!(contents.letters_left);
        let taken = of(contents.letters);
        assert_eq!(
            (taken.len(), &taken[..4]),
            (LETTERS_TAKEN_MAX, &[2, 1, 3, 0][..])
        );
        // Nothing that was taken is overtaken; what is left may be.
        mailbox.deliver(letter(5, 1));
        let (taken, is_left) = mailbox.take_letters();
        assert_eq!((of(taken), is_left), (vec![5, 0, 0, 0, 0, 0, 4], false));
        assert!(mailbox.take_letters().0.is_empty());
    }

    #[test]
    fn a_full_mailbox_drops_qos_0_and_ends_qos_1() {
        let mailbox = Mailbox::default();
        for _ in 0..9 {
            mailbox.deliver(letter(Qos::AtMostOnce, 1 << 20));
        }
        assert_eq!(mailbox.take_dropped(), 2);
        mailbox.deliver(letter(Qos::AtLeastOnce, 1 << 20));
        let contents = mailbox.take(true).unwrap();
        assert_eq!(contents.letters.len(), 7);
        assert_eq!(contents.shut_down, Some(ReasonCode::QuotaExceeded));
        mailbox.deliver(letter(Qos::AtLeastOnce, 1 << 20));
        assert_eq!(mailbox.take(true).unwrap().letters.len(), 1);
        assert!(mailbox.take(true).is_none());
    }
}
