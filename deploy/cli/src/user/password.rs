//! A user's new password: typed without being shown, from standard input, or made up here.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, ensure};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use crate::remote::Usage;

/// Letters and digits that nobody takes for another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// 5 bits each.
const GENERATED_LETTERS: usize = 26;

/// A longer line is none of a person's.
const PASSWORD_BYTES_MAX: u64 = 4_096;

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct PasswordArguments {
    /// Take the password from standard input, one line
    #[arg(long)]
    pub(super) password_stdin: bool,
    /// Make a password up, and print it once
    #[arg(long, conflicts_with = "password_stdin")]
    pub(super) generate: bool,
}

/// What the user will have.
pub(super) struct Chosen {
    pub(super) text: String,
    is_generated: bool,
}

/// Without the password.
impl fmt::Debug for Chosen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Chosen").finish_non_exhaustive()
    }
}

impl Chosen {
    /// A password that was made up here is shown, since nobody else has it.
    pub(super) fn shown(self, mut answer: Value, done: String) -> (Value, String) {
        if !self.is_generated {
            return (answer, done);
        }
        answer["password"] = json!(self.text);
        (answer, self.text)
    }
}

impl PasswordArguments {
    pub(super) fn choose(&self) -> anyhow::Result<Chosen> {
        let is_generated = self.generate;
        let text = match (self.generate, self.password_stdin) {
            (true, _) => generate()?,
            (_, true) => read_line(io::stdin().lock())?,
            _ if io::stdin().is_terminal() => ask()?,
            _ => {
                let way = "no terminal to ask for the password: add --password-stdin or --generate";
                return Err(Usage(way.to_owned()).into());
            }
        };
        ensure!(!text.is_empty(), "the password is empty");
        Ok(Chosen { text, is_generated })
    }
}

fn generate() -> anyhow::Result<String> {
    let mut bytes = [0; GENERATED_LETTERS];
    let source = File::open("/dev/urandom");
    let read = source.and_then(|mut source| source.read_exact(&mut bytes));
    read.context("the system gives no random bytes")?;
    let letters = bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
    Ok(letters.iter().collect())
}

fn read_line(input: impl io::BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    let read = input.take(PASSWORD_BYTES_MAX).read_line(&mut line);
    read.context("cannot read the password from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Twice, since it is not shown.
fn ask() -> anyhow::Result<String> {
    let first = ask_once("Password: ")?;
    let second = ask_once("The same again: ")?;
    ensure!(first == second, "the two passwords are not the same");
    Ok(first)
}

fn ask_once(prompt: &str) -> anyhow::Result<String> {
    eprint!("{prompt}");
    io::stderr().flush()?;
    let hidden = Hidden::new().context("cannot hide what is typed")?;
    let line = read_line(io::stdin().lock());
    drop(hidden);
    eprintln!();
    line
}

/// What is typed is not shown for as long as this lives.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_password() {
        assert_eq!(read_line(&b"pen cil \r\nmore"[..]).unwrap(), "pen cil ");
        assert_eq!(read_line(&b""[..]).unwrap(), "");
    }

    #[test]
    fn what_is_made_up_is_long_and_shown_once() {
        let arguments = PasswordArguments {
            generate: true,
            ..PasswordArguments::default()
        };
        let (one, other) = (arguments.choose().unwrap(), arguments.choose().unwrap());
        assert_eq!(one.text.len(), GENERATED_LETTERS);
        assert_ne!(one.text, other.text);
        let text = one.text.clone();
        let (answer, shown) = one.shown(json!({}), "done".to_owned());
        assert_eq!(
            (shown, answer["password"].as_str()),
            (text.clone(), Some(&*text))
        );
    }
}
