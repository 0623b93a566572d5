//! An edge without a cloud that all tests of one process share. It ends with that process, however it ends:
//! what keeps it waits for the end of a pipe that the process holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{http, ports, wait, workspace};

/// Runs the edge, and kills it at the end of its own input.
const KEEPER: &str = "\"$@\" & edge=$!; cat >/dev/null; kill -9 $edge";

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
    pub fn start(name: &str, mqtt_keys: &str, yaml: &str) -> Self {
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
        let standing = Self {
            mqtt,
            websocket,
            http: address,
            log,
            _keeper: keeper.expect("sh can be started"),
        };
        standing.wait_ready();
        standing
    }

    fn wait_ready(&self) {
        let what = format!(
            "an edge of its own is healthy; it logs to {}",
            self.log.display()
        );
        wait::until(&what, wait::SOON, || {
            matches!(http::get(self.http, "/healthz"), Some((200, _))).then_some(())
        });
    }
}
