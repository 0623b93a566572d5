//! The cloud broker: Kafka listener, log, hub, HTTP; a library and the daemon tidegate-cloud.

mod broker;
pub mod config;
mod http;
pub mod limits;
pub mod log;
pub mod metrics;
mod recent;
mod sequencer;
mod state;
mod submission;

pub use broker::Broker;
pub use config::Config;
pub use submission::{Submission, SubmitError};
