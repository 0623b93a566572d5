//! The users of a node: names and verifiers, as a file lists them. Who asks for a name that is not there
//! is shown a salt all the same, so that names can't be told from guesses.

use std::{collections::HashMap, fmt, num::NonZeroU32};

use thiserror::Error;

use tidegate_shared::scram::{MadeUp, Verifiers, prepared_name};

use super::{SCRAM, SCRAM_ITERATIONS_MIN, SCRAM_SHA_256, Verifier, VerifierError};

/// The salt of a user who does not exist, if no other tells the usual length.
const SALT_BYTES: usize = 16;

pub struct Users {
    verifiers: HashMap<String, Verifier>,
    made_up: MadeUp,
    /// As most have it.
    iterations: NonZeroU32,
    salt_bytes: usize,
}

/// What is wrong with a list of users, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct UsersError {
    pub line: usize,
    pub problem: UserProblem,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UserProblem {
    #[error("it is not NAME:SCRAM-SHA-256$…, as tidegate-edge scram NAME prints it")]
    Form,
    #[error("the verifier of {name}: {why}")]
    Verifier { name: String, why: VerifierError },
    #[error("the name is empty, or has a character that SASLprep (RFC 4013) forbids")]
    Name,
    #[error("{0} is there twice")]
    Twice(String),
}

impl Users {
    /// Reads lines of `name:verifier`; empty ones, and those that begin with `#`, are passed over.
    /// `secret` is of this node alone, and for ever: made-up salts come of it.
    pub fn parse(text: &str, secret: [u8; 32]) -> Result<Self, UsersError> {
        let mut users = Self {
            verifiers: HashMap::new(),
            made_up: MadeUp::new(secret),
            iterations: NonZeroU32::new(SCRAM_ITERATIONS_MIN).expect("it is not 0"),
            salt_bytes: SALT_BYTES,
        };
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let added = users.add(text.trim_end());
            added.map_err(|problem| UsersError { line, problem })?;
        }
        users.follow_the_most();
        Ok(users)
    }

    fn add(&mut self, line: &str) -> Result<(), UserProblem> {
        // A name may hold a colon.
        let marker = format!(":{SCRAM_SHA_256}$");
        let at = line.rfind(&marker).ok_or(UserProblem::Form)?;
        let (name, verifier) = (&line[..at], &line[at + 1..]);
        let name = prepared_name(name).ok_or(UserProblem::Name)?;
        match verifier.parse::<Verifier>() {
            Err(why) => Err(UserProblem::Verifier { name, why }),
            Ok(_) if self.verifiers.contains_key(&name) => Err(UserProblem::Twice(name)),
            Ok(verifier) => {
                self.verifiers.insert(name, verifier);
                Ok(())
            }
        }
    }

    fn follow_the_most(&mut self) {
        let mut counts = HashMap::new();
        for verifier in self.verifiers.values() {
            *counts
                .entry((verifier.iterations(), verifier.salt().len()))
                .or_insert(0) += 1;
        }
        let most = counts
            .into_iter()
            .max_by_key(|(kind, count)| (*count, *kind));
        if let Some((kind, _)) = most {
            (self.iterations, self.salt_bytes) = kind;
        }
    }

    pub fn len(&self) -> usize {
        self.verifiers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.verifiers.is_empty()
    }
}

impl Verifiers for Users {
    fn verifier(&self, name: &str) -> (Verifier, bool) {
        let made_up = self
            .made_up
            .verifier(SCRAM, name, self.iterations, self.salt_bytes);
        match self.verifiers.get(name) {
            Some(verifier) => (verifier.clone(), true),
            None => (made_up, false),
        }
    }
}

/// Without names, and without what they are checked by.
impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Users");
        shown.field("len", &self.len()).finish_non_exhaustive()
    }
}
