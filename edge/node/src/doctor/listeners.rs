//! Whether the addresses to listen on can be had: each is bound for a moment, as a start would, where no node has it.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tidegate_shared::fleet::{EdgeSpec, ListenerAddress, Transport};
use tokio::net::TcpSocket;

use super::owners::is_root;
use super::{Finding, Standing};

const CHECK: &str = "listeners";

/// Below it a port needs a right of its own, unless the kernel is told otherwise.
const PRIVILEGED_PORTS: u16 = 1_024;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Free,
    Taken,
    /// The address is none of this machine's.
    Elsewhere,
    /// Nobody but root may.
    NoRight,
    /// Of a Unix socket.
    NoFolder,
    Failed(String),
}

pub(super) async fn look(spec: &EdgeSpec, standing: &Standing) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listener in &spec.mqtt.listeners {
        let (outcome, port) = match &listener.address {
            ListenerAddress::Unix(path) => (try_unix(path), None),
            ListenerAddress::Ip(address) => {
                let is_quic = listener.transport == Transport::Quic;
                (
                    outcome(try_address(*address, is_quic)),
                    Some(address.port()),
                )
            }
        };
        let what = format!("mqtt.listeners {}", listener.address);
        findings.push(judge(&what, &outcome, port, standing.is_running, is_root()));
    }
    let http = spec.http.address;
    let of_http = outcome(try_address(http, false));
    let what = format!("http.address {http}");
    findings.push(judge(
        &what,
        &of_http,
        Some(http.port()),
        standing.is_running,
        is_root(),
    ));
    findings
}

/// Not listened on: nobody connects to it meanwhile.
fn try_address(address: SocketAddr, is_udp: bool) -> io::Result<()> {
    if is_udp {
        return UdpSocket::bind(address).map(drop);
    }
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

fn try_unix(path: &Path) -> Outcome {
    if !path.parent().is_some_and(Path::is_dir) {
        return Outcome::NoFolder;
    }
    match UnixStream::connect(path) {
        Ok(_) => Outcome::Taken,
        Err(error) => match error.kind() {
            // Somebody listens, and not for this user.
            ErrorKind::PermissionDenied => Outcome::Taken,
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Outcome::Free,
            _ => Outcome::Failed(error.to_string()),
        },
    }
}

fn outcome(bound: io::Result<()>) -> Outcome {
    match bound {
        Ok(()) => Outcome::Free,
        Err(error) => match error.kind() {
            ErrorKind::AddrInUse => Outcome::Taken,
            ErrorKind::AddrNotAvailable => Outcome::Elsewhere,
            ErrorKind::PermissionDenied => Outcome::NoRight,
            _ => Outcome::Failed(error.to_string()),
        },
    }
}

fn judge(
    what: &str,
    outcome: &Outcome,
    port: Option<u16>,
    node_runs: bool,
    is_root: bool,
) -> Finding {
    const RIGHT: &str = "use a port from 1024 on, or give the service the right: AmbientCapabilities=CAP_NET_BIND_SERVICE, CapabilityBoundingSet=CAP_NET_BIND_SERVICE and PrivateUsers=no (systemctl edit tidegate-edge)";
    match outcome {
        Outcome::Taken if node_runs => Finding::ok(
            CHECK,
            format!("{what} is taken, and a node runs on this data folder"),
        ),
        Outcome::Taken => Finding::problem(
            CHECK,
            format!("{what} is taken, and not by a node on this data folder"),
            "`ss -lntup` says by whom: stop that (mosquitto has 1883, too), or choose another port",
        ),
        Outcome::Free if node_runs => Finding::warning(
            CHECK,
            format!("{what} is free, although a node runs on this data folder"),
            "the node was started with another configuration: restart it",
        ),
        Outcome::Free
            if is_root && port.is_some_and(|port| (1..unprivileged()).contains(&port)) =>
        {
            Finding::warning(
                CHECK,
                format!(
                    "{what} is free, and below {}: root gets it, the service's user may not",
                    unprivileged()
                ),
                RIGHT,
            )
        }
        Outcome::Free => Finding::ok(CHECK, format!("{what} is free")),
        Outcome::NoFolder => Finding::warning(
            CHECK,
            format!("{what}: its folder is not there"),
            "the service makes /run/tidegate-edge when it starts, and takes it away when it stops; another folder must be made",
        ),
        Outcome::NoRight => Finding::problem(
            CHECK,
            format!(
                "{what}: this user may not listen on a port below {}",
                unprivileged()
            ),
            RIGHT,
        ),
        Outcome::Elsewhere => Finding::problem(
            CHECK,
            format!("{what} is not an address of this machine now"),
            "`ip address` says which are; 0.0.0.0 means each of them. Where the network comes up later than the node, it tries again by itself (Restart=always)",
        ),
        Outcome::Failed(why) => Finding::problem(
            CHECK,
            format!("{what} cannot be listened on: {why}"),
            "choose another address",
        ),
    }
}

fn unprivileged() -> u16 {
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let start = start.ok().and_then(|start| start.trim().parse().ok());
    start.unwrap_or(PRIVILEGED_PORTS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::TcpListener;

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_port_of_the_nodes_own_is_well_taken() {
        let judged = |outcome, node_runs| judge("x", &outcome, Some(40_000), node_runs, true).level;
        assert_eq!(judged(Outcome::Taken, true), Level::Ok);
        assert_eq!(judged(Outcome::Taken, false), Level::Problem);
        assert_eq!(judged(Outcome::Free, false), Level::Ok);
        assert_eq!(judged(Outcome::Free, true), Level::Warning);
        assert_eq!(judged(Outcome::NoRight, false), Level::Problem);
        let low = |is_root| judge("x", &Outcome::Free, Some(1), false, is_root).level;
        if unprivileged() > 1 {
            assert_eq!((low(true), low(false)), (Level::Warning, Level::Ok));
        }
    }

    #[tokio::test]
    async fn what_is_listened_on_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(outcome(try_address(address, false)), Outcome::Taken);
        drop(listener);
        assert_eq!(outcome(try_address(address, false)), Outcome::Free);
        let elsewhere = "192.0.2.1:1".parse().unwrap();
        assert_eq!(outcome(try_address(elsewhere, true)), Outcome::Elsewhere);
    }
}
