//! Runs of the real thing in worlds that fail, each of one seed. [`bridge`] is the way from edge to
//! cloud. All else here is power cuts against the real journal and the real client sessions: MQTT
//! clients over a network that breaks at any byte, a small broker that keeps the node's rules, and a
//! medium that keeps, loses or tears what was not synced when the power goes.
//!
//! What must hold is in [`promises`] (what clients were told) and [`audit`] (what the journal holds).
//! It knows nothing of wills, retained messages, full disks or the uplink.

pub mod audit;
pub mod bridge;
pub mod broker;
pub mod client;
pub mod medium;
pub mod power;
pub mod promises;
pub mod random;
pub mod rule;
pub mod trace;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use power::{Hits, Power};
use rule::Rule;
use trace::Trace;
use world::{Counts, World};

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What should hold.
    pub invariant: &'static str,
    pub what: String,
}

/// Why a run does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The journal is opened again.
    PowerGone,
    Violated(Violation),
}

pub(crate) fn violated<T>(invariant: &'static str, what: String) -> Result<T, Stop> {
    Err(Stop::Violated(Violation { invariant, what }))
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub violation: Option<Violation>,
    pub trace: Trace,
    pub hits: Hits,
    pub counts: Counts,
}

/// One run. A panic of production code is a violation like any other.
pub fn run(seed: u64, broken: Option<Rule>) -> Outcome {
    let power = Power::default();
    let mut world = World::new(seed, broken, power.clone());
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = violation_of(ran);
    let (trace, counts) = world.into_outcome();
    Outcome {
        violation,
        trace,
        counts,
        hits: power.hits(),
    }
}

/// What a run that ended so has violated.
pub(crate) fn violation_of(ran: std::thread::Result<Result<(), Stop>>) -> Option<Violation> {
    match ran {
        Ok(Ok(())) => None,
        Ok(Err(Stop::Violated(violation))) => Some(violation),
        Ok(Err(Stop::PowerGone)) => Some(Violation {
            invariant: "the power comes back",
            what: "a run ended without it".to_owned(),
        }),
        Err(panic) => Some(Violation {
            invariant: "nothing panics",
            what: panic_message(&*panic),
        }),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    text.or(owned).unwrap_or("a panic").to_owned()
}
