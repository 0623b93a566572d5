//! Consumer groups whose members join, leave, are killed and are stopped at random, with each assignor that clients
//! bring: every record is processed, in order, no partition has two owners, and in the end each has one
//! (`group_history` says what exactly that means). The members are confluent-kafka and kafka-python, some of them static.
//!
//! `TIDEGATE_TEST_CHURN_SECONDS` and `TIDEGATE_TEST_CHURN_MEMBERS` make it longer and larger, and
//! `TIDEGATE_TEST_CHURN_GROUP` puts all members into one of the groups.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "group_churn/members.rs"]
mod members;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use members::{Kind, Members};
use serde_json::Value;
use tidegate_system_tests::cli::json;
use tidegate_system_tests::group_history::{GroupHistory, Violation, check, now_ns};
use tidegate_system_tests::node::Cloud;
use tidegate_system_tests::process::Process;
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{wait, workspace};

const TOPIC: &str = "load";
const PER_SECOND: &str = "200";

/// As `group_member.py` has it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A session has to end first, then there are two rebalances; the rest is for a slow, busy machine.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// In each group something happens about so often. Much faster shows little: a rebalance waits for who died, and who
/// joins before the leader has assigned anything sends all back to join again, as Kafka's coordinator does, too.
const CHANGE_EVERY_MS: u64 = 1_500;

/// What is shown of what is wrong.
const SHOWN_MAX: usize = 5;

/// One group, and whose members it takes in turn.
struct Group {
    name: &'static str,
    assignor: &'static str,
    clients: &'static [&'static str],
}

const GROUPS: [Group; 5] = [
    Group {
        name: "range",
        assignor: "range",
        clients: &["confluent", "kafka-python"],
    },
    Group {
        name: "roundrobin",
        assignor: "roundrobin",
        clients: &["kafka-python", "confluent"],
    },
    Group {
        name: "cooperative-confluent",
        assignor: "cooperative-sticky",
        clients: &["confluent"],
    },
    Group {
        name: "cooperative-kafka-python",
        assignor: "cooperative-sticky",
        clients: &["kafka-python"],
    },
    Group {
        name: "sticky",
        assignor: "sticky",
        clients: &["kafka-python"],
    },
];

/// How much of it there is.
struct Size {
    churn: Duration,
    members: usize,
}

impl Size {
    fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
        let is_full = std::env::var("TIDEGATE_TEST_FULL").as_deref() == Ok("1");
        let (seconds, members) = if is_full { (40, 20) } else { (15, 10) };
        let seconds = number("TIDEGATE_TEST_CHURN_SECONDS").unwrap_or(seconds);
        Self {
            churn: Duration::from_secs(seconds),
            members: number("TIDEGATE_TEST_CHURN_MEMBERS").map_or(members, |it| it as usize),
        }
    }

    /// So many that not each member has one, and some have several.
    fn partitions(&self, groups: usize) -> usize {
        (self.members / groups).max(4) * 3 / 2
    }
}

struct World {
    scratch: Scratch,
    cloud: Cloud,
    producer: Process,
    groups: Vec<(&'static Group, Members)>,
}

impl World {
    fn start(groups: Vec<&'static Group>, size: &Size) -> Self {
        let scratch = Scratch::new("group-churn");
        let mut cloud = Cloud::new(scratch.path(), scratch.path());
        let partitions = size.partitions(groups.len());
        cloud.configure(&format!(
            "topics: [{{name: {TOPIC}, partitions: {partitions}}}]\n"
        ));
        cloud.start();
        cloud.wait_ready();
        let mut command = workspace::python("kafka_produce_load.py");
        command.args([&cloud.kafka.to_string(), TOPIC, &partitions.to_string()]);
        command.arg(PER_SECOND).arg(reports(scratch.path()));
        let producer = Process::start("producer", command, &scratch.path().join("producer.log"));
        let of_each = (size.members / groups.len()).max(2);
        let groups = groups.into_iter().map(|group| {
            let kind = Kind {
                group: group.name,
                assignor: group.assignor,
                clients: group.clients,
                topic: TOPIC,
            };
            let folder = scratch.folder(group.name);
            (group, Members::new(kind, cloud.kafka, folder, of_each))
        });
        Self {
            groups: groups.collect(),
            scratch,
            cloud,
            producer,
        }
    }

    /// What the producer was told of each record.
    fn produced(&self) -> BTreeMap<(i32, i64), u64> {
        let text = fs::read_to_string(reports(self.scratch.path())).unwrap();
        let reports = text.lines().map(|line| {
            let report: Value = serde_json::from_str(line).unwrap();
            assert!(report["error"].is_null(), "{report}");
            let number = |name: &str| report[name].as_i64().unwrap();
            let value = report["value"].as_str().unwrap().parse().unwrap();
            ((number("partition") as i32, number("offset")), value)
        });
        reports.collect()
    }

    fn history(&self, at: usize, produced: &BTreeMap<(i32, i64), u64>) -> GroupHistory {
        GroupHistory {
            members: self.groups[at].1.histories(),
            produced: produced.clone(),
            closed_from_ns: now_ns(),
            session_timeout: SESSION_TIMEOUT,
            heartbeat: HEARTBEAT,
            settles_within: SETTLES_WITHIN,
        }
    }

    fn described(&self, at: usize) -> Value {
        let name = self.groups[at].0.name;
        json(self.cloud.http, &["group", "describe", name])
            .ok()
            .json()
    }

    /// Waits until each group has an owner for each partition, and has committed all.
    /// Returns what is still to be done where that takes far longer than is judged.
    fn wait_settled(&self, produced: &BTreeMap<(i32, i64), u64>) -> Vec<String> {
        const LOOK_EVERY: Duration = Duration::from_millis(300);
        let mut unsettled = Vec::new();
        let began = Instant::now();
        for (at, (group, _)) in self.groups.iter().enumerate() {
            while let Err(left) = self.settled(at, produced) {
                if began.elapsed() > SETTLES_WITHIN * 2 {
                    unsettled.push(format!("{} does not settle: {left}", group.name));
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
            }
            println!("{} after {:?}", group.name, began.elapsed());
        }
        unsettled
    }

    fn settled(&self, at: usize, produced: &BTreeMap<(i32, i64), u64>) -> Result<(), String> {
        let mut found = check(&self.history(at, produced));
        found.retain(|it| matches!(it, Violation::NotSettled { .. } | Violation::Lag { .. }));
        found.truncate(SHOWN_MAX);
        let (without, described) = (self.groups[at].1.without_word(), self.described(at));
        match found.is_empty() && without.is_empty() && described["state"] == "Stable" {
            true => Ok(()),
            false => Err(format!(
                "{found:?}, {without:?} were told nothing, it is {described}"
            )),
        }
    }
}

fn reports(folder: &Path) -> PathBuf {
    folder.join("reports.jsonl")
}

#[test]
fn members_come_and_go_and_every_record_is_processed_by_one_owner_at_a_time() {
    let size = Size::from_environment();
    let only = std::env::var("TIDEGATE_TEST_CHURN_GROUP").ok();
    let is_meant = |group: &&Group| only.as_ref().is_none_or(|name| group.name == name);
    let groups: Vec<_> = GROUPS.iter().filter(is_meant).collect();
    assert!(!groups.is_empty(), "there is no group {only:?}");
    let mut random = Random::from_environment();
    let mut world = World::start(groups, &size);
    for (_, members) in &mut world.groups {
        members.start_all();
    }
    for (_, members) in &mut world.groups {
        members.wait_at_work();
    }
    churn(&mut world, &size, &mut random);
    for (_, members) in &mut world.groups {
        members.calm();
    }
    world.producer.signal("TERM");
    let status = world.producer.wait(wait::SOON * 4);
    assert!(status.success(), "{}", world.producer.log());
    let produced = world.produced();
    let unsettled = world.wait_settled(&produced);
    let closed_from_ns = now_ns();
    for (_, members) in &mut world.groups {
        members.close_all();
    }
    let mut wrong = Vec::new();
    for (at, (group, members)) in world.groups.iter().enumerate() {
        let mut history = world.history(at, &produced);
        history.closed_from_ns = closed_from_ns;
        let found = check(&history);
        let (records, processed) = history.counts();
        println!(
            "{}: {records} records, processed {processed} times; {}",
            group.name,
            members.said()
        );
        let shown: Vec<_> = found.iter().take(SHOWN_MAX).cloned().collect();
        if !found.is_empty() {
            wrong.push((group.name, found.len(), shown));
        }
    }
    let is_right = wrong.is_empty() && unsettled.is_empty();
    assert!(is_right, "{unsettled:#?} {wrong:#?}");
}

/// One change after the other, each in a group by chance.
fn churn(world: &mut World, size: &Size, random: &mut Random) {
    let mean_ms = CHANGE_EVERY_MS / world.groups.len() as u64;
    let until = Instant::now() + size.churn;
    while Instant::now() < until {
        let next = Instant::now() + Duration::from_millis(random.below(2 * mean_ms));
        let at = random.below(world.groups.len() as u64) as usize;
        world.groups[at].1.change_one(random);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
