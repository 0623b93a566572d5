//! What an edge and a cloud both mean: record batches, ids and offsets, topic filters, fleet types.
//!
//! But for the lock on a data folder and the service manager's socket, nothing here does I/O or keeps time. A type belongs here only if an edge crate and a cloud crate
//! both import it; everything else lives with the side that owns it.

pub mod data_lock;
pub mod fleet;
pub mod gap;
pub mod id;
pub mod record;
#[cfg(feature = "scram")]
pub mod scram;
#[cfg(feature = "service")]
pub mod service;
pub mod topic;
pub mod wire;
