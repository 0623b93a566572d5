//! `tidegate cloud`: how the cloud's own state stands, backups of it, and the one decision that only an operator
//! takes: to go on after it was restored from a copy.

#[cfg(feature = "up")]
mod backup;
#[cfg(feature = "up")]
mod restore;

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::remote::show::{cell, items, print};
use crate::remote::{Client, Output, Remote, Usage};

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct CloudArguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Its incarnation, whether it lands, and what waits for a decision
    Status,
    /// Make a backup, while the cloud runs or while it does not: its state, what has landed, and its CA with
    /// the private key
    #[cfg(feature = "up")]
    Backup(backup::BackupArguments),
    /// The backups that are at a place
    #[cfg(feature = "up")]
    Backups(restore::ListArguments),
    /// Put a backup back into an empty folder; all that is copied is checked
    #[cfg(feature = "up")]
    Restore(restore::RestoreArguments),
    /// After a restore from an older copy: begin a new cluster incarnation. Edges then send again what
    /// they keep; what they no longer keep is declared lost
    BeginIncarnation {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) fn run(arguments: &CloudArguments) -> anyhow::Result<ExitCode> {
    let remote = &arguments.remote;
    let ((answer, text), code) = match &arguments.verb {
        Verb::Status => done(status(&remote.client()?)?),
        Verb::BeginIncarnation { yes } => done(begin_incarnation(&remote.client()?, *yes)?),
        #[cfg(feature = "up")]
        Verb::Backup(arguments) => done(backup::run(remote, arguments)?),
        #[cfg(feature = "up")]
        Verb::Backups(arguments) => restore::list(arguments)?,
        #[cfg(feature = "up")]
        Verb::Restore(arguments) => done(restore::run(arguments)?),
    };
    print(&match remote.output {
        Output::Json => answer.to_string(),
        Output::Table => text,
    })?;
    Ok(code)
}

/// An answer as JSON, and as text.
type Said = (Value, String);

fn done(said: Said) -> (Said, ExitCode) {
    (said, ExitCode::SUCCESS)
}

fn ask_status(client: &Client) -> anyhow::Result<Value> {
    client.get("/api/v1/cluster", &[])
}

fn status(client: &Client) -> anyhow::Result<Said> {
    let status = ask_status(client)?;
    let text = describe(&status);
    Ok((status, text))
}

fn begin_incarnation(client: &Client, yes: bool) -> anyhow::Result<Said> {
    let status = ask_status(client)?;
    if !yes {
        confirm(client, &status)?;
    }
    let answer = client.post("/api/v1/cluster/incarnation", &json!({}))?;
    let life = cell(&answer["cluster_incarnation"]);
    let text = format!("cluster incarnation {life} has begun; edges connect anew");
    Ok((answer, text))
}

fn confirm(client: &Client, status: &Value) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        let why = "begin-incarnation asks for confirmation, and there is no terminal: add --yes";
        return Err(Usage(why.to_owned()).into());
    }
    let why = match status["behind"].is_null() {
        true => "It is NOT behind what its edges have seen: this is not needed.".to_owned(),
        false => behind(&status["behind"]),
    };
    let url = client.url();
    eprint!(
        "{why}\nBegin a new cluster incarnation at {url}? Every stream is numbered anew. [y/N] "
    );
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was begun"),
    }
}

fn behind(behind: &Value) -> String {
    let edge = cell(&behind["edge"]);
    let seen = match behind["stream"].as_str() {
        Some(stream) => format!("had landed more of stream {}", cell(&Value::from(stream))),
        None => format!(
            "has seen incarnation {}, session {}",
            cell(&behind["seen"]),
            cell(&behind["seen_epoch"])
        ),
    };
    format!("The cloud is older than what edge {edge} has seen: it {seen}.")
}

fn describe(status: &Value) -> String {
    let mut lines = vec![
        format!("incarnation  {}", cell(&status["cluster_incarnation"])),
        format!(
            "edges        {}, {} connected",
            cell(&status["edges"]),
            cell(&status["connected"])
        ),
        format!("topics       {}", cell(&status["topics"])),
    ];
    match &status["behind"] {
        Value::Null => lines.push("landing      yes".to_owned()),
        is_behind => lines.push(format!(
            "landing      NO. {} If it was restored from a copy: tidegate cloud begin-incarnation",
            behind(is_behind)
        )),
    }
    for edge in items(status, "quarantined") {
        let edge = cell(edge);
        lines.push(format!(
            "quarantine   {edge}: two nodes have its certificate; stop one, then tidegate edge release {edge}"
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_to_decide() {
        let mut status = json!({
            "cluster_incarnation": "1-ab", "behind": null, "edges": 2, "connected": 1,
            "topics": 1, "quarantined": ["plant-7"],
        });
        let text = describe(&status);
        assert!(text.contains("landing      yes"), "{text}");
        assert!(text.contains("tidegate edge release plant-7"), "{text}");
        status["behind"] =
            json!({"edge": "plant-7", "seen": "1-ab", "seen_epoch": 9, "stream": null});
        let text = describe(&status);
        assert!(
            text.contains("landing      NO") && text.contains("session 9"),
            "{text}"
        );
        assert!(text.contains("tidegate cloud begin-incarnation"), "{text}");
    }
}
