//! A cloud and an edge as two processes, in a folder of their own, with certificates made by the
//! cloud's own command. They keep their ports over restarts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::board::Board;
use crate::process::Process;
use crate::{http, ports, wait, workspace};

/// The edge's id in all tests.
pub const EDGE_ID: &str = "edge-1";

/// The one stream of the default routes.
pub const STREAM: &str = "telemetry";

/// The cloud: its files and addresses, and its process while it runs.
#[derive(Debug)]
pub struct Cloud {
    pub kafka: SocketAddr,
    pub bridge: SocketAddr,
    pub http: SocketAddr,
    pub data: PathBuf,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    pub program: Program,
    environment: Vec<(&'static str, String)>,
}

/// The edge: likewise.
#[derive(Debug)]
pub struct Edge {
    pub mqtt: SocketAddr,
    pub http: SocketAddr,
    pub data: PathBuf,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    pub program: Program,
}

/// What a node's starts run.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    wrapper: Vec<String>,
    /// Another one than was built for this machine.
    path: Option<PathBuf>,
}

/// One of each.
#[derive(Debug)]
pub struct Site {
    pub cloud: Cloud,
    pub edge: Edge,
}

impl Program {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            wrapper: Vec::new(),
            path: None,
        }
    }

    /// A command that starts the node as its child, such as `strace`.
    pub fn wrap(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    }

    /// It is another machine's, from the next start on.
    pub fn is_of(&mut self, path: PathBuf, board: &Board) {
        self.path = Some(path);
        self.wrap(&board.emulator());
    }

    fn command(&self) -> Command {
        let built = || workspace::binary(self.name);
        let binary = self.path.clone().unwrap_or_else(built);
        match self.wrapper.split_first() {
            None => Command::new(binary),
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(binary);
                command
            }
        }
    }
}

impl Cloud {
    /// Writes the configuration; data goes below `data`, all else below `folder`.
    pub fn new(folder: &Path, data: &Path) -> Self {
        let cloud = Self {
            kafka: ports::free(),
            bridge: ports::free(),
            http: ports::free(),
            data: data.join("cloud"),
            config: folder.join("cloud.yaml"),
            log: folder.join("cloud.log"),
            process: None,
            program: Program::new("tidegate-cloud"),
            environment: Vec::new(),
        };
        let yaml = format!(
            "data: {}\nkafka:\n  address: {}\nbridge:\n  address: {}\nhttp:\n  address: {}\n",
            cloud.data.display(),
            cloud.kafka,
            cloud.bridge,
            cloud.http
        );
        write(&cloud.config, &yaml);
        cloud
    }

    /// Appends to the configuration, before the start.
    pub fn configure(&self, yaml: &str) {
        let text = std::fs::read_to_string(&self.config).expect("the configuration is there");
        write(&self.config, &(text + yaml));
    }

    /// Another listener for Kafka clients, with these keys in one line, before the start; returns its address.
    pub fn listen_kafka(&self, keys: &str) -> SocketAddr {
        let address = ports::free();
        let text = std::fs::read_to_string(&self.config).expect("the configuration is there");
        let alone = format!("kafka:\n  address: {}\n", self.kafka);
        let listed = format!("kafka:\n  listeners:\n    - address: {}\n", self.kafka);
        let text = text.replacen(&alone, &listed, 1);
        let line = format!("    - {{address: {address}, {keys}}}\nbridge:\n");
        write(&self.config, &text.replacen("bridge:\n", &line, 1));
        address
    }

    /// Makes an edge's certificate: `ca.crt`, `edge.crt` and `edge.key` in `out`.
    pub fn certificate(&self, edge_id: &str, out: &Path) {
        let mut command = Command::new(workspace::binary("tidegate-cloud"));
        command
            .args(["certificate", edge_id, "--data"])
            .arg(&self.data)
            .arg("--out")
            .arg(out);
        let output = command.output().expect("tidegate-cloud can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "tidegate-cloud certificate: {said}"
        );
    }

    /// What starts it.
    pub fn command(&self) -> Command {
        let mut command = self.program.command();
        command.arg("--config").arg(&self.config);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Sets a variable for its starts from now on.
    pub fn set_variable(&mut self, name: &'static str, value: String) {
        self.environment.push((name, value));
    }

    /// Its data is elsewhere from its next start on.
    pub fn move_to(&mut self, data: PathBuf) {
        self.set_variable("TIDEGATE_CLOUD_DATA", data.display().to_string());
        self.data = data;
    }

    pub fn start(&mut self) {
        let process = Process::start("tidegate-cloud", self.command(), &self.log);
        self.process = Some(process);
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the cloud was started")
    }

    pub fn kill(&mut self) {
        self.process().kill();
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_healthy("tidegate-cloud", self.http, self.process.as_mut());
    }

    pub fn metric(&self, sample: &str) -> Option<f64> {
        http::metric(self.http, sample)
    }
}

impl Edge {
    /// Writes the configuration of an edge that holds the certificate in `certificates`.
    pub fn new(folder: &Path, data: &Path, certificates: &Path, cloud: SocketAddr) -> Self {
        let edge = Self::alone(folder, data);
        let [certificate, key, ca] =
            ["edge.crt", "edge.key", "ca.crt"].map(|name| certificates.join(name));
        edge.configure(&format!(
            "uplink:\n  cloud: {cloud}\n  certificate: {}\n  key: {}\n  ca: {}\n",
            certificate.display(),
            key.display(),
            ca.display()
        ));
        edge
    }

    /// Of an edge that has no cloud.
    pub fn alone(folder: &Path, data: &Path) -> Self {
        let edge = Self {
            mqtt: ports::free(),
            http: ports::free(),
            data: data.join("edge"),
            config: folder.join("edge.yaml"),
            log: folder.join("edge.log"),
            process: None,
            program: Program::new("tidegate-edge"),
        };
        let yaml = format!(
            "data: {}\nmqtt:\n  listeners:\n    - address: {}\nhttp:\n  address: {}\n",
            edge.data.display(),
            edge.mqtt,
            edge.http,
        );
        write(&edge.config, &yaml);
        edge
    }

    /// Another listener, with these keys in one line, before the start; returns its address.
    pub fn listen(&self, keys: &str) -> SocketAddr {
        let address = ports::free();
        self.listen_at(&address.to_string(), keys);
        address
    }

    /// The same at this address, as of a Unix socket.
    pub fn listen_at(&self, address: &str, keys: &str) {
        let text = std::fs::read_to_string(&self.config).expect("the configuration is there");
        let line = format!("\n    - {{address: '{address}', {keys}}}\nhttp:\n");
        write(&self.config, &text.replacen("\nhttp:\n", &line, 1));
    }

    /// The edge is tried again so soon after a refusal: fights and outages do not take long then. Its
    /// section is the configuration's last: this comes before [`Edge::configure`].
    pub fn reconnect_soon(&self) {
        self.configure("  reconnect_max: 200ms\n");
    }

    /// Adds keys below `mqtt`, before the start.
    pub fn configure_mqtt(&self, keys: &str) {
        let text = std::fs::read_to_string(&self.config).expect("the configuration is there");
        write(
            &self.config,
            &text.replacen("mqtt:\n", &format!("mqtt:\n{keys}"), 1),
        );
    }

    /// Appends to the configuration, before the start.
    pub fn configure(&self, yaml: &str) {
        let text = std::fs::read_to_string(&self.config).expect("the configuration is there");
        write(&self.config, &(text + yaml));
    }

    /// One of its other commands, with its configuration.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(workspace::binary("tidegate-edge"));
        command.args(words).arg("--config").arg(&self.config);
        command
    }

    /// Where it logs to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    pub fn start(&mut self) {
        let mut command = self.program.command();
        command.arg("--config").arg(&self.config);
        self.process = Some(Process::start("tidegate-edge", command, &self.log));
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the edge was started")
    }

    pub fn kill(&mut self) {
        self.process().kill();
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_healthy("tidegate-edge", self.http, self.process.as_mut());
    }

    pub fn metric(&self, sample: &str) -> Option<f64> {
        http::metric(self.http, sample)
    }

    /// The offset that a stream's next journal entry gets.
    pub fn next_of(&self, stream: &str) -> Option<u64> {
        let sample = format!("tidegate_journal_stream_next_offset{{stream=\"{stream}\"}}");
        self.metric(&sample).map(|value| value as u64)
    }

    pub fn landed_of(&self, stream: &str) -> Option<u64> {
        let sample = format!("tidegate_uplink_stream_landed_offset{{stream=\"{stream}\"}}");
        self.metric(&sample).map(|value| value as u64)
    }

    /// How often an alarm was raised in this life of the process.
    pub fn alarms(&self, name: &str) -> u64 {
        let sample = format!("tidegate_alarms_total{{name=\"{name}\"}}");
        self.metric(&sample).map_or(0, |value| value as u64)
    }

    /// Up to where the stream has landed.
    pub fn landed_offset(&self) -> Option<u64> {
        self.landed_of(STREAM)
    }

    /// Waits until all that is in the journal has landed; returns how many entries that is.
    #[track_caller]
    pub fn wait_landed(&self, at_least: u64) -> u64 {
        self.wait_landed_of(STREAM, at_least)
    }

    #[track_caller]
    pub fn wait_landed_of(&self, stream: &str, at_least: u64) -> u64 {
        let what = format!("the edge has landed all of {stream}, {at_least} entries at least");
        wait::until(&what, wait::SOON * 4, || {
            let next = self.next_of(stream)?;
            (next >= at_least && self.landed_of(stream)? == next).then_some(next)
        })
    }
}

impl Site {
    /// Both nodes, not started, with their files in `folder` and their data below `data`.
    pub fn new(folder: &Path, data: &Path) -> Self {
        let cloud = Cloud::new(folder, data);
        Self::beside(cloud, folder, data)
    }

    /// The same, with the edge's data elsewhere.
    pub fn apart(folder: &Path, edge_data: &Path) -> Self {
        Self::beside(Cloud::new(folder, folder), folder, edge_data)
    }

    fn beside(cloud: Cloud, folder: &Path, edge_data: &Path) -> Self {
        let certificates = folder.join("certificates");
        cloud.certificate(EDGE_ID, &certificates);
        let edge = Edge::new(folder, edge_data, &certificates, cloud.bridge);
        Self { cloud, edge }
    }

    /// Both nodes, ready.
    pub fn started(folder: &Path) -> Self {
        let mut site = Self::new(folder, folder);
        site.start();
        site
    }

    #[track_caller]
    pub fn start(&mut self) {
        self.cloud.start();
        self.edge.start();
        self.cloud.wait_ready();
        self.edge.wait_ready();
    }
}

#[track_caller]
fn wait_healthy(name: &str, address: SocketAddr, process: Option<&mut Process>) {
    let process = process.expect("the node was started");
    wait::until(&format!("{name} is healthy"), wait::SOON, || {
        if let Some(status) = process.exited() {
            panic!("{name} has ended: {status}");
        }
        matches!(http::get(address, "/healthz"), Some((200, _))).then_some(())
    });
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
