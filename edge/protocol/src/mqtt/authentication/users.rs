//! The users of a node: names, and what they are checked by, as a file lists them. Who asks for a name that is not there
//! is answered all the same, and takes as long, so that names can't be told from guesses.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;

use thiserror::Error;

use tidegate_shared::scram::{MadeUp, Verifiers, prepared_name};

use super::{
    PasswordHash, PasswordHashError, SCRAM, SCRAM_ITERATIONS_MIN, SCRAM_SHA_256, Verifier,
    VerifierError,
};

/// The salt of a user who does not exist, if no other tells the usual length.
const SALT_BYTES: usize = 16;

/// Users of one node.
pub const USERS_MAX: usize = 100_000;

/// What stands before an Argon2id hash.
const ARGON2ID: &str = "argon2id";

pub struct Users {
    credentials: HashMap<String, Credentials>,
    made_up: MadeUp,
    /// As most have it.
    iterations: NonZeroU32,
    salt_bytes: usize,
    /// Nobody's, as costly as most: what a password of an unknown name is held against.
    nobody: Option<PasswordHash>,
    memory_kib_max: u32,
}

/// What one user is checked by: a line of the file for each.
#[derive(Default)]
struct Credentials {
    verifier: Option<Verifier>,
    password: Option<PasswordHash>,
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
    #[error(
        "it is not NAME:SCRAM-SHA-256$… or NAME:$argon2id$…, as tidegate-edge scram NAME and tidegate-edge passwd NAME print it"
    )]
    Form,
    #[error("the verifier of {name}: {why}")]
    Verifier { name: String, why: VerifierError },
    #[error("the password of {name}: {why}")]
    Password {
        name: String,
        why: PasswordHashError,
    },
    #[error("the name is empty, or has a character that SASLprep (RFC 4013) forbids")]
    Name,
    #[error("{0} is there twice")]
    Twice(String),
    #[error("there are more than {USERS_MAX} users")]
    TooMany,
}

/// What stands behind the name.
enum Proof<'a> {
    Verifier(&'a str),
    Password(&'a str),
}

impl Users {
    /// Reads lines of `name:verifier` and `name:hash`; empty ones, and those that begin with `#`, are passed over. A name
    /// may have a line of each kind. `secret` is of this node alone, and for ever: made-up salts come of it.
    pub fn parse(text: &str, secret: [u8; 32]) -> Result<Self, UsersError> {
        let mut users = Self {
            credentials: HashMap::new(),
            made_up: MadeUp::new(secret),
            iterations: NonZeroU32::new(SCRAM_ITERATIONS_MIN).expect("it is not 0"),
            salt_bytes: SALT_BYTES,
            nobody: None,
            memory_kib_max: 0,
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
        let (name, proof) = split(line).ok_or(UserProblem::Form)?;
        let name = prepared_name(name).ok_or(UserProblem::Name)?;
        if self.credentials.len() >= USERS_MAX {
            return Err(UserProblem::TooMany);
        }
        let credentials = self.credentials.entry(name.clone()).or_default();
        let replaced = match proof {
            Proof::Verifier(text) => {
                let verifier = text.parse().map_err(|why| UserProblem::Verifier {
                    name: name.clone(),
                    why,
                })?;
                credentials.verifier.replace(verifier).is_some()
            }
            Proof::Password(text) => {
                let password = text.parse().map_err(|why| UserProblem::Password {
                    name: name.clone(),
                    why,
                })?;
                credentials.password.replace(password).is_some()
            }
        };
        match replaced {
            true => Err(UserProblem::Twice(name)),
            false => Ok(()),
        }
    }

    fn follow_the_most(&mut self) {
        let verifiers = self
            .credentials
            .values()
            .filter_map(|own| own.verifier.as_ref());
        let kinds = verifiers.map(|verifier| (verifier.iterations(), verifier.salt().len()));
        if let Some(kind) = most(kinds) {
            (self.iterations, self.salt_bytes) = kind;
        }
        let passwords = self
            .credentials
            .values()
            .filter_map(|own| own.password.as_ref());
        let passwords: Vec<_> = passwords.collect();
        let memory = passwords.iter().map(|password| password.memory_kib());
        self.memory_kib_max = memory.max().unwrap_or(0);
        let kind = most(passwords.iter().map(|password| password.cost()));
        let of_most = passwords
            .iter()
            .find(|password| Some(password.cost()) == kind);
        self.nobody = of_most.map(|password| (*password).clone());
    }

    pub fn len(&self) -> usize {
        self.credentials.len()
    }

    pub fn is_empty(&self) -> bool {
        self.credentials.is_empty()
    }

    /// Whether it is this user's password. Takes as long as what it is checked by says, also for a name that is not there.
    pub fn fits(&self, name: &str, password: &[u8]) -> bool {
        let name = prepared_name(name).unwrap_or_default();
        let credentials = self.credentials.get(&name);
        match credentials {
            Some(Credentials {
                password: Some(hash),
                ..
            }) => hash.fits(password),
            Some(Credentials {
                verifier: Some(verifier),
                ..
            }) => fits_verifier(verifier, password),
            _ => {
                match &self.nobody {
                    Some(nobody) => nobody.fits(password),
                    None => fits_verifier(&self.verifier(&name).0, password),
                };
                false
            }
        }
    }

    /// What a check of a password takes in memory, at most.
    pub fn memory_kib_max(&self) -> u32 {
        self.memory_kib_max
    }

    /// The name as it is kept, and a number that changes with what it is checked by.
    pub fn known(&self, name: &str) -> Option<(String, u64)> {
        let name = prepared_name(name)?;
        let credentials = self.credentials.get(&name)?;
        let mut hasher = DefaultHasher::new();
        credentials
            .verifier
            .as_ref()
            .map(ToString::to_string)
            .hash(&mut hasher);
        credentials
            .password
            .as_ref()
            .map(ToString::to_string)
            .hash(&mut hasher);
        Some((name, hasher.finish()))
    }
}

/// A verifier is of a password that is text.
fn fits_verifier(verifier: &Verifier, password: &[u8]) -> bool {
    std::str::from_utf8(password).is_ok_and(|password| verifier.fits(password))
}

/// A name may hold a colon.
fn split(line: &str) -> Option<(&str, Proof<'_>)> {
    let at = |marker: String| line.rfind(&marker);
    let (verifier, password) = (
        at(format!(":{SCRAM_SHA_256}$")),
        at(format!(":${ARGON2ID}$")),
    );
    match (verifier, password) {
        (Some(at), None) => Some((&line[..at], Proof::Verifier(&line[at + 1..]))),
        (None, Some(at)) => Some((&line[..at], Proof::Password(&line[at + 1..]))),
        _ => None,
    }
}

fn most<K: Hash + Ord + Copy>(kinds: impl Iterator<Item = K>) -> Option<K> {
    let mut counts = HashMap::new();
    for kind in kinds {
        *counts.entry(kind).or_insert(0) += 1;
    }
    let most = counts
        .into_iter()
        .max_by_key(|(kind, count): &(K, u32)| (*count, *kind));
    most.map(|(kind, _)| kind)
}

impl Verifiers for Users {
    fn verifier(&self, name: &str) -> (Verifier, bool) {
        let made_up = self
            .made_up
            .verifier(SCRAM, name, self.iterations, self.salt_bytes);
        let own = self.credentials.get(name);
        match own.and_then(|own| own.verifier.as_ref()) {
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
