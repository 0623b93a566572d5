//! `tidegate topic`: list, create and delete topics.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::remote::show::{cell, items, print, table};
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
    },
    /// Delete a topic with all its records; streams that land in it are parked
    Delete { name: String },
}

pub(crate) fn run(arguments: &TopicArguments) -> anyhow::Result<ExitCode> {
    let client = arguments.remote.client()?;
    let (answer, text) = match &arguments.verb {
        Verb::List => {
            let answer = client.get("/api/v1/topics", &[])?;
            let text = list(&answer);
            (answer, text)
        }
        Verb::Create { name, partitions } => {
            let body = json!({ "name": name, "partitions": partitions });
            let answer = client.post("/api/v1/topics", &body)?;
            (answer, format!("topic {name} is there"))
        }
        Verb::Delete { name } => {
            let path = format!("/api/v1/topics/{}", segment(name));
            let answer = client.delete(&path)?;
            (answer, format!("topic {name} is gone"))
        }
    };
    print(&match arguments.remote.output {
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
