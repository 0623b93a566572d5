//! The way to the cloud: its name, UDP, TLS, and the cloud's clock. The QUIC handshake is the uplink's own; after it
//! a Ping is sent and no Hello, so that no session begins and a node that runs is not fenced.

mod judge;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_bridge::{Connection, Credentials, Dialer, Trouble};
use tidegate_bridge_protocol::frame::{Frame, Ping};
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_shared::fleet::{EdgeSpec, UplinkSpec};
use tokio::time::{Instant, timeout};

use super::clock::now_ms;
use crate::random;
pub(super) use judge::judge;

/// A name is resolved within this, or not at all.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// As the uplink has it, but shorter: a person waits.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What was seen of the way to the cloud.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// `None`: no uplink, or an address instead of a name.
    name: Option<Result<Vec<SocketAddr>, String>>,
    address: Option<SocketAddr>,
    udp: Option<udp::Answer>,
    tls: Option<Tls>,
}

#[derive(Debug)]
enum Tls {
    /// This edge's own files are of no use.
    NoCredentials(String),
    Failed(Trouble),
    Accepted(Accepted),
}

/// Both ends take each other's certificate.
#[derive(Debug)]
struct Accepted {
    /// The cloud's certificate, as DER.
    certificate: Option<Vec<u8>>,
    clock: CloudClock,
}

/// The cloud's clock beside this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CloudClock {
    /// The cloud's less this one's.
    pub ahead_ms: i64,
    /// How wrong that may be.
    pub round_trip_ms: i64,
}

impl Link {
    pub(super) fn cloud_clock(&self) -> Option<CloudClock> {
        match &self.tls {
            Some(Tls::Accepted(accepted)) => Some(accepted.clock),
            _ => None,
        }
    }
}

pub(super) async fn look(spec: &EdgeSpec) -> Link {
    let mut link = Link::default();
    let Some(uplink) = &spec.uplink else {
        return link;
    };
    link.address = uplink.cloud.parse().ok();
    if link.address.is_none() {
        let resolved = resolve(&uplink.cloud).await;
        link.address = resolved.iter().flatten().next().copied();
        link.name = Some(resolved);
    }
    if let Some(address) = link.address {
        let (answer, tls) = tokio::join!(udp::probe(address), shake_hands(uplink, address));
        let is_reached = matches!(
            tls,
            Tls::Accepted(_) | Tls::Failed(Trouble::NotTaken { .. } | Trouble::Refused { .. })
        );
        // Some firewalls let only versions of QUIC pass that they know.
        link.udp = Some(if is_reached {
            udp::Answer::Quic
        } else {
            answer
        });
        link.tls = Some(tls);
    }
    link
}

async fn resolve(cloud: &str) -> Result<Vec<SocketAddr>, String> {
    match timeout(DNS_TIMEOUT, tokio::net::lookup_host(cloud)).await {
        Err(_) => Err(format!("no name server answers within {DNS_TIMEOUT:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(addresses)) => Ok(addresses.collect()),
    }
}

async fn shake_hands(uplink: &UplinkSpec, address: SocketAddr) -> Tls {
    let credentials = Credentials::load(&uplink.certificate, &uplink.key, &uplink.ca);
    let dialer = credentials.and_then(Dialer::new);
    let mut dialer = match dialer {
        Ok(dialer) => dialer,
        Err(error) => return Tls::NoCredentials(error.to_string()),
    };
    let connection = match timeout(HANDSHAKE_TIMEOUT, dialer.connect(address)).await {
        Err(_) => return Tls::Failed(Trouble::NoAnswer),
        Ok(Err(error)) => return Tls::Failed((&error).into()),
        Ok(Ok(connection)) => connection,
    };
    // In TLS 1.3 this end is done before the other one has looked at its certificate: only an answer shows that it does.
    let handle = connection.handle.clone();
    let chain = handle.peer_chain();
    let clock = timeout(HANDSHAKE_TIMEOUT, ask_time(connection)).await;
    let trouble = handle.trouble();
    handle.close(CloseCode::Shutdown, "doctor");
    match clock {
        Ok(Ok(clock)) => Tls::Accepted(Accepted {
            certificate: chain.first().map(|leaf| leaf.to_vec()),
            clock,
        }),
        Ok(Err(why)) => Tls::Failed(trouble.unwrap_or(Trouble::Other(why))),
        Err(_) => Tls::Failed(trouble.unwrap_or(Trouble::NoAnswer)),
    }
}

async fn ask_time(mut connection: Connection) -> Result<CloudClock, String> {
    let nonce = random::bytes::<8>().map_err(|error| error.to_string())?;
    let nonce = u64::from_le_bytes(nonce);
    let asked = Instant::now();
    let control = &mut connection.control_out;
    let ping = Frame::Ping(Ping { nonce });
    control
        .write(&ping)
        .await
        .map_err(|error| error.to_string())?;
    control.flush().await.map_err(|error| error.to_string())?;
    loop {
        match connection.control_in.read().await {
            Ok(Frame::Pong(pong)) if pong.nonce == nonce => {
                let round_trip_ms = asked.elapsed().as_millis() as i64;
                return Ok(CloudClock {
                    ahead_ms: pong.time_ms - (now_ms() - round_trip_ms / 2),
                    round_trip_ms,
                });
            }
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}
