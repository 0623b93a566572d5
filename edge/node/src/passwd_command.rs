//! `tidegate-edge passwd NAME`: a line for the file of `mqtt.users`, with an Argon2id hash.

use clap::Args;
use tidegate_edge::random;
use tidegate_edge_protocol::mqtt::authentication::{
    ARGON2_MEMORY_KIB, ARGON2_PASSES, PasswordHash,
};

use crate::entry;

#[derive(Debug, Args)]
pub(crate) struct PasswdArguments {
    /// The user's name, as clients give it.
    name: String,
    /// What a guess costs in memory, and each connection of the client while the password is checked.
    #[arg(long, default_value_t = ARGON2_MEMORY_KIB, value_name = "KIB")]
    memory_kib: u32,
    /// How often that memory is gone over.
    #[arg(long, default_value_t = ARGON2_PASSES, value_name = "N")]
    passes: u32,
}

/// Reads the password from standard input, one line, and prints name and hash.
pub(crate) fn run(arguments: &PasswdArguments) -> anyhow::Result<()> {
    let password = entry::read_password()?;
    let (memory_kib, passes) = (arguments.memory_kib, arguments.passes);
    let hash = PasswordHash::derive(password.as_bytes(), &random::bytes()?, memory_kib, passes)?;
    entry::print(&arguments.name, &hash)
}
