//! Apache Kafka beside ours: one node of its own (KRaft), fresh, on loopback. `tests/differential/build` fetches it.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::{ports, wait, workspace};

/// From its start until it listens, on a slow, busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Kafka's form of a cluster's id.
const CLUSTER_ID: &str = "VGlkZWdhdGUtY29tcGFyZQ";

/// A node, for as long as this lives.
#[derive(Debug)]
pub struct ApacheKafka {
    pub address: SocketAddr,
    /// Where SASL is spoken, if the properties say so.
    pub door: SocketAddr,
    _process: Process,
}

/// What `tests/differential/build` makes, or why there is none.
///
/// # Errors
/// Says what is missing, and how to get it.
pub fn built() -> Result<PathBuf, String> {
    let folder = workspace::target().join("tests/differential/java");
    match folder.join("classes").exists() && workspace::has_tool("java") {
        true => Ok(folder),
        false => Err(format!(
            "{} is not built, or there is no Java: tests/run --full kafka_differential makes both (it wants Maven)",
            folder.display()
        )),
    }
}

/// A Java program with the jars of Apache Kafka.
pub fn java(built: &Path, main: &str) -> Command {
    let (classes, jars) = (built.join("classes"), built.join("libs/*"));
    let mut command = Command::new("java");
    // A short life: what the compiler does at first decides it.
    command.args(["-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    let path = format!("{}:{}", classes.display(), jars.display());
    command.arg("-cp").arg(path).arg(main);
    command
}

impl ApacheKafka {
    /// Starts one; `properties` is the file with its settings, `{port}`, `{door}`, `{controller}` and `{folder}` in it.
    /// Returns once it listens.
    #[track_caller]
    pub fn start(built: &Path, properties: &Path, folder: &Path) -> Self {
        let (address, door, controller) = (ports::free(), ports::free(), ports::free());
        let text = std::fs::read_to_string(properties).expect("the properties are there");
        let text = text
            .replace("{port}", &address.port().to_string())
            .replace("{door}", &door.port().to_string())
            .replace("{controller}", &controller.port().to_string())
            .replace("{folder}", &folder.display().to_string());
        let properties = folder.join("server.properties");
        std::fs::write(&properties, text).expect("the scratch folder can be written");
        let mut format = java(built, "kafka.tools.StorageTool");
        format.args(["format", "--standalone", "-t", CLUSTER_ID, "-c"]);
        let output = format.arg(&properties).output().expect("Java can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kafka.tools.StorageTool: {said}");
        let mut command = java(built, "kafka.Kafka");
        command.arg(&properties).current_dir(folder);
        let mut process = Process::start("Apache Kafka", command, &folder.join("kafka.log"));
        wait::until("Apache Kafka listens", STARTS_WITHIN, || {
            assert_eq!(process.exited(), None, "Apache Kafka has ended");
            TcpStream::connect(address).ok().map(drop)
        });
        Self {
            address,
            door,
            _process: process,
        }
    }
}
