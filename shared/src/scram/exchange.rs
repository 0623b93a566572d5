//! One exchange, from the client's first message to the server's last.

use subtle::ConstantTimeEq;
use thiserror::Error;

use super::{
    Verifier, encode,
    messages::{ClientFinal, ClientFirst},
    prepared_name,
};

/// The users of a server, for one mechanism.
pub trait Verifiers {
    /// The verifier to go on with, and whether there is such a user. It takes as long either way, and for a name that is
    /// not there it is the same each time.
    fn verifier(&self, name: &str) -> (Verifier, bool);
}

/// Why a client is not let in. What it is told is less: that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScramError {
    #[error("a SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    #[error("a SCRAM message has no {0} in its place")]
    Missing(&'static str),
    #[error("the client wants channel binding, which is not offered")]
    ChannelBinding,
    #[error("the client wants an extension of SCRAM that is not known")]
    Extension,
    #[error("the client wants to act as somebody else")]
    ActsAs,
    #[error("the client does not repeat the nonce, or its first words")]
    Repeated,
    #[error("there is no such user, or the password is wrong")]
    Rejected,
}

/// Between the server's first message and the client's second.
#[derive(Debug)]
pub struct Exchange {
    name: String,
    is_known: bool,
    verifier: Verifier,
    gs2_header: String,
    nonce: String,
    /// Both first messages, as the signatures cover them.
    first_messages: String,
}

/// A client that has proved that it knows the password, and what proves to it that the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    pub name: String,
    pub server_final: String,
}

impl Exchange {
    /// Takes the client's first message, and gives the server's. `nonce` is random, printable ASCII
    /// without a comma, and was never used before.
    pub fn begin(
        users: &impl Verifiers,
        client_first: &[u8],
        nonce: &str,
    ) -> Result<(Self, String), ScramError> {
        let first = ClientFirst::parse(client_first)?;
        if first
            .acts_as
            .as_ref()
            .is_some_and(|acts_as| *acts_as != first.name)
        {
            return Err(ScramError::ActsAs);
        }
        let prepared = prepared_name(&first.name);
        // What can be no name is as unknown as any other.
        let name = prepared.unwrap_or(first.name);
        let (verifier, is_known) = users.verifier(&name);
        let nonce = format!("{}{nonce}", first.nonce);
        let (salt, iterations) = (encode(&verifier.salt), verifier.iterations);
        let server_first = format!("r={nonce},s={salt},i={iterations}");
        let exchange = Self {
            name,
            is_known,
            verifier,
            gs2_header: first.gs2_header.to_owned(),
            nonce,
            first_messages: format!("{},{server_first}", first.bare),
        };
        Ok((exchange, server_first))
    }

    /// Takes the client's second message.
    pub fn finish(self, client_final: &[u8]) -> Result<Authenticated, ScramError> {
        self.finish_where(client_final, |said, nonce| said == nonce)
    }

    /// The same, of a client that may say its own nonce twice, as older librdkafka (2.0.2) does: Kafka wants no more than that the
    /// nonce ends with the server's. What is signed has the server's nonce either way, so nothing old is taken for new.
    pub fn finish_loosely(self, client_final: &[u8]) -> Result<Authenticated, ScramError> {
        self.finish_where(client_final, |said, nonce| said.ends_with(nonce))
    }

    fn finish_where(
        self,
        client_final: &[u8],
        is_nonce: impl FnOnce(&str, &str) -> bool,
    ) -> Result<Authenticated, ScramError> {
        let last = ClientFinal::parse(client_final, self.verifier.mechanism)?;
        let repeats = last.channel_binding == encode(self.gs2_header.as_bytes());
        if !repeats || !is_nonce(last.nonce, &self.nonce) {
            return Err(ScramError::Repeated);
        }
        let signed = format!("{},{}", self.first_messages, last.without_proof);
        let mechanism = self.verifier.mechanism;
        let signature = mechanism.hmac(&self.verifier.stored_key, signed.as_bytes());
        let mut client_key = last.proof;
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let proved = mechanism.hash(&client_key).ct_eq(&self.verifier.stored_key);
        if !(bool::from(proved) && self.is_known) {
            return Err(ScramError::Rejected);
        }
        let signature = mechanism.hmac(&self.verifier.server_key, signed.as_bytes());
        Ok(Authenticated {
            name: self.name,
            server_final: format!("v={}", encode(&signature)),
        })
    }
}
