//! What was found, as a table or as JSON.

use std::io::{self, Write};

use serde_json::{Value, json};
use tidegate_edge_journal::{Overflow, StreamStatus, Survey, Verification};

use super::Output;

const STREAM_COLUMNS: [&str; 8] = [
    "STREAM",
    "TOPIC",
    "FIRST",
    "NEXT",
    "LANDED",
    "BYTES",
    "LOST",
    "INCARNATION",
];
const FILE_COLUMNS: [&str; 6] = ["FILE", "SLOT", "USED", "STREAMS", "LIVING", "DAMAGED"];

pub(super) fn survey(survey: &Survey, output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        return writeln!(out, "{}", survey_json(survey));
    }
    writeln!(out, "store       {}", survey.store_id)?;
    writeln!(
        out,
        "log files   {} in use, {} spare",
        survey.files.len(),
        survey.spare_files
    )?;
    let frames = survey.frames_past_checkpoint;
    writeln!(out, "checkpoint  {frames} frames are past it\n")?;
    let rows = survey.streams.iter().map(|stream| {
        [
            stream.name.to_string(),
            stream.topic.to_string(),
            stream.first.to_string(),
            stream.next.to_string(),
            stream.landed.to_string(),
            stream.bytes.to_string(),
            stream
                .gap_records
                .saturating_sub(stream.gap_records_landed)
                .to_string(),
            stream.incarnation.to_string(),
        ]
    });
    table(&mut out, STREAM_COLUMNS, rows.collect())?;
    writeln!(out)?;
    let rows = survey.files.iter().map(|file| {
        [
            file.sequence.to_string(),
            file.slot.to_string(),
            file.used_bytes.to_string(),
            file.streams.to_string(),
            file.living_bytes.to_string(),
            if file.damaged { "yes" } else { "no" }.to_owned(),
        ]
    });
    table(&mut out, FILE_COLUMNS, rows.collect())
}

pub(crate) fn survey_json(survey: &Survey) -> Value {
    let files = survey.files.iter().map(|file| {
        json!({
            "sequence": file.sequence,
            "slot": file.slot,
            "used_bytes": file.used_bytes,
            "streams": file.streams,
            "living_bytes": file.living_bytes,
            "damaged": file.damaged,
        })
    });
    json!({
        "store_id": survey.store_id.to_string(),
        "time_ms": survey.time_ms,
        "frames_past_checkpoint": survey.frames_past_checkpoint,
        "spare_files": survey.spare_files,
        "streams": survey.streams.iter().map(stream_json).collect::<Vec<_>>(),
        "files": files.collect::<Vec<_>>(),
    })
}

fn stream_json(stream: &StreamStatus) -> Value {
    let gaps = stream.gaps.iter().map(|gap| {
        json!({
            "from": gap.from.0,
            "to": gap.to.0,
            "reason": gap.reason.name(),
        })
    });
    let retention = &stream.policy.retention;
    json!({
        "stream": stream.name.as_str(),
        "topic": stream.topic.as_str(),
        "incarnation": stream.incarnation.0,
        "first": stream.first.0,
        "next": stream.next.0,
        "landed": stream.landed.0,
        "bytes": stream.bytes,
        "gap_records": stream.gap_records,
        "gap_records_landed": stream.gap_records_landed,
        "gaps": gaps.collect::<Vec<_>>(),
        "retention": {
            "age_ms": retention.age_ms,
            "bytes": retention.bytes,
            "keep_after_landed_ms": retention.keep_after_landed_ms,
        },
        "overflow": match stream.policy.overflow {
            Overflow::Reject => "reject",
            Overflow::DropOldest => "drop_oldest",
        },
    })
}

pub(super) fn verification(found: &Verification, output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        let line = json!({
            "sound": found.damage.is_empty(),
            "files": found.files,
            "frames": found.frames,
            "chunks": found.chunks,
            "records": found.records,
            "bytes": found.bytes,
            "gap_records": found.gap_records,
            "damage": found.damage,
        });
        return writeln!(out, "{line}");
    }
    for damage in &found.damage {
        writeln!(out, "{damage}")?;
    }
    let (files, frames, records) = (found.files, found.frames, found.records);
    let verdict = match found.damage.len() {
        0 => "sound".to_owned(),
        count => format!("{count} things are damaged"),
    };
    writeln!(
        out,
        "{files} log files, {frames} frames, {records} records: {verdict}"
    )?;
    if found.gap_records > 0 {
        let lost = found.gap_records;
        writeln!(out, "{lost} records are declared lost, and not landed yet")?;
    }
    Ok(())
}

/// Columns as wide as what is in them; numbers to the right.
fn table<const N: usize>(
    out: &mut impl Write,
    columns: [&str; N],
    rows: Vec<[String; N]>,
) -> io::Result<()> {
    let mut widths = columns.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let is_number = |column: usize| {
        let digits = |row: &[String; N]| row[column].bytes().all(|byte| byte.is_ascii_digit());
        !rows.is_empty() && rows.iter().all(digits)
    };
    let mut write = |row: [&str; N]| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            match is_number(column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end())
    };
    write(columns)?;
    for row in &rows {
        write(row.each_ref().map(String::as_str))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["alarms", "12"], ["telemetry", "3"]];
        let rows = rows.map(|row| row.map(str::to_owned)).to_vec();
        let mut out = Vec::new();
        table(&mut out, ["STREAM", "NEXT"], rows).unwrap();
        let expected = "STREAM     NEXT\nalarms       12\ntelemetry     3\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
