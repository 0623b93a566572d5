//! `tidegate-edge scram NAME`: a line for the file of `mqtt.users`, for SCRAM-SHA-256.

use clap::Args;
use tidegate_edge::random;
use tidegate_edge_protocol::mqtt::authentication::{SCRAM, Verifier};

use crate::entry;

/// As long as PostgreSQL's.
const SALT_BYTES: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct ScramArguments {
    /// The user's name, as clients give it.
    name: String,
    /// How often the password is hashed: what a guess costs, and each connection of the client.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    iterations: u32,
}

/// Reads the password from standard input, one line, and prints name and verifier.
pub(crate) fn run(arguments: &ScramArguments) -> anyhow::Result<()> {
    let password = entry::read_password()?;
    let salt: [u8; SALT_BYTES] = random::bytes()?;
    let verifier = Verifier::derive(SCRAM, &password, &salt, arguments.iterations)?;
    entry::print(&arguments.name, &verifier)
}
