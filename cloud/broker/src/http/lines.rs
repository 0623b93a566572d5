//! A body that is made while it is sent, piece by piece: no more than a few of them are in memory. An error
//! breaks it off, so that whoever reads sees that it is not whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http_body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;

/// The body's type.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// Pieces that wait for a slow reader.
const PIECES_MAX: usize = 4;

/// What is read of it was sent into it; it ends when nobody sends any more.
#[derive(Debug)]
pub(super) struct Lines(mpsc::Receiver<io::Result<Bytes>>);

impl Lines {
    pub(super) fn new() -> (mpsc::Sender<io::Result<Bytes>>, Self) {
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        (pieces, Self(receiver))
    }
}

/// One line of such a body.
pub(super) fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let received = self.0.poll_recv(context);
        received.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
