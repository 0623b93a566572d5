//! MQTT by hand, for tests that must know every byte and its moment: a small client of 3.1.1 here; packets
//! of all versions in `wire`, a client that sees each of them in `raw`, and how one proves itself in `scram`.

pub mod hostile;
pub mod raw;
pub mod scram;
pub mod wire;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// One connection, its CONNACK taken.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn connect(broker: SocketAddr, client_id: &str) -> io::Result<Self> {
        Self::connect_with(broker, &connect(client_id))
    }

    /// Sends these bytes as its CONNECT.
    pub fn connect_with(broker: SocketAddr, connect: &[u8]) -> io::Result<Self> {
        let mut stream = TcpStream::connect(broker)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        stream.write_all(connect)?;
        let mut client = Self { stream };
        let (first, body) = client.read_packet()?;
        if first != 0x20 || body != [0, 0] {
            return Err(io::Error::other(format!(
                "not a CONNACK: {first:#x} {body:?}"
            )));
        }
        Ok(client)
    }

    /// Subscribes to one filter, and waits for the SUBACK.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> io::Result<()> {
        self.stream.write_all(&subscribe(1, filter, qos))?;
        match self.read_packet()? {
            (0x90, body) if body == [0, 1, qos] => Ok(()),
            (first, body) => Err(io::Error::other(format!(
                "not a SUBACK: {first:#x} {body:?}"
            ))),
        }
    }

    /// One packet: its first byte, and what follows the length.
    pub fn read_packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let first = self.read_byte()?;
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.read_byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((first, body))
    }

    /// Waits for a PUBACK, and returns its packet id.
    pub fn read_puback(&mut self) -> io::Result<u16> {
        let (first, body) = self.read_packet()?;
        match (first, body.as_slice()) {
            (0x40, [high, low]) => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(io::Error::other(format!(
                "not a PUBACK: {first:#x} {body:?}"
            ))),
        }
    }

    /// Publishes at QoS 1, and waits for the PUBACK.
    pub fn publish(&mut self, id: u16, topic: &str, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&publish(id, topic, payload))?;
        let acknowledged = self.read_puback()?;
        if acknowledged != id {
            return Err(io::Error::other(format!(
                "PUBACK of {acknowledged}, not of {id}"
            )));
        }
        Ok(())
    }

    fn read_byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

/// A CONNECT with a clean session and no keep-alive.
pub fn connect(client_id: &str) -> Vec<u8> {
    connect_alive(client_id, 0)
}

/// The same with a keep-alive.
pub fn connect_alive(client_id: &str, keep_alive_s: u8) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, "MQTT");
    body.extend([4, 2, 0, keep_alive_s]);
    put_string(&mut body, client_id);
    packet(0x10, &body)
}

/// A PUBLISH at QoS 0.
pub fn publish_at_most_once(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, topic);
    body.extend(payload);
    packet(0x30, &body)
}

/// A SUBSCRIBE to one filter.
pub fn subscribe(id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// The same as [`publish`], kept for who subscribes later.
pub fn publish_retained(id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = publish(id, topic, payload);
    packet[0] |= 1;
    packet
}

/// What acknowledges a PUBLISH at QoS 1 with this body.
pub fn puback(publish: &[u8]) -> Vec<u8> {
    let topic = usize::from(u16::from_be_bytes([publish[0], publish[1]]));
    packet(0x40, &publish[2 + topic..4 + topic])
}

/// A CONNECT whose session outlives the connection, without a keep-alive.
pub fn connect_persistent(client_id: &str) -> Vec<u8> {
    let mut connect = connect(client_id);
    // The flags stand behind the length, the protocol's name and its level.
    connect[9] = 0;
    connect
}

/// A PUBLISH at QoS 1.
pub fn publish(id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, topic);
    body.extend(id.to_be_bytes());
    body.extend(payload);
    packet(0x32, &body)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut left = body.len();
    loop {
        let byte = (left & 0x7f) as u8;
        left >>= 7;
        packet.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
