//! Records as JSON lines.

use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tidegate_edge_journal::{JournalReader, ReadError, StreamStatus};
use tidegate_shared::id::{EdgeOffset, StreamName};
use tidegate_shared::record::{Batch, Record};

/// Bytes of the journal read at once.
const READ_BYTES: usize = 1 << 20;

/// Writes one stream's records, or all streams', from an offset on. What is lost, or cannot be read,
/// is said on standard error.
pub(super) fn export(
    reader: &JournalReader,
    name: Option<&StreamName>,
    from: EdgeOffset,
) -> anyhow::Result<()> {
    let streams = reader.streams().into_iter();
    let wanted: Vec<StreamStatus> = streams
        .filter(|stream| name.is_none_or(|name| *name == stream.name))
        .collect();
    if let Some(name) = name.filter(|_| wanted.is_empty()) {
        bail!("the journal has no stream {name}: `tidegate-edge journal inspect` lists them");
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for stream in wanted {
        match export_stream(reader, &stream, from, &mut out) {
            // Whoever reads has enough.
            Err(error) if is_broken_pipe(&error) => return Ok(()),
            done => done?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn export_stream(
    reader: &JournalReader,
    stream: &StreamStatus,
    from: EdgeOffset,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let name = &stream.name;
    let mut at = from.max(stream.first);
    while at < stream.next {
        let chunks = match reader.read(stream.stream, at, READ_BYTES) {
            Ok(chunks) => chunks,
            Err(ReadError::Lost { gap, .. }) => {
                let (from, to, reason) = (gap.from, gap.to, gap.reason);
                eprintln!("tidegate-edge: {name}: {from} to {to} is lost ({reason})");
                at = to;
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("{name} at {at}")),
        };
        for chunk in chunks {
            for record in Batch::parse(chunk.batch.clone())?.records()? {
                let (offset, record) = record?;
                if offset >= from.0 as i64 {
                    serde_json::to_writer(&mut *out, &line(name, offset, &record))
                        .map_err(io::Error::from)?;
                    out.write_all(b"\n")?;
                }
            }
            at = chunk.end();
        }
    }
    Ok(())
}

/// `stream`, `offset`, `timestamp` (ms), `key`, `value`, `headers`. Bytes that are no UTF-8 are
/// base64, and then `key_encoding`, `value_encoding` or `encoding` says so.
fn line(stream: &StreamName, offset: i64, record: &Record) -> Value {
    let mut line = Map::new();
    line.insert("stream".to_owned(), json!(stream.as_str()));
    line.insert("offset".to_owned(), json!(offset));
    line.insert("timestamp".to_owned(), json!(record.timestamp_ms));
    put(&mut line, "key", "key_encoding", record.key.as_ref());
    put(&mut line, "value", "value_encoding", record.value.as_ref());
    let headers = record.headers.iter().map(|header| {
        let mut object = Map::new();
        let name = String::from_utf8_lossy(&header.name).into_owned();
        object.insert("name".to_owned(), json!(name));
        put(&mut object, "value", "encoding", header.value.as_ref());
        Value::Object(object)
    });
    line.insert("headers".to_owned(), headers.collect());
    Value::Object(line)
}

fn put(object: &mut Map<String, Value>, name: &str, encoding: &str, bytes: Option<&Bytes>) {
    let value = match bytes.map(|bytes| std::str::from_utf8(bytes)) {
        None => Value::Null,
        Some(Ok(text)) => json!(text),
        Some(Err(_)) => {
            object.insert(encoding.to_owned(), json!("base64"));
            json!(STANDARD.encode(bytes.map_or(&[][..], |bytes| bytes)))
        }
    };
    object.insert(name.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use tidegate_shared::record::Header;

    use super::*;

    #[test]
    fn text_is_text_and_bytes_say_that_they_are() {
        let record = Record {
            timestamp_ms: 5,
            key: None,
            value: Some(Bytes::from_static(&[0xff, 0])),
            headers: vec![Header::new(
                Bytes::from_static(b"mqtt.topic"),
                Bytes::from_static(b"plant/7"),
            )],
        };
        let expected = json!({
            "stream": "telemetry",
            "offset": 3,
            "timestamp": 5,
            "key": null,
            "value": "/wA=",
            "value_encoding": "base64",
            "headers": [{"name": "mqtt.topic", "value": "plant/7"}],
        });
        let name = StreamName::new("telemetry").unwrap();
        assert_eq!(line(&name, 3, &record), expected);
    }
}
