//! Every durable delta of a session, with its bytes. A change does not name its session: whoever
//! stores it does. Losing the newest of them in a crash must leave a session that still keeps its
//! promises.

use bytes::{BufMut, BytesMut};
use tidegate_shared::{
    id::Position,
    wire::{Reader, WireError, put_bytes},
};

use super::{
    encode::{put_subscription, put_will, read_packet_id, read_subscription, read_text, read_will},
    subscription::Subscription,
};
use crate::mqtt::codec::{PacketId, Text, Will};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new session, of a client that is connected; what there was before is gone.
    Begun {
        expiry_interval_s: u32,
        /// Where the log stands.
        position: Position,
    },
    Ended,
    Subscribed(Subscription),
    /// By the filter as the client wrote it.
    Unsubscribed(Text),
    /// In the commit of the message itself.
    InboundReceived(PacketId),
    InboundReleased(PacketId),
    /// All below is done, or not for this session.
    CursorMoved(Position),
    OutboundAssigned {
        packet_id: PacketId,
        position: Position,
    },
    /// PUBREC came: the client has the message.
    OutboundReceived(PacketId),
    /// The identifier is free: by PUBCOMP, or because the message will not be delivered.
    OutboundCompleted(PacketId),
    ExpiryChanged {
        expiry_interval_s: u32,
    },
    Connected,
    /// By a clock that neither steps nor restarts. A session that is found connected when the
    /// process begins is disconnected then.
    Disconnected {
        at_ms: u64,
    },
    WillSet(Box<Will>),
    WillCleared,
}

/// The first byte. A number stands for one layout for ever: another layout gets another number.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Kind {
    Begun = 1,
    Ended = 2,
    Subscribed = 3,
    Unsubscribed = 4,
    InboundReceived = 5,
    InboundReleased = 6,
    CursorMoved = 7,
    OutboundAssigned = 8,
    OutboundReceived = 9,
    OutboundCompleted = 10,
    ExpiryChanged = 11,
    Connected = 12,
    Disconnected = 13,
    WillSet = 14,
    WillCleared = 15,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Begun,
        Self::Ended,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::InboundReceived,
        Self::InboundReleased,
        Self::CursorMoved,
        Self::OutboundAssigned,
        Self::OutboundReceived,
        Self::OutboundCompleted,
        Self::ExpiryChanged,
        Self::Connected,
        Self::Disconnected,
        Self::WillSet,
        Self::WillCleared,
    ];
}

impl Change {
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.kind() as u8);
        match self {
            Self::Begun {
                expiry_interval_s,
                position,
            } => {
                out.put_u32_le(*expiry_interval_s);
                out.put_u64_le(position.0);
            }
            Self::Ended | Self::Connected | Self::WillCleared => {}
            Self::Subscribed(subscription) => put_subscription(out, subscription),
            Self::Unsubscribed(name) => put_bytes(out, name.as_bytes()),
            Self::InboundReceived(packet_id)
            | Self::InboundReleased(packet_id)
            | Self::OutboundReceived(packet_id)
            | Self::OutboundCompleted(packet_id) => out.put_u16_le(packet_id.get()),
            Self::CursorMoved(position) => out.put_u64_le(position.0),
            Self::OutboundAssigned {
                packet_id,
                position,
            } => {
                out.put_u16_le(packet_id.get());
                out.put_u64_le(position.0);
            }
            Self::ExpiryChanged { expiry_interval_s } => out.put_u32_le(*expiry_interval_s),
            Self::Disconnected { at_ms } => out.put_u64_le(*at_ms),
            Self::WillSet(will) => put_will(out, will),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Begun { .. } => Kind::Begun,
            Self::Ended => Kind::Ended,
            Self::Subscribed(_) => Kind::Subscribed,
            Self::Unsubscribed(_) => Kind::Unsubscribed,
            Self::InboundReceived(_) => Kind::InboundReceived,
            Self::InboundReleased(_) => Kind::InboundReleased,
            Self::CursorMoved(_) => Kind::CursorMoved,
            Self::OutboundAssigned { .. } => Kind::OutboundAssigned,
            Self::OutboundReceived(_) => Kind::OutboundReceived,
            Self::OutboundCompleted(_) => Kind::OutboundCompleted,
            Self::ExpiryChanged { .. } => Kind::ExpiryChanged,
            Self::Connected => Kind::Connected,
            Self::Disconnected { .. } => Kind::Disconnected,
            Self::WillSet(_) => Kind::WillSet,
            Self::WillCleared => Kind::WillCleared,
        }
    }

    /// Takes one change off the reader; more may follow.
    pub fn decode(reader: &mut Reader) -> Result<Self, WireError> {
        let number = reader.u8("change")?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == number);
        let kind = kind.ok_or(WireError::Invalid { field: "change" })?;
        Ok(match kind {
            Kind::Begun => Self::Begun {
                expiry_interval_s: reader.u32("expiry")?,
                position: Position(reader.u64("position")?),
            },
            Kind::Ended => Self::Ended,
            Kind::Subscribed => Self::Subscribed(read_subscription(reader)?),
            Kind::Unsubscribed => Self::Unsubscribed(read_text(reader, "filter")?),
            Kind::InboundReceived => Self::InboundReceived(read_packet_id(reader)?),
            Kind::InboundReleased => Self::InboundReleased(read_packet_id(reader)?),
            Kind::CursorMoved => Self::CursorMoved(Position(reader.u64("position")?)),
            Kind::OutboundAssigned => Self::OutboundAssigned {
                packet_id: read_packet_id(reader)?,
                position: Position(reader.u64("position")?),
            },
            Kind::OutboundReceived => Self::OutboundReceived(read_packet_id(reader)?),
            Kind::OutboundCompleted => Self::OutboundCompleted(read_packet_id(reader)?),
            Kind::ExpiryChanged => Self::ExpiryChanged {
                expiry_interval_s: reader.u32("expiry")?,
            },
            Kind::Connected => Self::Connected,
            Kind::Disconnected => Self::Disconnected {
                at_ms: reader.u64("time")?,
            },
            Kind::WillSet => Self::WillSet(Box::new(read_will(reader)?)),
            Kind::WillCleared => Self::WillCleared,
        })
    }
}
