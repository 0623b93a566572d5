//! Why a connection was not made, told apart for whoever has to do something about it.

use quinn::ConnectionError;
use tidegate_bridge_protocol::reply_code::CloseCode;

use crate::endpoint::ConnectError;

/// QUIC's error codes for TLS: this and an alert's number (RFC 9001, 4.8).
const CRYPTO_ERROR: u64 = 0x100;
const ALERTS: u64 = 0x100;

/// What stood in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing came back at all.
    NoAnswer,
    /// This end does not take the peer's TLS, mostly its certificate.
    NotTaken {
        alert: u8,
        why: String,
    },
    /// The peer does not take this end's.
    Refused {
        alert: u8,
        why: String,
    },
    /// The peer closed with a code of the bridge.
    Closed(Option<CloseCode>, String),
    Other(String),
}

impl From<&ConnectionError> for Trouble {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::NoAnswer,
            ConnectionError::TransportError(own) => match alert(u64::from(own.code)) {
                Some(alert) => Self::NotTaken {
                    alert,
                    why: own.reason.clone(),
                },
                None => Self::Other(error.to_string()),
            },
            ConnectionError::ConnectionClosed(close) => {
                let why = String::from_utf8_lossy(&close.reason).into_owned();
                match alert(u64::from(close.error_code)) {
                    Some(alert) => Self::Refused { alert, why },
                    None => Self::Other(error.to_string()),
                }
            }
            ConnectionError::ApplicationClosed(close) => {
                let why = String::from_utf8_lossy(&close.reason).into_owned();
                Self::Closed(CloseCode::from_number(close.error_code.into_inner()), why)
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<&ConnectError> for Trouble {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Connection(error) => error.into(),
            other => Self::Other(other.to_string()),
        }
    }
}

fn alert(code: u64) -> Option<u8> {
    let number = code.checked_sub(CRYPTO_ERROR)?;
    (number < ALERTS).then(|| number.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_alerts_are_told_from_other_codes() {
        assert_eq!(alert(0x130), Some(48));
        assert_eq!(alert(0x1ff), Some(255));
        assert_eq!((alert(0x200), alert(0x0a)), (None, None));
        assert_eq!(Trouble::from(&ConnectionError::TimedOut), Trouble::NoAnswer);
    }
}
