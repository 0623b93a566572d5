//! `tidegate-edge import mosquitto.conf`: an edge.yaml, and what it could not carry over.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::import::{self, Fate, Files, Imported};

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// mosquitto's configuration. What it includes is read, too, and its files of passwords and rules.
    #[arg(value_name = "MOSQUITTO_CONF")]
    file: PathBuf,
    /// Where the edge.yaml goes; without it, to standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "out_dir")]
    out: Option<PathBuf>,
    /// A folder for edge.yaml and the files that it names: acl.yaml, users, and a NAME.password for each source.
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

/// Something of it could not be carried over, and somebody has to look.
const INCOMPLETE: u8 = 1;
/// There is no result: a file cannot be read or written, or mosquitto itself would not take it.
const NO_RESULT: u8 = 2;

/// The largest file that is read: an ACL of a large site.
const FILE_BYTES_MAX: u64 = 16 << 20;

struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<String, String> {
        let shown =
            |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        let length = fs::metadata(path).map_err(|error| shown(&error))?.len();
        if length > FILE_BYTES_MAX {
            return Err(shown(&format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        fs::read_to_string(path).map_err(|error| shown(&error))
    }

    fn configurations(&self, folder: &Path) -> Result<Vec<PathBuf>, String> {
        let shown = |error| format!("cannot read {}: {error}", folder.display());
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(shown)? {
            let path = entry.map_err(shown)?.path();
            if path.extension().is_some_and(|end| end == "conf") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        // It fails where there is no current folder: then it stays as it is.
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }
}

/// Exits with 0 where all was carried over, with 1 where something was not, with 2 where there is no result.
pub(crate) fn run(arguments: &ImportArguments) -> ExitCode {
    let imported = match import::import(&arguments.file, &Disk) {
        Ok(imported) => imported,
        Err(problems) => {
            for problem in problems {
                eprintln!("tidegate-edge: {problem}");
            }
            return ExitCode::from(NO_RESULT);
        }
    };
    if let Err(error) = put(arguments, &imported) {
        eprintln!("tidegate-edge: {error:#}");
        return ExitCode::from(NO_RESULT);
    }
    let report = &imported.report;
    for finding in report.worth_reading() {
        eprintln!("{finding}");
    }
    let count = |fate| report.of(fate).count();
    eprintln!(
        "{} carried over, {} so here anyway, {} somewhat otherwise, {} not carried over",
        count(Fate::Mapped),
        count(Fate::IsSo),
        count(Fate::Differs),
        count(Fate::NotCarried)
    );
    match count(Fate::NotCarried) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(INCOMPLETE),
    }
}

fn put(arguments: &ImportArguments, imported: &Imported) -> anyhow::Result<()> {
    let Some(folder) = &arguments.out_dir else {
        let beside: Vec<_> = beside(imported).map(|(name, _)| name).collect();
        if !beside.is_empty() {
            eprintln!(
                "edge.yaml names {}: --out-dir writes them, too",
                beside.join(", ")
            );
        }
        return match &arguments.out {
            Some(path) => write(path, &imported.edge, 0o644),
            None => Ok(std::io::stdout().write_all(imported.edge.as_bytes())?),
        };
    };
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, text) in beside(imported) {
        // Who may read them is for whoever installs them.
        write(&folder.join(name), text, 0o600)?;
    }
    write(&folder.join("edge.yaml"), &imported.edge, 0o644)
}

fn beside(imported: &Imported) -> impl Iterator<Item = (&str, &str)> {
    let named = [("acl.yaml", &imported.acl), ("users", &imported.users)];
    let named = named
        .into_iter()
        .filter_map(|(name, text)| Some((name, text.as_deref()?)));
    let passwords = imported.passwords.iter();
    named.chain(passwords.map(|(name, text)| (name.as_str(), text.as_str())))
}

/// Never over a file that is there: it may have been worked on.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}
