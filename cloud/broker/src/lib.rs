//! The cloud broker: Kafka listener, log, hub, HTTP; a library and the daemon tidegate-cloud.
//!
//! One thread writes (`sequencer`): it makes commands and batches durable in the log, applies them to
//! the ledger, and answers with the result of applying. Everything else looks at the ledger and the
//! indexes, and hands in what it wants through [`Broker::submit`].

pub mod administrator;
mod authority;
mod authorization;
pub mod backup;
mod broker;
mod care;
mod clock;
mod cloud;
mod compactor;
pub mod config;
mod coordinator;
mod credentials;
mod folders;
mod holds;
mod http;
mod hub;
mod joiner;
mod kafka;
pub mod limits;
mod listening;
pub mod log;
mod look_up;
pub mod metrics;
mod mover;
mod open_files;
mod opening;
mod packer;
pub mod presence;
mod reading;
mod recent;
mod scrub;
mod segments;
mod sequencer;
pub mod snapshots;
mod snapshotter;
mod state;
pub mod store;
mod stores;
mod submission;
mod tls;
pub mod topic_settings;
mod topic_store;

pub use authority::authority;
pub use broker::Broker;
pub use cloud::Cloud;
pub use config::Config;
pub use submission::SubmitError;
