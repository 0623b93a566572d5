//! A program of `tests/interop` that runs: what it says, and that it is told when the broker is there again.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::wait;

/// A program that runs.
#[derive(Debug)]
pub(super) struct Cell {
    name: String,
    wanted: Vec<&'static str>,
    passed: Vec<String>,
    child: Child,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Running,
    Waiting,
    Ended,
}

/// A line of a cell's output, and its end.
type Said = (usize, Option<String>);

impl Cell {
    /// `wanted` are the scenarios that the command was told.
    pub(super) fn start(name: String, wanted: Vec<&'static str>, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("{name} can't start: {error}")),
            name,
            wanted,
            passed: Vec::new(),
            state: State::Running,
        }
    }

    fn listen(&mut self, at: usize, said: Sender<Said>) {
        let output = self.child.stdout.take().expect("it is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = said.send((at, Some(line)));
            }
            let _ = said.send((at, None));
        });
    }

    fn hear(&mut self, line: Option<String>) {
        let Some(line) = line else {
            self.state = State::Ended;
            return;
        };
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        if said["waiting"].is_string() {
            self.state = State::Waiting;
        } else if let (Some(scenario), true) = (said["scenario"].as_str(), said["passed"] == true) {
            self.passed.push(scenario.to_owned());
        } else {
            println!("{}: {line}", self.name);
        }
    }

    fn go_on(&mut self) {
        let input = self.child.stdin.as_mut().expect("it is piped");
        // One that has just ended is found to have ended.
        let _ = input.write_all(b"\n");
        self.state = State::Running;
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.passed.join(" "))
    }
}

/// Runs all side by side, restarts the broker each time that all that run wait for it, and asserts that in each all
/// scenarios held.
#[track_caller]
pub(super) fn run(cells: &mut [Cell], within: Duration, mut restart: impl FnMut()) {
    let (said, heard) = mpsc::channel();
    for (at, cell) in cells.iter_mut().enumerate() {
        cell.listen(at, said.clone());
    }
    drop(said);
    let deadline = Instant::now() + within;
    while cells.iter().any(|cell| cell.state != State::Ended) {
        let left = deadline.saturating_duration_since(Instant::now());
        match heard.recv_timeout(left) {
            Ok((at, line)) => cells[at].hear(line),
            Err(RecvTimeoutError::Timeout) => {
                println!("not within {within:?}");
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let running = cells.iter().any(|cell| cell.state == State::Running);
        if !running && cells.iter().any(|cell| cell.state == State::Waiting) {
            restart();
            let waiting = cells.iter_mut();
            waiting
                .filter(|cell| cell.state == State::Waiting)
                .for_each(Cell::go_on);
        }
    }
    check(cells);
}

#[track_caller]
fn check(cells: &mut [Cell]) {
    let mut failed = Vec::new();
    for cell in cells {
        println!("{cell}");
        let ended = cell.state == State::Ended
            && wait::until(
                "a program that has closed its output ends",
                wait::SOON,
                || cell.child.try_wait().expect("a child can be waited for"),
            )
            .success();
        if !ended || cell.passed != cell.wanted {
            failed.push(cell.name.clone());
        }
    }
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}
