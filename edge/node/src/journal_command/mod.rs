//! `tidegate-edge journal inspect|verify|export`: looking into a journal while no node runs on it.
//! All three hold the data folder's lock; only `export` recovers the journal first, as a start would.

mod export;
pub(crate) mod show;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_journal::{Journal, OpenReport, survey, verify};
use tidegate_shared::data_lock::DataLock;
use tidegate_shared::id::{EdgeOffset, StoreId, StreamName};

/// What to do with a journal.
#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Show what the journal holds; changes nothing.
    Inspect(Shown),
    /// Read every frame and chunk: exits with 0 if all is sound, with 1 if something is damaged;
    /// changes nothing.
    Verify(Shown),
    /// Write a stream's records to standard output, one JSON object a line.
    Export(Exported),
}

#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Exported {
    /// The stream; all of them where none is named.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// The first offset that is wanted.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
}

/// Runs the command on the journal under `data`.
pub(crate) fn run(command: JournalCommand, data: &Path) -> anyhow::Result<ExitCode> {
    let folder = data.join("journal");
    if !Directory::holds_journal(&folder) {
        bail!("there is no journal in {}", folder.display());
    }
    let _lock = DataLock::take(data)?;
    let medium = Directory::open(&folder)?;
    let limits = Limits {
        free_disk_min_bytes: 0,
        reserve_bytes: 0,
        ..Limits::default()
    };
    let failed = || format!("the journal in {} cannot be read", folder.display());
    match command {
        JournalCommand::Inspect(Shown { output }) => {
            let survey = survey(&medium, limits).with_context(failed)?;
            let survey = survey.context("the journal's index holds nothing")?;
            unless_closed(show::survey(&survey, output))?;
            Ok(ExitCode::SUCCESS)
        }
        JournalCommand::Verify(Shown { output }) => {
            let found = verify(&medium, limits).with_context(failed)?;
            unless_closed(show::verification(&found, output))?;
            Ok(match found.damage.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            })
        }
        JournalCommand::Export(wish) => {
            let name = wish.stream.map(StreamName::new).transpose()?;
            let opened = Journal::open(Arc::new(medium), limits, StoreId(random_id()?));
            let (journal, report) = opened.with_context(failed)?;
            warn_of(&report, &folder);
            export::export(&journal.reader(), name.as_ref(), EdgeOffset(wish.from))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Whoever reads may have had enough.
fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn warn_of(report: &OpenReport, folder: &Path) {
    for damage in &report.damage {
        eprintln!("tidegate-edge: {}: {damage}", folder.display());
    }
    for name in &report.set_aside {
        eprintln!("tidegate-edge: {}: set aside as {name}", folder.display());
    }
}

fn random_id() -> std::io::Result<u128> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}
