//! A client that does nothing by itself: it sends the bytes that it is given and takes packets one by one,
//! so that a test sees every packet and when it came. A wait has a deadline, and nothing is waited out:
//! that a server says nothing is known by what it says next.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::wire::{self, Connect, Publish, Version};

/// How long a packet, or the end, may take.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// One packet of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub version: Version,
    pub first: u8,
    pub body: Vec<u8>,
}

/// A PUBLISH of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub duplicate: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub id: Option<u16>,
    /// Each with its identifier, as it lay there.
    pub properties: Vec<Vec<u8>>,
    pub payload: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    pub version: Version,
    next_id: u16,
    /// Came while something else was waited for.
    passed_over: VecDeque<Packet>,
}

impl Packet {
    pub fn kind(&self) -> u8 {
        self.first & 0xf0
    }

    /// Of what answers a packet with an identifier.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// Of CONNACK, an acknowledgement or DISCONNECT; success where it is left out.
    pub fn reason(&self) -> u8 {
        let at = match self.kind() {
            wire::CONNACK => 1,
            wire::DISCONNECT | wire::AUTH => 0,
            _ => 2,
        };
        self.body.get(at).copied().unwrap_or(0)
    }

    /// Of SUBACK and UNSUBACK.
    pub fn reasons(&self) -> Vec<u8> {
        let (_, rest) = split_properties(self.version, &self.body[2..]);
        rest.to_vec()
    }

    /// Of any packet but PUBLISH; none where the block is left out.
    pub fn properties(&self) -> Vec<Vec<u8>> {
        let at = match self.kind() {
            wire::CONNACK => 2,
            wire::SUBACK | wire::UNSUBACK => 2,
            wire::DISCONNECT | wire::AUTH => 1,
            _ => 3,
        };
        match self.body.get(at..) {
            Some(rest @ [_, ..]) => split_properties(self.version, rest).0,
            _ => Vec::new(),
        }
    }

    /// The value of a property, if it is there.
    pub fn property(&self, id: u8) -> Option<Vec<u8>> {
        value(&self.properties(), id)
    }

    pub fn session_present(&self) -> bool {
        assert_eq!(self.kind(), wire::CONNACK, "{self:?}");
        self.body[0] == 1
    }

    pub fn publish(&self) -> Delivered {
        assert_eq!(self.kind(), wire::PUBLISH, "{self:x?}");
        let qos = self.first >> 1 & 3;
        let length = usize::from(self.id());
        let (topic, rest) = self.body[2..].split_at(length);
        let (id, rest) = match qos {
            0 => (None, rest),
            _ => (Some(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
        };
        let (properties, payload) = split_properties(self.version, rest);
        Delivered {
            duplicate: self.first & 0x08 != 0,
            qos,
            retain: self.first & 0x01 != 0,
            topic: String::from_utf8(topic.to_vec()).expect("a topic is UTF-8"),
            id,
            properties,
            payload: payload.to_vec(),
        }
    }
}

impl Delivered {
    pub fn property(&self, id: u8) -> Option<Vec<u8>> {
        value(&self.properties, id)
    }

    /// All of one kind, in their order.
    pub fn all(&self, id: u8) -> Vec<Vec<u8>> {
        let all = self.properties.iter().filter(|property| property[0] == id);
        all.map(|property| property[1..].to_vec()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

fn value(properties: &[Vec<u8>], id: u8) -> Option<Vec<u8>> {
    let found = properties.iter().find(|property| property[0] == id);
    found.map(|property| property[1..].to_vec())
}

/// The properties, and what follows them. A server that sends what can't be read fails the test.
fn split_properties(version: Version, bytes: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    if version != Version::V5 {
        return (Vec::new(), bytes);
    }
    let (length, count) = read_variable(bytes);
    let (mut block, rest) = bytes[count..].split_at(length);
    let mut properties = Vec::new();
    while let Some(id) = block.first() {
        let string = |at: usize| 2 + usize::from(u16::from_be_bytes([block[at], block[at + 1]]));
        let length = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => 1,
            0x13 | 0x21..=0x23 => 2,
            0x02 | 0x11 | 0x18 | 0x27 => 4,
            0x0b => read_variable(&block[1..]).1,
            0x26 => string(1) + string(1 + string(1)),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => string(1),
            other => panic!("the server sent property {other:#x}"),
        };
        let (property, more) = block.split_at(1 + length);
        properties.push(property.to_vec());
        block = more;
    }
    (properties, rest)
}

fn read_variable(bytes: &[u8]) -> (usize, usize) {
    let (mut value, mut count) = (0, 0);
    for byte in bytes {
        value |= usize::from(byte & 0x7f) << (7 * count);
        count += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (value, count)
}

impl Peer {
    pub fn open(broker: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(broker).expect("the broker takes connections");
        stream
            .set_read_timeout(Some(ANSWER_MAX))
            .expect("a timeout can be set");
        stream.set_nodelay(true).expect("a socket has no delay");
        Self {
            stream,
            version,
            next_id: 1_000,
            passed_over: VecDeque::new(),
        }
    }

    /// The connection and its CONNACK, whatever it says.
    pub fn asked(broker: SocketAddr, connect: &Connect) -> (Self, Packet) {
        let mut peer = Self::open(broker, connect.version);
        peer.send(&connect.bytes());
        let connack = peer.take(wire::CONNACK);
        (peer, connack)
    }

    /// Connected with success.
    pub fn connected(broker: SocketAddr, connect: &Connect) -> Self {
        let (peer, connack) = Self::asked(broker, connect);
        assert_eq!(connack.reason(), 0, "{connack:x?}");
        peer
    }

    /// Sends bytes. A server that has closed already is found by what is read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next packet.
    #[track_caller]
    pub fn packet(&mut self) -> Packet {
        match self.read_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => panic!("the server closed the connection instead of a packet"),
            Err(error) => panic!("no packet came: {error}"),
        }
    }

    /// The next packet, which is of this kind.
    #[track_caller]
    pub fn take(&mut self, kind: u8) -> Packet {
        let packet = self.packet();
        assert_eq!(packet.kind(), kind & 0xf0, "{packet:x?}");
        packet
    }

    /// The next packet, which is a PUBLISH. It is not acknowledged.
    #[track_caller]
    pub fn delivery(&mut self) -> Delivered {
        self.take(wire::PUBLISH).publish()
    }

    /// The same, acknowledged as its QoS says.
    #[track_caller]
    pub fn answered_delivery(&mut self) -> Delivered {
        let delivered = self.delivery();
        match (delivered.qos, delivered.id) {
            (1, Some(id)) => self.send(&wire::ack(wire::PUBACK, id)),
            (2, Some(id)) => {
                self.send(&wire::ack(wire::PUBREC, id));
                self.wait_for_pubrel(id);
                self.send(&wire::ack(wire::PUBCOMP, id));
            }
            _ => {}
        }
        delivered
    }

    /// The next PUBLISH, as it came; what it is owed goes out, and what is answered to that is passed over.
    #[track_caller]
    pub fn packet_of_publish(&mut self) -> Delivered {
        loop {
            let packet = self.packet();
            match packet.kind() {
                wire::PUBLISH => {
                    let delivered = packet.publish();
                    if let Some(id) = delivered.id {
                        let first = [wire::PUBACK, wire::PUBREC][usize::from(delivered.qos) - 1];
                        self.send(&wire::ack(first, id));
                    }
                    return delivered;
                }
                0x60 => self.send(&wire::ack(wire::PUBCOMP, packet.id())),
                _ => panic!("neither a PUBLISH nor a PUBREL: {packet:x?}"),
            }
        }
    }

    /// Waits for the PUBREL of this identifier; what comes before it is not lost.
    #[track_caller]
    pub fn wait_for_pubrel(&mut self, id: u16) {
        let mut before = VecDeque::new();
        loop {
            let packet = self.packet();
            if packet.kind() == wire::PUBREL & 0xf0 && packet.id() == id {
                break;
            }
            before.push_back(packet);
        }
        before.append(&mut self.passed_over);
        self.passed_over = before;
    }

    /// All that comes before the server closes the connection.
    #[track_caller]
    pub fn end(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        loop {
            match self.read_packet() {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => return packets,
                Err(error) => panic!("it was not closed: {error}; it said {packets:x?}"),
            }
        }
    }

    /// Nothing waits to be read: the next thing that the server says is what it is asked for now.
    #[track_caller]
    pub fn nothing(&mut self) {
        self.send(&wire::packet(wire::PINGREQ, &[]));
        let packet = self.packet();
        assert_eq!(packet.kind(), wire::PINGRESP, "{packet:x?}");
    }

    /// Subscribes to one filter; gives the SUBACK's code.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(filter, options, &[])
    }

    #[track_caller]
    pub fn subscribe_with(&mut self, filter: &str, options: u8, properties: &[Vec<u8>]) -> u8 {
        let id = self.id();
        let filters = [(filter, options)];
        self.send(&wire::subscribe_with(
            self.version,
            id,
            &filters,
            properties,
        ));
        let suback = self.take(wire::SUBACK);
        assert_eq!(suback.id(), id);
        let reasons = suback.reasons();
        assert_eq!(reasons.len(), 1, "{suback:x?}");
        reasons[0]
    }

    /// Subscribes with QoS 1 at most to what others may publish in, too: what comes before the SUBACK is
    /// acknowledged and passed over.
    #[track_caller]
    pub fn subscribe_amid_others(&mut self, filter: &str, options: u8) {
        let id = self.id();
        self.send(&wire::subscribe(self.version, id, &[(filter, options)]));
        let suback = loop {
            let packet = self.packet();
            if packet.kind() != wire::PUBLISH {
                break packet;
            }
            if let Some(id) = packet.publish().id {
                self.send(&wire::ack(wire::PUBACK, id));
            }
        };
        assert_eq!(suback.kind(), wire::SUBACK & 0xf0, "{suback:x?}");
        assert_eq!(suback.id(), id);
    }

    /// Publishes with success, and waits for what ends it; returns when QoS 0 was taken, too.
    #[track_caller]
    pub fn publish(&mut self, publish: Publish, qos: u8) {
        let id = self.id();
        self.send(&publish.qos(qos, id).bytes());
        match qos {
            0 => self.nothing(),
            1 => assert_eq!(self.acknowledged(wire::PUBACK, id), 0),
            _ => {
                assert_eq!(self.acknowledged(wire::PUBREC, id), 0);
                self.send(&wire::ack(wire::PUBREL, id));
                assert_eq!(self.acknowledged(wire::PUBCOMP, id), 0);
            }
        }
    }

    /// The next packet is this acknowledgement; gives its reason. 0x10 says of a PUBLISH that nobody
    /// has it, and is a success.
    #[track_caller]
    pub fn acknowledged(&mut self, kind: u8, id: u16) -> u8 {
        let packet = self.take(kind);
        assert_eq!(packet.id(), id, "{packet:x?}");
        match packet.reason() {
            0x10 => 0,
            reason => reason,
        }
    }

    /// Ends without a DISCONNECT.
    pub fn cut(self) {
        drop(self.stream);
    }

    /// Ends with a DISCONNECT, and waits until the server has let go.
    #[track_caller]
    pub fn leave(mut self) {
        self.send(&wire::disconnect());
        assert_eq!(self.end(), []);
    }

    fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// `None` where the connection has ended.
    fn read_packet(&mut self) -> io::Result<Option<Packet>> {
        if let Some(packet) = self.passed_over.pop_front() {
            return Ok(Some(packet));
        }
        let Some(first) = self.read_byte()? else {
            return Ok(None);
        };
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.read_byte()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Some(Packet {
            version: self.version,
            first,
            body,
        }))
    }

    fn read_byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(byte[0])),
            // What the server had not read when it closed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            // The process was stopped, and goes on: a read with a deadline then begins anew.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read_byte(),
            Err(error) => Err(error),
        }
    }
}
