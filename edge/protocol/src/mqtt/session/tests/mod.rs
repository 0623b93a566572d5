//! The session by itself, and joined with the connection machine, a log, and a client.

mod client;
mod encoding;
mod model;
mod promises;
mod rules;
mod server;

use super::*;

fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn text(value: &str) -> Text {
    Text::try_from(value).unwrap()
}
