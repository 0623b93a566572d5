//! MQTT 3.1, 3.1.1 and 5: packets, the server's side of one connection, the durable part of a client
//! session, and who is subscribed to what. No I/O and no clock here; drivers move bytes and pass the time in.

pub mod authentication;
pub mod authorization;
pub mod automatic;
pub mod codec;
pub mod connection;
pub mod destination;
pub mod limits;
pub mod reply_code;
pub mod rewrite;
pub mod session;
pub mod sparkplug;
pub mod subscriptions;
