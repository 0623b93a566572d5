//! Text of YAML.

/// A scalar in double quotes: those of JSON are YAML's as well.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
