//! A publisher with a fixed number of messages under way: a ring with one packet ready per place, in
//! which only the message's number changes. A place is free again when every subscriber has the message,
//! and the broker has acknowledged it where the QoS asks for that; so what lies in it has long been written.

use std::io::{IoSlice, Write};
use std::ops::Range;

use anyhow::ensure;

use crate::link::{Link, Scratch, room};
use crate::wire::{self, Frame, PUBACK, PUBCOMP, PUBREC, PUBREL, Version};

/// A payload begins with the publisher's number and the message's, four bytes each.
pub const PAYLOAD_BYTES_MIN: usize = 8;

/// What a payload says; none if it is not one of a run's.
#[inline]
pub fn numbers(payload: &[u8]) -> Option<(usize, u32)> {
    let publisher = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?);
    let message = u32::from_le_bytes(payload.get(4..8)?.try_into().ok()?);
    Some((publisher as usize, message))
}

pub struct Publishing<'a> {
    pub version: Version,
    pub topic: &'a str,
    pub number: usize,
    pub qos: u8,
    pub payload_bytes: usize,
    /// Messages under way at most.
    pub window: usize,
}

pub struct Publisher {
    pub link: Link,
    ring: Vec<u8>,
    packet_bytes: usize,
    payload_bytes: usize,
    qos: u8,
    /// PUBRELs, and how much of them is written.
    control: Vec<u8>,
    acknowledged: Acknowledged,
    /// Messages that were let go, the place of the next one, bytes of them that were written, and messages
    /// that everybody has.
    sent: u64,
    next: usize,
    written: u64,
    pub done: u64,
    /// It has something to send, and is on its owner's list.
    pub listed: bool,
}

impl Publisher {
    pub fn new(link: Link, of: &Publishing<'_>) -> Self {
        let mut payload = vec![b'x'; of.payload_bytes];
        payload[..4].copy_from_slice(&(of.number as u32).to_le_bytes());
        let mut ring = Vec::new();
        for place in 0..of.window {
            let id = place as u16 + 1;
            ring.extend(wire::publish(of.version, of.topic, of.qos, id, &payload));
        }
        Self {
            link,
            packet_bytes: ring.len() / of.window,
            ring,
            payload_bytes: of.payload_bytes,
            qos: of.qos,
            control: Vec::new(),
            acknowledged: Acknowledged::new(of.window),
            sent: 0,
            next: 0,
            written: 0,
            done: 0,
            listed: false,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.done == self.sent
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Lets as many go as there are free places, now that all subscribers have the first `received`.
    pub fn release(&mut self, received: u64, at_most: u64) -> anyhow::Result<()> {
        let acknowledged = self.acknowledged.count;
        ensure!(
            received.max(acknowledged) <= self.sent,
            "{received} messages came and {acknowledged} were acknowledged of {}",
            self.sent
        );
        self.done = match self.qos {
            0 => received,
            _ => received.min(acknowledged),
        };
        let window = self.acknowledged.early.len();
        let end = (self.done + window as u64).min(self.sent.saturating_add(at_most));
        while self.sent < end {
            let at = (self.next + 1) * self.packet_bytes - self.payload_bytes + 4;
            self.ring[at..at + 4].copy_from_slice(&(self.sent as u32).to_le_bytes());
            self.sent += 1;
            self.next = if self.next + 1 == window {
                0
            } else {
                self.next + 1
            };
        }
        Ok(())
    }

    /// Reads acknowledgements.
    pub fn receive(&mut self, scratch: &mut Scratch) -> anyhow::Result<()> {
        let (qos, control, acknowledged) = (self.qos, &mut self.control, &mut self.acknowledged);
        let mut take = |frame: Frame<'_>| {
            let id = frame.acknowledged()?;
            match frame.kind() {
                PUBACK if qos == 1 => acknowledged.take(id),
                PUBREC if qos == 2 => {
                    wire::put_ack(control, PUBREL, id);
                    Ok(())
                }
                PUBCOMP if qos == 2 => acknowledged.take(id),
                other => anyhow::bail!("packet {other} came to a publisher"),
            }
        };
        let open = self
            .link
            .receive(scratch, |input| wire::frames(input, &mut take))?;
        ensure!(open, "the broker closed a publisher's connection");
        Ok(())
    }

    /// Writes what there is room for. A PUBREL goes between two messages.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        let [begun, first, second] = self.unwritten();
        if begun.len() + first.len() + second.len() + self.control.len() == 0 {
            return Ok(());
        }
        let begun_bytes = begun.len();
        let slices = [
            IoSlice::new(&self.ring[begun]),
            IoSlice::new(&self.control),
            IoSlice::new(&self.ring[first]),
            IoSlice::new(&self.ring[second]),
        ];
        let written = room(self.link.socket.write_vectored(&slices))?;
        let of_begun = written.min(begun_bytes);
        let of_control = (written - of_begun).min(self.control.len());
        self.control.drain(..of_control);
        self.written += (written - of_control) as u64;
        Ok(())
    }

    /// The rest of a message that is half written, and the others up to the ring's end and from its
    /// beginning.
    fn unwritten(&self) -> [Range<usize>; 3] {
        let ring = self.ring.len();
        let left = (self.sent * self.packet_bytes as u64 - self.written) as usize;
        let start = (self.written % ring as u64) as usize;
        let over = start % self.packet_bytes;
        let begun = if over == 0 {
            0
        } else {
            self.packet_bytes - over
        };
        let next = start + begun;
        let first = (left - begun).min(ring - next);
        [start..next, next..next + first, 0..left - begun - first]
    }
}

/// Which messages the broker has acknowledged: all of the first ones, and those that were early.
struct Acknowledged {
    count: u64,
    /// The place of the first one that is missing.
    place: usize,
    early: Vec<bool>,
}

impl Acknowledged {
    fn new(window: usize) -> Self {
        Self {
            count: 0,
            place: 0,
            early: vec![false; window],
        }
    }

    #[inline]
    fn take(&mut self, id: u16) -> anyhow::Result<()> {
        let place = usize::from(id).wrapping_sub(1);
        let early = self.early.get_mut(place);
        let early = early.filter(|early| !**early);
        let Some(early) = early else {
            anyhow::bail!("acknowledgement {id} came twice, or for nothing");
        };
        *early = true;
        while std::mem::take(&mut self.early[self.place]) {
            self.count += 1;
            self.place = if self.place + 1 == self.early.len() {
                0
            } else {
                self.place + 1
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_count_in_any_order_and_once() {
        let mut acknowledged = Acknowledged::new(3);
        for (id, count) in [(2, 0), (1, 2), (3, 3), (1, 4)] {
            acknowledged.take(id).unwrap();
            assert_eq!(acknowledged.count, count, "after {id}");
        }
        acknowledged.take(3).unwrap();
        assert!(acknowledged.take(3).is_err());
        assert!(acknowledged.take(0).is_err());
        assert!(acknowledged.take(4).is_err());
    }
}
