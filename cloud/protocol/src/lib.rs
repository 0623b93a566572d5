//! The cloud's decisions as values: the ledger, the offset map, consumer groups, fetch planning,
//! without I/O.
//!
//! What a hub asks is a [`questions::Question`]; what has been asked is gathered
//! ([`gathering::Gathering`]), made durable, applied to the [`ledger::Ledger`], and only then
//! answered. The [`offset_map::OffsetMap`] and the [`index`] grow from the ledger's effects.
//!
//! Nothing here reads a clock, makes a random number, opens a file or a socket. Time and randomness
//! are handed in, so that a test (or a replay) with the same input has the same outcome.

pub mod acls;
pub mod compaction;
pub mod fetch;
pub mod gathering;
pub mod groups;
pub mod index;
pub mod joining;
pub mod ledger;
pub mod moving;
pub mod offset_map;
pub mod packing;
pub mod questions;
pub mod segment;
mod varint;
