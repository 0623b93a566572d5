//! A connection's socket and its buffers. What is idle holds none: bytes are read into a buffer of the
//! thread's and kept as long as they are used, and what is written goes out of a buffer that is given back.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Socket;
use crate::limits::{READ_BYTES, WRITE_BYTES_MAX, WRITE_BYTES_SPARE};

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
    /// The write buffer that the next connection takes.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// What a wait for the socket came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Read(usize),
    Written(usize),
    /// Nothing more will come, or can be sent.
    Closed,
}

#[derive(Debug)]
pub(super) struct Wire {
    pub socket: Socket,
    /// Read, and not decoded yet.
    pub input: BytesMut,
    /// Not written yet.
    output: BytesMut,
    is_flushed: bool,
}

impl Wire {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            output: BytesMut::new(),
            is_flushed: true,
        }
    }

    /// Where to put what is to be written.
    pub(super) fn output(&mut self) -> &mut BytesMut {
        if self.output.capacity() == 0 {
            self.output = SPARE.take();
        }
        &mut self.output
    }

    pub(super) fn unwritten(&self) -> usize {
        self.output.len()
    }

    /// Gives back what an empty input has taken.
    pub(super) fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Writes and reads what can be. Safe to cancel.
    pub(super) fn poll_move(&mut self, context: &mut Context<'_>, can_read: bool) -> Poll<Moved> {
        if let Poll::Ready(moved) = self.poll_write(context) {
            return Poll::Ready(moved);
        }
        match can_read {
            true => self.poll_read(context),
            false => Poll::Pending,
        }
    }

    /// Ready where something was written, or cannot be.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Moved> {
        let socket = Pin::new(&mut self.socket);
        if self.output.is_empty() {
            return match self.is_flushed {
                true => Poll::Pending,
                false => match socket.poll_flush(context) {
                    Poll::Ready(Ok(())) => {
                        self.is_flushed = true;
                        Poll::Pending
                    }
                    Poll::Ready(Err(_)) => Poll::Ready(Moved::Closed),
                    Poll::Pending => Poll::Pending,
                },
            };
        }
        match socket.poll_write(context, &self.output) {
            Poll::Ready(Ok(bytes @ 1..)) => {
                self.is_flushed = false;
                self.output.advance(bytes);
                self.give_back();
                Poll::Ready(Moved::Written(bytes))
            }
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Moved::Closed),
            Poll::Pending => Poll::Pending,
        }
    }

    fn give_back(&mut self) {
        if self.output.is_empty() {
            let mut spare = std::mem::take(&mut self.output);
            spare.clear();
            if spare.capacity() <= WRITE_BYTES_SPARE {
                SPARE.set(spare);
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Moved> {
        let Self { socket, input, .. } = self;
        READ.with_borrow_mut(|bytes| {
            let mut buffer = ReadBuf::new(bytes);
            match Pin::new(socket).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    input.extend_from_slice(buffer.filled());
                    Poll::Ready(Moved::Read(buffer.filled().len()))
                }
                Poll::Ready(_) => Poll::Ready(Moved::Closed),
                Poll::Pending => Poll::Pending,
            }
        })
    }
}

const _: () = assert!(WRITE_BYTES_SPARE >= WRITE_BYTES_MAX);
