//! What a consumed record's line is made of, in the letters that kcat has for it.

use anyhow::bail;
use serde_json::Value;

use super::consume::bytes;
use crate::remote::show::{cell, items};
use crate::terminal::printable;

/// A terminal is shown so much of a key or a value.
const SHOWN_MAX: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

impl Format {
    /// # Errors
    /// A letter behind `%` or `\` is none of those that are known.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let piece = match (letter, letter == '%' || letter == '\\') {
                (_, false) => {
                    plain.push(letter);
                    continue;
                }
                (escape, true) => match (escape, letters.next()) {
                    ('%', Some('t')) => Piece::Topic,
                    ('%', Some('p')) => Piece::Partition,
                    ('%', Some('o')) => Piece::Offset,
                    ('%', Some('T')) => Piece::Timestamp,
                    ('%', Some('k')) => Piece::Key,
                    ('%', Some('s')) => Piece::Value,
                    ('%', Some('h')) => Piece::Headers,
                    ('%', Some('%')) => Piece::Text("%".to_owned()),
                    ('\\', Some('n')) => Piece::Text("\n".to_owned()),
                    ('\\', Some('t')) => Piece::Text("\t".to_owned()),
                    ('\\', Some('\\')) => Piece::Text("\\".to_owned()),
                    (_, other) => {
                        let other = other.map(String::from).unwrap_or_default();
                        bail!(
                            "--format knows no {escape}{other}: there are %t %p %o %T %k %s %h %% \\n \\t \\\\"
                        );
                    }
                },
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// A record's line. Where it goes to a terminal (`is_safe` is false), nothing in it can steer that.
    pub(super) fn line(&self, topic: &str, record: &Value, is_safe: bool) -> Vec<u8> {
        let payload = |payload: &Value| match bytes(payload) {
            None => Vec::new(),
            Some(bytes) if is_safe => bytes,
            Some(bytes) => printable(&bytes, SHOWN_MAX).into_bytes(),
        };
        let mut line = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text.as_bytes()),
                Piece::Topic => line.extend_from_slice(topic.as_bytes()),
                Piece::Partition => line.extend_from_slice(cell(&record["partition"]).as_bytes()),
                Piece::Offset => line.extend_from_slice(cell(&record["offset"]).as_bytes()),
                Piece::Timestamp => line.extend_from_slice(cell(&record["timestamp"]).as_bytes()),
                Piece::Key => line.extend(payload(&record["key"])),
                Piece::Value => line.extend(payload(&record["value"])),
                Piece::Headers => {
                    for (at, header) in items(record, "headers").iter().enumerate() {
                        if at > 0 {
                            line.push(b',');
                        }
                        line.extend(payload(&header["name"]));
                        line.push(b'=');
                        line.extend(payload(&header["value"]));
                    }
                }
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_made_as_kcat_makes_it() {
        let record = json!({
            "partition": 3, "offset": 17, "timestamp": 1000, "key": "press-1", "value": {"base64": "/xs="},
            "headers": [{"name": "unit", "value": "C"}, {"name": "none", "value": null}],
        });
        let line = |format, is_safe| {
            Format::parse(format)
                .unwrap()
                .line("orders", &record, is_safe)
        };
        assert_eq!(
            line("%t %p %o %T %k [%h] 100%%\\n", true),
            b"orders 3 17 1000 press-1 [unit=C,none=] 100%\n"
        );
        assert_eq!(line("%s", true), b"\xff\x1b", "a file gets what there is");
        assert!(!line("%s", false).contains(&0x1b), "a terminal does not");
        for wrong in ["%x", "%", "\\q"] {
            assert!(Format::parse(wrong).is_err(), "{wrong}");
        }
    }
}
