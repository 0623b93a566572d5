//! PLAIN's one token: whom to act as, who the client is, and the password, with NUL between them (RFC 4616).

use std::fmt;

use thiserror::Error;

/// A name and a password, in clear: they live as long as the check.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// Without the password.
impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Password");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

/// Kafka's words, as clients show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum PlainError {
    #[error("Invalid SASL/PLAIN response: expected 3 tokens")]
    Form,
    #[error("username not specified")]
    NoName,
    #[error("password not specified")]
    NoPassword,
    #[error("Client requested an authorization id that is different from username")]
    ActsAs,
}

impl Password {
    pub(super) fn parse(token: &[u8]) -> Result<Self, PlainError> {
        let token = std::str::from_utf8(token).map_err(|_| PlainError::Form)?;
        let mut parts = token.split('\0');
        let (Some(acts_as), Some(name), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PlainError::Form);
        };
        match (name.is_empty(), password.is_empty()) {
            (true, _) => Err(PlainError::NoName),
            (_, true) => Err(PlainError::NoPassword),
            _ if !acts_as.is_empty() && acts_as != name => Err(PlainError::ActsAs),
            _ => Ok(Self {
                name: name.to_owned(),
                password: password.to_owned(),
            }),
        }
    }
}
