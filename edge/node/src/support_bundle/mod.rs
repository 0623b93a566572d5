//! `tidegate-edge support-bundle`: what somebody who helps from afar needs to see, in one file. What is not known to be
//! harmless is left out: of the configuration only keys that are named here are told, no file of secrets is opened but to
//! count, no record is read, and all text goes through [`scrub`].

mod archive;
mod scrub;
mod settings;
mod system;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use tidegate_edge::doctor::{Level, Standing, examine, http_get};
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_journal::survey;
use tidegate_shared::data_lock::DataLock;
use tidegate_shared::fleet::EdgeSpec;

use crate::journal_command::show::survey_json;
use archive::Archive;
use scrub::{scrub, scrub_value};

/// Of a log, its newest end.
const LOG_BYTES_MAX: usize = 8 << 20;

const ABOUT: &str = "What `tidegate-edge support-bundle` has collected.

Left out: payloads, passwords and what is made of them, tokens, keys, certificates' files, rules, user names
in the log, and every key of the configuration that is not known to be harmless.
In it: names of streams, topics in routes and in the log, client ids, addresses, paths, host facts.

config.json    the configuration, keys that are known to be harmless
doctor.json    what tidegate-edge doctor finds
versions.json  of the program and of the machine
metrics.txt    /metrics of the running node
where.json     how the uplink and each stream stand
journal.json   what the journal of a stopped node holds, without records
files.txt      files below the data folder: sizes and times
system.txt     the machine: memory, mounts, limits, network
log.txt        the node's log, its newest end
kernel.txt     what the kernel said of disks and cards
";

#[derive(Debug, Args)]
pub(crate) struct BundleArguments {
    /// The file to write, a gzipped tar.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "tidegate-edge-support.tar.gz"
    )]
    out: PathBuf,
    /// Where the node's log is, if it does not go to systemd's journal.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

impl BundleArguments {
    /// `load` reads the configuration.
    pub(crate) async fn run(
        self,
        config: Option<&Path>,
        data: Option<PathBuf>,
        load: impl FnOnce() -> anyhow::Result<EdgeSpec>,
    ) -> anyhow::Result<ExitCode> {
        let report = examine(config, data).await;
        let mut archive = Archive::default();
        archive.add("README.txt", ABOUT.to_owned());
        add_json(&mut archive, "doctor.json", report.to_json());
        let spec = load();
        let shown = spec.as_ref().map(settings::effective);
        let shown = shown.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        add_json(&mut archive, "config.json", shown);
        let spec = spec.unwrap_or_default();
        let standing = Standing::of(&spec);
        add_json(&mut archive, "versions.json", system::versions());
        archive.add("metrics.txt", scrub(&asked(&spec, &standing, "/metrics")));
        add_json(
            &mut archive,
            "where.json",
            standings(&asked(&spec, &standing, "/api/v1/where")),
        );
        add_json(&mut archive, "journal.json", journal(&spec.data, &standing));
        archive.add("files.txt", system::files(&spec.data));
        archive.add("system.txt", scrub(&system::facts(&spec, &standing)));
        let log = match &self.log_file {
            Some(path) => system::newest_of(path, LOG_BYTES_MAX),
            None => system::journald(LOG_BYTES_MAX),
        };
        archive.add("log.txt", scrub(&log));
        archive.add("kernel.txt", scrub(&system::kernel()));
        let written = archive.write(&self.out);
        let entries = written.with_context(|| format!("cannot write {}", self.out.display()))?;
        for (name, bytes) in entries {
            println!("{bytes:>9} B  {name}");
        }
        let (problems, out) = (report.count(Level::Problem), self.out.display());
        println!(
            "{out} is written, for you alone to read; doctor finds {problems} problems. Look into it before you send it."
        );
        Ok(ExitCode::SUCCESS)
    }
}

fn add_json(archive: &mut Archive, name: &'static str, value: Value) {
    archive.add(name, format!("{:#}\n", scrub_value(value)));
}

/// What the running node says.
fn asked(spec: &EdgeSpec, standing: &Standing, path: &str) -> String {
    if !standing.is_running {
        return "no node runs\n".to_owned();
    }
    match http_get(spec.http.address, path) {
        Ok((200, body)) => body,
        Ok((status, _)) => format!("the node answers with {status}\n"),
        Err(error) => format!("the node does not answer: {error}\n"),
    }
}

/// Without the message that it found.
fn standings(answer: &str) -> Value {
    match serde_json::from_str::<Value>(answer) {
        Ok(answer) => json!({
            "edge": answer["edge"],
            "uplink": answer["uplink"],
            "streams": answer["streams"],
        }),
        Err(_) => json!({ "error": answer.trim() }),
    }
}

/// Streams and log files, as `journal inspect` has them; no record is read.
fn journal(data: &Path, standing: &Standing) -> Value {
    let surveyed = || -> anyhow::Result<Value> {
        let folder = data.join("journal");
        anyhow::ensure!(
            !standing.is_running,
            "a node runs: where.json and metrics.txt tell of its streams"
        );
        anyhow::ensure!(Directory::holds_journal(&folder), "there is no journal");
        let _lock = DataLock::take(data)?;
        let limits = Limits {
            free_disk_min_bytes: 0,
            reserve_bytes: 0,
            ..Limits::default()
        };
        let found = survey(&Directory::open(&folder)?, limits)?;
        Ok(survey_json(
            &found.context("the journal's index holds nothing")?,
        ))
    };
    surveyed().unwrap_or_else(|error| json!({ "error": format!("{error:#}") }))
}
