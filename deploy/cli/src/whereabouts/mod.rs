//! `tidegate where`: one message's way, hop by hop. What has landed the cloud says; what has not, only
//! the edge, which is asked too where it can be reached.

mod hops;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::moment;
use crate::remote::show::print;
use crate::remote::{Client, NoAnswer, Output, Remote};

/// Where an edge on this machine is.
const EDGE_URL: &str = "http://127.0.0.1:8081";

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct WhereArguments {
    #[command(flatten)]
    remote: Remote,
    edge: String,
    /// All of the edge's streams where it is left out; a keyed stream means all its lanes
    stream: Option<String>,
    /// The newest message on this MQTT topic (or filter)
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// The newest at or before a time: 2026-11-25T17:13:03Z, or an age such as 10m
    #[arg(long, value_name = "TIME", value_parser = at_ms)]
    at: Option<u64>,
    /// The message at this offset of the stream
    #[arg(long, requires = "stream", conflicts_with_all = ["topic", "at"])]
    offset: Option<u64>,
    /// The life of the stream's numbering that --offset means; the newest that has it where it is left out
    #[arg(long, value_name = "N", requires = "offset")]
    incarnation: Option<u64>,
    /// The edge's HTTP address; an edge on this machine is found without
    #[arg(long, value_name = "URL", env = "TIDEGATE_EDGE")]
    edge_url: Option<String>,
}

/// Milliseconds since the Unix epoch.
fn at_ms(text: &str) -> Result<u64, String> {
    let at = moment::in_utc(text).or_else(|| moment::before(text, SystemTime::now()));
    // To the end of the second or the millisecond that was said.
    let whole = |at: Duration| match at.subsec_millis() {
        0 => at.as_millis() as u64 + 999,
        _ => at.as_millis() as u64,
    };
    let why = "give a time such as 2026-11-25T17:13:03Z (UTC), or an age such as 10m";
    at.map(whole).ok_or_else(|| why.to_owned())
}

/// What the edge said, or why it was not asked.
enum Asked {
    Answer(Value),
    Not(String),
}

pub(crate) fn run(arguments: &WhereArguments) -> anyhow::Result<ExitCode> {
    let edge = ask_edge(arguments)?;
    let cloud = ask_cloud(arguments, &edge);
    let cloud = match (cloud, &edge) {
        (Ok(cloud), _) => cloud,
        // The edge alone can say something.
        (Err(error), Asked::Answer(_)) => json!({ "error": error.to_string() }),
        (Err(error), Asked::Not(_)) => return Err(error),
    };
    let (edge, not_asked) = match edge {
        Asked::Answer(answer) => (answer, None),
        Asked::Not(why) => (Value::Null, Some(why)),
    };
    let answer = json!({ "edge": edge, "edge_not_asked": not_asked, "cloud": cloud });
    print(&match arguments.remote.output {
        Output::Json => answer.to_string(),
        Output::Table => hops::describe(&arguments.edge, &answer),
    })?;
    Ok(match hops::is_found(&answer) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn query(arguments: &WhereArguments) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    let mut put = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
    put("stream", arguments.stream.clone());
    put("topic", arguments.topic.clone());
    put("at_ms", arguments.at.map(|at| at.to_string()));
    put("offset", arguments.offset.map(|offset| offset.to_string()));
    put("incarnation", arguments.incarnation.map(|n| n.to_string()));
    query
}

/// An edge that was named must answer; one on this machine is asked if it is the one that is meant.
fn ask_edge(arguments: &WhereArguments) -> anyhow::Result<Asked> {
    let url = arguments.edge_url.as_deref();
    let client = Client::new(
        url.unwrap_or(EDGE_URL),
        "edge",
        "--edge-url or TIDEGATE_EDGE",
    )?;
    let answer = match (client.get("/api/v1/where", &query(arguments)), url) {
        (Ok(answer), _) => answer,
        (Err(error), Some(_)) => return Err(error),
        (Err(error), None) if error.is::<NoAnswer>() => {
            return Ok(Asked::Not(format!(
                "none answers at {EDGE_URL}; name it with --edge-url"
            )));
        }
        (Err(error), None) => return Ok(Asked::Not(error.to_string())),
    };
    let name = answer["edge"].as_str().unwrap_or("without a name");
    match (name == arguments.edge, url) {
        (true, _) => Ok(Asked::Answer(answer)),
        (false, Some(url)) => bail!("at {url} is edge {name}, not {}", arguments.edge),
        (false, None) => {
            let why = format!("at {EDGE_URL} is edge {name}; name yours with --edge-url");
            Ok(Asked::Not(why))
        }
    }
}

fn ask_cloud(arguments: &WhereArguments, edge: &Asked) -> anyhow::Result<Value> {
    let question = question(arguments, edge);
    arguments.remote.client()?.get("/api/v1/where", &question)
}

/// What the edge has found is asked for by its offset: both then speak of one message. What has landed
/// may have done so before a fork, and only the cloud knows under which incarnation; what has not, will
/// under the edge's own.
fn question(arguments: &WhereArguments, edge: &Asked) -> Vec<(&'static str, String)> {
    let mut question = query(arguments);
    if let Asked::Answer(answer) = edge {
        let found = &answer["found"];
        if let (Some(stream), Some(offset)) =
            (found["stream"].as_str(), found["edge_offset"].as_u64())
        {
            let own = found["incarnation"].as_u64();
            let own = own.filter(|number| *number > 0 && found["landed"] != true);
            let incarnation = arguments.incarnation.or(own);
            question = vec![
                ("stream", stream.to_owned()),
                ("offset", offset.to_string()),
            ];
            question.extend(incarnation.map(|n| ("incarnation", n.to_string())));
        }
    }
    question.push(("edge", arguments.edge.clone()));
    question
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: WhereArguments,
    }

    /// The edge tells its newest incarnation; what landed before a fork did so under an older one.
    #[test]
    fn the_cloud_is_asked_by_the_edges_incarnation_only_for_what_has_not_landed() {
        let asked = |line: &str, landed: bool| {
            let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).unwrap();
            let found = json!({
                "stream": "telemetry", "edge_offset": 10, "incarnation": 2, "landed": landed,
            });
            let edge = Asked::Answer(json!({ "found": found }));
            let question = question(&line.arguments, &edge);
            let mut incarnation = question.iter().filter(|(name, _)| *name == "incarnation");
            incarnation.next().map(|(_, value)| value.clone())
        };
        assert_eq!(asked("where plant-7", true), None);
        assert_eq!(asked("where plant-7", false).as_deref(), Some("2"));
        let named = "where plant-7 telemetry --offset 10 --incarnation 2";
        assert_eq!(asked(named, true).as_deref(), Some("2"));
    }

    #[test]
    fn times_are_read_in_utc_or_as_an_age() {
        assert_eq!(at_ms("2023-11-14T22:13:20Z"), Ok(1_700_000_000_999));
        assert_eq!(at_ms("2023-11-14 22:13:20"), Ok(1_700_000_000_999));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64;
        let ago = at_ms("10m").unwrap();
        assert!(
            (595_000..=600_000).contains(&(now.saturating_sub(ago))),
            "{now} {ago}"
        );
        assert!(at_ms("yesterday").unwrap_err().contains("10m"));
    }
}
