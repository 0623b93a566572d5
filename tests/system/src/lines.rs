//! Payloads in order, one publisher: message number n of a run is the journal's n-th.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::random::Random;
use crate::workspace;

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    Paho,
    /// Paho where mosquitto_pub is not installed.
    Mosquitto,
}

/// Publishes `NAME:0`, `NAME:1` … on `topic` at QoS 1; returns when all are acknowledged.
#[track_caller]
pub fn publish(publisher: Publisher, broker: SocketAddr, topic: &str, payloads: &[String]) {
    let mut command = match publisher {
        Publisher::Mosquitto if workspace::has_tool("mosquitto_pub") => {
            let mut command = Command::new("mosquitto_pub");
            let port = broker.port().to_string();
            command.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-l", "-t", topic]);
            command
        }
        _ => {
            let mut command = workspace::python("lines_publish.py");
            command.arg(broker.port().to_string()).arg(topic);
            command
        }
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the publisher can be run");
    let mut input = child.stdin.take().expect("it is piped");
    let text = payloads.join("\n") + "\n";
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{publisher:?}: {said}");
}

/// `NAME:from` to `NAME:to - 1`.
pub fn payloads(name: &str, from: usize, to: usize) -> Vec<String> {
    (from..to)
        .map(|number| format!("{name}:{number}"))
        .collect()
}

/// The same with 16 KiB more in each, which can hardly be compressed.
pub fn padded(name: &str, from: usize, to: usize) -> Vec<String> {
    const PADDING_BYTES: usize = 16 << 10;
    let letters: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
    let mut random = Random::seeded(from as u64 + 1);
    let mut letter = || letters[random.below(letters.len() as u64) as usize];
    let pad = |payload| {
        let padding: String = (0..PADDING_BYTES).map(|_| letter()).collect();
        format!("{payload}:{padding}")
    };
    payloads(name, from, to).into_iter().map(pad).collect()
}

/// Copies a data folder as a backup tool does: with everything in it. The target must not be there.
#[track_caller]
pub fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp -a");
}

/// Puts a copy back in place of what is there.
#[track_caller]
pub fn restore_folder(copy: &Path, folder: &Path) {
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
    copy_folder(copy, folder);
}
