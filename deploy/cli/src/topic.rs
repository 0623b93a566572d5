//! `tidegate topic`: list, create, look at, change, trim, verify and delete topics, and produce and consume their records.

mod consume;
mod format;
mod produce;
mod verify;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::remote::show::{cell, count, items, print, said, table};
use crate::remote::{Output, Remote, segment};

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct TopicArguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Every topic
    List,
    /// Make a topic
    Create {
        name: String,
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        partitions: u32,
        /// A setting that is not the default, such as storage.url=s3://bucket/prefix; can be given several times
        #[arg(long = "set", value_name = "SETTING=VALUE")]
        settings: Vec<String>,
    },
    /// Delete a topic with all its records; streams that land in it are parked
    Delete { name: String },
    /// A topic's settings, and how each partition is stored
    Describe { name: String },
    /// Change settings: retention.ms=86400000, or retention.ms= for the default. storage.url=s3://bucket/prefix
    /// moves what the topic has to that object store
    Alter {
        name: String,
        #[arg(required = true, value_name = "SETTING=VALUE")]
        changes: Vec<String>,
    },
    /// Give a topic more partitions
    Grow {
        name: String,
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        partitions: u32,
    },
    /// Send lines of standard input as records
    Produce(produce::ProduceArguments),
    /// Show records
    Consume(consume::ConsumeArguments),
    /// Give up the records of a partition before an offset (Kafka's DeleteRecords)
    Trim {
        name: String,
        #[arg(long, value_name = "N")]
        partition: i32,
        /// The first offset that stays; -1 gives up all that there is
        #[arg(long, value_name = "OFFSET", allow_negative_numbers = true)]
        before: i64,
    },
    /// What the topics' segments cost in a month, and what was asked of the object store since the start
    Cost,
    /// Read all that a topic has where it lies, past every cache; exit 1 where something is damaged
    Verify { name: String },
}

pub(crate) fn run(arguments: &TopicArguments) -> anyhow::Result<ExitCode> {
    let client = arguments.remote.client()?;
    let output = arguments.remote.output;
    match &arguments.verb {
        Verb::Verify { name } => return verify::run(&client, name, output),
        Verb::Produce(arguments) => return produce::run(&client, arguments, output),
        Verb::Consume(arguments) => return consume::run(&client, arguments, output),
        _ => {}
    }
    let (answer, text) = match &arguments.verb {
        Verb::List => {
            let answer = client.get("/api/v1/topics", &[])?;
            let text = list(&answer);
            (answer, text)
        }
        Verb::Create {
            name,
            partitions,
            settings,
        } => {
            let config = parse_changes(settings)?;
            let body = json!({ "name": name, "partitions": partitions, "config": config });
            let answer = client.post("/api/v1/topics", &body)?;
            (answer, format!("topic {name} is there"))
        }
        Verb::Delete { name } => {
            let path = format!("/api/v1/topics/{}", segment(name));
            let answer = client.delete(&path)?;
            (answer, format!("topic {name} is gone"))
        }
        Verb::Describe { name } => {
            let answer = client.get(&format!("/api/v1/topics/{}", segment(name)), &[])?;
            let text = describe(&answer);
            (answer, text)
        }
        Verb::Alter { name, changes } => {
            let body = json!({ "changes": parse_changes(changes)? });
            let answer = client.post(&format!("/api/v1/topics/{}/config", segment(name)), &body)?;
            let text = format!("{}\n\n{}", settings(&answer), stores(&answer));
            (answer, text)
        }
        Verb::Grow { name, partitions } => {
            let body = json!({ "partitions": partitions });
            let path = format!("/api/v1/topics/{}/partitions", segment(name));
            let answer = client.post(&path, &body)?;
            (answer, format!("topic {name} has {partitions} partitions"))
        }
        Verb::Trim {
            name,
            partition,
            before,
        } => {
            let body = json!({ "partition": partition, "before": before });
            let answer = client.post(&format!("/api/v1/topics/{}/trim", segment(name)), &body)?;
            let text = format!("partition {partition} begins at {}", cell(&answer["start"]));
            (answer, text)
        }
        Verb::Cost => {
            let answer = client.get("/api/v1/storage/cost", &[])?;
            let text = cost(&answer);
            (answer, text)
        }
        Verb::Verify { .. } | Verb::Produce(_) | Verb::Consume(_) => {
            unreachable!("it has been answered")
        }
    };
    print(&match output {
        Output::Json => answer.to_string(),
        Output::Table => text,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn list(answer: &Value) -> String {
    let rows = items(answer, "topics")
        .iter()
        .map(|topic| ["topic", "partitions", "records", "topic_id"].map(|name| cell(&topic[name])));
    let columns = ["TOPIC", "PARTITIONS", "RECORDS", "ID"];
    table(columns, &rows.collect::<Vec<_>>())
}

/// `name=value`; without a value it is the default.
fn parse_changes(changes: &[String]) -> anyhow::Result<Value> {
    let pairs = changes.iter().map(|change| match change.split_once('=') {
        Some((name, "")) => Ok((name.to_owned(), Value::Null)),
        Some((name, value)) => Ok((name.to_owned(), json!(value))),
        None => bail!("{change:?} is not SETTING=VALUE, such as retention.ms=86400000"),
    });
    Ok(Value::Object(pairs.collect::<anyhow::Result<_>>()?))
}

fn settings(answer: &Value) -> String {
    let rows = items(answer, "config").iter().map(|setting| {
        let origin = match setting["is_default"].as_bool() {
            Some(true) => "default",
            _ => "set",
        };
        [
            cell(&setting["name"]),
            cell(&setting["value"]),
            origin.to_owned(),
        ]
    });
    table(["SETTING", "VALUE", "FROM"], &rows.collect::<Vec<_>>())
}

fn describe(answer: &Value) -> String {
    let names = [
        "partition",
        "start",
        "end",
        "segments",
        "segments_bytes",
        "tail_batches",
        "tail_bytes",
    ];
    let rows = items(answer, "partitions").iter();
    let rows = rows.map(|partition| names.map(|name| cell(&partition[name])));
    let columns = [
        "PARTITION",
        "START",
        "END",
        "SEGMENTS",
        "BYTES",
        "UNPACKED",
        "BYTES",
    ];
    let partitions = table(columns, &rows.collect::<Vec<_>>());
    format!("{}\n\n{partitions}\n\n{}", settings(answer), stores(answer))
}

/// What the topic has in each object store, and how much of it is on its way.
fn stores(answer: &Value) -> String {
    let stores = items(answer, "stores");
    let rows = stores.iter().map(|store| {
        [
            cell(&store["url"]),
            cell(&store["segments"]),
            cell(&store["bytes"]),
        ]
    });
    let mut text = table(
        ["OBJECT STORE", "SEGMENTS", "BYTES"],
        &rows.collect::<Vec<_>>(),
    );
    let of = |store: &Value, name: &str| store[name].as_u64().unwrap_or(0);
    let elsewhere = stores
        .iter()
        .filter(|store| store["is_topics"].as_bool() != Some(true));
    let (segments, bytes) = elsewhere.fold((0, 0), |(segments, bytes), store| {
        (segments + of(store, "segments"), bytes + of(store, "bytes"))
    });
    if segments > 0 {
        let url = stores
            .iter()
            .find(|store| store["is_topics"].as_bool() == Some(true));
        let url = url.map_or_else(String::new, |store| cell(&store["url"]));
        let segments = count(segments, "segment");
        let bytes = count(bytes, "byte");
        text.push_str(&format!(
            "\nmoving: {segments} with {bytes} still go to {url}"
        ));
    }
    for store in stores.iter().filter(|store| !store["trouble"].is_null()) {
        let (url, trouble) = (cell(&store["url"]), said(&store["trouble"]));
        text.push_str(&format!("\n{url} cannot be used now: {trouble}"));
    }
    text
}

/// Dollars, to the hundredth of a cent.
fn dollars(value: &Value) -> String {
    format!("{:.4}", value.as_f64().unwrap_or(0.0))
}

fn cost(answer: &Value) -> String {
    let rows = items(answer, "topics").iter().map(|topic| {
        [
            cell(&topic["topic"]),
            cell(&topic["segments"]),
            cell(&topic["bytes"]),
            dollars(&topic["usd_per_month"]),
        ]
    });
    let topics = table(
        ["TOPIC", "SEGMENTS", "BYTES", "USD A MONTH"],
        &rows.collect::<Vec<_>>(),
    );
    let stores = items(answer, "stores").iter().map(|store| {
        let since = &store["since_start"];
        format!(
            "\n\nobject store  {}\nprices        {}\nsince start   {} bytes written, {} read, requests for {} USD",
            cell(&store["object_store"]),
            cell(&store["price_list"]),
            cell(&since["written_bytes"]),
            cell(&since["read_bytes"]),
            dollars(&since["usd_total"]),
        )
    });
    format!("{topics}{}", stores.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_name_and_a_value_and_none_is_the_default() {
        let changes = ["retention.ms=-1", "cleanup.policy="].map(str::to_owned);
        let parsed = parse_changes(&changes).unwrap();
        assert_eq!(
            parsed,
            json!({ "retention.ms": "-1", "cleanup.policy": null })
        );
        assert!(parse_changes(&["retention.ms".to_owned()]).is_err());
    }
}
