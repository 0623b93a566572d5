//! A node stops when it is told to, whatever its peers do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use tidegate_system_tests::mqtt::Client;
use tidegate_system_tests::node::Site;
use tidegate_system_tests::scratch::Scratch;

/// More than a subscriber's queue, its task's output and the kernel's buffers hold.
const PAYLOAD_BYTES: usize = 512 << 10;
const MESSAGES: u16 = 40;

/// MQTT 5, `#` at QoS 0.
const CONNECT: &[u8] = b"\x10\x14\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x07stalled";
const SUBSCRIBE: &[u8] = b"\x82\x07\x00\x01\x00\x00\x01#\x00";

#[test]
fn an_edge_stops_although_a_subscriber_does_not_read() {
    let scratch = Scratch::new("stop");
    let mut site = Site::started(scratch.path());
    let mut stalled = TcpStream::connect(site.edge.mqtt).unwrap();
    stalled.write_all(CONNECT).unwrap();
    stalled.write_all(SUBSCRIBE).unwrap();
    // Its first answers are read, and nothing after them.
    let mut connack = [0; 4];
    stalled.read_exact(&mut connack).unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0), "accepted");

    let mut publisher = Client::connect(site.edge.mqtt, "publisher").unwrap();
    let payload = vec![7; PAYLOAD_BYTES];
    for id in 1..=MESSAGES {
        publisher.publish(id, "plant/1", &payload).unwrap();
    }
    let edge = site.edge.process();
    edge.signal("TERM");
    let status = edge.wait(Duration::from_secs(20));
    assert!(status.success(), "{status}");
}
