//! A publisher with a fixed number of messages under way: a ring with one packet ready per place, in
//! which only the message's number changes. A place is free again when every subscriber has the message,
//! and the broker has acknowledged it where the QoS asks for that; so what lies in it has long been written.

use std::io::{IoSlice, Write};
use std::ops::Range;

use anyhow::ensure;

use crate::link::{Link, Poller, Scratch, room};
use crate::wire::{self, Frame, PUBACK, PUBCOMP, PUBREC, PUBREL, Version};

/// A payload begins with the publisher's number and the message's, four bytes each.
pub const PAYLOAD_BYTES_MIN: usize = 8;

/// What a payload says; none if it is not one of a run's.
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
    /// Who gets each message.
    pub subscribers: usize,
}

pub struct Publisher {
    pub link: Link,
    ring: Vec<u8>,
    packet_bytes: usize,
    payload_bytes: usize,
    window: usize,
    qos: u8,
    /// Who still has to tell of each message under way: subscribers, and the broker.
    missing: Vec<u16>,
    missing_first: u16,
    /// PUBRELs, and how much of them is written.
    control: Vec<u8>,
    /// Messages that were let go, bytes of them that were written, and messages that everybody has.
    sent: u64,
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
            window: of.window,
            qos: of.qos,
            missing: vec![0; of.window],
            missing_first: of.subscribers as u16 + u16::from(of.qos > 0),
            control: Vec::new(),
            sent: 0,
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

    /// Lets as many go as there are free places.
    pub fn release(&mut self, at_most: u64) {
        let end = (self.done + self.window as u64).min(self.sent + at_most);
        while self.sent < end {
            let place = self.sent as usize % self.window;
            let at = (place + 1) * self.packet_bytes - self.payload_bytes + 4;
            self.ring[at..at + 4].copy_from_slice(&(self.sent as u32).to_le_bytes());
            self.missing[place] = self.missing_first;
            self.sent += 1;
        }
    }

    /// Somebody has this message, of those under way.
    #[inline]
    pub fn tell(&mut self, message: u32) -> anyhow::Result<()> {
        self.tell_place(message as usize % self.window)
    }

    fn tell_place(&mut self, place: usize) -> anyhow::Result<()> {
        let missing = self.missing.get_mut(place).filter(|missing| **missing > 0);
        let Some(missing) = missing else {
            anyhow::bail!("a message or its acknowledgement came twice");
        };
        *missing -= 1;
        while self.done < self.sent && self.missing[self.done as usize % self.window] == 0 {
            self.done += 1;
        }
        Ok(())
    }

    /// Reads acknowledgements.
    pub fn receive(&mut self, scratch: &mut Scratch) -> anyhow::Result<()> {
        let (mut told, qos) = (Vec::new(), self.qos);
        let control = &mut self.control;
        let open = self.link.receive(scratch, |frame: Frame<'_>| {
            let id = frame.acknowledged()?;
            match frame.kind() {
                PUBACK if qos == 1 => told.push(id),
                PUBREC if qos == 2 => wire::put_ack(control, PUBREL, id),
                PUBCOMP if qos == 2 => told.push(id),
                other => anyhow::bail!("packet {other} came to a publisher"),
            }
            Ok(())
        })?;
        ensure!(open, "the broker closed a publisher's connection");
        for id in told {
            self.tell_place(usize::from(id).wrapping_sub(1))?;
        }
        Ok(())
    }

    /// Writes what there is room for. A PUBREL goes between two messages.
    pub fn flush(&mut self, poller: &Poller, token: usize) -> anyhow::Result<()> {
        loop {
            let [begun, first, second] = self.unwritten();
            let total = begun.len() + first.len() + second.len() + self.control.len();
            if total == 0 {
                return self.link.watch_for_room(poller, token, false);
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
            if written < total {
                return self.link.watch_for_room(poller, token, true);
            }
        }
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
