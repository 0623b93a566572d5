//! A QoS 2 message that a full journal refuses was never received, whatever becomes of its connection:
//! its identifier is free, and who sends it again is refused again rather than told that it is there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tidegate_edge::Edge;
use tidegate_shared::fleet::{EdgeSpec, parse_yaml};

const QUOTA_EXCEEDED: u8 = 0x97;
const PAYLOAD_BYTES: usize = 256 << 10;
/// Fills a commit.
const AT_ONCE: u16 = 8;
/// More than the journal has room for.
const FILLING_MAX: u16 = 64;
/// A commit waits so long for company: a connection can be closed and taken up again meanwhile.
const LINGER: Duration = Duration::from_millis(400);

fn spec(folder: &std::path::Path) -> EdgeSpec {
    let text = format!(
        "data: {}\nmqtt:\n  listeners:\n    - address: 127.0.0.1:0\nhttp:\n  address: 127.0.0.1:0\n\
         journal:\n  bytes_max: 64MiB\n  free_disk_min: 0\n  commit_linger: {}ms\n",
        folder.display(),
        LINGER.as_millis()
    );
    parse_yaml(&text).unwrap()
}

/// MQTT 5 by hand.
struct Client(TcpStream);

impl Client {
    /// With a session that stays. Returns whether it was there.
    fn connect(edge: SocketAddr) -> (Self, bool) {
        Self::connect_as(edge, b"dev", 3_600)
    }

    fn connect_as(edge: SocketAddr, id: &[u8; 3], expiry_s: u16) -> (Self, bool) {
        let mut stream = TcpStream::connect(edge).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let connect = [
            b"\x10\x15\x00\x04MQTT\x05\x00\x00\x00\x05\x11\x00\x00",
            &expiry_s.to_be_bytes()[..],
            b"\x00\x03",
            id,
        ];
        stream.write_all(&connect.concat()).unwrap();
        let mut client = Self(stream);
        let (first, body) = client.packet();
        assert_eq!((first, body[1]), (0x20, 0));
        (client, body[0] == 1)
    }

    fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.0.read_exact(&mut header).unwrap();
        assert!(header[1] < 0x80, "a short packet");
        let mut body = vec![0; header[1].into()];
        self.0.read_exact(&mut body).unwrap();
        (header[0], body)
    }

    fn publish(&mut self, first: u8, id: u16) {
        let mut body = b"\x00\x01a".to_vec();
        body.extend(id.to_be_bytes());
        body.push(0);
        body.extend(noise(id.into()));
        let length = body.len();
        let mut packet = vec![first];
        packet.extend([
            (length & 0x7f) as u8 | 0x80,
            (length >> 7 & 0x7f) as u8 | 0x80,
            (length >> 14) as u8,
        ]);
        self.0.write_all(&[packet, body].concat()).unwrap();
    }

    /// The reason code of an acknowledgement.
    fn answer(&mut self, kind: u8, id: u16) -> u8 {
        let (first, body) = self.packet();
        assert_eq!((first, &body[..2]), (kind, &id.to_be_bytes()[..]));
        body.get(2).copied().unwrap_or(0)
    }

    /// QoS 1, so many at once, until one is refused.
    fn fill(&mut self, at_once: u16) {
        for _ in 0..FILLING_MAX {
            (1..=at_once).for_each(|id| self.publish(0x32, id));
            let codes: Vec<_> = (1..=at_once).map(|id| self.answer(0x40, id)).collect();
            if codes.contains(&QUOTA_EXCEEDED) {
                return;
            }
        }
        panic!("the journal takes everything");
    }

    fn publish_exactly_once(&mut self, id: u16, again: bool) {
        self.publish(if again { 0x3c } else { 0x34 }, id);
    }

    fn pubrec(&mut self, id: u16) -> u8 {
        self.answer(0x50, id)
    }
}

/// What does not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed + 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..PAYLOAD_BYTES / 8).flat_map(step).collect()
}

/// An edge whose journal has no room for another message of the size.
async fn full_edge(folder: &std::path::Path) -> (Edge, SocketAddr) {
    let edge = Edge::start(spec(folder)).await.unwrap();
    let address = edge.mqtt_addresses()[0];
    let filling = tokio::task::spawn_blocking(move || {
        // Without a session: one that stays would hold the log for as long as its cursor is behind.
        let (mut client, _) = Client::connect_as(address, b"all", 0);
        client.fill(AT_ONCE);
        client.fill(1);
    });
    filling.await.unwrap();
    (edge, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_identifier_is_free_on_this_connection_and_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (edge, address) = full_edge(folder.path()).await;
    let script = tokio::task::spawn_blocking(move || {
        let (mut client, _) = Client::connect(address);
        for _ in 0..2 {
            client.publish_exactly_once(7, false);
            assert_eq!(client.pubrec(7), QUOTA_EXCEEDED);
        }
        drop(client);
        let (mut client, present) = Client::connect(address);
        assert!(present);
        client.publish_exactly_once(7, true);
        assert_eq!(client.pubrec(7), QUOTA_EXCEEDED, "it never was received");
    });
    script.await.unwrap();
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_taken_up_with_a_message_that_is_refused_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (edge, address) = full_edge(folder.path()).await;
    let script = tokio::task::spawn_blocking(move || {
        let (mut client, _) = Client::connect(address);
        client.publish_exactly_once(7, false);
        // The commit, and with it the refusal, is still to come.
        drop(client);
        let (mut client, present) = Client::connect(address);
        assert!(present);
        client.publish_exactly_once(7, true);
        assert_eq!(
            client.pubrec(7),
            QUOTA_EXCEEDED,
            "acknowledged, and nowhere"
        );
    });
    script.await.unwrap();
    edge.shutdown().await;
}
