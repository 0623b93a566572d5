//! A connection's bytes on their way: they come in order, late, in pieces, and end at any byte when
//! the link is cut. What an old connection still carries can arrive after a new one was made.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tidegate_bridge_protocol::frame::{Frame, FrameError};

use crate::random::Random;

/// Pieces that a frame is cut into at most, but for those that are long.
const PIECE_BYTES_MAX: u64 = 700;

/// One direction of one stream of bytes.
#[derive(Debug, Default)]
pub struct Pipe {
    pieces: VecDeque<(u64, Bytes)>,
    arrived: BytesMut,
    last_ms: u64,
    is_cut: bool,
}

impl Pipe {
    /// Sends a frame: its pieces arrive from `now_ms` on, within `delay_ms` of each other.
    pub fn send(&mut self, now_ms: u64, delay_ms: u64, frame: &Frame, random: &mut Random) {
        if self.is_cut {
            return;
        }
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        let mut bytes = bytes.freeze();
        while !bytes.is_empty() {
            let length = random.between(1, PIECE_BYTES_MAX).min(bytes.len() as u64);
            let arrives = now_ms + random.below(delay_ms + 1);
            self.last_ms = self.last_ms.max(arrives);
            let piece = bytes.split_to(length as usize);
            self.pieces.push_back((self.last_ms, piece));
        }
    }

    /// Loses all from some byte on. What is before it still arrives, `late_ms` later.
    pub fn cut(&mut self, late_ms: u64, random: &mut Random) {
        if self.is_cut {
            return;
        }
        self.is_cut = true;
        let total: u64 = self
            .pieces
            .iter()
            .map(|(_, piece)| piece.len() as u64)
            .sum();
        let mut left = random.below(total + 1);
        for (at, piece) in &mut self.pieces {
            piece.truncate(left as usize);
            left -= piece.len() as u64;
            *at += late_ms;
        }
    }

    /// Nothing of it arrives any more.
    pub fn clear(&mut self) {
        self.is_cut = true;
        self.pieces.clear();
        self.arrived.clear();
    }

    /// The next frame that is whole by now.
    pub fn receive(&mut self, now_ms: u64) -> Result<Option<Frame>, FrameError> {
        while let Some((_, piece)) = self.pieces.front().filter(|(at, _)| *at <= now_ms) {
            self.arrived.extend_from_slice(piece);
            self.pieces.pop_front();
        }
        Frame::decode(&mut self.arrived)
    }

    /// Nothing comes any more.
    pub fn has_ended(&self) -> bool {
        self.is_cut && self.pieces.is_empty()
    }
}

/// A connection between a node and a hub.
#[derive(Debug)]
pub struct Link {
    pub node: usize,
    pub hub: usize,
    pub control_up: Pipe,
    pub bulk_up: Pipe,
    pub down: Pipe,
    /// How late what was under way still comes.
    pub delay_ms: u64,
    pub is_cut: bool,
    /// The ends have seen that it is over.
    pub node_left: bool,
    pub hub_left: bool,
}

impl Link {
    pub fn new(node: usize, hub: usize, delay_ms: u64) -> Self {
        Self {
            node,
            hub,
            control_up: Pipe::default(),
            bulk_up: Pipe::default(),
            down: Pipe::default(),
            delay_ms,
            is_cut: false,
            node_left: false,
            hub_left: false,
        }
    }

    pub fn cut(&mut self, random: &mut Random) {
        self.is_cut = true;
        let late_ms = match random.percent(30) {
            true => random.below(20_000),
            false => 0,
        };
        self.control_up.cut(late_ms, random);
        self.bulk_up.cut(late_ms, random);
        self.down.cut(random.below(500), random);
    }

    pub fn is_over(&self) -> bool {
        self.node_left && self.hub_left
    }
}
