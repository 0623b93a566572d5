//! A record's bytes as JSON has them, and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tidegate_shared::record::{Batch, Header, Record};

/// `null` for none, text as a string, other bytes as `{"base64": …}`.
pub(super) fn show(bytes: Option<&Bytes>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
        },
    }
}

/// A record with where it lies.
pub(super) fn record(batch: &Batch, partition: i32, offset: i64, record: &Record) -> Value {
    let headers = record.headers.iter().map(
        |header| json!({ "name": show(Some(&header.name)), "value": show(header.value.as_ref()) }),
    );
    json!({
        "partition": partition,
        "offset": offset,
        "timestamp": batch.header().time_of_ms(record.timestamp_ms),
        "key": show(record.key.as_ref()),
        "value": show(record.value.as_ref()),
        "headers": headers.collect::<Vec<_>>(),
    })
}

/// The same as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent(pub(super) Option<Bytes>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Packed(Packed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    base64: String,
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Option::<Form>::deserialize(deserializer);
        let form = form.map_err(|_| {
            serde::de::Error::custom("neither text, nor null, nor {\"base64\": \"…\"}")
        })?;
        Ok(Self(match form {
            None => None,
            Some(Form::Text(text)) => Some(text.into()),
            Some(Form::Packed(Packed { base64 })) => {
                let bytes = STANDARD.decode(base64).map_err(serde::de::Error::custom)?;
                Some(bytes.into())
            }
        }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SentHeader {
    name: String,
    #[serde(default)]
    value: Sent,
}

impl From<SentHeader> for Header {
    fn from(sent: SentHeader) -> Self {
        Self {
            name: sent.name.into(),
            value: sent.value.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_sent() {
        for bytes in [None, Some(&b"21.5"[..]), Some(b""), Some(b"\xff\x00")] {
            let bytes = bytes.map(Bytes::from_static);
            let shown = show(bytes.as_ref());
            let sent: Sent = serde_json::from_value(shown.clone()).unwrap();
            assert_eq!(sent.0, bytes, "{shown}");
        }
        for wrong in [json!(21.5), json!({"hex": "ff"}), json!({"base64": "?"})] {
            assert!(
                serde_json::from_value::<Sent>(wrong.clone()).is_err(),
                "{wrong}"
            );
        }
    }
}
