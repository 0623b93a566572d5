//! Runs the programs of `tests/interop/kafka`, each client against a cloud of its own, which is killed and started again
//! when the program says so.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::cell::{self, Cell};
use super::doors::Doors;
use crate::node::Cloud;
use crate::scratch::Scratch;
use crate::{skip, workspace};

/// All scenarios of a client, on two cores that others use as well.
const CLIENT_WITHIN: Duration = Duration::from_secs(180);

/// The suite that has the clients built.
pub const SUITE: &str = "interop_kafka";

/// In the order in which they run.
pub const SCENARIOS: [&str; 5] = ["roundtrip", "group", "admin", "seek", "killed"];

/// A scenario of its own, with listeners that ask who comes.
const DOORS: &str = "doors";

/// One client, and what starts its program; `Err` says what is missing, and how to get it.
#[derive(Debug)]
pub struct Client {
    pub name: &'static str,
    pub scenarios: &'static [&'static str],
    pub program: fn() -> Result<Command, String>,
}

pub fn source(path: &str) -> PathBuf {
    super::source("kafka").join(path)
}

pub fn built(path: &str) -> Result<PathBuf, String> {
    super::built(&format!("kafka/{path}"), SUITE)
}

/// The program in Python of this name.
pub fn python(script: &str) -> Command {
    workspace::python_at(&source("python").join(script))
}

/// The program in Java with a version of the clients.
pub fn java(version: &str) -> Result<Command, String> {
    let folder = built(&format!("java/{version}"))?;
    let mut command = super::java(&[folder.join("classes"), folder.join("libs/*")]);
    command.arg("Scenarios");
    Ok(command)
}

/// Node with kafkajs.
pub fn node() -> Result<Command, String> {
    let modules = built("node/node_modules")?;
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules);
    Ok(command)
}

/// Asserts that all scenarios of a client hold.
#[track_caller]
pub fn run(client: &Client) {
    let mut command = match (client.program)() {
        Ok(command) => command,
        Err(missing) => skip!("{}: {missing}", client.name),
    };
    let scratch = Scratch::new(&format!("interop-kafka-{}", client.name));
    let mut cloud = started(&scratch);
    command.args(["--bootstrap", &cloud.kafka.to_string()]);
    command.args(["--name", client.name]);
    command.args(["--scenario", &client.scenarios.join(",")]);
    let cell = Cell::start(client.name.to_owned(), client.scenarios.to_vec(), command);
    cell::run(&mut [cell], CLIENT_WITHIN, || {
        cloud.kill();
        cloud.start();
        cloud.wait_ready();
    });
    assert!(cloud.process().exited().is_none(), "the cloud has ended");
}

/// Asserts that a client comes in by each door, and is refused there, where it has no rights.
#[track_caller]
pub fn run_doors(client: &Client) {
    let mut command = match (client.program)() {
        Ok(command) => command,
        Err(missing) => skip!("{}: {missing}", client.name),
    };
    let scratch = Scratch::new(&format!("interop-kafka-doors-{}", client.name));
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    let doors = Doors::of(&cloud, scratch.path());
    cloud.start();
    cloud.wait_ready();
    Doors::add_users(&cloud);
    Doors::give_rights(&cloud);
    command.args(["--name", client.name, "--scenario", DOORS]);
    command.args(doors.arguments());
    let cell = Cell::start(client.name.to_owned(), vec![DOORS], command);
    cell::run(&mut [cell], CLIENT_WITHIN, || unreachable!("nobody waits"));
}

pub fn started(scratch: &Scratch) -> Cloud {
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    cloud.start();
    cloud.wait_ready();
    cloud
}

/// The documentation's table: which clients are run, in which scenarios.
pub fn table(clients: &[Client]) -> String {
    let mut lines = vec![
        format!("| client | {} |", SCENARIOS.join(" | ")),
        format!("|---|{}", "---|".repeat(SCENARIOS.len())),
    ];
    for client in clients {
        let cells = SCENARIOS.map(|scenario| match client.scenarios.contains(&scenario) {
            true => "yes",
            false => "–",
        });
        lines.push(format!("| {} | {} |", client.name, cells.join(" | ")));
    }
    lines.join("\n") + "\n"
}
