//! The daemon with few open files allowed: connections leave enough for its journal.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use support::{Client, publish};

/// What the process may raise its limit to.
const FILES_MAX: usize = 300;

const IDLE: usize = FILES_MAX - 10;

/// Together they need some log files more than the journal begins with.
const MESSAGES: u16 = 600;
const WINDOW: usize = 10;
const PAYLOAD_BYTES: usize = 100_000;

/// Ended with the test, however that ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> (Daemon, BufReader<ChildStderr>) {
    let config = folder.join("edge.yaml");
    let text = format!(
        "data: {}/data\nmqtt: {{listeners: [{{address: '127.0.0.1:0'}}]}}\nhttp: {{address: '127.0.0.1:0'}}\n",
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    let limited = format!("ulimit -Sn 100 && ulimit -Hn {FILES_MAX} && exec \"$0\" \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_tidegate-edge")])
        .arg("--config")
        .arg(config)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (Daemon(child), stderr)
}

/// What cannot be compressed.
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..PAYLOAD_BYTES).map(|_| next()).collect()
}

#[test]
fn idle_connections_do_not_take_the_journals_files() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, mut stderr) = start(folder.path());
    let mut log = String::new();
    let address: SocketAddr = loop {
        let from = log.len();
        assert_ne!(stderr.read_line(&mut log).unwrap(), 0, "it ended: {log}");
        if let Some((_, rest)) = log[from..].split_once("mqtt=[tcp ") {
            break rest.split_once(']').unwrap().0.parse().unwrap();
        }
    };
    // What it says further is not of interest, but must go somewhere.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    let says = |what: &str| log.contains(what);
    assert!(
        says("LimitNOFILE") && says("files_max=300") && says("possible=150"),
        "{log}"
    );
    let (mut client, _) = Client::connect(address, "publisher", true);
    let idle: Vec<_> = (0..IDLE)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let payload = noise();
    for first in (1..=MESSAGES).step_by(WINDOW) {
        let ids = || first..first + WINDOW as u16;
        ids().for_each(|id| client.send(&publish(0x32, "a/b", id, &payload[usize::from(id)..])));
        for id in ids() {
            assert_eq!(client.packet(), (0x40, id.to_be_bytes().to_vec()));
        }
    }
    drop(idle);
    assert_eq!(daemon.0.try_wait().unwrap(), None, "it runs");
}
