//! `tidegate edge`: which edges there are, how they stand, and release from quarantine.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::remote::show::{cell, items, print, table, time};
use crate::remote::{Output, Remote, segment};

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct EdgeArguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Every edge that has ever connected
    List,
    /// One edge, its streams and their forks
    Show { edge: String },
    /// Let an edge out of quarantine, after one of its two nodes is stopped
    Release { edge: String },
}

pub(crate) fn run(arguments: &EdgeArguments) -> anyhow::Result<ExitCode> {
    let remote = &arguments.remote;
    let client = remote.client()?;
    let of = |edge: &str| format!("/api/v1/edges/{}", segment(edge));
    let (answer, text) = match &arguments.verb {
        Verb::List => {
            let answer = client.get("/api/v1/edges", &[])?;
            let text = list(&answer);
            (answer, text)
        }
        Verb::Show { edge } => {
            let answer = client.get(&of(edge), &[])?;
            let text = show(&answer);
            (answer, text)
        }
        Verb::Release { edge } => {
            let path = of(edge) + "/release";
            let answer = client.post(&path, &json!({}))?;
            (answer, format!("edge {edge} may connect again"))
        }
    };
    print(&match remote.output {
        Output::Json => answer.to_string(),
        Output::Table => text,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether there is a link, since when or until when, and what else must be known.
pub(crate) fn link_state(link: &Value) -> String {
    match (
        link["connected"].as_bool(),
        link["last_seen_ms"].is_number(),
    ) {
        (Some(true), _) => format!("since {}", time(&link["since_ms"])),
        (_, true) => format!("no, last seen {}", time(&link["last_seen_ms"])),
        _ => "no, never since the cloud's start".to_owned(),
    }
}

fn list(answer: &Value) -> String {
    let rows = items(answer, "edges").iter().map(|edge| {
        let state = match edge["quarantined"] == true {
            true => "quarantine",
            false => "ok",
        };
        [
            cell(&edge["edge"]),
            link_state(&edge["link"]),
            cell(&edge["streams"]),
            cell(&edge["landed"]),
            state.to_owned(),
        ]
    });
    let columns = ["EDGE", "CONNECTED", "STREAMS", "LANDED", "STATE"];
    table(columns, &rows.collect::<Vec<_>>())
}

fn show(edge: &Value) -> String {
    let mut lines = vec![
        format!("edge           {}", cell(&edge["edge"])),
        format!("connected      {}", link_state(&edge["link"])),
        format!("store          {}", cell(&edge["store_id"])),
        format!("session epoch  {}", cell(&edge["session_epoch"])),
    ];
    if let Some(ended) = edge["link"]["last_ended"].as_str() {
        lines.push(format!("last ended     {}", cell(&Value::from(ended))));
    }
    if edge["quarantined"] == true {
        let name = cell(&edge["edge"]);
        lines.push(format!(
            "quarantine     two nodes have its certificate: stop one, then tidegate edge release {name}"
        ));
    }
    lines.push(String::new());
    lines.push(streams(edge));
    let forks = forks(edge);
    if !forks.is_empty() {
        let columns = [
            "STREAM",
            "INCARNATION",
            "FROM",
            "ENDED",
            "AT",
            "LOST",
            "WHY",
            "WHEN",
        ];
        lines.extend([String::new(), table(columns, &forks)]);
    }
    lines.join("\n")
}

fn streams(edge: &Value) -> String {
    let rows = items(edge, "streams").iter().map(|stream| {
        let state = match stream["parked"] == true {
            true => "parked: its topic is gone",
            false => "ok",
        };
        let fields = [
            "stream",
            "topic",
            "partition",
            "incarnation",
            "landed",
            "announced",
            "lost",
        ];
        let [name, topic, partition, incarnation, landed, announced, lost] =
            fields.map(|name| cell(&stream[name]));
        let state = state.to_owned();
        [
            name,
            topic,
            partition,
            incarnation,
            landed,
            announced,
            lost,
            state,
        ]
    });
    let columns = [
        "STREAM",
        "TOPIC",
        "PARTITION",
        "INCARNATION",
        "LANDED",
        "ANNOUNCED",
        "LOST",
        "STATE",
    ];
    table(columns, &rows.collect::<Vec<_>>())
}

fn forks(edge: &Value) -> Vec<[String; 8]> {
    let streams = items(edge, "streams").iter();
    let forks = streams.flat_map(|stream| {
        let name = cell(&stream["stream"]);
        let forks = items(stream, "forks").iter();
        forks.map(move |fork| {
            let field = |name: &str| cell(&fork[name]);
            [
                name.clone(),
                field("incarnation"),
                field("from"),
                field("ended"),
                field("ended_at"),
                field("lost"),
                field("reason"),
                time(&fork["at_ms"]),
            ]
        })
    });
    forks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> Value {
        json!({
            "edge": "plant-7",
            "quarantined": true,
            "link": {"connected": false, "last_seen_ms": 1_700_000_000_000_u64, "last_ended": "fenced: x"},
            "session_epoch": 4,
            "store_id": "ab",
            "landed": 12,
            "streams": [{
                "stream": "telemetry", "topic": null, "partition": 3, "incarnation": 2,
                "landed": 12, "announced": 15, "lost": 0, "parked": true,
                "forks": [{"incarnation": 2, "from": 5, "ended": 1, "ended_at": 9, "lost": 0,
                           "reason": "unproved", "at_ms": 1_700_000_000_000_u64}],
            }],
        })
    }

    #[test]
    fn a_list_says_who_is_connected_and_who_is_held() {
        let mut one = edge();
        one["streams"] = json!(1);
        let text = list(&json!({ "edges": [one] }));
        let row = text.lines().nth(1).unwrap();
        assert!(
            row.starts_with("plant-7  no, last seen 2023-11-14 22:13:20Z"),
            "{row}"
        );
        assert!(row.ends_with("quarantine"), "{row}");
    }

    #[test]
    fn one_edge_is_shown_with_what_to_do() {
        let text = show(&edge());
        assert!(text.contains("tidegate edge release plant-7"), "{text}");
        assert!(text.contains("parked: its topic is gone"), "{text}");
        assert!(
            text.contains("unproved") && text.contains("last ended     fenced: x"),
            "{text}"
        );
    }
}
