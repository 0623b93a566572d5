//! MQTT packets of all three versions as bytes: right as they are made, and wrong where a test makes them
//! so. What a peer may leave out is left out unless a test asks for it.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Version {
    V3_1 = 3,
    V3_1_1 = 4,
    V5 = 5,
}

use Version::V5;

pub const CONNECT: u8 = 0x10;
pub const CONNACK: u8 = 0x20;
pub const PUBLISH: u8 = 0x30;
pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;
pub const SUBSCRIBE: u8 = 0x82;
pub const SUBACK: u8 = 0x90;
pub const UNSUBSCRIBE: u8 = 0xa2;
pub const UNSUBACK: u8 = 0xb0;
pub const PINGREQ: u8 = 0xc0;
pub const PINGRESP: u8 = 0xd0;
pub const DISCONNECT: u8 = 0xe0;
pub const AUTH: u8 = 0xf0;

/// A packet with its length, whatever it holds.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], &variable(body.len() as u32)[..], body].concat()
}

/// A variable byte integer in its shortest form.
pub fn variable(value: u32) -> Vec<u8> {
    let (mut bytes, mut left) = (Vec::new(), value);
    loop {
        let byte = (left & 0x7f) as u8;
        left >>= 7;
        bytes.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            return bytes;
        }
    }
}

/// A string or binary field: two bytes of length, and the bytes, whether or not they are UTF-8.
pub fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Properties behind their length.
pub fn block(properties: &[Vec<u8>]) -> Vec<u8> {
    let properties = properties.concat();
    [variable(properties.len() as u32), properties].concat()
}

/// Properties behind their length where the version has any.
fn block_of(version: Version, properties: &[Vec<u8>]) -> Vec<u8> {
    match version {
        V5 => block(properties),
        _ => Vec::new(),
    }
}

/// MQTT 5's properties, by the type of their value.
pub mod property {
    use super::{field, variable};

    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1a;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub const SHARED_AVAILABLE: u8 = 0x2a;

    pub fn byte(id: u8, value: u8) -> Vec<u8> {
        vec![id, value]
    }

    pub fn two(id: u8, value: u16) -> Vec<u8> {
        [&[id], &value.to_be_bytes()[..]].concat()
    }

    pub fn four(id: u8, value: u32) -> Vec<u8> {
        [&[id], &value.to_be_bytes()[..]].concat()
    }

    /// A string or binary data.
    pub fn bytes(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
        [vec![id], field(value)].concat()
    }

    pub fn user(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
        [vec![USER_PROPERTY], field(name), field(value)].concat()
    }

    pub fn identifier(value: u32) -> Vec<u8> {
        [vec![SUBSCRIPTION_IDENTIFIER], variable(value)].concat()
    }
}

/// A will, as CONNECT carries it.
#[derive(Clone, Debug, Default)]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<Vec<u8>>,
}

impl Will {
    pub fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            ..Self::default()
        }
    }
}

/// A CONNECT with a clean start and no keep alive, unless it is told otherwise.
#[derive(Clone, Debug)]
pub struct Connect {
    pub version: Version,
    pub client_id: Vec<u8>,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub will: Option<Will>,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub properties: Vec<Vec<u8>>,
}

impl Connect {
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            clean: true,
            keep_alive_s: 0,
            will: None,
            user: None,
            password: None,
            properties: Vec::new(),
        }
    }

    /// One whose session outlives its connection, and that takes up the one before.
    pub fn lasting(version: Version, client_id: &str) -> Self {
        let mut connect = Self::new(version, client_id);
        connect.clean = false;
        match version {
            V5 => connect.with(property::four(property::SESSION_EXPIRY, 300)),
            _ => connect,
        }
    }

    #[must_use]
    pub fn with(mut self, property: Vec<u8>) -> Self {
        self.properties.push(property);
        self
    }

    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// The connect flags that fit the fields.
    pub fn flags(&self) -> u8 {
        let will = self
            .will
            .as_ref()
            .map_or(0, |will| 0x04 | will.qos << 3 | u8::from(will.retain) << 5);
        u8::from(self.clean) << 1
            | will
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.user.is_some()) << 7
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with_flags(self.flags())
    }

    /// With flags of the test's own.
    pub fn bytes_with_flags(&self, flags: u8) -> Vec<u8> {
        let name = match self.version {
            Version::V3_1 => "MQIsdp",
            _ => "MQTT",
        };
        self.bytes_named(name, self.version as u8, flags)
    }

    /// With a protocol name, level and flags of the test's own.
    pub fn bytes_named(&self, name: &str, level: u8, flags: u8) -> Vec<u8> {
        let mut body = field(name);
        body.extend([level, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        body.extend(block_of(self.version, &self.properties));
        body.extend(field(&self.client_id));
        if let Some(will) = &self.will {
            body.extend(block_of(self.version, &will.properties));
            body.extend(field(&will.topic));
            body.extend(field(&will.payload));
        }
        for credential in [&self.user, &self.password].into_iter().flatten() {
            body.extend(field(credential));
        }
        packet(CONNECT, &body)
    }
}

/// A PUBLISH of QoS 0, unless it is told otherwise.
#[derive(Clone, Debug)]
pub struct Publish {
    pub version: Version,
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub flags: u8,
    pub id: Option<u16>,
    pub properties: Vec<Vec<u8>>,
}

impl Publish {
    pub fn new(version: Version, topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            version,
            topic: topic.into(),
            payload: payload.as_ref().into(),
            flags: 0,
            id: None,
            properties: Vec::new(),
        }
    }

    #[must_use]
    pub fn qos(mut self, qos: u8, id: u16) -> Self {
        self.flags = self.flags & !0x06 | qos << 1;
        self.id = (qos > 0).then_some(id);
        self
    }

    #[must_use]
    pub fn retain(mut self) -> Self {
        self.flags |= 0x01;
        self
    }

    #[must_use]
    pub fn duplicate(mut self) -> Self {
        self.flags |= 0x08;
        self
    }

    #[must_use]
    pub fn with(mut self, property: Vec<u8>) -> Self {
        self.properties.push(property);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = field(&self.topic);
        body.extend(self.id.into_iter().flat_map(u16::to_be_bytes));
        body.extend(block_of(self.version, &self.properties));
        body.extend(&self.payload);
        packet(PUBLISH | self.flags, &body)
    }
}

/// A SUBSCRIBE with filters and their options.
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, filters, &[])
}

pub fn subscribe_with(
    version: Version,
    id: u16,
    filters: &[(&str, u8)],
    properties: &[Vec<u8>],
) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(block_of(version, properties));
    for (filter, options) in filters {
        body.extend(field(filter));
        body.push(*options);
    }
    packet(SUBSCRIBE, &body)
}

pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(block_of(version, &[]));
    filters.iter().for_each(|filter| body.extend(field(filter)));
    packet(UNSUBSCRIBE, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP of success.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// The same of MQTT 5 with a reason.
pub fn ack_with(first: u8, id: u16, reason: u8) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes()[..], &[reason]].concat())
}

/// A DISCONNECT of success.
pub fn disconnect() -> Vec<u8> {
    packet(DISCONNECT, &[])
}

/// One of MQTT 5.
pub fn disconnect_with(reason: u8, properties: &[Vec<u8>]) -> Vec<u8> {
    packet(DISCONNECT, &[vec![reason], block(properties)].concat())
}
