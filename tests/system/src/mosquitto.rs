//! A mosquitto of a test's own, with the configuration that the test gives it. It keeps its port over restarts.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;
use crate::{ports, wait, workspace};

#[derive(Debug)]
pub struct Mosquitto {
    pub address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

/// Why it can't be run here.
pub fn missing() -> Option<&'static str> {
    let has_all = ["mosquitto", "mosquitto_passwd", "mosquitto_pub"]
        .into_iter()
        .all(workspace::has_tool);
    (!has_all).then_some("no mosquitto: install mosquitto and mosquitto-clients")
}

impl Mosquitto {
    /// With one listener, keys below it, and what it keeps in a folder of its own; not started.
    pub fn new(folder: &Path, keys: &str) -> Self {
        let address = ports::free();
        let store = folder.join("mosquitto");
        std::fs::create_dir_all(&store).expect("the folder can be written");
        let text = format!(
            "user root\npersistence true\npersistence_location {}/\nmax_queued_messages 0\n\
             listener {} 127.0.0.1\n{keys}",
            store.display(),
            address.port()
        );
        let config = folder.join("mosquitto.conf");
        std::fs::write(&config, text).expect("the folder can be written");
        Self::of(&config, address)
    }

    /// With a configuration that is there, and listens at this address.
    pub fn of(config: &Path, address: SocketAddr) -> Self {
        Self {
            address,
            config: config.to_owned(),
            log: config.with_extension("log"),
            process: None,
        }
    }

    pub fn start(&mut self) {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let program = program.iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.copied().unwrap_or("mosquitto"));
        command.arg("-v").arg("-c").arg(&self.config);
        self.process = Some(Process::start("mosquitto", command, &self.log));
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        let address = self.address;
        let process = self.process.as_mut().expect("it was started");
        wait::until("mosquitto listens", wait::SOON, || {
            if let Some(status) = process.exited() {
                panic!("mosquitto has ended: {status}\n{}", process.log());
            }
            TcpStream::connect(address).ok().map(drop)
        });
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// As an operator does it: what it keeps is written down.
    #[track_caller]
    pub fn stop(&mut self) {
        let process = self.process();
        process.signal("TERM");
        process.wait(wait::SOON);
    }
}
