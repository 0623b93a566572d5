//! Runs a page of `deploy/docs/kafka-clients` against a cloud and an edge of its own. What is missing for it is said, and
//! skips it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use super::doors::Doors;
use super::kafka::{self, built, node};
use super::pages;
use crate::node::Site;
use crate::scratch::Scratch;
use crate::{ports, skip, workspace};

/// Kafka's scripts that the pages use, and the class that each starts.
const TOOLS: [(&str, &str); 12] = [
    ("kafka-acls", "org.apache.kafka.tools.AclCommand"),
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    (
        "kafka-console-producer",
        "org.apache.kafka.tools.ConsoleProducer",
    ),
    (
        "kafka-console-consumer",
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
    ),
    (
        "kafka-consumer-groups",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    ),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    (
        "kafka-delete-records",
        "org.apache.kafka.tools.DeleteRecordsCommand",
    ),
    (
        "kafka-producer-perf-test",
        "org.apache.kafka.tools.ProducerPerformance",
    ),
    (
        "kafka-consumer-perf-test",
        "org.apache.kafka.tools.ConsumerPerformance",
    ),
    (
        "connect-standalone",
        "org.apache.kafka.connect.cli.ConnectStandalone",
    ),
    (
        "connect-distributed",
        "org.apache.kafka.connect.cli.ConnectDistributed",
    ),
];

/// Where the pages have their listeners with TLS: with passwords, and with certificates.
const SASL_SSL: &str = "127.0.0.1:9094";
const MUTUAL: &str = "127.0.0.1:9095";

/// What runs a page's block of a language, and the name of the file that the block becomes.
fn runner(language: &str, page: &str, folder: &Path) -> Option<(Command, &'static str)> {
    let (command, name) = match language {
        "sh" => {
            let mut command = Command::new("sh");
            command.arg("-e");
            (command, "block.sh")
        }
        // It has Python packages of its own.
        "python" if page == "spark" => {
            let interpreter = built("spark/venv/bin/python").ok()?;
            (Command::new(interpreter), "block.py")
        }
        "python" => (workspace::python_at(Path::new("-u")), "block.py"),
        "js" => (node().ok()?, "block.js"),
        "java" => {
            let libraries = built("tools/libs").ok()?.join("*");
            let mut command = Command::new("java");
            command.arg("-cp").arg(libraries);
            (command, "Block.java")
        }
        "go" => {
            // Compiled beside its modules, and run where its files are.
            let mut command = Command::new("sh");
            let module = kafka::source("go");
            command.arg("-c").arg(format!(
                "go build -C '{}' -o \"$0.run\" \"$0\" && exec \"$0.run\"",
                module.display()
            ));
            (command, "block.go")
        }
        _ => return None,
    };
    Some((in_folder(command, folder), name))
}

fn in_folder(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder);
    command
}

/// Runs a page against a site of its own: what the page names as the cloud's address, and as the edge's, is that site's.
#[track_caller]
pub fn run_page(name: &str, needs: impl Fn() -> Result<(), String>) {
    if let Err(missing) = needs() {
        skip!("{name}: {missing}");
    }
    let scratch = Scratch::new(&format!("page-{name}"));
    let page = pages::read(&format!("deploy/docs/kafka-clients/{name}.md"));
    let folder = scratch.path().join("pasted");
    fs::create_dir(&folder).expect("a folder can be made");
    let mut site = Site::new(scratch.path(), scratch.path());
    let doors = page.contains(SASL_SSL).then(|| {
        // Who has no rights is no matter of a page.
        let open = "authorization: {allow_everyone_if_no_acl_found: true}\n";
        site.cloud.configure(open);
        Doors::of(&site.cloud, &folder)
    });
    site.start();
    if doors.is_some() {
        Doors::add_users(&site.cloud);
    }
    if let Ok(libraries) = built("tools/libs") {
        distribution(&folder, &libraries);
    }
    // Of Connect's REST.
    let rest = ports::free();
    let replace = |text: &str| {
        let mut text = text.replace("127.0.0.1:9092", &site.cloud.kafka.to_string());
        if let Some(doors) = &doors {
            text = text.replace(SASL_SSL, &doors.sasl_ssl.to_string());
            text = text.replace(MUTUAL, &doors.mutual.to_string());
        }
        let text = text.replace("-p 1883", &format!("-p {}", site.edge.mqtt.port()));
        let text = text.replace("127.0.0.1:8083", &rest.to_string());
        text.replace("/tmp/kafka-clients", &folder.display().to_string())
    };
    pages::run(&page, &folder, pages::Order::Any, replace, |language| {
        runner(language, name, &folder)
    });
}

/// Kafka's scripts as its distribution has them, for what the pages use: each only starts a class.
fn distribution(folder: &Path, libraries: &Path) {
    let bin = folder.join("bin");
    fs::create_dir(&bin).expect("a folder can be made");
    symlink(libraries, folder.join("libs")).expect("a link can be made");
    for (name, class) in TOOLS {
        let script = bin.join(format!("{name}.sh"));
        let text = format!(
            "#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '{}/*' {class} \"$@\"\n",
            libraries.display()
        );
        fs::write(&script, text).expect("a file can be written");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&script, executable).expect("it can be made a program");
    }
}
