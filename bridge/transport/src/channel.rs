//! Frames over one QUIC stream, each way.

use bytes::BytesMut;
use thiserror::Error;
use tidegate_bridge_protocol::frame::{Frame, FrameError};

/// Frames written together go out together, up to this.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// A stream that ended, or sent what is no frame.
#[derive(Debug, Error)]
pub enum ChannelError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the stream ended")]
    Ended,
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Read(#[from] quinn::ReadError),
    #[error(transparent)]
    Write(#[from] quinn::WriteError),
}

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader {
    source: Source,
    buffer: BytesMut,
}

/// QUIC shows a stream to the accepting end only once something was written to it.
#[derive(Debug)]
enum Source {
    Awaited(quinn::Connection),
    Open(quinn::RecvStream),
}

impl FrameReader {
    pub(crate) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            source: Source::Open(stream),
            buffer: BytesMut::new(),
        }
    }

    /// Reads from the next one-way stream that the peer writes to.
    pub(crate) fn awaiting(connection: quinn::Connection) -> Self {
        Self {
            source: Source::Awaited(connection),
            buffer: BytesMut::new(),
        }
    }

    /// The next frame. Safe to cancel: what was read stays in the buffer.
    pub async fn read(&mut self) -> Result<Frame, ChannelError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                return Ok(frame);
            }
            match &mut self.source {
                Source::Awaited(connection) => {
                    self.source = Source::Open(connection.accept_uni().await?);
                }
                Source::Open(stream) => {
                    let chunk = stream.read_chunk(64 << 10, true).await?;
                    let chunk = chunk.ok_or(ChannelError::Ended)?;
                    self.buffer.extend_from_slice(&chunk.bytes);
                }
            }
        }
    }

    /// A frame that is there already, without waiting.
    pub fn read_buffered(&mut self) -> Result<Option<Frame>, ChannelError> {
        Ok(Frame::decode(&mut self.buffer)?)
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter {
    stream: quinn::SendStream,
    buffer: BytesMut,
}

impl FrameWriter {
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Buffers a frame; it goes out with [`FrameWriter::flush`], or when the buffer is full.
    pub async fn write(&mut self, frame: &Frame) -> Result<(), ChannelError> {
        frame.encode(&mut self.buffer);
        if self.buffer.len() >= WRITE_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    pub async fn flush(&mut self) -> Result<(), ChannelError> {
        if !self.buffer.is_empty() {
            self.stream
                .write_chunk(self.buffer.split().freeze())
                .await?;
        }
        Ok(())
    }

    /// Ends the stream in order.
    pub fn finish(&mut self) {
        let _ = self.stream.finish();
    }
}
