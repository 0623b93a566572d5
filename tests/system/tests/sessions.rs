//! Client sessions with real clients: what was acknowledged reaches every persistent subscriber, QoS 2
//! exactly once, over kills and power cuts.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate_system_tests::image::Image;
use tidegate_system_tests::node::Site;
use tidegate_system_tests::process::Process;
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{skip, workspace};

/// Of each of the four publishers.
const MESSAGES: usize = 1_500;
const RATE: f64 = 250.0;
const DEADLINE: Duration = Duration::from_secs(90);
const KILLS: usize = 5;

/// Power cuts in CI; a longer soak sets `TIDEGATE_TEST_CUTS`.
const CUTS: usize = 2;

fn soak(site: &Site, folder: &Path) -> Process {
    let mut command = workspace::python("session_soak.py");
    command
        .args(["--port", &site.edge.mqtt.port().to_string()])
        .args(["--messages", &MESSAGES.to_string()])
        .args(["--rate", &RATE.to_string()])
        .args(["--deadline", &DEADLINE.as_secs().to_string()])
        .arg("--report")
        .arg(folder.join("report.json"));
    let soak = Process::start("session-soak", command, &folder.join("soak.log"));
    soak.wait_for_log("subscribed", Duration::from_secs(15));
    soak
}

/// Kills or cuts at random moments while the publishers publish.
fn moments(random: &mut Random, count: usize) -> Vec<Duration> {
    random.moments(count, Duration::from_secs_f64(MESSAGES as f64 / RATE))
}

/// What the soak's report says that should not be.
fn faults(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("report.json")).expect("the soak reports");
    let report: Value = serde_json::from_str(&text).expect("the report is JSON");
    let mut faults = Vec::new();
    for publisher in report["publishers"].as_array().into_iter().flatten() {
        if publisher["acknowledged"] != MESSAGES {
            faults.push(format!("not all is acknowledged: {publisher}"));
        }
    }
    for subscriber in report["subscribers"].as_array().into_iter().flatten() {
        let got = subscriber["got"].as_array().into_iter().flatten();
        let got: Vec<&str> = got.filter_map(Value::as_str).collect();
        let name = &subscriber["name"];
        faults.extend(
            faults_of(&got, subscriber["qos"] == 2).map(|fault| format!("{name}: {fault}")),
        );
    }
    faults
}

/// Of one subscriber: all is there, in each publisher's order, and what was QoS 2 all the way is there
/// once.
fn faults_of(got: &[&str], exactly_once: bool) -> impl Iterator<Item = String> {
    let mut faults = Vec::new();
    let (mut seen, mut next) = (HashSet::new(), HashMap::new());
    for body in got {
        let (publisher, number) = body.split_once(':').expect("a body is publisher:number");
        if !seen.insert(*body) {
            if exactly_once && ["p2", "p4"].contains(&publisher) {
                faults.push(format!("{body} came twice"));
            }
            continue;
        }
        let number: usize = number.parse().expect("a number");
        let expected = next.entry(publisher).or_insert(0);
        if number != *expected {
            faults.push(format!("{body} came when {publisher}:{expected} was due"));
        }
        *expected = number + 1;
    }
    if seen.len() != 4 * MESSAGES {
        faults.push(format!("{} of {} came", seen.len(), 4 * MESSAGES));
    }
    faults.truncate(20);
    faults.into_iter()
}

#[test]
fn every_subscriber_has_everything_over_kills() {
    let mut random = Random::from_environment();
    let scratch = Scratch::new("sessions");
    let mut site = Site::started(scratch.path());
    let mut soak = soak(&site, scratch.path());
    let mut slept = Duration::ZERO;
    for moment in moments(&mut random, KILLS) {
        // The moments themselves, not waits.
        std::thread::sleep(moment.saturating_sub(slept));
        slept = moment;
        site.edge.kill();
        site.edge.start();
    }
    assert!(soak.wait(DEADLINE * 2).success(), "{}", soak.log());
    let faults = faults(scratch.path());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_subscriber_has_everything_over_power_cuts() {
    let mut random = Random::from_environment();
    let rounds = std::env::var("TIDEGATE_TEST_CUTS").ok();
    let rounds = rounds
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(CUTS);
    for round in 1..=rounds {
        let scratch = Scratch::new("sessions-cut");
        let image = match Image::new(&scratch) {
            Ok(image) => image,
            Err(reason) => skip!("{reason}"),
        };
        let mut site = Site::new(scratch.path(), &image.mount);
        site.start();
        let mut soak = soak(&site, scratch.path());
        for moment in moments(&mut random, 1) {
            std::thread::sleep(moment);
        }
        image.power_cycle(|| {
            site.edge.kill();
            site.cloud.kill();
        });
        site.start();
        assert!(soak.wait(DEADLINE * 2).success(), "{}", soak.log());
        let faults = faults(scratch.path());
        assert!(faults.is_empty(), "round {round}:\n{}", faults.join("\n"));
    }
}

/// Each message goes to one member, whoever comes and goes, and over a kill.
#[test]
fn a_shared_subscription_loses_nothing_when_members_come_and_go() {
    const SENT: u64 = 3_000;
    let scratch = Scratch::new("sessions-group");
    let mut site = Site::started(scratch.path());
    let mut command = workspace::python("session_group.py");
    command
        .args(["--port", &site.edge.mqtt.port().to_string()])
        .args(["--messages", &SENT.to_string()])
        .args(["--deadline", &DEADLINE.as_secs().to_string()]);
    let log = scratch.path().join("group.log");
    let mut group = Process::start("session-group", command, &log);
    group.wait_for_log("subscribed", Duration::from_secs(15));
    // The moment of the kill, not a wait.
    std::thread::sleep(Duration::from_millis(600));
    site.edge.kill();
    site.edge.start();
    assert!(group.wait(DEADLINE * 2).success(), "{}", group.log());
    let said = group.log();
    let report = said
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Value>(line).ok());
    let report = report.expect("the script reports");
    println!("{report}");
    assert_eq!(report["distinct"].as_u64(), Some(SENT), "{report}");
    let members = report["members"].as_object().expect("an object");
    let counts: Vec<u64> = members.values().filter_map(Value::as_u64).collect();
    assert!(
        counts.iter().all(|count| *count > SENT / 20),
        "all take part: {report}"
    );
    // What a member had in hand when it left comes again, and at a kill what the last second moved.
    assert!(counts.iter().sum::<u64>() < 2 * SENT, "{report}");
}

/// A session may hold 16 MiB of the log: of 60 MiB it loses the oldest, and every loss is counted.
#[test]
fn a_session_with_too_much_waiting_loses_its_oldest_and_counts_it() {
    const SENT: u64 = 960;
    let scratch = Scratch::new("sessions-backlog");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge
        .configure_mqtt("  session_backlog_bytes_max: 16MiB\n");
    site.start();
    let mut command = workspace::python("session_backlog.py");
    command
        .args(["--port", &site.edge.mqtt.port().to_string()])
        .args(["--messages", &SENT.to_string()])
        .args(["--bytes", "65536", "--away", "2.5"]);
    let output = command.output().expect("python can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_str(&said).expect("the report is JSON");
    let lost = site
        .edge
        .metric("tidegate_mqtt_session_messages_lost_total");
    let got = report["got"].as_u64().expect("a number");
    println!("{got} of {SENT} came, {lost:?} are counted as lost");
    assert_eq!(report["sorted"], true, "in order, each once");
    assert_eq!(got + lost.unwrap_or_default() as u64, SENT);
    let by_name = "tidegate_mqtt_session_lost_worst{client=\"away\"}";
    assert_eq!(site.edge.metric(by_name), lost, "and whose they were");
    assert!(
        (100..SENT / 2).contains(&got),
        "16 MiB of 64 KiB each, and less"
    );
    assert_eq!(
        report["first"].as_u64(),
        Some(SENT - got),
        "the oldest are lost"
    );
}
