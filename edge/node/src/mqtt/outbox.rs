//! Messages for subscribers, gathered while packets are read, and put into each mailbox in one go: it is
//! locked, and its task woken, once for all of them.

use std::sync::Arc;

use super::mailbox::{Letter, Mailbox};
use crate::limits::OUTBOX_LETTERS_MAX;
use crate::router::ConnectionId;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    boxes: Vec<(ConnectionId, Arc<Mailbox>, Vec<Letter>)>,
    letters: usize,
    /// Subscribers come in the same order each time.
    next: usize,
}

impl Outbox {
    pub(super) fn put(&mut self, id: ConnectionId, mailbox: &Arc<Mailbox>, letter: Letter) {
        let at = match self.boxes.get(self.next) {
            Some((other, ..)) if *other == id => Some(self.next),
            _ => self.boxes.iter().position(|(other, ..)| *other == id),
        };
        let at = at.unwrap_or_else(|| {
            self.boxes.push((id, Arc::clone(mailbox), Vec::new()));
            self.boxes.len() - 1
        });
        self.boxes[at].2.push(letter);
        self.next = (at + 1) % self.boxes.len();
        self.letters += 1;
        if self.letters >= OUTBOX_LETTERS_MAX {
            self.flush();
        }
    }

    /// To be called before anything is waited for.
    pub(super) fn flush(&mut self) {
        if self.letters == 0 {
            return;
        }
        for (_, mailbox, letters) in std::mem::take(&mut self.boxes) {
            mailbox.deliver_all(letters);
        }
        (self.letters, self.next) = (0, 0);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.flush();
    }
}
