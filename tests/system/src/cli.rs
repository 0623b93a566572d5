//! The command `tidegate` as a user runs it: its words, its exit code, its answer as JSON.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::workspace;

/// What one run of the command said.
#[derive(Clone, Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub error: String,
}

impl Said {
    /// The answer, whatever the exit code.
    #[track_caller]
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.out);
        parsed.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs `tidegate` against a cloud; no terminal is there to ask.
pub fn tidegate(cloud: SocketAddr, words: &[&str]) -> Said {
    run(command(cloud, words))
}

/// What does that.
pub fn command(cloud: SocketAddr, words: &[&str]) -> Command {
    let mut command = Command::new(workspace::binary("tidegate"));
    command
        .args(words)
        .env("TIDEGATE_CLOUD", format!("http://{cloud}"))
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(mut command: Command) -> Said {
    let output = command.output().expect("tidegate can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Said {
        code: output.status.code().expect("it ends by itself"),
        out: text(&output.stdout),
        error: text(&output.stderr),
    }
}

/// The same, with the answer as JSON.
pub fn json(cloud: SocketAddr, words: &[&str]) -> Said {
    let mut all = words.to_vec();
    all.extend(["--output", "json"]);
    tidegate(cloud, &all)
}
