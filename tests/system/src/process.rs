//! A process under test: its output goes to a log file, and it does not outlive its guard.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// Lines of the log that a failed test prints.
const TAIL_LINES: usize = 40;

#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both its outputs are appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file = open_log(log);
        let copy = file.try_clone().expect("a log file can be cloned");
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .env("NO_COLOR", "1");
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} can't start: {error}"));
        Self {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that was logged, also by the lives before this one.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name, such as `INT`.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "kill -s {signal} {id} failed"
        );
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end by itself.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait::until(&what, within, || self.exited())
    }

    /// Waits until the log has `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, within: Duration) {
        let what = format!("{} logs {text:?}", self.name);
        wait::until(&what, within, || self.log().contains(text).then_some(()));
    }
}

fn open_log(path: &Path) -> File {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            println!("---- the last of {} ({})", self.name, self.log.display());
            for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                println!("{line}");
            }
        }
    }
}
