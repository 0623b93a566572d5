//! A message's hops in words: journalled, waiting (and for what), landed, read; or lost.

use serde_json::Value;

use crate::edge::link_state;
use crate::offsets::why_not;
use crate::remote::show::{cell, items, said, time};

/// Whether a message was found at all.
pub(super) fn is_found(answer: &Value) -> bool {
    !message(answer).is_null()
}

/// The message as the edge has it, else as the cloud has it.
fn message(answer: &Value) -> &Value {
    let (edge, cloud) = (&answer["edge"]["found"], &answer["cloud"]["found"]);
    match edge.is_null() {
        true => cloud,
        false => edge,
    }
}

pub(super) fn describe(edge: &str, answer: &Value) -> String {
    let found = message(answer);
    if found.is_null() {
        return nothing(edge, answer);
    }
    let mut lines = vec![heading(edge, answer, found)];
    lines.push(journalled(answer, found));
    let in_cloud = &answer["cloud"]["found"];
    match in_cloud["status"].as_str() {
        Some("landed") => lines.extend(landed(in_cloud)),
        Some("lost") => lines.push(hop("lost", &why_not(in_cloud))),
        Some("expired" | "ended") => lines.push(hop("cloud", &why_not(in_cloud))),
        _ if found["landed"] == true => {
            lines.push(hop("landed", "says the edge; where, only the cloud knows"));
        }
        // Whether the edge has it at all, only the edge could say.
        _ if answer["edge"]["found"].is_null() => {
            let why = format!("{}; {}", why_not(in_cloud), waits_for(answer, found));
            lines.push(hop("not landed", &why));
        }
        _ => lines.push(hop("waiting", &waits_for(answer, found))),
    }
    lines.extend(not_asked(answer));
    lines.join("\n")
}

fn hop(name: &str, text: &str) -> String {
    format!("  {name:<11} {text}")
}

fn heading(edge: &str, answer: &Value, found: &Value) -> String {
    let field = |name: &str| cell(&found[name]);
    let topic = [found, &answer["cloud"]["found"]]
        .into_iter()
        .find(|found| found["mqtt_topic"].is_string());
    let topic = topic.map_or(String::new(), |found| {
        format!(", topic {}", cell(&found["mqtt_topic"]))
    });
    format!(
        "edge {edge}, stream {}, offset {} of incarnation {}{topic}",
        field("stream"),
        field("edge_offset"),
        field("incarnation")
    )
}

fn journalled(answer: &Value, found: &Value) -> String {
    let times = [found, &answer["cloud"]["found"]];
    let at = times.into_iter().find(|found| found["time_ms"].is_number());
    let at = at.map(|found| format!("{} by the edge's clock", time(&found["time_ms"])));
    let is_there = !answer["edge"]["found"].is_null();
    let landed = answer["cloud"]["found"]["status"] == "landed";
    hop(
        "journalled",
        &match (at, is_there, landed) {
            (Some(at), ..) => at,
            (None, false, false) => {
                "not known: the edge does not have it, or was not asked".to_owned()
            }
            (None, ..) => "yes".to_owned(),
        },
    )
}

fn landed(found: &Value) -> Vec<String> {
    let field = |name: &str| cell(&found[name]);
    let when = match found["landed_ms"].is_number() {
        true => format!(", {} by the cloud's clock", time(&found["landed_ms"])),
        false => String::new(),
    };
    let place = format!(
        "{} partition {} offset {}{when}",
        field("topic"),
        field("partition"),
        field("kafka_offset")
    );
    let mut lines = vec![hop("landed", &place)];
    let groups = items(found, "groups");
    for group in groups {
        let name = cell(&group["group"]);
        let (hop_name, text) = match (group["has_read"] == true, &group["committed"]) {
            (true, at) => ("read", format!("by group {name}, which is at {}", cell(at))),
            (false, Value::Null) => (
                "not read",
                format!("by group {name}: nothing of the partition"),
            ),
            (false, at) => (
                "not read",
                format!("by group {name}, which is at {}", cell(at)),
            ),
        };
        lines.push(hop(hop_name, &text));
    }
    if groups.is_empty() {
        lines.push(hop("read", "no consumer group has committed in this topic"));
    }
    lines
}

/// The first reason that holds, from the cloud's decisions down to the link.
fn waits_for(answer: &Value, found: &Value) -> String {
    let (edge, cloud) = (&answer["edge"], &answer["cloud"]);
    let stream = cell(&found["stream"]);
    let of = |node: &Value| {
        let mut streams = items(node, "streams").iter();
        streams
            .find(|one| one["stream"] == found["stream"])
            .cloned()
            .unwrap_or_default()
    };
    let (at_edge, in_cloud) = (of(edge), of(cloud));
    if cloud["behind"] == true {
        return "the cloud is older than what its edges have seen: tidegate cloud begin-incarnation".to_owned();
    }
    if cloud["quarantined"] == true {
        return "the edge is in quarantine: two nodes have its certificate; tidegate edge release"
            .to_owned();
    }
    if in_cloud["parked"] == true {
        return format!(
            "stream {stream} is parked: its topic is gone; tidegate topic create, or change the stream's topic"
        );
    }
    if at_edge["held"].is_string() {
        return said(&at_edge["held"]);
    }
    let uplink = &edge["uplink"];
    if uplink["configured"] == false {
        return "the edge has no uplink".to_owned();
    }
    if uplink["connected"] == false {
        let since = match uplink["since_ms"].is_number() {
            true => time(&uplink["since_ms"]),
            false => "the edge's start".to_owned(),
        };
        return format!("no link since {since}: {}", said(&uplink["why"]));
    }
    if edge.is_null() && cloud["link"]["connected"] == false {
        return format!("no link to the edge ({})", link_state(&cloud["link"]));
    }
    in_window(&at_edge, &in_cloud, found)
}

fn in_window(at_edge: &Value, in_cloud: &Value, found: &Value) -> String {
    let landed = in_cloud["landed"].as_u64().or(at_edge["landed"].as_u64());
    match (landed, found["edge_offset"].as_u64()) {
        (Some(landed), Some(offset)) if offset >= landed => {
            format!(
                "its turn: {} messages of the stream are before it",
                offset - landed
            )
        }
        _ => "its turn".to_owned(),
    }
}

fn nothing(edge: &str, answer: &Value) -> String {
    let mut lines = vec![format!("no such message of edge {edge} is known")];
    let cloud = &answer["cloud"];
    let bounded = |node: &Value| node["searched_all"] == false;
    if bounded(cloud) || bounded(&answer["edge"]) {
        lines.push(hop(
            "searched",
            "not everything: the search ended at its bound; give a nearer --at",
        ));
    }
    if cloud["link"].is_object() {
        lines.push(hop("connected", &link_state(&cloud["link"])));
    }
    for stream in items(cloud, "streams") {
        for gap in items(stream, "gaps") {
            let text = format!(
                "stream {}: {}..{} ({})",
                cell(&stream["stream"]),
                cell(&gap["from"]),
                cell(&gap["to"]),
                cell(&gap["reason"])
            );
            lines.push(hop("lost", &text));
        }
    }
    lines.extend(not_asked(answer));
    lines.join("\n")
}

/// Who could not say anything, and why.
fn not_asked(answer: &Value) -> Vec<String> {
    let whys = [
        ("edge", &answer["edge_not_asked"]),
        ("cloud", &answer["cloud"]["error"]),
    ];
    let whys = whys.into_iter().filter(|(_, why)| why.is_string());
    whys.map(|(node, why)| hop(node, &format!("not asked: {}", said(why))))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn waiting() -> Value {
        json!({
            "edge": {
                "edge": "plant-7",
                "uplink": {"configured": true, "connected": true, "since_ms": 1},
                "streams": [{"stream": "telemetry", "landed": 10, "held": null}],
                "found": {"stream": "telemetry", "edge_offset": 12, "incarnation": 1,
                          "time_ms": 1_700_000_000_000_u64, "mqtt_topic": "a/b"},
            },
            "cloud": {
                "behind": false, "quarantined": false, "link": {"connected": true, "since_ms": 1},
                "streams": [{"stream": "telemetry", "landed": 10, "parked": false, "gaps": []}],
                "found": {"status": "not_yet", "known_up_to": 10},
            },
        })
    }

    fn last_line(answer: &Value) -> String {
        let text = describe("plant-7", answer);
        text.lines().last().unwrap().trim().to_owned()
    }

    #[test]
    fn what_waits_says_for_what() {
        let mut answer = waiting();
        assert!(last_line(&answer).ends_with("2 messages of the stream are before it"));
        answer["edge"]["uplink"] = json!({"configured": true, "connected": false,
            "since_ms": 1_700_000_000_000_u64, "why": "the hub does not answer"});
        let line = last_line(&answer);
        assert!(
            line.contains("no link since 2023-11-14 22:13:20Z: the hub does not"),
            "{line}"
        );
        answer["cloud"]["streams"][0]["parked"] = json!(true);
        assert!(last_line(&answer).contains("parked: its topic is gone"));
        answer["cloud"]["quarantined"] = json!(true);
        assert!(last_line(&answer).contains("edge release"));
        answer["cloud"]["behind"] = json!(true);
        assert!(last_line(&answer).contains("begin-incarnation"));
    }

    #[test]
    fn a_cloud_that_cannot_be_asked_is_named_and_the_edge_still_answers() {
        let mut answer = waiting();
        answer["cloud"] = json!({"error": "no cloud answers"});
        answer["edge"]["uplink"]["connected"] = json!(false);
        answer["edge"]["uplink"]["since_ms"] = Value::Null;
        answer["edge"]["uplink"]["why"] = json!("timed out");
        let text = describe("plant-7", &answer);
        assert!(
            text.contains("waiting     no link since the edge's start: timed out"),
            "{text}"
        );
        assert!(
            text.ends_with("cloud       not asked: no cloud answers"),
            "{text}"
        );
        answer["edge"]["found"]["landed"] = json!(true);
        let text = describe("plant-7", &answer);
        assert!(text.contains("landed      says the edge"), "{text}");
    }

    #[test]
    fn what_has_landed_says_who_has_read_it() {
        let mut answer = waiting();
        answer["edge"] = Value::Null;
        answer["edge_not_asked"] = json!("none answers");
        answer["cloud"]["found"] = json!({
            "status": "landed", "stream": "telemetry", "edge_offset": 9, "incarnation": 1,
            "topic": "telemetry", "partition": 3, "kafka_offset": 40,
            "time_ms": 1_700_000_000_000_u64, "landed_ms": 1_700_000_001_000_u64, "mqtt_topic": "a/b",
            "groups": [{"group": "x", "committed": 41, "has_read": true},
                       {"group": "y", "committed": 40, "has_read": false}],
        });
        let text = describe("plant-7", &answer);
        let expected = "\
edge plant-7, stream telemetry, offset 9 of incarnation 1, topic a/b
  journalled  2023-11-14 22:13:20Z by the edge's clock
  landed      telemetry partition 3 offset 40, 2023-11-14 22:13:21Z by the cloud's clock
  read        by group x, which is at 41
  not read    by group y, which is at 40
  edge        not asked: none answers";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_lost_names_the_gap_and_nothing_lists_them() {
        let mut answer = waiting();
        answer["cloud"]["found"] =
            json!({"status": "lost", "from": 10, "to": 20, "reason": "overflow"});
        assert!(last_line(&answer).contains("10..20 are declared lost (overflow)"));
        answer["edge"]["found"] = Value::Null;
        answer["cloud"]["found"] = Value::Null;
        answer["cloud"]["streams"][0]["gaps"] = json!([{"from": 1, "to": 4, "reason": "age"}]);
        assert!(!is_found(&answer));
        assert_eq!(
            last_line(&answer),
            "lost        stream telemetry: 1..4 (age)"
        );
    }
}
