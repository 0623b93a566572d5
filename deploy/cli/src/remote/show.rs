//! How answers are shown: aligned columns for people, one line of JSON for programs. A reader that has
//! gone away (`| head`) is no error.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::terminal::printable;

/// What a device chose may be long.
const CELL_CHARS_MAX: usize = 120;

const SENTENCE_CHARS_MAX: usize = 1_000;

/// Writes to standard output.
///
/// # Errors
/// It cannot be written, for another reason than that nobody reads.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Columns as wide as what is in them; numbers to the right.
pub(crate) fn table<const N: usize>(columns: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([columns[column].len()]).max().unwrap_or(0)
    };
    let is_number = |column: usize| {
        let cell = |row: &[String; N]| {
            let cell = &row[column];
            cell == "-" || cell.bytes().all(|byte| byte.is_ascii_digit())
        };
        !rows.is_empty() && rows.iter().all(cell)
    };
    let line = |row: [&str; N]| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            match is_number(column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    };
    let mut lines = vec![line(columns)];
    lines.extend(
        rows.iter()
            .map(|row| line(row.each_ref().map(String::as_str))),
    );
    lines.join("\n")
}

/// A value as a cell: names and numbers as they are, `-` for nothing.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text.as_bytes(), CELL_CHARS_MAX),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// A sentence that a node said; longer than a cell.
pub(crate) fn said(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    printable(text.as_bytes(), SENTENCE_CHARS_MAX)
}

/// A number of things, in words.
pub(crate) fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

/// The items of a list; none where it is missing.
pub(crate) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// Milliseconds since the Unix epoch as `2026-11-25 17:13:03Z`; `-` for nothing.
pub(crate) fn time(value: &Value) -> String {
    let Some(ms) = value.as_u64() else {
        return cell(value);
    };
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    let Some(at) = at.filter(|_| ms < YEAR_10000_MS) else {
        return ms.to_string();
    };
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ")
}

/// Dates end there for who formats them.
const YEAR_10000_MS: u64 = 253_402_300_800_000;
