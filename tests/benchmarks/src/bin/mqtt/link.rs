//! One connection's socket, and the waiting for many. It knows packets only by their boundaries; what
//! they mean to a publisher or a subscriber is in the modules named after what is measured.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::wire::{self, Frame, Version};

/// What is read at once: a whole window of small messages; of large ones so much that it stays in the
/// core's own cache.
pub const READ_BYTES: usize = 256 << 10;

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

    /// Reads all that is there, and hands over whole packets and the beginning of the next one, read by
    /// read; `take` tells how many bytes the whole ones have. False at the end of the stream.
    #[inline]
    pub fn receive(
        &mut self,
        scratch: &mut Scratch,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<usize>,
    ) -> anyhow::Result<bool> {
        loop {
            let kept = self.partial.len();
            scratch.0[..kept].copy_from_slice(&self.partial);
            let room = &mut scratch.0[kept..kept + READ_BYTES];
            let read = match self.socket.read(room) {
                Ok(0) => return Ok(false),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error).context("read"),
            };
            let input = &scratch.0[..kept + read];
            let rest = &input[take(input)?..];
            ensure!(rest.len() < PACKET_BYTES_MAX, "a packet is too large");
            self.partial.clear();
            self.partial.extend_from_slice(rest);
            // Less than was asked for: the poller tells of what comes from now on.
            if read < READ_BYTES {
                return Ok(true);
            }
        }
    }

    /// Writes what there is room for; the poller tells when there is room for more.
    pub fn send(&mut self, output: &mut Output) -> anyhow::Result<()> {
        if !output.is_empty() {
            let written = room(self.socket.write(output.unwritten()))?;
            output.advance(written);
        }
        Ok(())
    }
}

/// Bytes that wait for room; what is written is not moved each time.
#[derive(Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    written: usize,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.written
    }

    fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn advance(&mut self, written: usize) {
        self.written += written;
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
        } else if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

/// What was written; nothing where there was no room.
pub fn room(written: std::io::Result<usize>) -> anyhow::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other.context("write"),
    }
}

/// Which connections have got something to read, or room to write where there was none; of each change it
/// tells once.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// For what is to be read.
    pub fn watch(&self, source: impl AsFd, token: usize) -> anyhow::Result<()> {
        self.add(source, token, epoll::EventFlags::IN)
    }

    /// For room to write too.
    pub fn watch_both(&self, source: impl AsFd, token: usize) -> anyhow::Result<()> {
        self.add(
            source,
            token,
            epoll::EventFlags::IN | epoll::EventFlags::OUT,
        )
    }

    /// From now on for room to write alone.
    pub fn watch_room(&self, source: impl AsFd, token: usize) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ET;
        Ok(epoll::modify(&self.epoll, source, data, flags)?)
    }

    fn add(&self, source: impl AsFd, token: usize, flags: epoll::EventFlags) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        let flags = flags | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, source, data, flags)?)
    }

    pub fn forget(&self, source: impl AsFd) -> anyhow::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Tokens of those that are ready; none when the time is over.
    #[inline]
    pub fn wait(&mut self, tokens: &mut Vec<usize>, at_most: Duration) -> anyhow::Result<()> {
        let timeout = Timespec::try_from(at_most)?;
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll"),
        }
        tokens.clear();
        tokens.extend(self.events.iter().map(|event| {
            let data = event.data;
            data.u64() as usize
        }));
        Ok(())
    }
}
