//! MQTT 5 enhanced authentication by SCRAM-SHA-256, against a client that somebody else wrote (scramp).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidegate_system_tests::node::Site;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{wait, workspace};

/// What `tidegate-edge scram NAME` prints.
fn user(name: &str, password: &str) -> Result<String, String> {
    let mut command = Command::new(workspace::binary("tidegate-edge"));
    command.args(["scram", name]);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("tidegate-edge can be run");
    let mut input = process.stdin.take().expect("it is piped");
    writeln!(input, "{password}").expect("it reads");
    drop(input);
    let output = process.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

#[test]
fn clients_prove_who_they_are_and_so_does_the_server() {
    let scratch = Scratch::new("scram");
    let mut site = Site::new(scratch.path(), scratch.path());
    let line = user("pump", "pencil").expect("a line");
    assert!(line.starts_with("pump:SCRAM-SHA-256$10000:"), "{line}");
    assert_ne!(
        user("pump", "pencil"),
        Ok(line.clone()),
        "each has its salt"
    );
    std::fs::write(scratch.path().join("users"), line).expect("it can be written");
    // Relative to the configuration.
    site.edge.configure_mqtt("  scram_users: users\n");
    site.edge.start();
    site.edge.wait_ready();
    let mut command = workspace::python("scram_client.py");
    command.args(["--port", &site.edge.mqtt.port().to_string()]);
    let output = command.output().expect("python can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    let expected = json!({
        "right": 0,
        "prepared": 0,
        "wrong": 0x87,
        "unknown": 0x87,
        "again": 0,
        "again_wrong": 0x87,
    });
    assert_eq!(report, expected);
    let secret = site.edge.data.join("scram-secret");
    assert_eq!(std::fs::read(secret).expect("it is there").len(), 32);
}

/// A connection goes by the users as they were when it was opened: what is no longer so proves nothing.
#[test]
fn a_password_that_has_changed_since_the_connection_was_opened_is_wrong() {
    let scratch = Scratch::new("scram-late");
    let mut site = Site::new(scratch.path(), scratch.path());
    let users = scratch.path().join("users");
    std::fs::write(&users, user("pump", "pencil").expect("a line")).expect("it can be written");
    site.edge.configure_mqtt("  users: users\n");
    site.edge.start();
    site.edge.wait_ready();
    let mut command = workspace::python("scram_client.py");
    command.args(["--late", "--port", &site.edge.mqtt.port().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = command.spawn().expect("python can be run");
    let mut said = BufReader::new(client.stdout.take().expect("it is piped")).lines();
    let mut line = || said.next().expect("it says more").expect("it is text");
    assert_eq!(line(), "open");
    // The node has taken it.
    wait::until("the connection is open", wait::SOON, || {
        (site.edge.metric("tidegate_mqtt_connections")? >= 1.0).then_some(())
    });
    std::fs::write(&users, user("pump", "crayon").expect("a line")).expect("it can be written");
    site.edge.process().signal("HUP");
    wait::until("the file is read", wait::SOON, || {
        let log = site.edge.process().log();
        log.contains("the file was read anew").then_some(())
    });
    let mut input = client.stdin.take().expect("it is piped");
    writeln!(input, "now").expect("it reads");
    assert_eq!(line(), "135");
    assert!(client.wait().expect("it ends").success());
}

#[test]
fn what_is_wrong_with_the_users_is_said_with_its_line() {
    let scratch = Scratch::new("scram-wrong");
    let site = Site::new(scratch.path(), scratch.path());
    std::fs::write(scratch.path().join("users"), "# users\npump:pencil\n").expect("it is written");
    site.edge.configure_mqtt("  scram_users: users\n");
    let mut command = Command::new(workspace::binary("tidegate-edge"));
    command
        .arg("--config")
        .arg(scratch.path().join("edge.yaml"));
    let output = command.output().expect("it can be run");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("users: line 2: it is not NAME:SCRAM-SHA-256$"),
        "{said}"
    );
    for (name, password, problem) in [
        ("pump", "", "the password is empty"),
        ("", "pencil", "the name is empty"),
        ("#pump", "pencil", "the name is a comment"),
    ] {
        let said = user(name, password).expect_err("it is refused");
        assert!(said.contains(problem), "{said}");
    }
}
