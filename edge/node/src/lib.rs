//! The edge node: listeners, router, uplink; a library and the daemon tidegate-edge.
//!
//! A message's way: `mqtt::driver` (socket, and the session machine of `edge/protocol`) → `router` (who
//! is online and wants it; which stream keeps it) → `committer` (one thread that owns the journal:
//! group commit, then the acknowledgements) → `uplink` (reads what is durable, sends it to the hub by
//! the `Sender` of `bridge/protocol`, and tells the journal what has landed). A `source` brings messages of
//! another broker the same way; `delayed` ones come again when they are due.
//!
//! Architecture invariant: no decision about a protocol is made here, and nothing is acknowledged
//! but by the committer.

mod committer;
mod delayed;
pub mod doctor;
mod edge;
mod http;
pub mod lanes;
mod limits;
mod metrics;
mod mqtt;
mod open_files;
mod packet;
mod policy;
pub mod random;
mod record;
mod retained;
mod router;
mod rows;
mod sessions;
mod source;
mod system;
mod uplink;
mod watched;
mod whereabouts;

pub use edge::{Edge, EdgeCounters, load_spec};
