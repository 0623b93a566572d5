//! One connection's socket, and the waiting for many. It knows packets only by their boundaries; what
//! they mean to a publisher or a subscriber is in the modules named after what is measured.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::wire::{self, Frame, Version};

/// What is read at once: a whole window of most runs.
pub const READ_BYTES: usize = 1 << 20;

/// A packet of a run fits in so many bytes beside what is read.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// CONNACK and SUBACK come within.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Events that one wait tells.
const EVENTS_MAX: usize = 256;

/// Where all connections read to, one after the other.
pub struct Scratch(Vec<u8>);

impl Scratch {
    pub fn new() -> Self {
        Self(vec![0; PACKET_BYTES_MAX + READ_BYTES])
    }
}

pub struct Link {
    pub socket: TcpStream,
    /// The beginning of a packet whose rest is still to come.
    partial: Vec<u8>,
    /// Whether the poller was told to watch for room to write.
    watched_for_room: bool,
}

impl Link {
    /// Connects and is accepted; tells how many messages of QoS 1 and 2 may be under way.
    pub fn open(address: SocketAddr, version: Version, id: &str) -> anyhow::Result<(Self, u16)> {
        let socket = TcpStream::connect(address).with_context(|| format!("connect {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        let mut link = Self::of(socket);
        link.socket.write_all(&wire::connect(version, id))?;
        let mut under_way_max = 0;
        link.answer(|frame| {
            under_way_max = frame.accepted(version)?;
            Ok(())
        })?;
        Ok((link, under_way_max))
    }

    pub fn of(socket: TcpStream) -> Self {
        Self {
            socket,
            partial: Vec::new(),
            watched_for_room: false,
        }
    }

    pub fn subscribe(&mut self, version: Version, filter: &str, qos: u8) -> anyhow::Result<()> {
        let packet = wire::subscribe(version, filter, qos);
        self.socket.write_all(&packet)?;
        self.answer(|frame| frame.granted(version, qos))
    }

    /// Waits for one packet, of which nothing follows.
    fn answer(
        &mut self,
        check: impl FnOnce(Frame<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut input = [0; 512];
        let mut filled = 0;
        loop {
            let bytes = self
                .socket
                .read(&mut input[filled..])
                .context("no answer")?;
            ensure!(bytes > 0, "the broker closed the connection");
            filled += bytes;
            if let Some(frame) = Frame::next(&input[..filled])? {
                ensure!(frame.packet.len() == filled, "more came than was asked for");
                return check(frame);
            }
        }
    }

    /// Reads once, and hands over what packets are whole. False at the end of the stream.
    #[inline]
    pub fn receive(
        &mut self,
        scratch: &mut Scratch,
        mut take: impl FnMut(Frame<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let kept = self.partial.len();
        scratch.0[..kept].copy_from_slice(&self.partial);
        let read = match self.socket.read(&mut scratch.0[kept..]) {
            Ok(0) => return Ok(false),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error).context("read"),
        };
        let mut rest = &scratch.0[..kept + read];
        while let Some(frame) = Frame::next(rest)? {
            take(frame)?;
            rest = &rest[frame.packet.len()..];
        }
        ensure!(rest.len() < PACKET_BYTES_MAX, "a packet is too large");
        self.partial.clear();
        self.partial.extend_from_slice(rest);
        Ok(true)
    }

    /// Writes what there is room for, and sees to it that the rest has its turn.
    pub fn send(
        &mut self,
        poller: &Poller,
        token: usize,
        output: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        if !output.is_empty() {
            let written = room(self.socket.write(output))?;
            output.drain(..written);
        }
        self.watch_for_room(poller, token, !output.is_empty())
    }

    pub fn watch_for_room(
        &mut self,
        poller: &Poller,
        token: usize,
        on: bool,
    ) -> anyhow::Result<()> {
        if self.watched_for_room != on {
            self.watched_for_room = on;
            poller.watch_again(&self.socket, token, on)?;
        }
        Ok(())
    }
}

/// What was written; nothing where there was no room.
pub fn room(written: std::io::Result<usize>) -> anyhow::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other.context("write"),
    }
}

/// Which connections have something to read, or room to write.
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub fn new() -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll })
    }

    pub fn watch(&self, source: impl std::os::fd::AsFd, token: usize) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::add(
            &self.epoll,
            source,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    pub fn forget(&self, source: impl std::os::fd::AsFd) -> anyhow::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    fn watch_again(&self, socket: &TcpStream, token: usize, room: bool) -> anyhow::Result<()> {
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, room);
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::modify(&self.epoll, socket, data, flags)?)
    }

    /// Tokens of those that are ready; none when the time is over.
    pub fn wait(&self, tokens: &mut Vec<usize>, at_most: Duration) -> anyhow::Result<()> {
        let timeout = Timespec::try_from(at_most)?;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll"),
        }
        tokens.clear();
        tokens.extend(events.iter().map(|event| {
            let data = event.data;
            data.u64() as usize
        }));
        Ok(())
    }
}
