//! The cloud's end of one bridge connection, as a value. It checks what an edge sends before anything
//! of it reaches the ledger, and turns the ledger's answers into frames. It keeps no offsets: those
//! are the ledger's.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{ClusterIncarnation, SessionEpoch, StreamId, StreamName};
use tidegate_shared::record;

use crate::frame::{
    AnnouncedStream, Frame, FrameError, Granted, GrantedStream, Hello, Landed, PROTOCOL_VERSION,
    Pong, Refused, Welcome,
};
use crate::landing::{ForkRequest, Offer, RefusedReason};
use crate::limits::{CONNECTION_STREAMS_MAX, FRAME_STREAMS_MAX};
use crate::reply_code::CloseCode;

/// What the driver is to ask of the ledger.
#[derive(Clone, Debug)]
pub enum HubEvent {
    /// Grant a session epoch, and answer with [`HubConnection::handle_session`].
    OpenSession(Hello),
    /// Open these, and answer with [`HubConnection::handle_streams`].
    OpenStreams(Vec<AnnouncedStream>),
    /// Begin a new incarnation, and answer with [`HubConnection::handle_streams`].
    ForkStream(ForkStream),
    /// Land it, and answer with [`HubConnection::handle_landed`] or
    /// [`HubConnection::handle_refused`].
    Land(Land),
    /// As [`HubEvent::Land`], for what is lost.
    LandGap(LandGap),
}

/// A stream whose hub's position the edge could not prove.
#[derive(Clone, Debug)]
pub struct ForkStream {
    pub stream: StreamId,
    pub name: StreamName,
    pub request: ForkRequest,
}

/// A checked batch to land.
#[derive(Clone, Debug)]
pub struct Land {
    pub request: u64,
    pub stream: StreamId,
    pub name: StreamName,
    pub offer: Offer,
    pub batch: record::Batch,
}

/// A gap to land.
#[derive(Clone, Debug)]
pub struct LandGap {
    pub request: u64,
    pub stream: StreamId,
    pub name: StreamName,
    pub offer: Offer,
    pub reason: GapReason,
}

/// The edge broke the protocol: close with the code, and log the line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct HubError {
    pub code: CloseCode,
    pub why: String,
}

impl From<FrameError> for HubError {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::TooLarge { .. } => CloseCode::FrameTooLarge,
            FrameError::Version { .. } => CloseCode::UnsupportedVersion,
            _ => CloseCode::Protocol,
        };
        Self {
            code,
            why: error.to_string(),
        }
    }
}

fn protocol_error(why: impl Into<String>) -> HubError {
    HubError {
        code: CloseCode::Protocol,
        why: why.into(),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    AwaitingHello,
    Opening,
    Open,
}

/// What the hub knows of a stream on this connection.
#[derive(Debug)]
struct Announced {
    name: StreamName,
    /// Of its topic, as the edge was told.
    partitions: u32,
}

/// One edge's connection.
#[derive(Debug, Default)]
pub struct HubConnection {
    phase: Phase,
    streams: BTreeMap<StreamId, Announced>,
    outbox: VecDeque<Frame>,
    events: VecDeque<HubEvent>,
}

impl HubConnection {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a frame. `time_ms` is the cloud's clock.
    pub fn handle_frame(&mut self, time_ms: i64, frame: Frame) -> Result<(), HubError> {
        match (frame, &self.phase) {
            (Frame::Hello(hello), Phase::AwaitingHello) => self.handle_hello(hello),
            (Frame::Announce(announce), Phase::Open) => self.handle_announce(announce.streams),
            (Frame::Fork(fork), Phase::Open) => self.handle_fork(fork),
            (Frame::Batch(batch), Phase::Open) => self.handle_batch(batch),
            (Frame::Gap(gap), Phase::Open) => self.handle_gap(gap),
            (Frame::Ping(ping), _) => {
                self.outbox.push_back(Frame::Pong(Pong {
                    nonce: ping.nonce,
                    time_ms,
                }));
                Ok(())
            }
            (Frame::Pong(_), _) => Ok(()),
            (frame, phase) => Err(protocol_error(format!(
                "a {} frame while {phase:?}",
                frame.name()
            ))),
        }
    }

    /// Whether the edge has still to say who it is.
    pub fn awaits_hello(&self) -> bool {
        self.phase == Phase::AwaitingHello
    }

    fn handle_hello(&mut self, hello: Hello) -> Result<(), HubError> {
        if hello.protocol_version == 0 {
            let why = "the edge speaks protocol version 0".to_owned();
            return Err(HubError {
                code: CloseCode::UnsupportedVersion,
                why,
            });
        }
        self.phase = Phase::Opening;
        self.events.push_back(HubEvent::OpenSession(hello));
        Ok(())
    }

    fn handle_announce(&mut self, streams: Vec<AnnouncedStream>) -> Result<(), HubError> {
        if streams.len() > FRAME_STREAMS_MAX {
            return Err(protocol_error(format!(
                "{} streams in one Announce",
                streams.len()
            )));
        }
        for stream in &streams {
            self.note_announced(stream)?;
        }
        self.events.push_back(HubEvent::OpenStreams(streams));
        Ok(())
    }

    /// A stream may be announced again, as one that has rested is; a number stays with its name, so that
    /// there are no more names on a connection than numbers.
    fn note_announced(&mut self, stream: &AnnouncedStream) -> Result<(), HubError> {
        let (id, name, count) = (stream.stream, &stream.name, self.streams.len());
        match self.streams.get_mut(&id) {
            Some(known) if known.name == *name => known.partitions = 0,
            Some(known) => {
                let before = &known.name;
                let why = format!("stream {id} was announced as {before} and now as {name}");
                return Err(protocol_error(why));
            }
            None if count == CONNECTION_STREAMS_MAX => {
                return Err(protocol_error("too many streams on one connection"));
            }
            None => {
                let announced = Announced {
                    name: name.clone(),
                    partitions: 0,
                };
                self.streams.insert(id, announced);
            }
        }
        Ok(())
    }

    fn announced(&self, stream: StreamId) -> Result<StreamName, HubError> {
        let announced = self.streams.get(&stream);
        let name = announced.map(|announced| announced.name.clone());
        name.ok_or_else(|| protocol_error(format!("stream {stream} was not announced")))
    }

    fn handle_fork(&mut self, fork: crate::frame::Fork) -> Result<(), HubError> {
        self.events.push_back(HubEvent::ForkStream(ForkStream {
            stream: fork.stream,
            name: self.announced(fork.stream)?,
            request: fork.request,
        }));
        Ok(())
    }

    fn handle_gap(&mut self, frame: crate::frame::Gap) -> Result<(), HubError> {
        let name = self.announced(frame.stream)?;
        if frame.offer.count == 0 {
            return Err(protocol_error(format!("an empty gap in stream {name}")));
        }
        self.events.push_back(HubEvent::LandGap(LandGap {
            request: frame.request,
            stream: frame.stream,
            name,
            offer: frame.offer,
            reason: frame.reason,
        }));
        Ok(())
    }

    fn handle_batch(&mut self, frame: crate::frame::Batch) -> Result<(), HubError> {
        let name = self.announced(frame.stream)?;
        let batch = check_batch(&frame.offer, frame.batch).map_err(|why| HubError {
            code: CloseCode::BadBatch,
            why: format!("stream {name} at {}: {why}", frame.offer.base_offset),
        })?;
        let (request, stream, offer) = (frame.request, frame.stream, frame.offer);
        self.events.push_back(HubEvent::Land(Land {
            request,
            stream,
            name,
            offer,
            batch,
        }));
        Ok(())
    }

    /// The ledger granted a session epoch.
    pub fn handle_session(
        &mut self,
        session_epoch: SessionEpoch,
        cluster_incarnation: ClusterIncarnation,
        time_ms: i64,
    ) {
        self.phase = Phase::Open;
        self.outbox.push_back(Frame::Welcome(Welcome {
            protocol_version: PROTOCOL_VERSION,
            session_epoch,
            cluster_incarnation,
            time_ms,
        }));
    }

    /// The ledger grants no session: the connection is closed with the reason.
    pub fn handle_session_refused(&self, reason: RefusedReason) -> HubError {
        HubError {
            code: match reason {
                RefusedReason::Quarantined => CloseCode::Quarantined,
                RefusedReason::CloudBehind => CloseCode::CloudBehind,
                _ => CloseCode::Protocol,
            },
            why: reason.to_string(),
        }
    }

    /// The ledger opened, forked, or refused streams.
    ///
    /// # Errors
    /// The whole session is refused: the connection is to be closed, after what it still has to say.
    pub fn handle_streams(&mut self, streams: Vec<GrantedStream>) -> Result<(), HubError> {
        for granted in &streams {
            if let Some(announced) = self.streams.get_mut(&granted.stream) {
                announced.partitions = granted.partitions;
            }
        }
        let refused = streams.iter().find_map(|stream| stream.refused);
        self.outbox.push_back(Frame::Granted(Granted { streams }));
        refused.map_or(Ok(()), goes_on)
    }

    /// `partitions` are those of the stream's topic now: where they are others than the edge was told,
    /// it is granted the stream once more, which says so.
    pub fn handle_landed(&mut self, landed: Landed, partitions: u32) {
        let known = self.streams.get_mut(&landed.stream);
        if let Some(announced) = known.filter(|known| known.partitions != partitions) {
            announced.partitions = partitions;
            let granted = GrantedStream {
                stream: landed.stream,
                incarnation: landed.incarnation,
                next: landed.landed,
                hash: landed.hash,
                refused: None,
                partitions,
            };
            let streams = vec![granted];
            self.outbox.push_back(Frame::Granted(Granted { streams }));
        }
        self.outbox.push_back(Frame::Landed(landed));
    }

    /// The name of an announced stream.
    pub fn name_of(&self, stream: StreamId) -> Option<&StreamName> {
        self.streams.get(&stream).map(|announced| &announced.name)
    }

    /// # Errors
    /// As of [`HubConnection::handle_streams`].
    pub fn handle_refused(&mut self, refused: Refused) -> Result<(), HubError> {
        self.outbox.push_back(Frame::Refused(refused));
        goes_on(refused.reason)
    }

    pub fn poll_event(&mut self) -> Option<HubEvent> {
        self.events.pop_front()
    }

    pub fn poll_transmit(&mut self) -> Option<Frame> {
        self.outbox.pop_front()
    }
}

/// The ledger says that a session is over although nothing was asked in it: with this its connection is
/// closed.
pub fn session_over(reason: RefusedReason) -> HubError {
    HubError {
        code: match reason {
            RefusedReason::Quarantined => CloseCode::Quarantined,
            reason => reason.ends_session().unwrap_or(CloseCode::Protocol),
        },
        why: reason.to_string(),
    }
}

/// A session that is refused as a whole is over.
fn goes_on(reason: RefusedReason) -> Result<(), HubError> {
    reason.ends_session().map_or(Ok(()), |code| {
        let why = reason.to_string();
        Err(HubError { code, why })
    })
}

/// A batch must be whole, and of exactly the interval that its offer names.
fn check_batch(offer: &Offer, bytes: bytes::Bytes) -> Result<record::Batch, String> {
    let batch = record::Batch::parse(bytes).map_err(|error| error.to_string())?;
    let header = batch.header();
    header.compression().map_err(|error| error.to_string())?;
    if header.offset_count() != offer.count || header.records_count as u64 != offer.count {
        return Err(format!(
            "the batch has {} offsets, not {}",
            header.offset_count(),
            offer.count
        ));
    }
    if header.base_offset as u64 != offer.base_offset.0 || header.base_offset < 0 {
        return Err(format!("the batch begins at {}", header.base_offset));
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use tidegate_shared::id::*;
    use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record};

    use super::*;
    use crate::frame::{Announce, Batch, Ping};

    fn hello() -> Frame {
        Frame::Hello(Hello {
            protocol_version: 1,
            store_id: StoreId(1),
            cluster_incarnation: ClusterIncarnation::default(),
            session_epoch: SessionEpoch(0),
        })
    }

    fn open() -> HubConnection {
        let mut hub = HubConnection::new();
        hub.handle_frame(0, hello()).unwrap();
        assert!(matches!(hub.poll_event(), Some(HubEvent::OpenSession(_))));
        hub.handle_session(SessionEpoch(1), ClusterIncarnation::default(), 0);
        hub.handle_frame(0, announce(0..1, "telemetry")).unwrap();
        hub
    }

    /// Streams of these numbers, all of one name.
    fn announce(numbers: std::ops::Range<u32>, name: &str) -> Frame {
        let stream = |number| AnnouncedStream {
            stream: StreamId(number),
            name: StreamName::new(name).unwrap(),
            topic: TopicName::new("telemetry").unwrap(),
            incarnation: Incarnation(0),
            first: EdgeOffset(0),
            next: EdgeOffset(1),
            landed: EdgeOffset(0),
            landed_life: 0,
        };
        Frame::Announce(Announce {
            streams: numbers.map(stream).collect(),
        })
    }

    fn batch(base_offset: u64, count: u64) -> Frame {
        let mut builder = BatchBuilder::new();
        builder.push(&Record {
            value: Some(Bytes::from_static(b"21.5")),
            ..Record::default()
        });
        let batch = builder.seal(5, Compression::None, &mut Compressor::new());
        let offer = Offer {
            session_epoch: SessionEpoch(1),
            incarnation: Incarnation(1),
            base_offset: EdgeOffset(base_offset),
            count,
            hash_before: BoundaryHash(0),
            hash_after: BoundaryHash(1),
        };
        Frame::Batch(Batch {
            request: 1,
            stream: StreamId(0),
            offer,
            batch,
        })
    }

    fn gap(stream: u32, count: u64) -> Frame {
        Frame::Gap(crate::frame::Gap {
            request: 1,
            stream: StreamId(stream),
            offer: Offer {
                session_epoch: SessionEpoch(1),
                incarnation: Incarnation(1),
                base_offset: EdgeOffset(5),
                count,
                hash_before: BoundaryHash(0),
                hash_after: BoundaryHash(1),
            },
            reason: GapReason::Overflow,
        })
    }

    fn refusal(hub: &mut HubConnection, frame: Frame) -> CloseCode {
        hub.handle_frame(0, frame).unwrap_err().code
    }

    #[test]
    fn hello_comes_first_and_once() {
        let mut hub = HubConnection::new();
        assert_eq!(refusal(&mut hub, batch(5, 1)), CloseCode::Protocol);
        assert_eq!(refusal(&mut open(), hello()), CloseCode::Protocol);
    }

    #[test]
    fn a_batch_must_be_whole_and_of_its_interval() {
        assert!(open().handle_frame(0, batch(5, 1)).is_ok());
        assert_eq!(refusal(&mut open(), batch(6, 1)), CloseCode::BadBatch);
        assert_eq!(refusal(&mut open(), batch(5, 2)), CloseCode::BadBatch);
        let Frame::Batch(mut damaged) = batch(5, 1) else {
            unreachable!()
        };
        let mut bytes = BytesMut::from(&damaged.batch[..]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        damaged.batch = bytes.freeze();
        assert_eq!(
            refusal(&mut open(), Frame::Batch(damaged)),
            CloseCode::BadBatch
        );
    }

    #[test]
    fn a_number_stays_with_the_name_that_it_was_announced_with() {
        let mut hub = open();
        hub.handle_frame(0, announce(0..1, "telemetry")).unwrap();
        let other = announce(0..1, "alarms");
        assert_eq!(refusal(&mut hub, other), CloseCode::Protocol);
    }

    #[test]
    fn a_connection_has_so_many_streams_and_may_announce_each_of_them_again() {
        let mut hub = open();
        for from in (0..CONNECTION_STREAMS_MAX as u32).step_by(FRAME_STREAMS_MAX) {
            let all = announce(from..from + FRAME_STREAMS_MAX as u32, "telemetry");
            hub.handle_frame(0, all).unwrap();
        }
        hub.handle_frame(0, announce(0..1_000, "telemetry"))
            .unwrap();
        let last = CONNECTION_STREAMS_MAX as u32;
        let one_more = announce(last..last + 1, "telemetry");
        assert_eq!(refusal(&mut hub, one_more), CloseCode::Protocol);
    }

    #[test]
    fn a_stream_that_was_not_announced_is_refused() {
        let Frame::Batch(mut strange) = batch(5, 1) else {
            unreachable!()
        };
        strange.stream = StreamId(9);
        assert_eq!(
            refusal(&mut open(), Frame::Batch(strange)),
            CloseCode::Protocol
        );
        assert_eq!(refusal(&mut open(), gap(9, 1)), CloseCode::Protocol);
    }

    #[test]
    fn a_gap_is_of_something() {
        let mut hub = open();
        assert!(matches!(hub.poll_event(), Some(HubEvent::OpenStreams(_))));
        hub.handle_frame(0, gap(0, 3)).unwrap();
        assert!(matches!(hub.poll_event(), Some(HubEvent::LandGap(land)) if land.offer.count == 3));
        assert_eq!(refusal(&mut open(), gap(0, 0)), CloseCode::Protocol);
    }

    #[test]
    fn a_ping_is_answered_at_any_time() {
        let mut hub = HubConnection::new();
        hub.handle_frame(7, Frame::Ping(Ping { nonce: 3 })).unwrap();
        assert_eq!(
            hub.poll_transmit(),
            Some(Frame::Pong(Pong {
                nonce: 3,
                time_ms: 7
            }))
        );
    }
}
