//! What an edge and a cloud both mean: record batches, ids and offsets, topic filters, fleet types.
//!
//! Nothing here does I/O or keeps time. A type belongs here only if an edge crate and a cloud crate
//! both import it; everything else lives with the side that owns it.

pub mod fleet;
pub mod id;
pub mod record;
pub mod topic;
pub mod wire;
