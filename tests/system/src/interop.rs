//! Runs the programs of `tests/interop`: each client over each transport in each version, side by side
//! against one edge, which is killed and started again once they all wait for it.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::certificates::Certificates;
use crate::node::Edge;
use crate::scratch::Scratch;
use crate::wait;

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

/// A client over one transport in one version: a program that runs.
struct Cell {
    name: String,
    wanted: Vec<&'static str>,
    passed: Vec<String>,
    child: Child,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Running,
    Waiting,
    Ended,
}

/// A line of a cell's output, and its end.
type Said = (usize, Option<String>);

impl Cell {
    fn start(client: &Client, transport: Transport, version: &str, broker: &Broker) -> Self {
        let name = format!("{}-{}-{version}", client.name, transport.scheme());
        let wanted = scenarios(version);
        let mut command = (client.program)().expect("it was there before");
        command.args(["--url", &broker.url(transport), "--version", version]);
        command.args(["--scenario", &wanted.join(","), "--name", &name]);
        if matches!(transport, Transport::Tls | Transport::SecureWebSocket) {
            command.arg("--ca").arg(&broker.ca);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("{name} can't start: {error}")),
            name,
            wanted,
            passed: Vec::new(),
            state: State::Running,
        }
    }

    fn listen(&mut self, at: usize, said: Sender<Said>) {
        let output = self.child.stdout.take().expect("it is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = said.send((at, Some(line)));
            }
            let _ = said.send((at, None));
        });
    }

    fn hear(&mut self, line: Option<String>) {
        let Some(line) = line else {
            self.state = State::Ended;
            return;
        };
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        if said["waiting"] == "restart" {
            self.state = State::Waiting;
        } else if let (Some(scenario), true) = (said["scenario"].as_str(), said["passed"] == true) {
            self.passed.push(scenario.to_owned());
        } else {
            println!("{}: {line}", self.name);
        }
    }

    fn go_on(&mut self) {
        let mut input = self.child.stdin.take().expect("it is piped");
        // One that has just ended is found to have ended.
        let _ = input.write_all(b"\n");
        self.state = State::Running;
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.passed.join(" "))
    }
}

/// Runs all cells of a client at once, and asserts that in each all scenarios held.
#[track_caller]
pub fn run(client: &Client) {
    if let Err(missing) = (client.program)() {
        crate::skip!("{}: {missing}", client.name);
    }
    let scratch = Scratch::new(&format!("interop-{}", client.name));
    let mut broker = Broker::started(scratch.path());
    let (said, heard) = mpsc::channel();
    let mut cells = Vec::new();
    for &transport in client.transports {
        for version in client.versions {
            let mut cell = Cell::start(client, transport, version, &broker);
            cell.listen(cells.len(), said.clone());
            cells.push(cell);
        }
    }
    drop(said);
    let deadline = Instant::now() + CLIENT_WITHIN;
    while cells.iter().any(|cell| cell.state != State::Ended) {
        let left = deadline.saturating_duration_since(Instant::now());
        match heard.recv_timeout(left) {
            Ok((at, line)) => cells[at].hear(line),
            Err(RecvTimeoutError::Timeout) => {
                println!("not within {CLIENT_WITHIN:?}");
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let running = cells.iter().any(|cell| cell.state == State::Running);
        if !running && cells.iter().any(|cell| cell.state == State::Waiting) {
            broker.restart();
            let waiting = cells.iter_mut();
            waiting
                .filter(|cell| cell.state == State::Waiting)
                .for_each(Cell::go_on);
        }
    }
    check(&mut cells);
}

#[track_caller]
fn check(cells: &mut [Cell]) {
    let mut failed = Vec::new();
    for cell in cells {
        println!("{cell}");
        let ended = cell.state == State::Ended
            && wait::until(
                "a program that has closed its output ends",
                wait::SOON,
                || cell.child.try_wait().expect("a child can be waited for"),
            )
            .success();
        if !ended || cell.passed != cell.wanted {
            failed.push(cell.name.clone());
        }
    }
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}
