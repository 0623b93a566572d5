//! What `tidegate-edge import` makes of a mosquitto's configuration, and a client that does the same to both.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::users;

#[derive(Debug)]
pub struct Imported {
    pub code: i32,
    pub said: String,
    pub folder: PathBuf,
}

impl Imported {
    /// By this command, which puts it into this folder.
    #[track_caller]
    pub fn by(mut command: Command, folder: PathBuf) -> Self {
        let output = command.output().expect("tidegate-edge can be run");
        Self {
            code: output.status.code().expect("it ends by itself"),
            said: String::from_utf8(output.stderr).expect("it is text"),
            folder,
        }
    }

    pub fn edge(&self) -> String {
        std::fs::read_to_string(self.folder.join("edge.yaml")).expect("there is an edge.yaml")
    }

    /// A password for each of these, as the lines in `users` say.
    #[track_caller]
    pub fn give_passwords(&self, passwords: &[(&str, &str)]) {
        let path = self.folder.join("users");
        let mut text = std::fs::read_to_string(&path).expect("there is a file of users");
        for (name, password) in passwords {
            assert!(
                text.contains(&format!("tidegate-edge passwd \"{name}\"")),
                "{text}"
            );
            text.push_str(&users::line("passwd", name, password));
        }
        std::fs::write(path, text).expect("it can be written");
    }

    /// What it said that it could not carry over.
    pub fn not_carried(&self) -> Vec<&str> {
        let lines = self.said.lines();
        lines
            .filter(|line| line.contains("NOT CARRIED OVER"))
            .collect()
    }
}

/// What the client saw, `same_client.py`.
#[track_caller]
pub fn saw(mut client: Command, plan: &Value) -> Value {
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = client.spawn().expect("python can be run");
    let input = process.stdin.take().expect("it is piped");
    serde_json::to_writer(input, plan).expect("it reads");
    let output = process.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the client gave up");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}
