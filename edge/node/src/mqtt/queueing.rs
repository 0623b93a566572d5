//! Messages on their way into the committer's queue, which may be full.

use tidegate_edge_journal::RowEntry;

use super::Context;
use super::taking_in::TakenIn;
use crate::committer::{Append, Room, Waiter, rows_bytes};
use crate::delayed::Accepted;
use crate::retained::{OnItsWay, RetainedMessage};

/// What waits for room in the committer's queue.
pub(super) struct Stuck {
    /// What comes before it.
    before: Option<Box<Stuck>>,
    what: Unqueued,
    retained: Option<RetainedMessage>,
}

/// What a message is to the committer.
pub(super) enum Unqueued {
    Append(Append),
    /// Nothing but the rows is kept; one of them may be that of a delayed message.
    Rows(Vec<RowEntry>, Option<Waiter>, Option<Accepted>),
}

impl Unqueued {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.bytes(),
            Self::Rows(rows, ..) => rows_bytes(rows),
        }
    }

    fn is_promised(&self) -> bool {
        match self {
            Self::Append(append) => append.waiter.is_some(),
            Self::Rows(_, waiter, _) => waiter.is_some(),
        }
    }
}

impl Context {
    /// Hands it over, if there is room, and nothing that comes before it waits for some.
    pub(super) fn queue(
        &self,
        before: Option<Box<Stuck>>,
        what: Unqueued,
        retained: Option<RetainedMessage>,
    ) -> TakenIn {
        let is_next = before.is_none();
        let room = is_next.then(|| self.committer.try_room_for(what.bytes()));
        match room.flatten() {
            Some(room) => {
                self.queue_in(what, retained, room);
                TakenIn::OnItsWay
            }
            None => TakenIn::Stuck(Box::new(Stuck {
                before,
                what,
                retained,
            })),
        }
    }

    /// Waits until a message has room, and hands it over.
    pub(super) async fn wait_for_room(&self, stuck: Stuck) {
        let mut next = Some(stuck);
        let mut all = Vec::new();
        while let Some(mut stuck) = next {
            next = stuck.before.take().map(|before| *before);
            all.push(stuck);
        }
        while let Some(Stuck { what, retained, .. }) = all.pop() {
            if let Some(room) = self.committer.room_for(what.bytes()).await {
                self.queue_in(what, retained, room);
            }
        }
    }

    /// With its room: whoever has a turn must not wait.
    fn queue_in(&self, what: Unqueued, retained: Option<RetainedMessage>, room: Room) {
        self.hand_over(retained, what.is_promised(), |retained| match what {
            Unqueued::Append(append) => {
                self.committer.append(Append { retained, ..append }, room);
            }
            Unqueued::Rows(rows, waiter, delayed) => {
                let room = Some(room);
                self.committer.store_retained(rows, waiter, retained, room);
                if let Some(accepted) = delayed {
                    self.delayed.waits(accepted);
                }
            }
        });
    }

    /// A retained message is handed over in its turn, so that what is shown of a topic is what its row
    /// says. Of QoS 0 nothing is promised: it is shown at once.
    fn hand_over(
        &self,
        retained: Option<RetainedMessage>,
        is_promised: bool,
        hand_over: impl FnOnce(Option<OnItsWay>),
    ) {
        match retained {
            Some(retained) => self.retained.in_turn(retained, is_promised, hand_over),
            None => hand_over(None),
        }
    }
}
