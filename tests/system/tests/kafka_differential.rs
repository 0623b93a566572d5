//! This cloud and Apache Kafka are asked the same, in each version of each API that is advertised, and their answers are
//! compared field by field. What is asked, and where they may differ, is in `tests/differential`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tidegate_system_tests::apache_kafka::{self, ApacheKafka};
use tidegate_system_tests::node::Cloud;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{skip, workspace};

/// Makes the documentation's page what was compared, rather than holding it to that.
const WRITE: &str = "TIDEGATE_TEST_WRITE";

/// A listener like that of server.properties which wants SASL.
const DOOR: &str = "authentication: sasl, sasl_mechanisms: [SCRAM-SHA-512, SCRAM-SHA-256, PLAIN]";

#[test]
fn answers_are_apache_kafkas() {
    let built = match apache_kafka::built() {
        Ok(built) => built,
        Err(missing) => skip!("{missing}"),
    };
    let scratch = Scratch::new("kafka-differential");
    let (root, folder) = (
        workspace::root(),
        workspace::root().join("tests/differential"),
    );
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    let door = cloud.listen_kafka(DOOR);
    // As server.properties has it.
    cloud.configure(
        "authorization: {allow_everyone_if_no_acl_found: true, super_users: ['User:admin']}\n",
    );
    cloud.start();
    let reference = ApacheKafka::start(
        &built,
        &folder.join("server.properties"),
        &scratch.folder("reference"),
    );
    cloud.wait_ready();
    let mut compare = apache_kafka::java(&built, "Differential");
    compare
        .args([cloud.kafka, door, reference.address, reference.door].map(|at| at.to_string()))
        .arg(folder)
        .arg(root.join("deploy/docs/kafka-apis.md"));
    if std::env::var_os(WRITE).is_some() {
        compare.arg("--write");
    }
    let output = compare.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}
