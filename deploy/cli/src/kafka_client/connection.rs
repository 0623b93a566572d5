//! One TCP connection: a request out, its answer in, one at a time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ClientError;

/// The largest answer that is taken. More is asked of no listener.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long one exchange may take; far more than any fetch is told to wait.
const EXCHANGE_WAIT: Duration = Duration::from_secs(15);

const CLIENT_ID: &str = "tidegate";

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    correlation_id: i32,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, ClientError> {
        let connecting = timeout(EXCHANGE_WAIT, TcpStream::connect(address));
        let connected = connecting.await.map_err(|_| silent(address))?;
        let stream = connected.map_err(|error| ClientError::Connect { address, error })?;
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream,
            address,
            correlation_id: 0,
        })
    }

    /// Sends a request and waits for its answer. After an error, and where it is dropped before its
    /// end, the connection is of no use any more.
    pub(super) async fn ask<R: Request>(
        &mut self,
        api: &'static str,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let key = ApiKey::try_from(R::KEY).map_err(|()| protocol(api, "unknown API"))?;
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = self.encode(api, key, version, request)?;
        let exchanged = timeout(EXCHANGE_WAIT, self.exchange(&frame)).await;
        let mut answer = exchanged.map_err(|_| silent(self.address))??;
        let header = ResponseHeader::decode(&mut answer, key.response_header_version(version))
            .map_err(|error| protocol(api, error))?;
        if header.correlation_id != self.correlation_id {
            return Err(protocol(api, "the answer belongs to another request"));
        }
        R::Response::decode(&mut answer, version).map_err(|error| protocol(api, error))
    }

    fn encode<R: Request>(
        &self,
        api: &'static str,
        key: ApiKey,
        version: i16,
        request: &R,
    ) -> Result<Bytes, ClientError> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut body = BytesMut::new();
        header
            .encode(&mut body, key.request_header_version(version))
            .and_then(|()| request.encode(&mut body, version))
            .map_err(|error| protocol(api, error))?;
        let length = i32::try_from(body.len()).map_err(|error| protocol(api, error))?;
        let mut frame = BytesMut::with_capacity(4 + body.len());
        frame.put_i32(length);
        frame.put_slice(&body);
        Ok(frame.freeze())
    }

    async fn exchange(&mut self, frame: &[u8]) -> Result<Bytes, ClientError> {
        let address = self.address;
        let broken = |error| ClientError::Broken { address, error };
        self.stream.write_all(frame).await.map_err(broken)?;
        let announced = self.stream.read_u32().await.map_err(broken)?;
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length > ANSWER_BYTES_MAX {
            return Err(ClientError::TooLarge {
                bytes: u64::from(announced),
                max: ANSWER_BYTES_MAX,
            });
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await.map_err(broken)?;
        Ok(answer.into())
    }
}

fn silent(address: SocketAddr) -> ClientError {
    ClientError::Silent {
        address,
        seconds: EXCHANGE_WAIT.as_secs(),
    }
}

pub(super) fn protocol(api: &'static str, reason: impl ToString) -> ClientError {
    ClientError::Protocol {
        api,
        reason: reason.to_string(),
    }
}
