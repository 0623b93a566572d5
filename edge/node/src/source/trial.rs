//! One look at a broker, for the doctor: whether it lets this node in. Under a client id of its own and without a session
//! that stays, so that a source that runs is not thrown out.

use std::fmt::Display;
use std::net::SocketAddr;

use tidegate_shared::fleet::MqttSourceSpec;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::link::{self, Event, EventLoop};
use super::proof;
use crate::limits::{CONNECT_TIMEOUT, FAREWELL_TIMEOUT};
use crate::random;

/// How far it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// The files that it would prove itself with are of no use.
    NoProof(String),
    Unresolved(String),
    /// By TCP, at none of the name's addresses.
    Unreached(String),
    /// By TLS, or by the broker.
    Refused(String),
    LetIn,
}

pub(crate) async fn try_once(spec: &MqttSourceSpec) -> Trial {
    match steps(spec).await {
        Ok(()) => Trial::LetIn,
        Err(trial) => trial,
    }
}

async fn steps(spec: &MqttSourceSpec) -> Result<(), Trial> {
    let files = spec.clone();
    let proof = tokio::task::spawn_blocking(move || proof::load(&files)).await;
    let proof = proof.map_err(|error| Trial::NoProof(error.to_string()))?;
    let proof = proof.map_err(|error| Trial::NoProof(format!("{error:#}")))?;

    let server = &spec.server;
    let found = within(lookup_host((server.host.as_str(), server.port))).await;
    let addresses: Vec<SocketAddr> = found.map_err(Trial::Unresolved)?.collect();
    let reached = within(TcpStream::connect(&addresses[..])).await;
    drop(reached.map_err(Trial::Unreached)?);

    let chance = random::bytes::<8>().map_err(|error| Trial::NoProof(error.to_string()))?;
    let client_id = format!("tidegate-doctor-{:016x}", u64::from_le_bytes(chance));
    let (speaker, mut events) = link::open(spec, &client_id, None);
    events.prepare(spec.user.as_deref(), proof);
    let connected = within(Box::pin(connected(&mut events))).await;
    connected.map_err(Trial::Refused)?;
    // The broker closes what has taken its leave.
    if speaker.disconnect().is_ok() {
        let _ = timeout(FAREWELL_TIMEOUT, async {
            while events.next().await.is_ok() {}
        })
        .await;
    }
    Ok(())
}

async fn within<T, E: Display>(step: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(CONNECT_TIMEOUT, step).await {
        Err(_) => Err(format!("no answer within {CONNECT_TIMEOUT:?}")),
        Ok(done) => done.map_err(|error| error.to_string()),
    }
}

async fn connected(events: &mut EventLoop) -> Result<(), String> {
    while !matches!(events.next().await?, Event::Connected { .. }) {}
    Ok(())
}
