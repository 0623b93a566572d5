//! Offsets from one numbering to the other.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::Translate;
use crate::remote::show::{cell, items, print, table};
use crate::remote::{Output, Remote, Usage, segment};

pub(super) fn lookup(
    remote: &Remote,
    topic: &str,
    partition: i32,
    offset: i64,
) -> anyhow::Result<ExitCode> {
    let query = [
        ("topic", topic.to_owned()),
        ("partition", partition.to_string()),
        ("offset", offset.to_string()),
    ];
    let answer = remote.client()?.get("/api/v1/offsets/lookup", &query)?;
    let row = ["edge", "stream", "incarnation", "edge_offset"];
    let columns = ["EDGE", "STREAM", "INCARNATION", "OFFSET"];
    tell(remote.output, &answer, columns, row)
}

pub(super) fn run(remote: &Remote, asked: &Translate) -> anyhow::Result<ExitCode> {
    match (&asked.group, &asked.edge, &asked.stream, asked.offset) {
        (None, Some(edge), Some(stream), Some(offset)) => {
            one(remote, asked, (edge, stream, offset))
        }
        (Some(group), None, None, None) => show_group(remote, group),
        (Some(group), Some(edge), Some(stream), Some(offset)) if asked.set => {
            set_group(remote, asked, group, (edge, stream, offset))
        }
        _ => {
            let why = "--group shows all of a group; to put it to EDGE STREAM OFFSET, add --set";
            Err(Usage(why.to_owned()).into())
        }
    }
}

type Message<'a> = (&'a str, &'a str, u64);

fn one(
    remote: &Remote,
    asked: &Translate,
    (edge, stream, offset): Message<'_>,
) -> anyhow::Result<ExitCode> {
    let mut query = vec![
        ("edge", edge.to_owned()),
        ("stream", stream.to_owned()),
        ("offset", offset.to_string()),
    ];
    query.extend(asked.incarnation.map(|n| ("incarnation", n.to_string())));
    let answer = remote.client()?.get("/api/v1/offsets/translate", &query)?;
    let row = ["topic", "partition", "kafka_offset", "incarnation"];
    let columns = ["TOPIC", "PARTITION", "OFFSET", "INCARNATION"];
    tell(remote.output, &answer, columns, row)
}

/// One row where there is an offset; else why there is none, and exit code 1.
fn tell<const N: usize>(
    output: Output,
    answer: &Value,
    columns: [&str; N],
    row: [&str; N],
) -> anyhow::Result<ExitCode> {
    let is_there = answer["status"] == "landed";
    print(&match (output, is_there) {
        (Output::Json, _) => answer.to_string(),
        (Output::Table, true) => table(columns, &[row.map(|name| cell(&answer[name]))]),
        (Output::Table, false) => why_not(answer),
    })?;
    Ok(match is_there {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What a status other than "landed" means.
pub(crate) fn why_not(answer: &Value) -> String {
    let field = |name: &str| cell(&answer[name]);
    match answer["status"].as_str().unwrap_or_default() {
        "not_yet" => format!("not yet: known up to {}", field("known_up_to")),
        "expired" if answer["known_from"].is_number() => {
            format!("expired: the partition begins at {}", field("known_from"))
        }
        "expired" => "expired: what it led to is no longer here".to_owned(),
        "lost" => format!(
            "lost: {}..{} are declared lost ({})",
            field("from"),
            field("to"),
            field("reason")
        ),
        "ended" => format!(
            "ended: incarnation {} went on as {} from {}",
            field("incarnation"),
            field("next_incarnation"),
            field("next_begins_at")
        ),
        "from_a_kafka_client" => "from a Kafka client: no edge has sent it".to_owned(),
        "not_from_an_edge" => "not from an edge: no fact is known of it".to_owned(),
        other => format!("unknown status {other:?}: is the cloud newer than this command?"),
    }
}

fn show_group(remote: &Remote, group: &str) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/offsets/groups/{}", segment(group));
    let answer = remote.client()?.get(&path, &[])?;
    if remote.output == Output::Json {
        print(&answer.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let fields = [
        "topic",
        "partition",
        "kafka_offset",
        "edge",
        "stream",
        "incarnation",
        "edge_offset",
    ];
    let rows = items(&answer, "offsets").iter();
    let rows: Vec<_> = rows
        .map(|row| fields.map(|name| cell(&row[name])))
        .collect();
    let columns = [
        "TOPIC",
        "PARTITION",
        "COMMITTED",
        "EDGE",
        "STREAM",
        "INCARNATION",
        "READS NEXT",
    ];
    print(&table(columns, &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn set_group(
    remote: &Remote,
    asked: &Translate,
    group: &str,
    (edge, stream, offset): Message<'_>,
) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/offsets/groups/{}", segment(group));
    let body = json!({
        "edge": edge,
        "stream": stream,
        "incarnation": asked.incarnation,
        "offset": offset,
    });
    let answer = remote.client()?.post(&path, &body)?;
    print(&match remote.output {
        Output::Json => answer.to_string(),
        Output::Table => format!(
            "group {group} reads {} partition {} from offset {} next",
            cell(&answer["topic"]),
            cell(&answer["partition"]),
            cell(&answer["kafka_offset"])
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_told_in_words() {
        let lost = json!({"status": "lost", "from": 3, "to": 9, "reason": "overflow"});
        assert_eq!(why_not(&lost), "lost: 3..9 are declared lost (overflow)");
        let not_yet = json!({"status": "not_yet", "known_up_to": 7});
        assert_eq!(why_not(&not_yet), "not yet: known up to 7");
        let ended = json!({"status": "ended", "incarnation": 1, "next_incarnation": 2, "next_begins_at": 5});
        assert_eq!(why_not(&ended), "ended: incarnation 1 went on as 2 from 5");
        let gone = json!({"status": "expired", "known_from": 4});
        assert_eq!(why_not(&gone), "expired: the partition begins at 4");
        let produced = json!({"status": "from_a_kafka_client"});
        assert_eq!(
            why_not(&produced),
            "from a Kafka client: no edge has sent it"
        );
    }
}
