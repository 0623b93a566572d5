//! The promises of QoS 1 and 2 over connections that break and processes that die at any point;
//! and that each of the waits is needed for them.

use std::hash::{BuildHasher, RandomState};

use proptest::{
    collection::vec,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

use super::{
    model::{Model, step},
    server::Wait,
};
use crate::mqtt::codec::Version;

/// Runs of random steps; the shortest that fails, if one does.
fn run(cases: u32, seed: u64, broken: Option<Wait>) -> Result<(), String> {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let versions = select(vec![Version::V3_1_1, Version::V5]);
    let runs = (versions, vec(step(), 0..120));
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner.run(&runs, |(version, steps)| {
        let outcome = Model::new(version, broken).run(steps);
        outcome.map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, steps)) => Err(format!("seed {seed}: {reason}: {steps:?}")),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// A number of the environment, for longer runs and for a run again.
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.3.3-6], [MQTT-4.3.3-10], [MQTT-4.4.0-1],
/// [MQTT-4.6.0-1], [MQTT-4.6.0-5]
#[test]
fn qos_2_is_exactly_once_and_qos_1_at_least_once_in_order() {
    let seed = from_environment("TIDEGATE_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let cases = from_environment("TIDEGATE_CASES").unwrap_or(4_000);
    println!("seed {seed}");
    let outcome = run(u32::try_from(cases).unwrap(), seed, None);
    assert_eq!(outcome, Ok(()));
}

/// Each wait is left out once; the promises must not survive it.
#[test]
fn no_wait_can_be_left_out() {
    for wait in [
        Wait::Accepted,
        Wait::Committed,
        Wait::Released,
        Wait::Assigned,
        Wait::Received,
    ] {
        let violated = run(20_000, 1, Some(wait));
        assert!(violated.is_err(), "nothing broke without {wait:?}");
    }
}
