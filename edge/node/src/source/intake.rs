//! What has come from a broker and is not acknowledged to it: decides what goes to the journal, what waits for space
//! there, and what may be acknowledged, in the order in which it came. No I/O: time is passed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidegate_edge_protocol::mqtt::codec::Qos;

/// By what a broker knows a message that it waits to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) packet: u16,
    pub(super) qos: Qos,
}

/// What becomes of a message that the journal has answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is durable; or it can never be taken, which was counted.
    Settled,
    /// There is no space for it now.
    NoSpace,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action<M> {
    /// Hand it to the journal.
    Submit {
        number: u64,
        message: M,
        again: bool,
    },
    /// The same with the oldest of what was refused: the journal may take this publisher's messages again.
    Probe { number: u64, message: M },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    /// For space; `tried`: the journal has had it before.
    Waiting {
        tried: bool,
    },
    Settled,
}

#[derive(Debug)]
struct Held<M> {
    receipt: Receipt,
    bytes: usize,
    message: M,
    state: State,
}

/// Of one source. `M` is a message.
#[derive(Debug)]
pub(super) struct Intake<M> {
    retry_interval: Duration,
    /// Between a CONNACK and the connection's end. What an event loop still has of a connection that has ended is
    /// no longer this broker's to be acknowledged.
    is_open: bool,
    /// Messages have numbers in the order in which they came, over all connections.
    first: u64,
    held: VecDeque<Held<M>>,
    bytes: usize,
    /// The oldest of what was refused, while it is tried again.
    probe: Option<u64>,
    retry_at: Option<Instant>,
}

impl<M: Clone> Intake<M> {
    pub(super) fn new(retry_interval: Duration) -> Self {
        Self {
            retry_interval,
            is_open: false,
            first: 0,
            held: VecDeque::new(),
            bytes: 0,
            probe: None,
            retry_at: None,
        }
    }

    pub(super) fn handle_connected(&mut self) {
        self.forget();
        self.is_open = true;
    }

    /// What was not acknowledged comes again. What is under way to the journal comes there twice.
    pub(super) fn handle_disconnected(&mut self) {
        self.forget();
        self.is_open = false;
    }

    /// The node stops: what comes from now on stays with the broker.
    pub(super) fn handle_stopping(&mut self) {
        self.is_open = false;
    }

    /// A message that is to be acknowledged. `None`: it waits, or is none of this connection's.
    pub(super) fn handle_message(
        &mut self,
        receipt: Receipt,
        message: M,
        bytes: usize,
    ) -> Option<Action<M>> {
        if !self.is_open {
            return None;
        }
        let number = self.first + self.held.len() as u64;
        let goes = !self.waits_for_space();
        let state = match goes {
            true => State::UnderWay,
            false => State::Waiting { tried: false },
        };
        self.bytes += bytes;
        self.held.push_back(Held {
            receipt,
            bytes,
            message: message.clone(),
            state,
        });
        goes.then_some(Action::Submit {
            number,
            message,
            again: false,
        })
    }

    /// The same of one that is acknowledged without the journal, in its turn.
    pub(super) fn handle_unwanted(&mut self, receipt: Receipt, message: M) {
        if self.is_open {
            self.held.push_back(Held {
                receipt,
                bytes: 0,
                message,
                state: State::Settled,
            });
        }
    }

    /// The journal's answer. Where it took the one that was tried, all that waits goes to it, in order.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        number: u64,
        verdict: Verdict,
    ) -> Vec<Action<M>> {
        let Some(index) = number.checked_sub(self.first) else {
            return Vec::new();
        };
        let Some(held) = self.held.get_mut(index as usize) else {
            return Vec::new();
        };
        let was_probe = self.probe.take_if(|probe| *probe == number).is_some();
        match verdict {
            Verdict::NoSpace => {
                held.state = State::Waiting { tried: true };
                if was_probe || self.retry_at.is_none() {
                    self.retry_at = Some(now + self.retry_interval);
                }
                Vec::new()
            }
            Verdict::Settled => {
                held.state = State::Settled;
                if was_probe {
                    self.retry_at = None;
                    return self.release();
                }
                Vec::new()
            }
        }
    }

    fn release(&mut self) -> Vec<Action<M>> {
        let first = self.first;
        let all = self.held.iter_mut().zip(first..);
        let waiting = all.filter_map(|(held, number)| {
            let State::Waiting { tried } = held.state else {
                return None;
            };
            held.state = State::UnderWay;
            Some(Action::Submit {
                number,
                message: held.message.clone(),
                again: tried,
            })
        });
        waiting.collect()
    }

    /// Packets that may be acknowledged, oldest first: an acknowledgement never overtakes another.
    pub(super) fn poll_acknowledged(&mut self) -> Option<Receipt> {
        let held = self.held.front()?;
        if held.state != State::Settled {
            return None;
        }
        let held = self.held.pop_front()?;
        self.first += 1;
        self.bytes -= held.bytes;
        Some(held.receipt)
    }

    /// When [`Intake::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let is_under_way = self.held.iter().any(|held| held.state == State::UnderWay);
        self.retry_at.filter(|_| !is_under_way)
    }

    /// The oldest of what was refused, if it is time to try it.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Action<M>> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.retry_at = None;
        let mut all = self.held.iter_mut().zip(self.first..);
        let (held, number) = all.find(|(held, _)| matches!(held.state, State::Waiting { .. }))?;
        held.state = State::UnderWay;
        self.probe = Some(number);
        Some(Action::Probe {
            number,
            message: held.message.clone(),
        })
    }

    /// What comes belongs to a connection that is there.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing is on its way into the journal.
    pub(super) fn is_settled(&self) -> bool {
        self.held.iter().all(|held| held.state != State::UnderWay)
    }

    pub(super) fn waits_for_space(&self) -> bool {
        self.probe.is_some() || self.retry_at.is_some()
    }

    /// The journal may still answer for what is forgotten: those numbers are not used again.
    fn forget(&mut self) {
        self.first += self.held.len() as u64;
        self.held.clear();
        self.bytes = 0;
        self.probe = None;
        self.retry_at = None;
    }
}

#[cfg(test)]
mod tests;
