//! A whole session as bytes, and the parts that it shares with its changes. The first byte is the
//! format's version; integers are little-endian. What is not durable is not in it.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::{
    id::Position,
    topic::check_topic,
    wire::{Reader, WireError, put_bytes},
};

use super::{ClientSession, NOTHING, Progress, State, Subscription};
use crate::mqtt::{
    codec::{
        PacketId, Qos, RetainHandling, SubscriptionIdentifier, SubscriptionOptions, Text,
        UserProperty, Will, WillProperties,
    },
    connection::SharedFilter,
    limits::{FIELD_BYTES_MAX, VARIABLE_INTEGER_MAX},
};

const VERSION: u8 = 1;

const ENDED: u8 = 0;
const CONNECTED: u8 = 1;
const DISCONNECTED: u8 = 2;

impl ClientSession {
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        put_bytes(out, self.client_id.as_bytes());
        let kept = self.kept();
        match kept.state {
            State::Ended => out.put_u8(ENDED),
            State::Connected => out.put_u8(CONNECTED),
            State::Disconnected { at_ms } => {
                out.put_u8(DISCONNECTED);
                out.put_u64_le(at_ms);
            }
        }
        out.put_u32_le(kept.expiry_interval_s);
        put_count(out, kept.subscriptions.len());
        for subscription in kept.subscriptions.values() {
            put_subscription(out, subscription);
        }
        put_count(out, kept.received.len());
        for packet_id in &kept.received {
            out.put_u16_le(packet_id.get());
        }
        put_progress(out, &kept.progress);
        out.put_u8(u8::from(kept.will.is_some()));
        if let Some(will) = &kept.will {
            put_will(out, will);
        }
    }

    /// As it stands after a crash: what was not durable is not there.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let reader = &mut Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(WireError::Invalid { field: "version" });
        }
        let client_id = read_text(reader, "client id")?;
        let mut kept = NOTHING.clone();
        kept.state = match reader.u8("state")? {
            ENDED => State::Ended,
            CONNECTED => State::Connected,
            DISCONNECTED => State::Disconnected {
                at_ms: reader.u64("time")?,
            },
            _ => return Err(WireError::Invalid { field: "state" }),
        };
        kept.expiry_interval_s = reader.u32("expiry")?;
        for _ in 0..reader.count("subscriptions", SUBSCRIPTION_BYTES_MIN)? {
            kept.subscribe(read_subscription(reader)?);
        }
        for _ in 0..reader.count("received", 2)? {
            kept.received.insert(read_packet_id(reader)?);
        }
        kept.progress = read_progress(reader)?;
        if read_flag(reader, "will")? {
            kept.will = Some(Box::new(read_will(reader)?));
        }
        if !reader.is_empty() {
            return Err(WireError::Invalid { field: "end" });
        }
        let kept = (kept != NOTHING).then(|| Box::new(kept));
        Ok(Self { client_id, kept })
    }
}

fn put_progress(out: &mut BytesMut, progress: &Progress) {
    out.put_u64_le(progress.stored_cursor.0);
    put_count(out, progress.assigned.len());
    for (packet_id, position) in &progress.assigned {
        put_pair(out, *packet_id, *position);
    }
    put_count(out, progress.done_beyond.len());
    for position in &progress.done_beyond {
        out.put_u64_le(position.0);
    }
    put_count(out, progress.releases.len());
    for (packet_id, position) in &progress.releases {
        put_pair(out, *packet_id, *position);
    }
}

fn read_progress(reader: &mut Reader) -> Result<Progress, WireError> {
    let mut progress = Progress::begin(Position(reader.u64("cursor")?));
    for _ in 0..reader.count("assigned", PAIR_BYTES)? {
        let (packet_id, position) = read_pair(reader)?;
        progress.assigned(packet_id, position);
    }
    for _ in 0..reader.count("done", 8)? {
        progress.done_beyond.insert(Position(reader.u64("done")?));
    }
    for _ in 0..reader.count("releases", PAIR_BYTES)? {
        progress.releases.push(read_pair(reader)?);
    }
    Ok(progress)
}

const PAIR_BYTES: usize = 10;

fn put_pair(out: &mut BytesMut, packet_id: PacketId, position: Position) {
    out.put_u16_le(packet_id.get());
    out.put_u64_le(position.0);
}

fn read_pair(reader: &mut Reader) -> Result<(PacketId, Position), WireError> {
    Ok((read_packet_id(reader)?, Position(reader.u64("position")?)))
}

/// The filter's length, options, identifier and position.
const SUBSCRIPTION_BYTES_MIN: usize = 4 + 1 + 4 + 8;

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;

/// The options are the byte of SUBSCRIBE (3.8.3.1); the identifier 0 is none.
pub(super) fn put_subscription(out: &mut BytesMut, subscription: &Subscription) {
    let options = subscription.options;
    put_bytes(out, subscription.filter.name.as_bytes());
    out.put_u8(
        options.qos_max as u8
            | if options.no_local { NO_LOCAL } else { 0 }
            | if options.retain_as_published {
                RETAIN_AS_PUBLISHED
            } else {
                0
            }
            | (options.retain_handling as u8) << 4,
    );
    out.put_u32_le(subscription.identifier.map_or(0, |id| id.get()));
    out.put_u64_le(subscription.since.0);
}

pub(super) fn read_subscription(reader: &mut Reader) -> Result<Subscription, WireError> {
    let name = read_text(reader, "filter")?;
    let filter = SharedFilter::parse(name).map_err(|_| WireError::Invalid { field: "filter" })?;
    let options = read_options(reader.u8("options")?)?;
    let identifier = match reader.u32("identifier")? {
        0 => None,
        identifier => Some(
            SubscriptionIdentifier::new(identifier).ok_or(WireError::Invalid {
                field: "identifier",
            })?,
        ),
    };
    let since = Position(reader.u64("since")?);
    Ok(Subscription {
        filter,
        options,
        identifier,
        since,
    })
}

fn read_options(byte: u8) -> Result<SubscriptionOptions, WireError> {
    let invalid = WireError::Invalid { field: "options" };
    let retain_handling = match byte >> 4 {
        0 => RetainHandling::AtSubscribe,
        1 => RetainHandling::AtNewSubscribe,
        2 => RetainHandling::Never,
        _ => return Err(invalid),
    };
    Ok(SubscriptionOptions {
        qos_max: Qos::from_bits(byte & 0b11).ok_or(invalid)?,
        no_local: byte & NO_LOCAL != 0,
        retain_as_published: byte & RETAIN_AS_PUBLISHED != 0,
        retain_handling,
    })
}

pub(super) fn put_will(out: &mut BytesMut, will: &Will) {
    let properties = &will.properties;
    out.put_u8(will.qos as u8);
    out.put_u8(u8::from(will.retain));
    put_bytes(out, will.topic.as_bytes());
    put_bytes(out, &will.payload);
    put_option(out, properties.will_delay_interval_s, |out, s| {
        out.put_u32_le(s);
    });
    put_option(out, properties.payload_is_utf8, |out, is_utf8| {
        out.put_u8(u8::from(is_utf8));
    });
    put_option(out, properties.message_expiry_interval_s, |out, s| {
        out.put_u32_le(s);
    });
    for text in [&properties.content_type, &properties.response_topic] {
        put_option(out, text.as_ref(), |out, text| {
            put_bytes(out, text.as_bytes())
        });
    }
    put_option(out, properties.correlation_data.as_ref(), |out, data| {
        put_bytes(out, data);
    });
    put_count(out, properties.user_properties.len());
    for (name, value) in &properties.user_properties {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

pub(super) fn read_will(reader: &mut Reader) -> Result<Will, WireError> {
    let qos = Qos::from_bits(reader.u8("qos")?).ok_or(WireError::Invalid { field: "qos" })?;
    let retain = read_flag(reader, "retain")?;
    let topic = read_text(reader, "topic")?;
    check_topic(&topic).map_err(|_| WireError::Invalid { field: "topic" })?;
    let payload = reader.bytes("payload", VARIABLE_INTEGER_MAX as usize)?;
    let properties = WillProperties {
        will_delay_interval_s: read_option(reader, |reader| reader.u32("will delay"))?,
        payload_is_utf8: read_option(reader, |reader| read_flag(reader, "payload format"))?,
        message_expiry_interval_s: read_option(reader, |reader| reader.u32("message expiry"))?,
        content_type: read_option(reader, |reader| read_text(reader, "content type"))?,
        response_topic: read_option(reader, |reader| read_text(reader, "response topic"))?,
        correlation_data: read_option(reader, |reader| {
            reader.bytes("correlation data", FIELD_BYTES_MAX)
        })?,
        user_properties: read_user_properties(reader)?,
    };
    Ok(Will {
        qos,
        retain,
        topic,
        payload,
        properties,
    })
}

fn read_user_properties(reader: &mut Reader) -> Result<Vec<UserProperty>, WireError> {
    let count = reader.count("user properties", 8)?;
    let one = |reader: &mut Reader| Ok((read_text(reader, "name")?, read_text(reader, "value")?));
    (0..count).map(|_| one(reader)).collect()
}

fn put_option<T>(out: &mut BytesMut, value: Option<T>, put: impl FnOnce(&mut BytesMut, T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn read_option<T>(
    reader: &mut Reader,
    read: impl FnOnce(&mut Reader) -> Result<T, WireError>,
) -> Result<Option<T>, WireError> {
    match read_flag(reader, "presence")? {
        true => read(reader).map(Some),
        false => Ok(None),
    }
}

fn read_flag(reader: &mut Reader, field: &'static str) -> Result<bool, WireError> {
    match reader.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Invalid { field }),
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("a session is far smaller"));
}

pub(super) fn read_text(reader: &mut Reader, field: &'static str) -> Result<Text, WireError> {
    let bytes = reader.bytes(field, FIELD_BYTES_MAX)?;
    Text::new(bytes).map_err(|_| WireError::Invalid { field })
}

pub(super) fn read_packet_id(reader: &mut Reader) -> Result<PacketId, WireError> {
    let field = "packet identifier";
    PacketId::new(reader.u16(field)?).ok_or(WireError::Invalid { field })
}
