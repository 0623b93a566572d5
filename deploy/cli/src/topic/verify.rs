//! `tidegate topic verify`: shows what the cloud's scrub finds, while it finds it.

use std::io::{BufRead, BufReader};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::remote::show::{cell, print};
use crate::remote::{Client, Output, segment};

/// Ends with exit code 1 where something is damaged.
pub(super) fn run(client: &Client, name: &str, output: Output) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/topics/{}/verify", segment(name));
    let lines = BufReader::new(client.get_lines(&path, &[])?).lines();
    for line in lines {
        let line = line.context("the scrub did not come to its end")?;
        let found: Value = serde_json::from_str(&line).context("the cloud's answer is not JSON")?;
        if output == Output::Json {
            print(&line)?;
        }
        if let Some(damaged) = found["damaged"].as_u64() {
            if output != Output::Json {
                print(&summary(name, &found, damaged))?;
            }
            return Ok(match damaged {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            });
        }
        if output != Output::Json && !found["wrong"].is_null() {
            print(&wrong(&found))?;
        }
    }
    bail!("the cloud ended before the scrub did: ask again")
}

fn wrong(found: &Value) -> String {
    format!(
        "damaged: partition {} offsets {}..{} in {}{}: {}",
        cell(&found["partition"]),
        cell(&found["from"]),
        cell(&found["to"]),
        cell(&found["object"]),
        match found["object_store"].is_null() {
            true => String::new(),
            false => format!(" of {}", cell(&found["object_store"])),
        },
        cell(&found["wrong"]),
    )
}

fn summary(name: &str, found: &Value, damaged: u64) -> String {
    let (objects, bytes) = (cell(&found["objects"]), cell(&found["bytes"]));
    match damaged {
        0 => format!("topic {name}: {objects} objects, {bytes} bytes: all as they were written"),
        _ => format!("topic {name}: {damaged} of {objects} objects are damaged"),
    }
}
