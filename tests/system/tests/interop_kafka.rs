//! Kafka clients and tools nobody here wrote, each against a cloud of its own: what is produced comes back, groups share
//! and go on, topics are administered, and the cloud is killed with `kill -9` while a producer and a consumer work. The
//! programs, and what they hold the cloud to, are in `tests/interop/kafka`; and each page of `deploy/docs/kafka-clients`
//! is run as it stands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use tidegate_system_tests::interop::kafka::{self, Client, SCENARIOS, built, java, node, python};
use tidegate_system_tests::interop::kafka_pages::run_page;
use tidegate_system_tests::interop::pages;
use tidegate_system_tests::workspace;

const JAVA_4: Client = Client {
    name: "java-4.3",
    scenarios: &SCENARIOS,
    program: || java("4.3"),
};

const JAVA_3: Client = Client {
    name: "java-3.9",
    scenarios: &SCENARIOS,
    program: || java("3.9"),
};

const KAFKAJS: Client = Client {
    name: "kafkajs",
    scenarios: &SCENARIOS,
    program: || {
        let mut command = node()?;
        command.arg(kafka::source("node/client.js"));
        Ok(command)
    },
};

const FRANZ_GO: Client = Client {
    name: "franz-go",
    scenarios: &SCENARIOS,
    program: || go("franz-go"),
};

const SARAMA: Client = Client {
    name: "sarama",
    scenarios: &SCENARIOS,
    program: || go("sarama"),
};

const CONFLUENT: Client = Client {
    name: "confluent-kafka",
    scenarios: &SCENARIOS,
    program: || Ok(python("confluent_client.py")),
};

const KAFKA_PYTHON: Client = Client {
    name: "kafka-python",
    scenarios: &SCENARIOS,
    program: || Ok(python("kafka_python_client.py")),
};

const AIOKAFKA: Client = Client {
    name: "aiokafka",
    scenarios: &SCENARIOS,
    program: || Ok(python("aiokafka_client.py")),
};

const CLIENTS: [Client; 8] = [
    JAVA_4,
    JAVA_3,
    CONFLUENT,
    KAFKA_PYTHON,
    AIOKAFKA,
    KAFKAJS,
    FRANZ_GO,
    SARAMA,
];

fn go(library: &str) -> Result<Command, String> {
    let mut command = Command::new(built("go/client")?);
    command.args(["--library", library]);
    Ok(command)
}

#[test]
fn java_4() {
    kafka::run(&JAVA_4);
}

#[test]
fn java_3() {
    kafka::run(&JAVA_3);
}

#[test]
fn confluent_kafka() {
    kafka::run(&CONFLUENT);
}

#[test]
fn kafka_python() {
    kafka::run(&KAFKA_PYTHON);
}

#[test]
fn aiokafka() {
    kafka::run(&AIOKAFKA);
}

#[test]
fn kafkajs() {
    kafka::run(&KAFKAJS);
}

#[test]
fn franz_go() {
    kafka::run(&FRANZ_GO);
}

#[test]
fn sarama() {
    kafka::run(&SARAMA);
}

#[test]
fn java_4_comes_in_by_each_door() {
    kafka::run_doors(&JAVA_4);
}

#[test]
fn java_3_comes_in_by_each_door() {
    kafka::run_doors(&JAVA_3);
}

#[test]
fn kafkajs_comes_in_by_each_door() {
    kafka::run_doors(&KAFKAJS);
}

#[test]
fn franz_go_comes_in_by_each_door() {
    kafka::run_doors(&FRANZ_GO);
}

#[test]
fn sarama_comes_in_by_each_door() {
    kafka::run_doors(&SARAMA);
}

#[test]
fn the_documentation_has_the_table_of_what_is_run() {
    let table = kafka::table(&CLIENTS);
    let index = pages::read("deploy/docs/kafka-clients.md");
    assert!(index.contains(&table), "it should have\n{table}");
    let folder = workspace::root().join("deploy/docs/kafka-clients");
    for page in fs::read_dir(folder).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(
            index.contains(&format!("(kafka-clients/{name})")),
            "no link to {name}"
        );
    }
}

fn tool(name: &str) -> Result<(), String> {
    match workspace::has_tool(name) {
        true => Ok(()),
        false => Err(format!("no {name}: tests/run --full interop_kafka")),
    }
}

fn built_too(path: &str) -> Result<(), String> {
    built(path).map(|_| ())
}

#[test]
fn the_page_of_kcat_works() {
    run_page("kcat", || tool("kcat"));
}

#[test]
fn the_page_of_confluent_kafka_works() {
    run_page("confluent-kafka", || Ok(()));
}

#[test]
fn the_page_of_kafka_python_works() {
    run_page("kafka-python", || Ok(()));
}

#[test]
fn the_page_of_aiokafka_works() {
    run_page("aiokafka", || Ok(()));
}

#[test]
fn the_page_of_kafkajs_works() {
    run_page("kafkajs", || built_too("node/node_modules"));
}

#[test]
fn the_page_of_franz_go_works() {
    run_page("franz-go", || built_too("go/client"));
}

#[test]
fn the_page_of_sarama_works() {
    run_page("sarama", || built_too("go/client"));
}

#[test]
fn the_page_of_java_works() {
    run_page("java", || built_too("tools/libs"));
}

#[test]
fn the_page_of_kafkas_own_tools_works() {
    run_page("kafka-tools", || built_too("tools/libs"));
}

#[test]
fn the_page_of_kafka_connect_works() {
    run_page("kafka-connect", || built_too("tools/libs"));
}

#[test]
fn the_page_of_kafka_streams_works() {
    run_page("kafka-streams", || built_too("tools/libs"));
}
