//! What can go wrong between this client and a Kafka listener.

use std::io;
use std::net::SocketAddr;

use kafka_protocol::ResponseError;
use thiserror::Error;
use tidegate_shared::record::BatchError;

#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("cannot connect to {address}: {error}")]
    Connect {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("the connection to {address} has failed: {error}")]
    Broken {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("{address} did not answer within {seconds} s")]
    Silent { address: SocketAddr, seconds: u64 },
    #[error("an answer of {bytes} bytes was announced; at most {max} are taken")]
    TooLarge { bytes: u64, max: usize },
    #[error("the {api} exchange does not follow the protocol: {reason}")]
    Protocol { api: &'static str, reason: String },
    #[error("{api} was answered with {error}")]
    Refused {
        api: &'static str,
        error: ResponseError,
    },
    #[error("a batch cannot be read: {0}")]
    Batch(#[from] BatchError),
}

/// Error code 0 is none; a code that the codec does not know is still an error.
pub(super) fn check(api: &'static str, code: i16) -> Result<(), ClientError> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) => Err(ClientError::Refused { api, error }),
    }
}
