//! What all commands that talk to a running node share: which one, how the answer is shown, and the
//! HTTP client. They decide nothing: the node's API does.

mod access;
mod client;
pub(crate) mod show;
#[cfg(test)]
pub(crate) mod tests;

use clap::{Args, ValueEnum};

use access::AccessArguments;
pub(crate) use client::{Client, NoAnswer, segment};

/// Options of every command that asks a cloud.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct Remote {
    /// The cloud's HTTP address
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "TIDEGATE_CLOUD"
    )]
    pub(crate) cloud: String,
    #[command(flatten)]
    access: AccessArguments,
    /// For people, or for programs
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

impl Remote {
    #[cfg(test)]
    pub(crate) fn shows(&self, token: &str) -> bool {
        self.access.shows(token)
    }

    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let named_by = "--cloud or TIDEGATE_CLOUD";
        Client::with(&self.cloud, "cloud", named_by, self.access.access()?)
    }
}

/// The command line was wrong in a way that clap does not see.
#[derive(Debug, thiserror::Error)]
#[error("{0} (see tidegate --help)")]
pub(crate) struct Usage(pub(crate) String);
