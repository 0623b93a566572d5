//! The YAML loader: one place that turns a file's text into a type, and a mistake in it into one line
//! that says where.

use serde::de::DeserializeOwned;
use thiserror::Error;

/// A mistake in a YAML text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct YamlError {
    /// From 1; 0 where it is not known.
    pub line: u64,
    pub column: u64,
    pub message: String,
}

/// Parses YAML; an empty text is an empty mapping.
pub fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let is_comment = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    };
    let text = if text.lines().all(is_comment) {
        "{}"
    } else {
        text
    };
    serde_yaml::from_str(text).map_err(|error| locate(&error))
}

fn locate(error: &serde_yaml::Error) -> YamlError {
    let (line, column) = error
        .location()
        .map_or((0, 0), |location| (location.line(), location.column()));
    // The library's text spans lines and shows the source; the first line says what is wrong.
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let message = match message.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => message,
    };
    YamlError {
        line,
        column,
        message: with_hint(message),
    }
}

/// "unknown field `comit_linger`, expected one of commit_linger, …": adds which one was meant, where
/// one is near.
fn with_hint(message: &str) -> String {
    if message.contains("cannot deserialize null") {
        return "there is no value (one that begins with # must be quoted: '#')".to_owned();
    }
    let Some((unknown, known)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let unknown = unknown.split('`').nth(1).unwrap_or_default();
    let known = known.strip_prefix("one of ").unwrap_or(known).split(", ");
    let known = known.map(|name| name.trim_matches('`'));
    let near = known
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1));
    match near {
        Some((_, name)) => format!("{message}; did you mean `{name}`?"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::{EdgeSpec, OverflowSpec, Span};

    #[test]
    fn an_empty_file_is_the_default() {
        for text in ["", "# nothing yet\n", "{}"] {
            assert_eq!(parse_yaml::<EdgeSpec>(text), Ok(EdgeSpec::default()));
        }
    }

    #[test]
    fn a_filter_that_is_a_comment_is_told_of() {
        let error = parse_yaml::<EdgeSpec>("routes:\n  - filter: #\n    stream: a\n").unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        assert!(error.to_string().contains("must be quoted: '#'"), "{error}");
    }

    #[test]
    fn a_whole_file_is_read() {
        let text = "
data: /var/lib/tidegate-edge
mqtt:
  listeners:
    - address: 127.0.0.1:11883
journal: {commit_linger: 250ms, bytes_max: 64MiB}
routes:
  - {filter: 'alarms/#', stream: alarms, key: client_id}
  - {filter: '#', stream: telemetry}
streams:
  alarms: {topic: plant-alarms, compression: lz4}
  telemetry: {overflow: drop_oldest, retention: {age: 7d, keep_after_landed: 1h}}
uplink: {cloud: 'cloud:7443', certificate: edge.crt, key: edge.key, ca: ca.crt}
";
        let spec = parse_yaml::<EdgeSpec>(text).unwrap();
        spec.check().unwrap();
        let alarms = &spec.routes[0].stream;
        let telemetry = &spec.streams[&spec.routes[1].stream];
        assert_eq!(telemetry.overflow, OverflowSpec::DropOldest);
        assert_eq!(telemetry.retention.bytes, None);
        assert_eq!(
            telemetry.retention.age,
            Some(Span(Duration::from_secs(7 * 86_400)))
        );
        assert_eq!(spec.topic_of(alarms).unwrap().as_str(), "plant-alarms");
        assert_eq!(
            spec.topic_of(&spec.routes[1].stream).unwrap().as_str(),
            "telemetry"
        );
    }

    /// Snappy is Kafka producers' only.
    #[test]
    fn a_stream_cannot_ask_for_snappy() {
        let text = "streams: {a: {compression: snappy}}";
        let error = parse_yaml::<EdgeSpec>(text).unwrap_err().to_string();
        assert!(error.contains("snappy") && error.contains("lz4"), "{error}");
        assert!(parse_yaml::<EdgeSpec>(&text.replace("snappy", "gzip")).is_ok());
    }

    #[test]
    fn a_mistake_is_located() {
        let error = parse_yaml::<EdgeSpec>("data: x\njournal:\n  comit_linger: 1s\n").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert!(error.message.contains("comit_linger"), "{error}");
        assert!(
            error.message.ends_with("did you mean `commit_linger`?"),
            "{error}"
        );
        assert!(error.to_string().lines().count() == 1, "{error}");
        let wrong = "streams: {a: {retention: {until_landed: false}}}";
        let error = parse_yaml::<EdgeSpec>(wrong).unwrap_err();
        assert!(error.message.contains("until_landed"), "{error}");
        let error = parse_yaml::<EdgeSpec>("journal: {bytes_max: 8MB}").unwrap_err();
        assert!(error.to_string().contains("8MB"), "{error}");
        let error = parse_yaml::<EdgeSpec>("data: [").unwrap_err();
        assert!(error.line > 0, "{error}");
    }
}
