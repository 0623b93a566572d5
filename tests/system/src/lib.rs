//! The harness of the system tests: it starts the product's binaries by path, drives real clients,
//! breaks things, and waits for events with a deadline. It imports nothing of the workspace, so that
//! it sees only what a user would see.

pub mod account;
pub mod apache_kafka;
pub mod board;
pub mod bridge;
pub mod bystander;
pub mod card;
pub mod certificates;
pub mod cli;
pub mod group_history;
pub mod house;
pub mod http;
pub mod image;
pub mod imported;
pub mod interop;
pub mod kafka;
pub mod kafka_client;
pub mod lines;
pub mod load;
pub mod log_history;
pub mod machine;
pub mod memory;
pub mod mosquitto;
pub mod mqtt;
pub mod node;
pub mod packages;
pub mod ports;
pub mod process;
pub mod random;
pub mod s3;
pub mod s3_relay;
pub mod scratch;
pub mod service_manager;
pub mod standing;
pub mod users;
pub mod wait;
pub mod workspace;

/// Says loudly that a test did not run; `tests/run` counts the line.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("SKIPPED: {}", format_args!($($reason)*));
        return;
    }};
}
