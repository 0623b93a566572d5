//! `tidegate offsets`: from Kafka's offsets to the edges' and back, groups in terms of edges, and the
//! facts behind it as files.

mod facts;
mod translate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::remote::Remote;
pub(crate) use translate::why_not;

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct OffsetsArguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Where the record at a Kafka offset came from: edge, stream and edge offset
    Lookup {
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// Where an edge's message lies in Kafka; with --group, what a consumer group has of each edge
    Translate(Translate),
    /// The facts of the offset map, one JSON line each
    Export {
        /// Only of this edge
        #[arg(long)]
        edge: Option<String>,
        /// Only of this stream
        #[arg(long)]
        stream: Option<String>,
        /// Where to; standard output where it is left out
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Take up the facts of a file (- is standard input); what is known stays, what contradicts it is
    /// refused
    Import { file: PathBuf },
    /// Check the offset map from both sides; with FILE, also that every fact of it is there
    Verify { file: Option<PathBuf> },
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
struct Translate {
    #[arg(required_unless_present = "group", requires = "stream")]
    edge: Option<String>,
    #[arg(requires = "offset")]
    stream: Option<String>,
    offset: Option<u64>,
    /// The life of the stream's numbering; the newest that has the offset where it is left out
    #[arg(long, value_name = "N", requires = "offset")]
    incarnation: Option<u64>,
    /// Show a consumer group's offsets in terms of edges
    #[arg(long)]
    group: Option<String>,
    /// Put the group to EDGE STREAM OFFSET: it reads that message next. Its consumers must be stopped
    #[arg(long, requires = "group", requires = "offset")]
    set: bool,
}

pub(crate) fn run(arguments: &OffsetsArguments) -> anyhow::Result<ExitCode> {
    let remote = &arguments.remote;
    match &arguments.verb {
        Verb::Lookup {
            topic,
            partition,
            offset,
        } => translate::lookup(remote, topic, *partition, *offset),
        Verb::Translate(translate) => translate::run(remote, translate),
        Verb::Export { edge, stream, file } => {
            let query = [("edge", edge), ("stream", stream)];
            facts::export(remote, &query, file.as_deref())
        }
        Verb::Import { file } => facts::import(remote, file),
        Verb::Verify { file } => facts::verify(remote, file.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command, one_line};

    fn parse(line: &str) -> Result<OffsetsArguments, String> {
        let words = std::iter::once("tidegate").chain(line.split_whitespace());
        match Arguments::try_parse_from(words) {
            Ok(Arguments {
                command: Command::Offsets(offsets),
            }) => Ok(offsets),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(one_line(&error)),
        }
    }

    fn translate(line: &str) -> Result<Translate, String> {
        match parse(line)?.verb {
            Verb::Translate(translate) => Ok(translate),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_cloud_is_named_anywhere_on_the_line() {
        let before = parse("offsets --cloud http://c:1 verify").unwrap();
        let after = parse("offsets verify --cloud http://c:1 --output json").unwrap();
        assert_eq!(before.remote.cloud, "http://c:1");
        assert_eq!(after.remote.cloud, "http://c:1");
        assert_eq!(after.remote.output, crate::remote::Output::Json);
    }

    #[test]
    fn translate_takes_a_message_or_a_group_or_both_to_set_it() {
        let one = translate("offsets translate e s 7 --incarnation 2").unwrap();
        assert_eq!(
            (one.offset, one.incarnation, one.set),
            (Some(7), Some(2), false)
        );
        let group = translate("offsets translate --group g").unwrap();
        assert_eq!((group.group.as_deref(), group.edge), (Some("g"), None));
        let set = translate("offsets translate --group g --set e s 7").unwrap();
        assert_eq!((set.set, set.offset), (true, Some(7)));
    }

    #[test]
    fn half_a_question_is_refused() {
        for line in [
            "offsets translate",
            "offsets translate e",
            "offsets translate e s",
            "offsets translate --group g --set",
            "offsets translate e s 7 --set",
            "offsets translate e s -1",
            "offsets lookup telemetry 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
