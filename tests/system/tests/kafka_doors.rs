//! The doors of the cloud, with clients that somebody else wrote: SASL, TLS and certificates on Kafka listeners, tokens
//! and TLS on HTTP. Who should come in does; who should not does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tidegate_system_tests::certificates::Certificates;
use tidegate_system_tests::cli;
use tidegate_system_tests::node::Cloud;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{wait, workspace};

const TOPIC: &str = "telemetry";
const SCRAM: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];

/// How long kcat tries to get an answer.
const KCAT_WITHIN_S: &str = "30";
/// What it says when it gives up, where it was not told why it is refused.
const KCAT_GIVES_UP: &str = "Failed to acquire metadata";
/// Long enough to try several times.
const KCAT_GIVES_UP_AFTER_S: &str = "15";

/// A cloud with a door of each kind. The first listener is for all, on loopback.
struct Doors {
    cloud: Cloud,
    certificates: Certificates,
    /// TLS, and any mechanism.
    sasl_ssl: SocketAddr,
    /// Certificates.
    mutual: SocketAddr,
    /// SCRAM without TLS.
    sasl_plaintext: SocketAddr,
}

impl Doors {
    fn new(scratch: &Scratch) -> Self {
        let cloud = Cloud::new(scratch.path(), scratch.path());
        let certificates = Certificates::new(scratch.path());
        let tls = certificates.yaml();
        let sasl_ssl = cloud.listen_kafka(&format!("{tls}, authentication: sasl"));
        let mutual = cloud.listen_kafka(&certificates.mutual_yaml());
        let sasl_plaintext = cloud.listen_kafka("authentication: sasl");
        // Who comes in is asked here, not what it may do then.
        cloud.configure("authorization: {allow_everyone_if_no_acl_found: true}\n");
        let mut doors = Self {
            cloud,
            certificates,
            sasl_ssl,
            mutual,
            sasl_plaintext,
        };
        doors.cloud.start();
        doors.cloud.wait_ready();
        doors
    }

    fn ca(&self) -> String {
        self.certificates.ca.display().to_string()
    }

    /// What a client of the TLS listener is told.
    fn ssl(&self, mechanism: &str, user: &str, password: &str) -> Value {
        json!({
            "protocol": "SASL_SSL", "mechanism": mechanism, "user": user, "password": password, "ca": self.ca(),
        })
    }

    fn with_certificate(&self, certificates: &Certificates) -> Value {
        json!({
            "protocol": "SSL", "ca": self.ca(),
            "certificate": certificates.client_certificate, "key": certificates.client_key,
        })
    }

    fn add_ada(&self) {
        let mut command =
            cli::command(self.cloud.http, &["user", "add", "ada", "--password-stdin"]);
        let token = self.cloud.data.join("admin-token");
        command.env("TIDEGATE_TOKEN", format!("@{}", token.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        writeln!(process.stdin.take().unwrap(), "pencil").unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "user ada is there\n"
        );
    }
}

fn plaintext(mechanism: &str, password: &str) -> Value {
    json!({ "protocol": "SASL_PLAINTEXT", "mechanism": mechanism, "user": "ada", "password": password })
}

/// A record goes in and comes out.
fn client(name: &str, address: SocketAddr, options: &Value) -> Value {
    let mut command = workspace::python("kafka_doors.py");
    command.args([name, &address.to_string(), TOPIC, &options.to_string()]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[track_caller]
fn comes_in(name: &str, address: SocketAddr, options: &Value) {
    assert_eq!(
        client(name, address, options),
        json!({ "read": true }),
        "{name} {options}"
    );
}

/// kcat, that asks for the topics.
fn kcat_command(address: SocketAddr, options: &Value, within_s: &str) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", &address.to_string(), "-L", "-m", within_s]);
    for (name, key) in [
        ("protocol", "security.protocol"),
        ("mechanism", "sasl.mechanism"),
        ("user", "sasl.username"),
        ("password", "sasl.password"),
        ("ca", "ssl.ca.location"),
        ("certificate", "ssl.certificate.location"),
        ("key", "ssl.key.location"),
    ] {
        if let Some(value) = options[name].as_str() {
            command.arg("-X").arg(format!("{key}={value}"));
        }
    }
    command
}

/// What kcat says when it asks for the topics.
fn kcat(address: SocketAddr, options: &Value) -> (bool, String) {
    let output = kcat_command(address, options, KCAT_WITHIN_S)
        .output()
        .expect("kcat is there (apt-get install kcat)");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[track_caller]
fn kcat_comes_in(address: SocketAddr, options: &Value) {
    let (is_in, said) = kcat(address, options);
    assert!(is_in && said.contains(TOPIC), "{options}: {said}");
    // It is told the door's own address.
    assert!(said.contains(&format!("at {address}")), "{said}");
}

/// It tries again until it gives up: once it has said why it stays outside, it is ended.
#[track_caller]
fn kcat_is_refused(address: SocketAddr, options: &Value, why: &str) {
    let within_s = match why {
        KCAT_GIVES_UP => KCAT_GIVES_UP_AFTER_S,
        _ => KCAT_WITHIN_S,
    };
    let mut command = kcat_command(address, options, within_s);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command
        .spawn()
        .expect("kcat is there (apt-get install kcat)");
    let mut said = String::new();
    for line in BufReader::new(process.stderr.take().unwrap()).lines() {
        said += &line.unwrap();
        said.push('\n');
        if said.contains(why) {
            break;
        }
    }
    process.kill().unwrap();
    let output = process.wait_with_output().unwrap();
    let topics = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(why), "{options}: {said}");
    assert_eq!(topics, "", "{options}: it is let in");
}

#[test]
fn stock_clients_come_in_by_password_and_certificate() {
    let scratch = Scratch::new("kafka-doors-in");
    let doors = Doors::new(&scratch);
    doors.add_ada();
    let mechanisms = ["PLAIN", SCRAM[0], SCRAM[1]];
    for mechanism in mechanisms {
        let options = doors.ssl(mechanism, "ada", "pencil");
        kcat_comes_in(doors.sasl_ssl, &options);
        for name in ["confluent-kafka", "kafka-python", "aiokafka"] {
            comes_in(name, doors.sasl_ssl, &options);
        }
    }
    for mechanism in SCRAM {
        kcat_comes_in(doors.sasl_plaintext, &plaintext(mechanism, "pencil"));
    }
    let certificate = doors.with_certificate(&doors.certificates);
    kcat_comes_in(doors.mutual, &certificate);
    for name in ["confluent-kafka", "kafka-python", "aiokafka"] {
        comes_in(name, doors.mutual, &certificate);
    }
    kcat_comes_in(doors.cloud.kafka, &json!({}));
}

#[test]
fn who_is_not_known_stays_outside() {
    let scratch = Scratch::new("kafka-doors-out");
    let mut doors = Doors::new(&scratch);
    doors.add_ada();
    let failed = "Authentication failed";
    let mut refused = Vec::new();
    for mechanism in SCRAM {
        for (user, password) in [("ada", "Pencil"), ("eve", "pencil")] {
            let wrong = doors.ssl(mechanism, user, password);
            refused.push((doors.sasl_ssl, wrong, failed));
        }
    }
    for (user, password) in [("ada", "Pencil"), ("eve", "pencil")] {
        let wrong = doors.ssl("PLAIN", user, password);
        refused.push((doors.sasl_ssl, wrong, "Invalid username or password"));
    }
    // PLAIN is not offered where anybody on the way could read it.
    let not_offered = plaintext("PLAIN", "pencil");
    refused.push((doors.sasl_plaintext, not_offered, "mechanism"));
    // No SASL, no TLS, no certificate.
    let nothing = KCAT_GIVES_UP;
    let bare = json!({ "protocol": "SSL", "ca": doors.ca() });
    refused.push((doors.sasl_plaintext, json!({}), nothing));
    refused.push((doors.sasl_ssl, plaintext(SCRAM[0], "pencil"), nothing));
    refused.push((doors.mutual, bare.clone(), nothing));
    refused.push((doors.sasl_ssl, bare, nothing));
    // Somebody else's CA: who has a certificate of it is not known, and who trusts it does not trust the cloud.
    let elsewhere = scratch.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let others = Certificates::new(&elsewhere);
    refused.push((doors.mutual, doors.with_certificate(&others), nothing));
    let mut trusts_others = doors.ssl(SCRAM[1], "ada", "pencil");
    trusts_others["ca"] = json!(others.ca);
    refused.push((doors.sasl_ssl, trusts_others, "certificate verify failed"));
    // At once: some try for many seconds before they give up.
    std::thread::scope(|scope| {
        for (address, options, why) in &refused {
            scope.spawn(|| kcat_is_refused(*address, options, why));
        }
        let wrong = doors.ssl(SCRAM[0], "ada", "Pencil");
        for name in ["confluent-kafka", "kafka-python", "aiokafka"] {
            let (wrong, address) = (wrong.clone(), doors.sasl_ssl);
            scope.spawn(move || {
                let said = client(name, address, &wrong);
                let said = said["error"].as_str().expect("it is not let in");
                let whys = [failed, "SaslAuthenticationFailed", "Unable to bootstrap"];
                assert!(whys.iter().any(|why| said.contains(why)), "{name}: {said}");
            });
        }
    });
    // Whose connection has just ended is counted a moment later.
    let log = wait::until("each is counted and logged", wait::SOON, || {
        let sample = "tidegate_failed_authentications_total{door=\"kafka\"}";
        let counted = doors.cloud.metric(sample)?;
        let log = doors.cloud.process().log();
        (counted >= 12.0 && not_let_in(&log).count() >= 12).then_some(log)
    });
    assert!(not_let_in(&log).all(|line| line.contains("peer=") && !line.contains("encil")));
}

/// The lines of a cloud's log about those who stayed outside.
fn not_let_in(log: &str) -> impl Iterator<Item = &str> {
    log.lines()
        .filter(|line| line.contains("kafka: not let in"))
}

#[test]
fn users_of_a_kafka_admin_client_are_there_after_a_kill() {
    let scratch = Scratch::new("kafka-doors-users");
    let mut doors = Doors::new(&scratch);
    let kafka = doors.cloud.kafka;
    let ask = |words: &[&str]| {
        let mut command = workspace::python("kafka_admin.py");
        let output = command.arg(kafka.to_string()).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let set = |mechanism, iterations, password| {
        ask(&["set_password", "ada", mechanism, iterations, password])
    };
    assert_eq!(set("SCRAM_SHA_256", "4096", "pencil"), Value::Null);
    assert_eq!(set("SCRAM_SHA_512", "8192", "chalk"), Value::Null);
    let refused = |name: &str| json!({ "error": name });
    assert_eq!(
        set("SCRAM_SHA_256", "4095", "x"),
        refused("UNACCEPTABLE_CREDENTIAL")
    );
    assert_eq!(
        set("SCRAM_SHA_256", "16385", "x"),
        refused("UNACCEPTABLE_CREDENTIAL")
    );
    let unknown = ask(&["drop_password", "eve", "SCRAM_SHA_256"]);
    assert_eq!(unknown, refused("RESOURCE_NOT_FOUND"));
    doors.cloud.kill();
    doors.cloud.start();
    doors.cloud.wait_ready();
    let ada = json!({ "ada": { "SCRAM_SHA_256": 4096, "SCRAM_SHA_512": 8192 } });
    assert_eq!(ask(&["passwords"]), ada);
    assert_eq!(ask(&["passwords", "ada"]), ada);
    assert_eq!(ask(&["passwords", "eve"]), refused("RESOURCE_NOT_FOUND"));
    for (mechanism, password) in [(SCRAM[0], "pencil"), (SCRAM[1], "chalk")] {
        kcat_comes_in(doors.sasl_plaintext, &plaintext(mechanism, password));
    }
    let crossed = plaintext(SCRAM[1], "pencil");
    kcat_is_refused(doors.sasl_plaintext, &crossed, "Authentication failed");
    for mechanism in ["SCRAM_SHA_256", "SCRAM_SHA_512"] {
        assert_eq!(ask(&["drop_password", "ada", mechanism]), Value::Null);
    }
    assert_eq!(ask(&["passwords"]), json!({}));
    doors.cloud.kill();
    doors.cloud.start();
    doors.cloud.wait_ready();
    let gone = plaintext(SCRAM[0], "pencil");
    kcat_is_refused(doors.sasl_plaintext, &gone, "Authentication failed");
}

/// Status and body.
fn curl(url: &str, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command
        .args(["-s", "-S", "-w", "\n%{http_code}", url])
        .args(arguments);
    let Output { stdout, stderr, .. } = command.output().expect("curl is there");
    let said = String::from_utf8_lossy(&stdout).into_owned();
    let (body, status) = said.rsplit_once('\n').expect("it prints the status");
    let error = String::from_utf8_lossy(&stderr);
    (status.to_owned(), format!("{body}{error}"))
}

#[test]
fn http_knows_who_asks_and_hides_what_is_said() {
    let scratch = Scratch::new("kafka-doors-http");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    let certificates = Certificates::new(scratch.path());
    // Its section is the last one.
    cloud.configure(&format!(
        "  authentication: users\n  {}\n",
        certificates.yaml()
    ));
    let https = |cloud: &Cloud| format!("https://{}", cloud.http);
    let (url, ca) = (https(&cloud), certificates.ca.display().to_string());
    let path = |path: &str| format!("{url}{path}");
    let trust = ["--cacert", ca.as_str()];
    let start = |cloud: &mut Cloud| {
        cloud.start();
        wait::until("the cloud answers", wait::SOON, || {
            (curl(&path("/readyz"), &trust).0 == "200").then_some(())
        });
    };
    start(&mut cloud);
    assert_eq!(curl(&path("/healthz"), &trust).0, "200");
    let (status, body) = curl(&path("/api/v1/topics"), &trust);
    assert!(
        status == "401" && body.contains("say who you are"),
        "{status} {body}"
    );
    assert_eq!(curl(&path("/metrics"), &trust).0, "401");
    let (status, said) = curl(&path("/healthz"), &[]);
    assert!(
        status == "000" && said.contains("certificate"),
        "{status} {said}"
    );

    let file = cloud.data.join("admin-token");
    let at_file = format!("@{}", file.display());
    let tidegate = |token: Option<&str>, ca: Option<&str>, words: &[&str]| {
        let mut command = cli::command(cloud.http, words);
        command.env("TIDEGATE_CLOUD", &url);
        token.map(|token| command.env("TIDEGATE_TOKEN", token));
        ca.map(|ca| command.args(["--ca", ca]));
        cli::run(command)
    };
    let as_admin = |words: &[&str]| tidegate(Some(&at_file), Some(&ca), words);
    let password = as_admin(&["user", "add", "ada", "--generate"]).ok().out;
    let token = as_admin(&["user", "token", "ada", "--as", "ci"]).ok().out;
    assert!(token.starts_with("tidegate_"), "{token}");
    let refused = tidegate(None, Some(&ca), &["topic", "list"]).fails(1);
    assert!(refused.error.contains("--token"), "{refused:?}");
    tidegate(Some("tidegate_wrong"), Some(&ca), &["topic", "list"]).fails(1);
    let refused = tidegate(Some(&token), None, &["topic", "list"]).fails(1);
    assert!(refused.error.contains("certificate"), "{refused:?}");
    tidegate(Some(&token), Some(&ca), &["topic", "list"]).ok();
    let bearer = format!("Authorization: Bearer {token}");
    let pair = format!("ada:{password}");
    let with_token = ["--cacert", &ca, "-H", &bearer];
    let with_password = ["--cacert", &ca, "-u", &pair];
    for shown in [&with_token, &with_password] {
        assert_eq!(curl(&path("/api/v1/topics"), shown).0, "200");
    }
    assert_eq!(
        curl(&path("/metrics"), &["--cacert", &ca, "-u", "ada:wrong"]).0,
        "401"
    );

    let before = std::fs::read_to_string(&file).unwrap();
    cloud.kill();
    start(&mut cloud);
    assert_ne!(
        std::fs::read_to_string(&file).unwrap(),
        before,
        "of each start"
    );
    for shown in [&with_token, &with_password] {
        assert_eq!(curl(&path("/metrics"), shown).0, "200", "after the kill");
    }
    let data = |file: &Path| !contains(file, &token) && !contains(file, &password);
    assert!(
        files(&cloud.data).iter().all(|file| data(file)),
        "neither is kept"
    );
    let tidegate = |words: &[&str]| {
        let mut command = cli::command(cloud.http, words);
        command
            .env("TIDEGATE_CLOUD", &url)
            .env("TIDEGATE_TOKEN", &at_file);
        command.env("TIDEGATE_CA", &ca);
        cli::run(command).ok()
    };
    let list = tidegate(&["user", "list"]).out;
    assert!(
        list.contains("SCRAM-SHA-256, SCRAM-SHA-512") && list.contains("ci ("),
        "{list}"
    );
    tidegate(&["user", "untoken", "ada", "ci"]);
    assert_eq!(curl(&path("/metrics"), &with_token).0, "401");
    tidegate(&["user", "remove", "ada"]);
    assert_eq!(curl(&path("/metrics"), &with_password).0, "401");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn contains(file: &Path, text: &str) -> bool {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// A renewed certificate needs no restart, and one that cannot be used leaves the old one.
#[test]
fn certificates_are_read_anew() {
    let scratch = Scratch::new("kafka-doors-renewed");
    let mut doors = Doors::new(&scratch);
    doors.add_ada();
    let before = doors.ssl(SCRAM[0], "ada", "pencil");
    kcat_comes_in(doors.sasl_ssl, &before);
    let elsewhere = scratch.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let renewed = Certificates::new(&elsewhere);
    std::fs::copy(&renewed.certificate, &doors.certificates.certificate).unwrap();
    doors.cloud.process().signal("HUP");
    doors
        .cloud
        .process()
        .wait_for_log("keeps its old certificates", wait::SOON);
    kcat_comes_in(doors.sasl_ssl, &before);
    std::fs::copy(&renewed.key, &doors.certificates.key).unwrap();
    doors.cloud.process().signal("HUP");
    doors
        .cloud
        .process()
        .wait_for_log("certificates were read anew", wait::SOON);
    let mut after = before;
    after["ca"] = json!(renewed.ca);
    wait::until("the new certificate is shown", wait::SOON, || {
        kcat(doors.sasl_ssl, &after).0.then_some(())
    });
}
