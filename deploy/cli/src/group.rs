//! `tidegate group`: list, look at, reset and delete consumer groups.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::moment;
use crate::remote::show::{cell, items, print, table};
use crate::remote::{Output, Remote, segment};

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct GroupArguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Every group
    List,
    /// A group's members and what each reads, its committed offsets, and how far it is behind
    Describe { name: String },
    /// How far a group is behind, partition by partition
    Lag { name: String },
    /// Put a group that has no members somewhere else in a topic
    Reset {
        name: String,
        #[arg(long, value_name = "TOPIC")]
        topic: String,
        /// One partition; all, where it is left out
        #[arg(long, value_name = "N")]
        partition: Option<i32>,
        /// beginning, end, offset:N, shift:N (back with -N), or a time such as 2026-11-25T17:00:00Z or "10m ago"
        #[arg(long, value_name = "WHERE", value_parser = place)]
        to: Value,
        /// Only show what would be
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete a group that has no members, with its offsets
    Delete { name: String },
}

/// As the cloud's API has it.
fn place(text: &str) -> Result<Value, String> {
    let number = |text: &str| {
        let number = text.parse::<i64>();
        number.map_err(|_| format!("{text:?} is no whole number"))
    };
    Ok(match text.split_once(':') {
        _ if matches!(text, "beginning" | "end") => json!(text),
        Some(("offset", offset)) => json!({ "offset": number(offset)? }),
        Some(("shift", by)) => json!({ "shift": number(by)? }),
        _ => {
            let time = moment::parse(text);
            let time =
                time.map_err(|why| format!("{why}; or beginning, end, offset:N, shift:N"))?;
            json!({ "time": time })
        }
    })
}

pub(crate) fn run(arguments: &GroupArguments) -> anyhow::Result<ExitCode> {
    let client = arguments.remote.client()?;
    let path = |name: &str| format!("/api/v1/groups/{}", segment(name));
    let (answer, text) = match &arguments.verb {
        Verb::List => {
            let answer = client.get("/api/v1/groups", &[])?;
            let text = list(&answer);
            (answer, text)
        }
        Verb::Describe { name } => {
            let answer = client.get(&path(name), &[])?;
            let text = format!(
                "{}\n\n{}\n\n{}",
                state(&answer),
                members(&answer),
                lag(&answer)
            );
            (answer, text)
        }
        Verb::Lag { name } => {
            let answer = client.get(&path(name), &[])?;
            let text = lag(&answer);
            (answer, text)
        }
        Verb::Reset {
            name,
            topic,
            partition,
            to,
            dry_run,
        } => {
            let body =
                json!({ "topic": topic, "partition": partition, "to": to, "dry_run": dry_run });
            let answer = client.post(&format!("{}/offsets", path(name)), &body)?;
            let text = was_reset(&answer);
            (answer, text)
        }
        Verb::Delete { name } => {
            let answer = client.delete(&path(name))?;
            (answer, format!("group {name} is gone"))
        }
    };
    print(&match arguments.remote.output {
        Output::Json => answer.to_string(),
        Output::Table => text,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn rows<const N: usize>(answer: &Value, of: &str, names: [&str; N]) -> Vec<[String; N]> {
    let rows = items(answer, of).iter();
    rows.map(|row| names.map(|name| cell(&row[name]))).collect()
}

fn list(answer: &Value) -> String {
    let rows = rows(answer, "groups", ["group", "state", "protocol_type"]);
    table(["GROUP", "STATE", "PROTOCOL"], &rows)
}

fn state(answer: &Value) -> String {
    format!(
        "group     {}\nstate     {}\nassignor  {}\nlag       {}",
        cell(&answer["group"]),
        cell(&answer["state"]),
        cell(&answer["assignor"]),
        cell(&answer["lag"]),
    )
}

fn members(answer: &Value) -> String {
    let rows = items(answer, "members").iter().map(|member| {
        let places = items(member, "partitions").iter();
        let places =
            places.map(|place| format!("{}/{}", cell(&place["topic"]), cell(&place["partition"])));
        [
            cell(&member["member"]),
            cell(&member["client_id"]),
            cell(&member["host"]),
            places.collect::<Vec<_>>().join(" "),
        ]
    });
    table(
        ["MEMBER", "CLIENT", "HOST", "READS"],
        &rows.collect::<Vec<_>>(),
    )
}

fn lag(answer: &Value) -> String {
    let names = ["topic", "partition", "committed", "end", "lag", "member"];
    let columns = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"];
    table(columns, &rows(answer, "offsets", names))
}

fn was_reset(answer: &Value) -> String {
    let rows = rows(
        answer,
        "offsets",
        ["topic", "partition", "before", "offset"],
    );
    let after = match answer["dry_run"].as_bool() {
        Some(true) => "WOULD BE",
        _ => "IS NOW",
    };
    table(["TOPIC", "PARTITION", "WAS", after], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        assert_eq!(place("beginning"), Ok(json!("beginning")));
        assert_eq!(place("offset:5"), Ok(json!({ "offset": 5 })));
        assert_eq!(place("shift:-5"), Ok(json!({ "shift": -5 })));
        let time = place("2026-11-25T17:00:00Z");
        assert_eq!(time, Ok(json!({ "time": 1_795_626_000_000_i64 })));
        for wrong in ["offset:x", "start", "shift:"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_group_is_shown_with_what_each_member_reads() {
        let answer = json!({
            "group": "readers", "state": "Stable", "assignor": "range", "lag": 3,
            "members": [{"member": "m-1", "client_id": "c", "host": "/127.0.0.1",
                         "partitions": [{"topic": "orders", "partition": 0}, {"topic": "orders", "partition": 1}]}],
            "offsets": [{"topic": "orders", "partition": 0, "committed": 7, "end": 10, "lag": 3, "member": "m-1"}],
        });
        assert!(members(&answer).contains("orders/0 orders/1"));
        assert!(lag(&answer).lines().nth(1).unwrap().ends_with("m-1"));
        assert!(state(&answer).contains("Stable"));
    }
}
