//! `tidegate topic consume`: a topic's records, as lines.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::Value;

use super::format::Format;
use crate::moment;
use crate::remote::show::items;
use crate::remote::{Client, Output, segment};

/// Records of one request.
const PAGE: u64 = 1_000;

/// Who follows waits so long for the next record before it asks again.
const WAIT_MS: u64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct ConsumeArguments {
    name: String,
    /// One partition; all, where it is left out
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Where to begin in --partition
    #[arg(
        long,
        value_name = "OFFSET",
        requires = "partition",
        conflicts_with = "from"
    )]
    offset: Option<i64>,
    /// Where to begin: beginning, end, or a time such as 2026-11-25T17:00:00Z, "10m ago" or milliseconds since 1970
    #[arg(long, value_name = "WHERE", default_value = "beginning", value_parser = place)]
    from: String,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Wait for more, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// json, or what a line is made of: %t topic, %p partition, %o offset, %T timestamp, %k key, %s value, %h headers, %%,
    /// \n and \t
    #[arg(long, value_name = "FORMAT", default_value = "%p %o %k = %s\\n")]
    format: String,
}

/// As the cloud's API has it.
fn place(text: &str) -> Result<String, String> {
    match text {
        "beginning" | "end" => Ok(text.to_owned()),
        time => moment::parse(time).map(|ms| ms.to_string()),
    }
}

pub(super) fn run(
    client: &Client,
    arguments: &ConsumeArguments,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let is_json = output == Output::Json || arguments.format == "json";
    let format = match is_json {
        true => None,
        false => Some(Format::parse(&arguments.format)?),
    };
    let path = format!("/api/v1/topics/{}/records", segment(&arguments.name));
    let mut out = io::stdout().lock();
    let is_safe = !out.is_terminal();
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut query = first(arguments);
    while left > 0 {
        query.push(("count", PAGE.min(left).to_string()));
        query.push((
            "wait_ms",
            if arguments.follow { WAIT_MS } else { 0 }.to_string(),
        ));
        let answer = client.get(&path, &query)?;
        let records = items(&answer, "records");
        for record in records {
            let line = match &format {
                Some(format) => format.line(&arguments.name, record, is_safe),
                None => format!("{record}\n").into_bytes(),
            };
            match out.write_all(&line) {
                // `| head` has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::SUCCESS);
                }
                written => written?,
            }
        }
        match out.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            flushed => flushed?,
        }
        left -= records.len() as u64;
        if records.is_empty() && !arguments.follow {
            break;
        }
        let next = answer["next"]
            .as_str()
            .context("the cloud does not say where to go on")?;
        query = vec![("next", next.to_owned())];
    }
    Ok(ExitCode::SUCCESS)
}

fn first(arguments: &ConsumeArguments) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    if let Some(partition) = arguments.partition {
        query.push(("partition", partition.to_string()));
    }
    match arguments.offset {
        Some(offset) => query.push(("offset", offset.to_string())),
        None => query.push(("from", arguments.from.clone())),
    }
    query
}

/// The bytes of a key or a value; `None` for none.
pub(super) fn bytes(payload: &Value) -> Option<Vec<u8>> {
    match payload {
        Value::String(text) => Some(text.clone().into_bytes()),
        packed => STANDARD.decode(packed["base64"].as_str()?).ok(),
    }
}
