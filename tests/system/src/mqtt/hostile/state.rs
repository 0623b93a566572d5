//! What a client has done before it sends what is hostile, and how the server has to end the connection then.

use super::super::wire::Version;
use super::{ALIAS, EITHER, FILTER, MALFORMED, PROTOCOL, TOO_LARGE, TOPIC};

/// What the client has done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing: the case is its first packet.
    Fresh,
    /// Its CONNECT names SCRAM-SHA-256, and the server waits for a message of it.
    Authenticating(Awaited),
    /// Its CONNECT is right, and not answered yet.
    Deciding,
    /// It is connected, and nothing else.
    Connected,
    /// It has sent a message of QoS 2, and its PUBREL is still to come.
    Receiving,
    /// It has been sent messages of QoS 1 and 2, and has acknowledged neither.
    Delivering,
    /// It has sent a message of QoS 1, whose PUBACK it does not get: the journal is full.
    Withheld,
    /// It is connected and authenticated, and does nothing.
    Authenticated,
    /// It was authenticated, and proves itself again.
    Reauthenticating(Awaited),
}

/// Which of the client's messages of SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    First,
    Final,
}

/// How the server has to end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// In MQTT 5 with a DISCONNECT of one of these reasons, before in silence.
    Disconnect(&'static [u8]),
    /// With a CONNACK of one of these codes, or (where it says so) in silence.
    Connack(&'static [u8], Silence),
    /// Of a client that has not waited for its CONNACK: with one of these instead of it, or behind it as
    /// `Disconnect` with one of those. Before MQTT 5 in silence, or behind a CONNACK.
    Undecided {
        connack: &'static [u8],
        disconnect: &'static [u8],
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    Allowed,
    Wrong,
}

impl State {
    /// All but `Fresh` that a client of this version can come to.
    pub fn all(version: Version) -> Vec<Self> {
        let mut all = vec![
            Self::Deciding,
            Self::Connected,
            Self::Receiving,
            Self::Delivering,
        ];
        match version {
            Version::V5 => {
                all.push(Self::Authenticated);
                for awaited in [Awaited::First, Awaited::Final] {
                    all.extend([
                        Self::Authenticating(awaited),
                        Self::Reauthenticating(awaited),
                    ]);
                }
            }
            Version::V3_1 | Version::V3_1_1 => all.push(Self::Withheld),
        }
        all
    }

    /// Whether a packet that is right is taken, whatever it is (but AUTH). While a client is authenticated
    /// it may send nothing but AUTH and DISCONNECT [MQTT-3.1.2-30].
    pub fn takes_all(self) -> bool {
        !matches!(self, Self::Fresh | Self::Authenticating(_))
    }

    /// Whether the CONNECT named a method, so that there may be an AUTH [MQTT-4.12.0-7].
    pub fn has_method(self) -> bool {
        matches!(
            self,
            Self::Authenticating(_) | Self::Authenticated | Self::Reauthenticating(_)
        )
    }

    pub fn awaited(self) -> Option<Awaited> {
        match self {
            Self::Authenticating(awaited) | Self::Reauthenticating(awaited) => Some(awaited),
            _ => None,
        }
    }

    /// How what is wrong for these reasons ends the connection. Before the CONNACK there is no DISCONNECT
    /// [MQTT-3.14.0-1].
    pub fn expected(self, reasons: &'static [u8]) -> Expected {
        match self {
            Self::Fresh | Self::Authenticating(_) => Expected::Connack(reasons, Silence::Wrong),
            Self::Deciding => Expected::Undecided {
                connack: in_connack(reasons),
                disconnect: reasons,
            },
            _ => Expected::Disconnect(reasons),
        }
    }
}

/// Of a packet that is wrong already by being there: which of both is found first is free. Where the code
/// for what is wrong in it is for DISCONNECT only, or for AUTH only, the other is left.
pub fn or_protocol(reasons: &'static [u8]) -> &'static [u8] {
    match reasons {
        MALFORMED | EITHER | FILTER => EITHER,
        TOO_LARGE => &[0x82, 0x95],
        TOPIC => TOPIC,
        _ => PROTOCOL,
    }
}

/// What a CONNACK has no code for is a protocol error (table 3-1).
fn in_connack(reasons: &'static [u8]) -> &'static [u8] {
    match reasons {
        ALIAS => PROTOCOL,
        FILTER => EITHER,
        _ => reasons,
    }
}
