//! `tidegate-edge scram NAME`: a line for the file of `mqtt.scram_users`.

use std::io::{IsTerminal as _, stdin};

use anyhow::{Context as _, anyhow};
use clap::Args;
use ring::rand::{SecureRandom as _, SystemRandom};
use tidegate_edge_protocol::mqtt::authentication::{SCRAM, Users, Verifier};

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
    if stdin().is_terminal() {
        eprintln!("Password (it is shown):");
    }
    let mut password = String::new();
    stdin()
        .read_line(&mut password)
        .context("cannot read the password from standard input")?;
    let password = password.trim_end_matches(['\r', '\n']);
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| anyhow!("the system gives no random bytes"))?;
    let verifier = Verifier::derive(SCRAM, password, &salt, arguments.iterations)?;
    let line = format!("{}:{verifier}", arguments.name);
    // As the node will read it.
    let read = Users::parse(&line, [0; 32]).map_err(|error| anyhow!("{}", error.problem))?;
    anyhow::ensure!(read.len() == 1, "the name is a comment, or empty");
    println!("{line}");
    Ok(())
}
