//! What can be known to be wrong before anything is started, so that it can be said in the words of
//! the command line. The nodes check the same again, in theirs.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::{anyhow, bail};
use tidegate_shared::data_lock::{DataLock, DataLockError};

use crate::arguments::UpArguments;

/// Refuses what cannot work or would be unsafe; locks the data folder.
pub(super) fn check(arguments: &UpArguments) -> anyhow::Result<DataLock> {
    exposure(arguments)?;
    let lock = lock(arguments)?;
    ports(arguments)?;
    Ok(lock)
}

fn exposure(arguments: &UpArguments) -> anyhow::Result<()> {
    let open = [
        ("--mqtt", arguments.mqtt),
        ("--kafka", arguments.kafka),
        ("--http", arguments.http),
        ("--edge-http", arguments.edge_http),
    ];
    for (flag, address) in open {
        if !arguments.insecure && !address.ip().is_loopback() {
            bail!(
                "{flag} {address} can be reached from other machines, and nobody is authenticated \
                 there: use 127.0.0.1, or add --insecure"
            );
        }
    }
    if arguments.kafka.ip().is_unspecified() && arguments.kafka_advertised.is_none() {
        bail!(
            "--kafka {} is no address that Kafka clients can be sent to: add --kafka-advertised \
             HOST:PORT",
            arguments.kafka
        );
    }
    Ok(())
}

fn lock(arguments: &UpArguments) -> anyhow::Result<DataLock> {
    DataLock::take(&arguments.data).map_err(|error| {
        let next = match &error {
            DataLockError::InUse(_) => "--data DIR",
            DataLockError::Io { .. } => "make it writable, or choose another with --data DIR",
        };
        match &error {
            DataLockError::InUse(_) => anyhow!("{error} ({next})"),
            DataLockError::Io { .. } => anyhow!("{error}: {next}"),
        }
    })
}

/// Tries all ports at once, so that two flags with the same one are noticed too.
fn ports(arguments: &UpArguments) -> anyhow::Result<()> {
    let tcp = [
        ("MQTT", "--mqtt", arguments.mqtt),
        ("Kafka", "--kafka", arguments.kafka),
        ("HTTP", "--http", arguments.http),
        ("HTTP of the edge", "--edge-http", arguments.edge_http),
    ];
    let mut held = Vec::new();
    for (what, flag, address) in tcp {
        let listener = TcpListener::bind(address);
        held.push(listener.map_err(|error| refused(what, "", flag, address, &error))?);
    }
    let bridge = arguments.bridge;
    UdpSocket::bind(bridge)
        .map_err(|error| refused("bridge", "UDP ", "--bridge", bridge, &error))?;
    Ok(())
}

fn refused(
    what: impl Display,
    transport: &str,
    flag: &str,
    address: SocketAddr,
    error: &io::Error,
) -> anyhow::Error {
    let (ip, port) = (address.ip(), address.port());
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "{transport}port {port} on {ip} is in use ({what}): stop what listens there, or choose \
             another with {flag} {}",
            SocketAddr::new(ip, port.checked_add(10_000).unwrap_or(0))
        ),
        _ => anyhow!("cannot listen on {address} ({what}): {error}; choose another with {flag}"),
    }
}
