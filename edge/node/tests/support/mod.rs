//! An edge in this process, and MQTT by hand: packets as bytes, so that a test says exactly what is on the
//! wire.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tidegate_edge::Edge;
use tidegate_shared::fleet::{EdgeSpec, parse_yaml};

/// Whatever a test waits for comes within this.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What an edge at `folder` runs with, and what else its `edge.yaml` says.
pub fn spec(folder: &std::path::Path, more: &str) -> EdgeSpec {
    let text = format!(
        "data: {}\nmqtt:\n  listeners:\n    - address: 127.0.0.1:0\nhttp:\n  address: 127.0.0.1:0\n{more}",
        folder.display()
    );
    parse_yaml(&text).unwrap()
}

pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let more = if length >= 0x80 { 0x80 } else { 0 };
        out.push((length % 0x80) as u8 | more);
        length /= 0x80;
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

/// A PUBLISH of MQTT 3.1.1; `first` says QoS and RETAIN.
pub fn publish(first: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = string(topic.as_bytes());
    if first & 0x06 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload);
    packet(first, &body)
}

pub fn subscribe(id: u16, filters: &[&str], qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        body.extend(string(filter.as_bytes()));
        body.push(qos);
    }
    packet(0x82, &body)
}

/// What a CONNECT says, in any version.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connect<'a> {
    /// 3: MQTT 3.1; 4: MQTT 3.1.1; 5: MQTT 5, where a session that is not clean lasts for ever.
    pub level: u8,
    pub client_id: &'a str,
    pub clean: bool,
    /// A topic, QoS 1, with the payload `gone`.
    pub will: Option<&'a str>,
    pub user: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

impl Connect<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let flag = |is_there: bool, bits: u8| if is_there { bits } else { 0 };
        let name: &[u8] = if self.level == 3 { b"MQIsdp" } else { b"MQTT" };
        let mut body = string(name);
        body.push(self.level);
        body.push(
            flag(self.clean, 0x02)
                | flag(self.will.is_some(), 0x0c)
                | flag(self.user.is_some(), 0x80)
                | flag(self.password.is_some(), 0x40),
        );
        body.extend([0, 0]);
        if self.level == 5 {
            let lasts: &[u8] = &[5, 0x11, 0xff, 0xff, 0xff, 0xff];
            body.extend(if self.clean { &[0] } else { lasts });
        }
        body.extend(string(self.client_id.as_bytes()));
        if let Some(topic) = self.will {
            body.extend(self.properties());
            body.extend(string(topic.as_bytes()));
            body.extend(string(b"gone"));
        }
        body.extend(
            self.user
                .map(|user| string(user.as_bytes()))
                .unwrap_or_default(),
        );
        body.extend(self.password.map(string).unwrap_or_default());
        packet(0x10, &body)
    }

    /// None, as each packet of MQTT 5 says it.
    pub fn properties(&self) -> &'static [u8] {
        if self.level == 5 { &[0] } else { &[] }
    }

    pub fn publish(&self, qos: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
        let mut body = string(topic.as_bytes());
        if qos > 0 {
            body.extend([0, 7]);
        }
        body.extend(self.properties());
        body.extend(payload);
        packet(0x30 | qos << 1, &body)
    }

    pub fn subscribe(&self, filters: &[&str], qos: u8) -> Vec<u8> {
        let mut body = vec![0, 9];
        body.extend(self.properties());
        for filter in filters {
            body.extend(string(filter.as_bytes()));
            body.push(qos);
        }
        packet(0x82, &body)
    }

    /// The code of the CONNACK, and the client.
    pub fn open(&self, edge: SocketAddr) -> (u8, Client) {
        let mut client = Client::open(edge, &self.bytes());
        let (first, body) = client.packet();
        assert_eq!(first, 0x20);
        (body[1], client)
    }

    pub fn opened(&self, edge: SocketAddr) -> Client {
        let (code, client) = self.open(edge);
        assert_eq!(code, 0, "{self:?}");
        client
    }
}

pub struct Client(pub TcpStream);

impl Client {
    /// MQTT 3.1.1. Returns whether the session was there.
    pub fn connect(edge: SocketAddr, client_id: &str, clean: bool) -> (Self, bool) {
        let mut body = string(b"MQTT");
        body.extend([4, if clean { 2 } else { 0 }, 0, 0]);
        body.extend(string(client_id.as_bytes()));
        let mut client = Self::open(edge, &packet(0x10, &body));
        let (first, body) = client.packet();
        assert_eq!((first, body[1]), (0x20, 0));
        (client, body[0] == 1)
    }

    pub fn open(edge: SocketAddr, connect: &[u8]) -> Self {
        let mut stream = TcpStream::connect(edge).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(connect).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut first = [0];
        self.0.read_exact(&mut first).unwrap();
        let (mut length, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (first[0], body)
    }

    /// The last bytes of the answer to a SUBSCRIBE: one for each filter.
    pub fn granted(&mut self, subscribe: &[u8], filters: usize) -> Vec<u8> {
        self.send(subscribe);
        let (first, body) = self.packet();
        assert_eq!(first, 0x90, "{body:x?}");
        body[body.len() - filters..].to_vec()
    }

    /// Sends a PUBLISH of QoS 1 or 2, and gives the reason of what answers it; 0 where it has none.
    pub fn answer(&mut self, publish: &[u8]) -> (u8, u8) {
        self.send(publish);
        let (first, body) = self.packet();
        (first, body.get(2).copied().unwrap_or(0))
    }

    /// Whether the connection has ended, behind what else comes.
    pub fn ends(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }

    /// Answered when all that was sent before it is taken in.
    pub fn ping(&mut self) {
        self.send(b"\xc0\x00");
        assert_eq!(self.packet().0, 0xd0);
    }

    /// Subscribes at QoS 0, and gives the topics and payloads that come up to the answer to a PINGREQ
    /// behind it.
    pub fn retained(&mut self, filters: &[&str]) -> Vec<(String, Vec<u8>)> {
        self.send(&subscribe(9, filters, 0));
        let (first, codes) = self.packet();
        assert_eq!(first, 0x90);
        assert!(codes[2..].iter().all(|code| *code < 0x80), "{codes:?}");
        self.send(b"\xc0\x00");
        let mut found = Vec::new();
        loop {
            match self.packet() {
                (0xd0, _) => return found,
                (_, body) => {
                    let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                    let topic = String::from_utf8(body[2..end].to_vec()).unwrap();
                    found.push((topic, body[end..].to_vec()));
                }
            }
        }
    }
}

/// A figure of `/metrics`, by its whole name.
pub fn metric(http: SocketAddr, name: &str) -> u64 {
    counted(http, name).unwrap_or_else(|| panic!("there is no {name}"))
}

/// The same of one that is there once something has been counted.
pub fn counted(http: SocketAddr, name: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().parse().unwrap())
}

/// Asks again until it is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} does not come about");
        std::thread::yield_now();
    }
}

/// An edge at `folder`. One that was there before may hold the journal for a moment after it has ended.
pub async fn start(folder: &std::path::Path, more: &str) -> Edge {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match Edge::start(spec(folder, more)).await {
            Ok(edge) => return edge,
            Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
        }
    }
}
