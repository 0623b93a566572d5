//! What a client says before it is known who it is, as a value: SaslHandshake chooses a mechanism, tokens follow. It does
//! no I/O; `gate` moves the bytes, and has passwords checked, which takes its time. Source: KIP-43, KIP-152, and Kafka's
//! `SaslServerAuthenticator`.

mod plain;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;
use tidegate_shared::scram::{Exchange, Mechanism, ScramError, Verifier, Verifiers};

pub(crate) use plain::Password;
use plain::PlainError;

/// How a client can prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SaslMechanism {
    /// The password itself (RFC 4616).
    Plain,
    Scram(Mechanism),
}

impl SaslMechanism {
    pub const ALL: [Self; 3] = [
        Self::Scram(Mechanism::Sha512),
        Self::Scram(Mechanism::Sha256),
        Self::Plain,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(mechanism) => mechanism.name(),
        }
    }
}

impl FromStr for SaslMechanism {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        let known = Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("{name:?} is no SASL mechanism that is served: {known}"))
    }
}

impl TryFrom<String> for SaslMechanism {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a client does not come in. It is told less: see [`SaslError::told`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SaslError {
    #[error("the mechanism {0:?} is not offered")]
    NotOffered(String),
    #[error("{0} does not belong here")]
    OutOfTurn(&'static str),
    #[error("{0}")]
    Scram(#[from] ScramError),
    #[error("{0}")]
    Plain(#[from] PlainError),
    #[error("there is no such user, or the password is wrong")]
    WrongPassword,
}

impl SaslError {
    /// What the client is told, with Kafka's words: nothing that tells names from passwords.
    pub(super) fn told(&self, mechanism: Option<SaslMechanism>) -> String {
        match (self, mechanism) {
            (Self::WrongPassword, _) => {
                "Authentication failed: Invalid username or password".to_owned()
            }
            (Self::Plain(error), _) => format!("Authentication failed: {error}"),
            (_, Some(mechanism)) => format!(
                "Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism}"
            ),
            (error, None) => error.to_string(),
        }
    }
}

/// What a token comes to.
#[derive(Debug)]
pub(super) enum Step {
    /// The client goes on from this.
    Challenge(Vec<u8>),
    /// Whether it is the user's goes to [`Sasl::checked`].
    Check(Password),
    Done(Authenticated),
}

/// It is known who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authenticated {
    pub(super) name: String,
    /// What the client waits for.
    pub(super) token: Vec<u8>,
}

/// One client, from its first request until it is known who it is.
#[derive(Debug)]
pub(super) struct Sasl<'a> {
    offered: &'a [SaslMechanism],
    chosen: Option<SaslMechanism>,
    /// After version 0 of the handshake tokens come without a request around them.
    is_raw: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing was chosen.
    Handshake,
    /// The mechanism's first token comes next.
    First,
    Exchanging(Box<Exchange>),
    /// A password.
    Checking,
    Over,
}

/// Users as one mechanism sees them.
struct OfMechanism<F>(Mechanism, F);

impl<F: Fn(Mechanism, &str) -> (Verifier, bool)> Verifiers for OfMechanism<F> {
    fn verifier(&self, name: &str) -> (Verifier, bool) {
        (self.1)(self.0, name)
    }
}

impl<'a> Sasl<'a> {
    pub(super) fn new(offered: &'a [SaslMechanism]) -> Self {
        Self {
            offered,
            chosen: None,
            is_raw: false,
            state: State::Handshake,
        }
    }

    pub(super) fn offered(&self) -> &'a [SaslMechanism] {
        self.offered
    }

    pub(super) fn mechanism(&self) -> Option<SaslMechanism> {
        self.chosen
    }

    /// Whether what comes next is a token without a request around it.
    pub(super) fn is_raw(&self) -> bool {
        self.is_raw
    }

    /// The client chooses its mechanism.
    pub(super) fn handshake(&mut self, version: i16, name: &str) -> Result<(), SaslError> {
        if !matches!(self.state, State::Handshake) {
            return Err(SaslError::OutOfTurn("SaslHandshake"));
        }
        let chosen = self.offered.iter().find(|one| one.name() == name);
        let not_offered = || SaslError::NotOffered(name.chars().take(32).collect());
        self.chosen = Some(*chosen.ok_or_else(not_offered)?);
        self.is_raw = version == 0;
        self.state = State::First;
        Ok(())
    }

    /// Takes a token. `nonce` is random, printable ASCII without a comma, and was never used before. After an error there
    /// is nothing more to say.
    pub(super) fn token(
        &mut self,
        token: &[u8],
        verifier_of: impl Fn(Mechanism, &str) -> (Verifier, bool),
        nonce: &str,
    ) -> Result<Step, SaslError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, self.chosen) {
            (State::First, Some(SaslMechanism::Scram(mechanism))) => {
                let users = OfMechanism(mechanism, verifier_of);
                let (exchange, challenge) = Exchange::begin(&users, token, nonce)?;
                self.state = State::Exchanging(Box::new(exchange));
                Ok(Step::Challenge(challenge.into_bytes()))
            }
            (State::First, Some(SaslMechanism::Plain)) => {
                let password = Password::parse(token)?;
                self.state = State::Checking;
                Ok(Step::Check(password))
            }
            (State::Exchanging(exchange), _) => {
                let done = exchange.finish_loosely(token)?;
                Ok(Step::Done(Authenticated {
                    name: done.name,
                    token: done.server_final.into_bytes(),
                }))
            }
            _ => Err(SaslError::OutOfTurn("SaslAuthenticate")),
        }
    }

    /// What came of the check that [`Step::Check`] asked for: the user's name, where the password is theirs.
    pub(super) fn checked(&mut self, name: Option<String>) -> Result<Authenticated, SaslError> {
        match (std::mem::replace(&mut self.state, State::Over), name) {
            (State::Checking, Some(name)) => Ok(Authenticated {
                name,
                token: Vec::new(),
            }),
            _ => Err(SaslError::WrongPassword),
        }
    }
}
