//! What goes to the person: colour only on a terminal, a status line that is rewritten in place, and
//! logs that do not run into it.

#![cfg_attr(not(feature = "up"), allow(dead_code, reason = "most of it is for up"))]

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

const CLEAR_LINE: &str = "\r\x1b[K";
/// Off and on again: a line that is too long is cut by the terminal and not broken in two, so that
/// it can be rewritten.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";

/// Standard output and the status line at its end.
#[derive(Clone, Debug)]
pub(crate) struct Terminal {
    rewrites: bool,
    colour: bool,
    status_shown: Arc<Mutex<bool>>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let rewrites = io::stdout().is_terminal();
        Self {
            rewrites,
            colour: rewrites && std::env::var_os("NO_COLOR").is_none(),
            status_shown: Arc::default(),
        }
    }

    /// Whether a status line is rewritten in place.
    pub(crate) fn rewrites(&self) -> bool {
        self.rewrites
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    fn styled(&self, style: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{style}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Writes lines. A reader that has gone away is no reason to stop carrying messages.
    pub(crate) fn print(&self, text: &str) {
        let mut shown = self.clear_status();
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        *shown = false;
    }

    /// Puts `line` where the last status stood, or below it where nothing can be rewritten.
    pub(crate) fn status(&self, line: &str) {
        let mut shown = self.lock();
        let mut out = io::stdout().lock();
        let _ = match self.rewrites {
            true => write!(out, "{CLEAR_LINE}{WRAP_OFF}{line}{WRAP_ON}"),
            false => writeln!(out, "{line}"),
        };
        let _ = out.flush();
        *shown = self.rewrites;
    }

    /// Leaves the status where it is and goes to the next line.
    pub(crate) fn end_status(&self) {
        let mut shown = self.lock();
        if *shown {
            let _ = writeln!(io::stdout());
        }
        *shown = false;
    }

    /// Logs to stderr from here on.
    ///
    /// # Errors
    /// The filter cannot be read.
    pub(crate) fn log_to_stderr(&self, filter: &str) -> anyhow::Result<()> {
        let parsed = EnvFilter::builder().parse(filter).map_err(|error| {
            anyhow::anyhow!(
                "--log {filter:?} is not a filter, such as warn or tidegate_edge=debug: {error}"
            )
        })?;
        tracing_subscriber::fmt()
            .with_env_filter(parsed)
            .with_writer(self.clone())
            .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .try_init()
            .map_err(|error| anyhow::anyhow!("logging cannot be set up: {error}"))
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        let shown = self.status_shown.lock();
        shown.unwrap_or_else(PoisonError::into_inner)
    }

    fn clear_status(&self) -> MutexGuard<'_, bool> {
        let mut shown = self.lock();
        if *shown {
            let mut out = io::stdout().lock();
            let _ = write!(out, "{CLEAR_LINE}").and_then(|()| out.flush());
        }
        *shown = false;
        shown
    }
}

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine {
            _status: self.clear_status(),
        }
    }
}

/// One log line on its way to stderr; the status line waits meanwhile.
#[derive(Debug)]
pub(crate) struct LogLine<'a> {
    _status: MutexGuard<'a, bool>,
}

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// One line out of many, for what must be one line.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// Text that a device chose, fit for a terminal: what is not printable is escaped, and what is
/// longer than `chars_max` is cut.
pub(crate) fn printable(bytes: &[u8], chars_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == chars_max {
            out.push('…');
            break;
        }
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_sends_cannot_drive_the_terminal() {
        assert_eq!(printable(b"21.5", 40), "21.5");
        assert_eq!(printable(b"\x1b[2Jx\n", 40), "\\u{1b}[2Jx\\n");
        assert_eq!(printable("äöü".as_bytes(), 2), "äö…");
        assert_eq!(printable(&[0xff, b'a'], 40), "\u{fffd}a");
    }

    #[test]
    fn an_error_of_several_lines_becomes_one() {
        assert_eq!(one_line("a\n  b\n\nc\n"), "a; b; c");
    }
}
