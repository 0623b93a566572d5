//! An edge without a cloud that all tests of one process share. It ends with that process, however it ends:
//! what keeps it waits for the end of a pipe that the process holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::{http, ports, wait, workspace};

/// Runs the edge, and kills it at the end of its own input.
const KEEPER: &str = "\"$@\" & edge=$!; cat >/dev/null; kill -9 $edge";

/// How a line begins by which an edge says why it ends.
const LAST_WORDS: &str = "tidegate-edge: ";

#[derive(Debug)]
pub struct Standing {
    pub mqtt: SocketAddr,
    pub websocket: SocketAddr,
    pub http: SocketAddr,
    pub log: PathBuf,
    _keeper: Child,
}

impl Standing {
    /// An edge, ready. Its folder has this name, and stays until the next of the name is started.
    /// `mqtt_keys` are keys below `mqtt`, and `yaml` is appended to its configuration.
    ///
    /// # Panics
    /// It does not become ready; what it logged is told.
    #[track_caller]
    pub fn start(name: &str, mqtt_keys: &str, yaml: &str) -> Self {
        let standing = Self::launch(name, mqtt_keys, yaml);
        match standing.wait_ready() {
            Ok(()) => standing,
            Err(log) => panic!("the edge {name} is not ready, and logs:\n{log}"),
        }
    }

    fn launch(name: &str, mqtt_keys: &str, yaml: &str) -> Self {
        let folder = workspace::target().join("tests/scratch").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        let (mqtt, websocket, address) = (ports::free(), ports::free(), ports::free());
        let text = format!(
            "data: {}\nmqtt:\n{mqtt_keys}  listeners:\n    - address: {mqtt}\n    - \
             {{address: {websocket}, transport: websocket}}\nhttp:\n  address: {address}\n{yaml}",
            folder.join("data").display()
        );
        let (config, log) = (folder.join("edge.yaml"), folder.join("edge.log"));
        std::fs::write(&config, text).expect("the target folder can be written");
        let output = std::fs::File::create(&log).expect("the target folder can be written");
        let errors = output.try_clone().expect("a log file can be cloned");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(workspace::binary("tidegate-edge"))
            .arg("--config")
            .arg(config)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn();
        Self {
            mqtt,
            websocket,
            http: address,
            log,
            _keeper: keeper.expect("sh can be started"),
        }
    }

    /// Fails with the log where the edge has ended, or is not there in time.
    fn wait_ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + wait::SOON;
        loop {
            if matches!(http::get(self.http, "/healthz"), Some((200, _))) {
                return Ok(());
            }
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let has_ended = log.lines().any(|line| line.starts_with(LAST_WORDS));
            if has_ended || Instant::now() >= deadline {
                return Err(log);
            }
            std::thread::sleep(wait::LOOK_EVERY);
        }
    }
}
