//! MQTT over WebSocket (chapter 6), by hand as the rest.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::support::*;

const BINARY: u8 = 0x2;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const FINAL: u8 = 0x80;

struct Socket(TcpStream);

impl Socket {
    /// A WebSocket, and the head of the answer that began it.
    fn open(subprotocols: &str) -> (Self, String) {
        let address = edge().websocket;
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(15)))
            .unwrap();
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{subprotocols}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap() == 0 {
                break;
            }
            head.push(byte[0]);
        }
        (Self(stream), String::from_utf8(head).unwrap())
    }

    fn mqtt() -> Self {
        let (socket, head) = Self::open("Sec-WebSocket-Protocol: mqtt\r\n");
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        socket
    }

    /// A frame, masked with zeros; at most 125 bytes.
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        assert!(length < 126);
        let header = [FINAL | opcode, 0x80 | length, 0, 0, 0, 0];
        self.0.write_all(&[&header, payload].concat()).unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 2];
        self.0.read_exact(&mut header).ok()?;
        let mut payload = vec![0; usize::from(header[1] & 0x7f)];
        self.0.read_exact(&mut payload).ok()?;
        Some((header[0] & 0x0f, payload))
    }

    /// So many bytes of binary frames.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let (opcode, payload) = self.frame().expect("the server goes on");
            assert_eq!(opcode, BINARY, "the server sends binary frames only");
            bytes.extend(payload);
        }
        bytes
    }

    /// Nothing but a closing frame comes before the end.
    fn ends(&mut self) {
        while let Some((opcode, payload)) = self.frame() {
            assert_eq!(opcode, CLOSE, "{payload:x?}");
        }
    }
}

const PINGRESP: [u8; 2] = [0xd0, 0];

#[test]
fn v5_6_0_0_4_the_subprotocol_is_mqtt() {
    clauses!(v5 "6.0.0-4" "6.0.0-3"; v311 "6.0.0-4" "6.0.0-3");
    for offered in ["mqtt", "other, mqtt", "mqttv3.1, mqtt"] {
        let (_, head) = Socket::open(&format!("Sec-WebSocket-Protocol: {offered}\r\n"));
        let head = head.to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-protocol: mqtt\r\n"), "{head}");
    }
    // Who does not offer it is not served, or not under another name.
    let (_, head) = Socket::open("Sec-WebSocket-Protocol: other\r\n");
    assert!(
        !head
            .to_lowercase()
            .contains("sec-websocket-protocol: other"),
        "{head}"
    );
}

#[test]
fn v5_6_0_0_1_packets_come_in_binary_frames() {
    clauses!(v5 "6.0.0-1"; v311 "6.0.0-1");
    for version in NUMBERED {
        let mut socket = Socket::mqtt();
        socket.send(BINARY, &Connect::new(version, &unique("frames")).bytes());
        assert_eq!(socket.bytes(4)[0], wire::CONNACK);
        socket.send(BINARY, &[0xc0, 0]);
        assert_eq!(socket.bytes(2), PINGRESP);
        // Any other data frame ends it.
        socket.send(TEXT, &[0x40, 0]);
        socket.ends();
        let mut socket = Socket::mqtt();
        socket.send(TEXT, &Connect::new(version, &unique("frames")).bytes());
        socket.ends();
    }
}

#[test]
fn v5_6_0_0_2_frames_are_no_borders() {
    clauses!(v5 "6.0.0-2"; v311 "6.0.0-2");
    for version in NUMBERED {
        let mut socket = Socket::mqtt();
        // Byte by byte, and several in one.
        for byte in Connect::new(version, &unique("frames")).bytes() {
            socket.send(BINARY, &[byte]);
        }
        assert_eq!(socket.bytes(4)[0], wire::CONNACK);
        socket.send(BINARY, &[0xc0, 0, 0xc0, 0, 0xc0]);
        assert_eq!(socket.bytes(4), [PINGRESP, PINGRESP].concat());
        socket.send(BINARY, &[]);
        socket.send(BINARY, &[0]);
        assert_eq!(socket.bytes(2), PINGRESP);
    }
}
