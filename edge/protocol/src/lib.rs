//! The edge's protocols as values: MQTT packets and sessions, without I/O.

pub mod mqtt;
