//! The cloud's decisions as values: the ledger, consumer groups, fetch planning, without I/O.
//!
//! Nothing here reads a clock, makes a random number, opens a file or a socket. Time and randomness
//! are handed in, so that a test (or a replay) with the same input has the same outcome.

pub mod fetch;
pub mod groups;
pub mod index;
pub mod ledger;
