//! What inputs are fed to, and what must hold whatever they are. A target says whether it took its
//! input as valid; an error, or a panic, is something broken.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::hub::{HubConnection, HubEvent};
use tidegate_bridge_protocol::limits::SenderLimits;
use tidegate_bridge_protocol::sender::{LocalStream, ReadOutcome, Sender, SenderEvent, StreamRead};
use tidegate_cloud_protocol::index::LogPlace;
use tidegate_cloud_protocol::ledger::{Command, Ledger};
use tidegate_cloud_protocol::offset_map::OffsetMap;
use tidegate_edge_protocol::mqtt::authentication::{Exchange, Users};
use tidegate_edge_protocol::mqtt::codec::Decoder;
use tidegate_shared::id::*;
use tidegate_shared::record::Batch;

use crate::batches;
use crate::inputs;
use crate::mutate::Random;
use crate::packets;
use crate::segments;
use crate::session_inputs;
use crate::sessions;

#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub input: fn(&mut Random) -> Vec<u8>,
    pub run: fn(&[u8]) -> Result<bool, String>,
}

pub const ALL: [Target; 11] = [
    Target {
        name: "frames",
        input: inputs::frames,
        run: frames,
    },
    Target {
        name: "frame-sequences",
        input: inputs::frames,
        run: frame_sequences,
    },
    Target {
        name: "commands",
        input: inputs::commands,
        run: commands,
    },
    Target {
        name: "snapshot",
        input: inputs::snapshot,
        run: snapshot,
    },
    Target {
        name: "offset-map",
        input: inputs::offset_map,
        run: offset_map,
    },
    Target {
        name: "segment",
        input: segments::input,
        run: segments::run,
    },
    Target {
        name: "records",
        input: inputs::batch,
        run: records,
    },
    Target {
        name: "compaction",
        input: batches::input,
        run: batches::run,
    },
    Target {
        name: "mqtt-packets",
        input: packets::input,
        run: mqtt_packets,
    },
    Target {
        name: "scram",
        input: inputs::scram,
        run: scram,
    },
    Target {
        name: "mqtt-sessions",
        input: session_inputs::input,
        run: sessions::run,
    },
];

/// Frames that come in pieces are the same as those that come at once, and so are those that are
/// encoded again.
fn frames(input: &[u8]) -> Result<bool, String> {
    let Some((piece, bytes)) = input.split_first() else {
        return Ok(false);
    };
    let whole = decode_all(bytes, bytes.len().max(1));
    let pieces = decode_all(bytes, usize::from(*piece) + 1);
    if whole != pieces {
        return Err(format!("{whole:?} at once, {pieces:?} in pieces"));
    }
    let (frames, is_valid) = whole;
    let mut again = BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut again));
    match decode_all(&again, again.len().max(1)) == (frames, true) {
        true => Ok(is_valid),
        false => Err("encoded again, they are others".to_owned()),
    }
}

/// The frames, and whether no error came.
fn decode_all(bytes: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            match Frame::decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, true)
}

/// A hub and a sender take any sequence of frames, with answers that are as strange.
fn frame_sequences(input: &[u8]) -> Result<bool, String> {
    let Some((seed, bytes)) = input.split_first() else {
        return Ok(false);
    };
    let mut random = Random::new(u64::from(*seed));
    let (frames, is_valid) = decode_all(bytes, bytes.len().max(1));
    let mut hub = HubConnection::new();
    for frame in frames.clone() {
        if hub.handle_frame(0, frame).is_err() {
            break;
        }
        while let Some(event) = hub.poll_event() {
            if let HubEvent::OpenSession(_) = event {
                let life = ClusterIncarnation { counter: 1, id: 1 };
                hub.handle_session(SessionEpoch(1), life, 0);
            }
        }
        while hub.poll_transmit().is_some() {}
    }
    let now = Instant::now();
    let limits = SenderLimits {
        answer_timeout: Duration::from_secs(1),
        ..SenderLimits::default()
    };
    let life = ClusterIncarnation::default();
    let mut sender = Sender::new(limits, StoreId(1), life, SessionEpoch(0));
    sender.handle_stream(local());
    sender.handle_connected();
    for (step, frame) in (0..).zip(frames) {
        let now = now + Duration::from_millis(step * random.below(300));
        sender.handle_frame(now, frame);
        sender.handle_timeout(now);
        answer(&mut sender, now, &mut random);
        while sender.poll_transmit().is_some() {}
        if sender.window_bytes() > limits.window_bytes_max {
            return Err(format!("{} bytes under way", sender.window_bytes()));
        }
    }
    Ok(is_valid)
}

fn local() -> LocalStream {
    LocalStream {
        stream: StreamId(0),
        name: StreamName::new("stream-0").expect("a name"),
        topic: TopicName::new("telemetry").expect("a name"),
        incarnation: Incarnation(1),
        first: EdgeOffset(0),
        next: EdgeOffset(4),
        landed: EdgeOffset(1),
        landed_hash: BoundaryHash(1),
        landed_life: 1,
        priority: 0,
    }
}

/// Events are answered as the journal would, or might if it were in trouble.
fn answer(sender: &mut Sender, now: Instant, random: &mut Random) {
    while let Some(event) = sender.poll_event() {
        match event {
            SenderEvent::StoreSession { session_epoch, .. } => {
                sender.handle_session_stored(session_epoch);
            }
            SenderEvent::StoreGrant {
                stream,
                incarnation,
            } => sender.handle_grant_stored(stream, incarnation),
            SenderEvent::Prove { stream, offset } => {
                let hash = (random.below(2) == 0).then(|| BoundaryHash(random.below(2).into()));
                sender.handle_proof(stream, offset, hash);
            }
            SenderEvent::Read { streams, .. } => {
                let read = |request: tidegate_bridge_protocol::sender::ReadRequest| StreamRead {
                    stream: request.stream,
                    from: request.from,
                    outcome: match random.below(2) {
                        0 => ReadOutcome::Failed,
                        _ => ReadOutcome::Gone {
                            first: EdgeOffset(random.below(6)),
                        },
                    },
                };
                let reads = streams.into_iter().map(read).collect();
                sender.handle_read(now, reads);
            }
            _ => {}
        }
    }
}

/// Whatever commands come: the ledger takes or refuses them without a panic, the map agrees with it,
/// and its snapshot gives the same state.
fn commands(input: &[u8]) -> Result<bool, String> {
    let mut ledger = Ledger::new();
    let is_valid = apply_all(&mut ledger, input);
    let snapshot = ledger.snapshot();
    match Ledger::restore(snapshot) {
        Ok(restored) if restored == ledger => Ok(is_valid),
        Ok(_) => Err("the snapshot gives another state".to_owned()),
        Err(error) => Err(format!("the snapshot cannot be read: {error}")),
    }
}

/// Applies commands that lie behind their lengths; whether all were whole and none failed.
pub fn apply_all(ledger: &mut Ledger, mut input: &[u8]) -> bool {
    let mut map = OffsetMap::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((bytes, rest)) = rest.split_at_checked(length) else {
            return false;
        };
        input = rest;
        let Ok(command) = Command::decode(Bytes::copy_from_slice(bytes)) else {
            return false;
        };
        let Ok(effects) = ledger.apply(command, LogPlace::default()) else {
            return false;
        };
        let life = ledger.cluster_incarnation().unwrap_or_default();
        // Imported facts may clash with others: whoever proposes looks first.
        let taken = effects
            .iter()
            .try_for_each(|effect| map.apply(effect, life));
        if taken.is_err() {
            return false;
        }
    }
    input.is_empty()
}

fn snapshot(input: &[u8]) -> Result<bool, String> {
    let Ok(ledger) = Ledger::restore(Bytes::copy_from_slice(input)) else {
        return Ok(false);
    };
    match Ledger::restore(ledger.snapshot()) {
        Ok(again) if again == ledger => Ok(true),
        other => Err(format!("written and read again: {other:?}")),
    }
}

/// Whatever is taken as a map leads back from everywhere, and written again it is the same.
fn offset_map(input: &[u8]) -> Result<bool, String> {
    let Ok(mut map) = OffsetMap::restore(Bytes::copy_from_slice(input)) else {
        return Ok(false);
    };
    if let Some(wrong) = map.check().first() {
        return Err(wrong.clone());
    }
    match OffsetMap::restore(map.snapshot()) {
        Ok(again) if again.snapshot() == map.snapshot() => {}
        other => return Err(format!("written and read again: {other:?}")),
    }
    let first = map.facts().next().map(|named| named.fact);
    if let Some(fact) = first {
        let (topic_id, partition) = (fact.topic_id, fact.partition);
        let target = tidegate_cloud_protocol::ledger::Target {
            topic_id,
            partition,
        };
        map.expire_below(target, fact.kafka_offset.plus(1));
        if map.facts().any(|named| named.fact == fact) {
            return Err(format!("{fact:?} has not expired"));
        }
    }
    Ok(true)
}

fn records(input: &[u8]) -> Result<bool, String> {
    let Ok(batch) = Batch::parse(Bytes::copy_from_slice(input)) else {
        return Ok(false);
    };
    let Ok(records) = batch.records() else {
        return Ok(false);
    };
    let count = batch.header().records_count;
    let mut found = 0;
    for record in records {
        if record.is_err() {
            return Ok(false);
        }
        found += 1;
    }
    match found == count {
        true => Ok(true),
        false => Err(format!("{found} records of {count}")),
    }
}

/// The largest packet.
const PACKET_BYTES_MAX: u32 = 1 << 16;

fn mqtt_packets(input: &[u8]) -> Result<bool, String> {
    let mut at_once = Decoder::server(PACKET_BYTES_MAX);
    let mut bytes = BytesMut::from(input);
    let mut whole = Vec::new();
    let is_valid = loop {
        match at_once.decode(&mut bytes) {
            Ok(Some(packet)) => whole.push(format!("{packet:?}")),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let mut in_pieces = Decoder::server(PACKET_BYTES_MAX);
    let (mut bytes, mut pieces) = (BytesMut::new(), Vec::new());
    'pieces: for byte in input {
        bytes.extend_from_slice(&[*byte]);
        loop {
            match in_pieces.decode(&mut bytes) {
                Ok(Some(packet)) => pieces.push(format!("{packet:?}")),
                Ok(None) => break,
                Err(_) => break 'pieces,
            }
        }
    }
    match whole == pieces {
        true => Ok(is_valid),
        false => Err(format!("{whole:?} at once, {pieces:?} in pieces")),
    }
}

/// Both messages of a client that knows no password, with a line between: whatever they are, nobody is
/// let in by them.
fn scram(input: &[u8]) -> Result<bool, String> {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (first, last) = input.split_at(end.unwrap_or(input.len()));
    let users = Users::parse(inputs::SCRAM_USER, [0; 32]).map_err(|error| error.to_string())?;
    let Ok((exchange, _)) = Exchange::begin(&users, first, inputs::SCRAM_NONCE) else {
        return Ok(false);
    };
    match exchange.finish(last.get(1..).unwrap_or_default()) {
        Err(_) => Ok(true),
        Ok(done) => Err(format!("let in as {}", done.name)),
    }
}
