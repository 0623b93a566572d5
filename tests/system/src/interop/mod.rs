//! Runs the programs of `tests/interop`: each MQTT client over each transport in each version, side by side
//! against one edge, which is killed and started again once they all wait for it. Kafka's clients: `kafka`.

mod cell;
pub mod doors;
pub mod kafka;
pub mod kafka_pages;
pub mod pages;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::certificates::Certificates;
use crate::node::Edge;
use crate::scratch::Scratch;
use crate::workspace;
use cell::Cell;

/// All cells of a client together, the broker's restart among them.
const CLIENT_WITHIN: Duration = Duration::from_secs(90);

/// How a client comes to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    WebSocket,
    SecureWebSocket,
}

pub const TRANSPORTS: [Transport; 4] = [
    Transport::Tcp,
    Transport::Tls,
    Transport::WebSocket,
    Transport::SecureWebSocket,
];

impl Transport {
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "mqtt",
            Self::Tls => "mqtts",
            Self::WebSocket => "ws",
            Self::SecureWebSocket => "wss",
        }
    }
}

/// One client: which of its cells there are, and what starts its program.
#[derive(Debug)]
pub struct Client {
    pub name: &'static str,
    pub transports: &'static [Transport],
    /// MQTT's, as the programs call them.
    pub versions: &'static [&'static str],
    /// `Err` says what is missing, and how to get it.
    pub program: fn() -> Result<Command, String>,
}

/// What a program does in a version, in this order: `session` waits for a restart.
pub fn scenarios(version: &str) -> Vec<&'static str> {
    let mut all = vec!["qos", "retained", "will", "shared"];
    if version == "5" {
        all.push("request_response");
    }
    all.push("session");
    all
}

/// The documentation's table: which clients are run over what, in which scenarios.
pub fn table(clients: &[Client]) -> String {
    let mut lines = vec![
        "| client | MQTT | TCP | TLS | WebSocket | secure WebSocket | scenarios |".to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for client in clients {
        for version in client.versions {
            let cells = TRANSPORTS.map(|transport| {
                let run = client.transports.contains(&transport);
                if run { "yes" } else { "–" }
            });
            let version_shown = if *version == "5" { "5" } else { "3.1.1" };
            let (cells, scenarios) = (cells.join(" | "), scenarios(version).join(", "));
            lines.push(format!(
                "| {} | {version_shown} | {cells} | {scenarios} |",
                client.name
            ));
        }
    }
    lines.join("\n") + "\n"
}

/// An edge with a listener of each transport.
#[derive(Debug)]
pub struct Broker {
    pub edge: Edge,
    pub ca: PathBuf,
    tls: SocketAddr,
    websocket: SocketAddr,
    secure_websocket: SocketAddr,
}

impl Broker {
    pub fn started(folder: &Path) -> Self {
        let certificates = Certificates::new(folder);
        let mut edge = Edge::alone(folder, folder);
        let tls = certificates.yaml();
        let mut broker = Self {
            tls: edge.listen(&tls),
            websocket: edge.listen("transport: websocket, path: /mqtt"),
            secure_websocket: edge.listen(&format!("transport: websocket, path: /mqtt, {tls}")),
            ca: certificates.ca,
            edge: {
                edge.start();
                edge
            },
        };
        broker.edge.wait_ready();
        broker
    }

    pub fn address(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Tcp => self.edge.mqtt,
            Transport::Tls => self.tls,
            Transport::WebSocket => self.websocket,
            Transport::SecureWebSocket => self.secure_websocket,
        }
    }

    pub fn url(&self, transport: Transport) -> String {
        let path = match transport {
            Transport::Tcp | Transport::Tls => "",
            Transport::WebSocket | Transport::SecureWebSocket => "/mqtt",
        };
        format!("{}://{}{path}", transport.scheme(), self.address(transport))
    }

    fn restart(&mut self) {
        self.edge.kill();
        self.edge.start();
        self.edge.wait_ready();
    }
}

/// A client over one transport in one version.
fn cell(client: &Client, transport: Transport, version: &str, broker: &Broker) -> Cell {
    let name = format!("{}-{}-{version}", client.name, transport.scheme());
    let wanted = scenarios(version);
    let mut command = (client.program)().expect("it was there before");
    command.args(["--url", &broker.url(transport), "--version", version]);
    command.args(["--scenario", &wanted.join(","), "--name", &name]);
    if matches!(transport, Transport::Tls | Transport::SecureWebSocket) {
        command.arg("--ca").arg(&broker.ca);
    }
    Cell::start(name, wanted, command)
}

/// Runs all cells of a client at once, and asserts that in each all scenarios held.
#[track_caller]
pub fn run(client: &Client) {
    if let Err(missing) = (client.program)() {
        crate::skip!("{}: {missing}", client.name);
    }
    let scratch = Scratch::new(&format!("interop-{}", client.name));
    let mut broker = Broker::started(scratch.path());
    let mut cells = Vec::new();
    for &transport in client.transports {
        for version in client.versions {
            cells.push(cell(client, transport, version, &broker));
        }
    }
    cell::run(&mut cells, CLIENT_WITHIN, || broker.restart());
}

/// A file below `tests/interop`.
pub fn source(path: &str) -> PathBuf {
    workspace::root().join("tests/interop").join(path)
}

/// What `tests/interop/build` makes for a suite.
pub fn built(path: &str, suite: &str) -> Result<PathBuf, String> {
    let path = workspace::target().join("tests/interop").join(path);
    match path.exists() {
        true => Ok(path),
        false => Err(format!(
            "{} is not built: tests/run --full {suite}",
            path.display()
        )),
    }
}

/// Java with what `tests/interop/build` has put into these folders.
pub fn java(class_path: &[PathBuf]) -> Command {
    let mut command = Command::new("java");
    // A short life: what the compiler and the collector do at first decides it.
    command.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
    ]);
    let folders = class_path.iter().map(|path| path.display().to_string());
    command
        .arg("-cp")
        .arg(folders.collect::<Vec<_>>().join(":"));
    command
}
