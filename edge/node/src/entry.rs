//! What the commands have in common that make lines for the file of `mqtt.users`.

use std::fmt::Display;
use std::io::{IsTerminal as _, stdin};

use anyhow::{Context as _, anyhow};
use tidegate_edge_protocol::mqtt::authentication::Users;

/// One line of standard input.
pub(crate) fn read_password() -> anyhow::Result<String> {
    if stdin().is_terminal() {
        eprintln!("Password (it is shown):");
    }
    let mut password = String::new();
    stdin()
        .read_line(&mut password)
        .context("cannot read the password from standard input")?;
    password.truncate(password.trim_end_matches(['\r', '\n']).len());
    Ok(password)
}

/// Checks that the node will read it so.
pub(crate) fn print(name: &str, proof: &impl Display) -> anyhow::Result<()> {
    let line = format!("{name}:{proof}");
    let read = Users::parse(&line, [0; 32]).map_err(|error| anyhow!("{}", error.problem))?;
    anyhow::ensure!(read.len() == 1, "the name is a comment, or empty");
    println!("{line}");
    Ok(())
}
