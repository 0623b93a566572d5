//! Whether UDP gets to the cloud and back: a packet in a version of QUIC that nobody speaks, which any QUIC server answers
//! with those that it does (RFC 9000, 6.1). No certificate matters for that.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::random;

/// Tried so often, each for so long.
const ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(900);

/// Anything smaller is not answered; a way that does not carry it carries no QUIC (RFC 9000, 14.1).
const DATAGRAM_BYTES: usize = 1_200;

const CONNECTION_ID_BYTES: usize = 8;

/// Reserved so that it is never a version (RFC 9000, 15).
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Quic,
    /// ICMP: nobody listens at that port.
    Refused,
    /// `host_answers`: by TCP, be it only to refuse.
    Nothing {
        host_answers: bool,
    },
    /// This machine does not even send it.
    Unsent(String),
}

pub(super) async fn probe(address: SocketAddr) -> Answer {
    match ask(address).await {
        Ok(true) => Answer::Quic,
        Ok(false) => Answer::Nothing {
            host_answers: answers_tcp(address).await,
        },
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Refused,
        Err(error) => Answer::Unsent(error.to_string()),
    }
}

async fn ask(address: SocketAddr) -> io::Result<bool> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // Only a connected socket is told of a refusal.
    socket.connect(address).await?;
    let own_id = random::bytes().map_err(io::Error::other)?;
    let peer_id = random::bytes().map_err(io::Error::other)?;
    let datagram = datagram(peer_id, own_id);
    let mut answer = [0; DATAGRAM_BYTES];
    for _ in 0..ATTEMPTS {
        socket.send(&datagram).await?;
        if let Ok(received) = timeout(ATTEMPT_TIMEOUT, socket.recv(&mut answer)).await {
            return Ok(negotiates(&answer[..received?], own_id));
        }
    }
    Ok(false)
}

fn datagram(
    peer_id: [u8; CONNECTION_ID_BYTES],
    own_id: [u8; CONNECTION_ID_BYTES],
) -> [u8; DATAGRAM_BYTES] {
    let mut datagram = [0; DATAGRAM_BYTES];
    let length = [CONNECTION_ID_BYTES as u8];
    let header = [
        &[0xc0],
        &NO_VERSION[..],
        &length,
        &peer_id,
        &length,
        &own_id,
    ]
    .concat();
    datagram[..header.len()].copy_from_slice(&header);
    datagram
}

/// Long header, version 0, and to us.
fn negotiates(answer: &[u8], own_id: [u8; CONNECTION_ID_BYTES]) -> bool {
    let expected = [&[0, 0, 0, 0, CONNECTION_ID_BYTES as u8], &own_id[..]].concat();
    answer.first().is_some_and(|first| first & 0x80 != 0)
        && answer
            .get(1..)
            .is_some_and(|rest| rest.starts_with(&expected))
}

async fn answers_tcp(address: SocketAddr) -> bool {
    match timeout(ATTEMPT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn a_port_where_nobody_listens_refuses() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        assert_eq!(probe(address).await, Answer::Refused);
    }

    /// As behind a firewall that drops.
    #[tokio::test]
    async fn silence_is_no_refusal() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let answer = probe(socket.local_addr().unwrap()).await;
        assert_eq!(answer, Answer::Nothing { host_answers: true });
    }

    /// quinn is asked, since the cloud is quinn.
    #[tokio::test]
    async fn a_quic_server_answers() {
        let key = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let certificate = vec![key.cert.der().clone()];
        let der = key.signing_key.serialize_der();
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(der);
        let config = quinn::ServerConfig::with_single_cert(certificate, der.into()).unwrap();
        let server = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        assert_eq!(probe(server.local_addr().unwrap()).await, Answer::Quic);
    }

    #[test]
    fn only_an_answer_to_us_counts() {
        let own = [7; CONNECTION_ID_BYTES];
        let sent = datagram([1; 8], own);
        assert!(!negotiates(&sent, own), "an echo is none");
        let answer = [
            &[0x80, 0, 0, 0, 0, 8][..],
            &own,
            &[8],
            &[1; 8],
            &[0, 0, 0, 1],
        ]
        .concat();
        assert!(negotiates(&answer, own));
        assert!(!negotiates(&answer, [8; 8]) && !negotiates(&[], own));
    }
}
