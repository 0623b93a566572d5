//! The frames of the bridge, and their bytes.
//!
//! ```text
//! frame: bytes u32 | type u8 | version u8 | body
//! ```
//! Little-endian; `bytes` counts what follows it. The extension rule: a receiver skips a frame whose
//! type it does not know, and ignores what a known frame, or an item of a list in it (each has its
//! length before it), has after the fields that it knows. A `version` is raised only for a change that an older receiver would misread; it then closes with
//! [`CloseCode::UnsupportedVersion`](crate::reply_code::CloseCode).
//!
//! Hello, Announce, Fork, Welcome, Granted, Landed, Refused, Ping and Pong travel on the control
//! stream (both ways); Batch and Gap travel on a stream of their priority class (edge to cloud).

mod announce;
mod batch;
mod fork;
mod gap;
mod hello;
mod landed;
mod ping;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidegate_shared::id::{ClusterIncarnation, NameError};
use tidegate_shared::wire::{Reader, WireError};

use crate::limits::{FRAME_BYTES_MAX, FRAME_STREAMS_MAX};

pub use announce::{Announce, AnnouncedStream, Granted, GrantedStream};
pub use batch::Batch;
pub use fork::Fork;
pub use gap::Gap;
pub use hello::{Hello, PROTOCOL_VERSION, Welcome};
pub use landed::{Landed, Refused};
pub use ping::{Ping, Pong};

/// The bytes before a frame's body.
pub const FRAME_HEADER_BYTES: usize = 6;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Hello(Hello),
    Welcome(Welcome),
    Announce(Announce),
    Granted(Granted),
    Batch(Batch),
    Landed(Landed),
    Refused(Refused),
    Ping(Ping),
    Pong(Pong),
    Gap(Gap),
    Fork(Fork),
}

/// Bytes that are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("a frame of {bytes} bytes, at most {FRAME_BYTES_MAX} are allowed")]
    TooLarge { bytes: usize },
    #[error("a frame of type {kind} has version {version}, this node reads up to {known}")]
    Version { kind: u8, version: u8, known: u8 },
    #[error("a frame of type {kind}: {error}")]
    Field { kind: u8, error: WireError },
    #[error("a frame of type {kind}: {error}")]
    Name { kind: u8, error: NameError },
}

/// What can go wrong in a body; the type is added by [`Frame::decode`].
#[derive(Debug)]
enum BodyError {
    Wire(WireError),
    Name(NameError),
}

impl From<WireError> for BodyError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<NameError> for BodyError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

/// One type of frame: its number, and its body's fields.
trait Body: Sized {
    const KIND: u8;
    const VERSION: u8 = 1;

    fn encode(&self, out: &mut BytesMut);
    fn decode(reader: &mut Reader) -> Result<Self, BodyError>;

    fn put(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32_le(0);
        out.put_u8(Self::KIND);
        out.put_u8(Self::VERSION);
        self.encode(out);
        let bytes = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
    }

    fn take(version: u8, body: Bytes) -> Result<Self, FrameError> {
        let kind = Self::KIND;
        if version > Self::VERSION {
            return Err(FrameError::Version {
                kind,
                version,
                known: Self::VERSION,
            });
        }
        Self::decode(&mut Reader::new(body)).map_err(|error| match error {
            BodyError::Wire(error) => FrameError::Field { kind, error },
            BodyError::Name(error) => FrameError::Name { kind, error },
        })
    }
}

impl Frame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(body) => body.put(out),
            Self::Welcome(body) => body.put(out),
            Self::Announce(body) => body.put(out),
            Self::Granted(body) => body.put(out),
            Self::Batch(body) => body.put(out),
            Self::Landed(body) => body.put(out),
            Self::Refused(body) => body.put(out),
            Self::Ping(body) => body.put(out),
            Self::Pong(body) => body.put(out),
            Self::Gap(body) => body.put(out),
            Self::Fork(body) => body.put(out),
        }
    }

    /// Takes the next frame off `input`; `None` where it is not whole yet. Frames of unknown types
    /// are skipped. A length over the limit is refused before anything is reserved for it.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        loop {
            let Some(length) = input.get(..4) else {
                return Ok(None);
            };
            let bytes = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if bytes + 4 > FRAME_BYTES_MAX {
                return Err(FrameError::TooLarge { bytes });
            }
            if bytes < 2 {
                let error = WireError::Short {
                    field: "frame header",
                };
                return Err(FrameError::Field { kind: 0, error });
            }
            if input.len() < bytes + 4 {
                input.reserve(bytes + 4 - input.len());
                return Ok(None);
            }
            input.advance(4);
            let mut body = input.split_to(bytes).freeze();
            let (kind, version) = (body.get_u8(), body.get_u8());
            if let Some(frame) = Self::decode_body(kind, version, body)? {
                return Ok(Some(frame));
            }
        }
    }

    fn decode_body(kind: u8, version: u8, body: Bytes) -> Result<Option<Self>, FrameError> {
        Ok(Some(match kind {
            Hello::KIND => Self::Hello(Hello::take(version, body)?),
            Welcome::KIND => Self::Welcome(Welcome::take(version, body)?),
            Announce::KIND => Self::Announce(Announce::take(version, body)?),
            Granted::KIND => Self::Granted(Granted::take(version, body)?),
            Batch::KIND => Self::Batch(Batch::take(version, body)?),
            Landed::KIND => Self::Landed(Landed::take(version, body)?),
            Refused::KIND => Self::Refused(Refused::take(version, body)?),
            Ping::KIND => Self::Ping(Ping::take(version, body)?),
            Pong::KIND => Self::Pong(Pong::take(version, body)?),
            Gap::KIND => Self::Gap(Gap::take(version, body)?),
            Fork::KIND => Self::Fork(Fork::take(version, body)?),
            _ => return Ok(None),
        }))
    }

    /// The type's name, for log lines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Welcome(_) => "Welcome",
            Self::Announce(_) => "Announce",
            Self::Granted(_) => "Granted",
            Self::Batch(_) => "Batch",
            Self::Landed(_) => "Landed",
            Self::Refused(_) => "Refused",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
            Self::Gap(_) => "Gap",
            Self::Fork(_) => "Fork",
        }
    }
}

fn put_cluster(out: &mut BytesMut, cluster: ClusterIncarnation) {
    out.put_u32_le(cluster.counter);
    out.put_u128_le(cluster.id);
}

fn take_cluster(reader: &mut Reader) -> Result<ClusterIncarnation, WireError> {
    let counter = reader.u32("cluster incarnation")?;
    Ok(ClusterIncarnation {
        counter,
        id: reader.u128("cluster id")?,
    })
}

/// One item of a list: its length as u16, then its fields, so that fields can be added.
fn put_item(out: &mut BytesMut, put: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u16_le(0);
    put(out);
    let bytes =
        u16::try_from(out.len() - start - 2).expect("an item is two names and some numbers");
    out[start..start + 2].copy_from_slice(&bytes.to_le_bytes());
}

/// A list: its count as u32, then its items.
fn take_items<T>(
    reader: &mut Reader,
    field: &'static str,
    take: impl Fn(&mut Reader) -> Result<T, BodyError>,
) -> Result<Vec<T>, BodyError> {
    let count = reader.count(field, 2)?;
    let mut items = Vec::with_capacity(count.min(FRAME_STREAMS_MAX));
    for _ in 0..count {
        let bytes = reader.u16(field)? as usize;
        items.push(take(&mut Reader::new(reader.take(field, bytes)?))?);
    }
    Ok(items)
}
