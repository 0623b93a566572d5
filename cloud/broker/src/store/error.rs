//! Why a store did not do what it was asked, in words that name store, object and action; and of the crate
//! underneath: which of its errors may pass.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use object_store::client::HttpError;

use super::limits::ERROR_TEXT_BYTES_MAX;
use super::usage::Outcome;

/// What was asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Open,
    Put,
    Create,
    Read,
    Size,
    List,
    Delete,
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Open => "open",
            Self::Put => "write",
            Self::Create => "create",
            Self::Read => "read",
            Self::Size => "tell the size of",
            Self::List => "list",
            Self::Delete => "delete",
        })
    }
}

/// A request that came to nothing. A clone tells of the same one, to all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{store}: there is no object {key}")]
    NotFound { store: Arc<str>, key: String },
    #[error(
        "{store}: object {key} has {size} bytes, and {} to {} were asked for",
        range.start,
        range.end
    )]
    OutOfRange {
        store: Arc<str>,
        key: String,
        range: Range<u64>,
        size: u64,
    },
    /// The store cannot be reached, is overloaded or broken: later it may be well.
    #[error("{store}: cannot {action} {key}, tried {attempts} times in {elapsed:?}: {reason}")]
    Unavailable {
        store: Arc<str>,
        action: Action,
        key: String,
        attempts: u32,
        elapsed: Duration,
        reason: String,
    },
    /// The store is there and does not do it: no right to, wrong credentials, no such bucket.
    #[error("{store}: cannot {action} {key}: {reason}")]
    Refused {
        store: Arc<str>,
        action: Action,
        key: String,
        reason: String,
    },
}

impl StoreError {
    /// Whether the same may succeed at another time, with nothing changed by hand.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// An answer that says "not now": a 5xx, a 429 or a 408.
#[derive(Debug, thiserror::Error)]
#[error("the server answered {status}: {body}")]
pub(super) struct NotNow {
    pub(super) status: u16,
    pub(super) body: String,
}

/// How one request ended that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    NotFound,
    Exists,
    /// Another's write to the same key is under way; this one was not carried out.
    Conflict(String),
    /// It may pass; whether the request was carried out is not known.
    Passing {
        throttled: bool,
        reason: String,
    },
    Refused(String),
}

impl Failure {
    pub(super) fn passing(reason: String) -> Self {
        Self::Passing {
            throttled: false,
            reason,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::NotFound | Self::Exists | Self::Conflict(_) => Outcome::Declined,
            Self::Passing {
                throttled: true, ..
            } => Outcome::Throttled,
            Self::Passing { .. } => Outcome::Failed,
            Self::Refused(_) => Outcome::Refused,
        }
    }
}

/// What a store does that matters to how its errors are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not tried again: an error of a disk is told at once.
    Local,
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "made only in a build with one of the features")
    )]
    Remote,
    /// As Remote, and 409 is another's write under way, where others say by it that the object is there.
    S3,
}

/// Reads an error of the crate underneath.
pub(super) fn read_failure(kind: Kind, error: object_store::Error) -> Failure {
    use object_store::Error as E;
    let reason = text_of(&error);
    match &error {
        E::NotFound { .. } => Failure::NotFound,
        E::AlreadyExists { source, .. } if kind == Kind::S3 => {
            // A failed precondition comes wrapped; a conflict comes as the answer itself.
            if source.is::<object_store::Error>() {
                Failure::Exists
            } else {
                Failure::Conflict(reason)
            }
        }
        E::AlreadyExists { .. } => Failure::Exists,
        E::PermissionDenied { .. }
        | E::Unauthenticated { .. }
        | E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::UnknownConfigurationKey { .. }
        | E::Precondition { .. }
        | E::NotModified { .. } => Failure::Refused(reason),
        _ if kind == Kind::Local => Failure::passing(reason),
        _ => remote_failure(&error, reason),
    }
}

/// Of an answer that is no success only a "not now" comes as an error of HTTP: see the transport.
fn remote_failure(error: &object_store::Error, reason: String) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut of_http = false;
    while let Some(error) = cause {
        if let Some(not_now) = error.downcast_ref::<NotNow>() {
            let throttled = matches!(not_now.status, 429 | 503);
            return Failure::Passing { throttled, reason };
        }
        of_http |= error.is::<HttpError>() || error.is::<std::io::Error>();
        cause = error.source();
    }
    if of_http {
        Failure::passing(reason)
    } else {
        Failure::Refused(reason)
    }
}

/// What went wrong, cut where it is an answer's long text.
fn text_of(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    if text.len() > ERROR_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}
