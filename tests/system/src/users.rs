//! Lines for a file of users, as the edge's own commands print them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::workspace;

/// What `tidegate-edge passwd NAME`, or `scram NAME`, prints.
pub fn line(command: &str, name: &str, password: &str) -> String {
    let mut process = Command::new(workspace::binary("tidegate-edge"))
        .args([command, name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tidegate-edge can be run");
    let mut input = process.stdin.take().expect("it is piped");
    writeln!(input, "{password}").expect("it reads");
    drop(input);
    let output = process.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command} {name}");
    String::from_utf8(output.stdout).expect("it is text")
}
