//! `tidegate topic produce`: lines of standard input become records, as a Kafka producer's with `acks=all`.

use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::remote::show::{cell, count, items, print};
use crate::remote::{Client, Output, segment};

/// Lines of one request: one round trip, and one fsync, for all of them.
const LINES_MAX: usize = 1_000;

/// A request has no more bytes than this, but for one long line.
const BYTES_MAX: usize = 512 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct ProduceArguments {
    name: String,
    /// The partition; by the key, or else any one, where it is left out
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// The key of all records
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["key_separator", "json"])]
    key: Option<String>,
    /// What stands between key and value in a line
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    key_separator: Option<String>,
    /// A header of all records; can be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", conflicts_with = "json")]
    headers: Vec<String>,
    /// Each line is a record as JSON: {"key": …, "value": …, "headers": [{"name": …, "value": …}], "partition": …,
    /// "timestamp": …}, as topic consume --format json gives it
    #[arg(long)]
    json: bool,
}

impl ProduceArguments {
    /// A line as a record.
    fn record(&self, line: &str) -> anyhow::Result<Value> {
        if self.json {
            return self.parsed(line);
        }
        let mut record = Map::new();
        let value = match self.key_separator.as_deref() {
            Some(separator) => {
                let Some((key, value)) = line.split_once(separator) else {
                    bail!("{line:?} has no {separator:?} between key and value");
                };
                record.insert("key".to_owned(), json!(key));
                value
            }
            None => line,
        };
        record.insert("value".to_owned(), json!(value));
        if let Some(key) = &self.key {
            record.insert("key".to_owned(), json!(key));
        }
        if let Some(partition) = self.partition {
            record.insert("partition".to_owned(), json!(partition));
        }
        let headers = self.headers.iter().map(|header| {
            let pair = header.split_once('=');
            let (name, value) = pair.with_context(|| format!("{header:?} is not NAME=VALUE"))?;
            Ok(json!({ "name": name, "value": value }))
        });
        let headers = headers.collect::<anyhow::Result<Vec<_>>>()?;
        if !headers.is_empty() {
            record.insert("headers".to_owned(), Value::Array(headers));
        }
        Ok(Value::Object(record))
    }

    /// Without what only a consumed record has.
    fn parsed(&self, line: &str) -> anyhow::Result<Value> {
        let parsed = serde_json::from_str(line);
        let mut record: Map<String, Value> =
            parsed.with_context(|| format!("{line:?} is no JSON object"))?;
        record.remove("offset");
        if let Some(partition) = self.partition {
            record.insert("partition".to_owned(), json!(partition));
        }
        Ok(Value::Object(record))
    }
}

pub(super) fn run(
    client: &Client,
    arguments: &ProduceArguments,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let mut input = BufReader::with_capacity(BYTES_MAX, io::stdin());
    let (mut sent, mut line) = (0, String::new());
    let (mut records, mut bytes) = (Vec::new(), 0);
    loop {
        line.clear();
        let is_over = input
            .read_line(&mut line)
            .context("standard input is no text")?
            == 0;
        if !is_over {
            let text = line.strip_suffix('\n').unwrap_or(&line);
            bytes += text.len();
            records.push(arguments.record(text)?);
        }
        // What a person types, or a slow pipe brings, goes at once.
        let waits = is_over || !input.buffer().contains(&b'\n');
        if !records.is_empty() && (waits || records.len() >= LINES_MAX || bytes >= BYTES_MAX) {
            bytes = 0;
            sent += send(
                client,
                &arguments.name,
                std::mem::take(&mut records),
                output,
            )?;
        }
        if is_over {
            break;
        }
    }
    if output == Output::Table {
        print(&format!(
            "{} in topic {}",
            count(sent, "record"),
            arguments.name
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How many were taken.
fn send(client: &Client, topic: &str, records: Vec<Value>, output: Output) -> anyhow::Result<u64> {
    let path = format!("/api/v1/topics/{}/records", segment(topic));
    let answer = client.post(&path, &json!({ "records": records }))?;
    let mut taken = 0;
    for record in items(&answer, "records") {
        if let Some(error) = record["error"].as_str() {
            bail!("after {taken} of {} records: {error}", records.len());
        }
        taken += 1;
        if output == Output::Json {
            print(&record.to_string())?;
        }
    }
    if taken != records.len() as u64 {
        bail!(
            "the cloud answers for {taken} of {} records: {}",
            records.len(),
            cell(&answer)
        );
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> ProduceArguments {
        ProduceArguments {
            name: "orders".to_owned(),
            partition: None,
            key: None,
            key_separator: None,
            headers: Vec::new(),
            json: false,
        }
    }

    #[test]
    fn a_line_becomes_a_record() {
        let plain = arguments().record("21.5").unwrap();
        assert_eq!(plain, json!({ "value": "21.5" }));
        let keyed = ProduceArguments {
            key_separator: Some(": ".to_owned()),
            partition: Some(3),
            headers: vec!["unit=C=2".to_owned()],
            ..arguments()
        };
        let expected = json!({
            "key": "press-1", "value": "21.5", "partition": 3, "headers": [{ "name": "unit", "value": "C=2" }]
        });
        assert_eq!(keyed.record("press-1: 21.5").unwrap(), expected);
        assert!(keyed.record("21.5").is_err());
        let json = ProduceArguments {
            json: true,
            ..arguments()
        };
        let consumed = r#"{"offset": 7, "partition": 1, "value": null}"#;
        assert_eq!(
            json.record(consumed).unwrap(),
            json!({ "partition": 1, "value": null })
        );
        assert!(json.record("21.5").is_err());
    }
}
