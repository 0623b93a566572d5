//! The bridge in a world that fails: real senders over real journals, real hubs over the real ledger,
//! joined by links that cut, delay and keep frames back; edges and clouds that lose power, are restored
//! and cloned; topics that go and come. One run comes of one seed.
//!
//! What must hold is in [`truth`]: journalled = landed exactly once, in order, + declared gaps (+
//! declared duplicates after a fork); every fact true both ways; nothing that was told is lost.

pub mod cases;
mod cloud;
mod faults;
mod link;
mod node;
mod truth;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidegate_bridge_protocol::broken::{self, Rule};

use crate::random::Random;
use crate::trace::{LINES_MAX, Trace};
use crate::{Stop, Violation, panic_message};
use cases::{Case, CaseCounts};
pub use world::Tally;
use world::World;

/// What is left out of the production code in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    Bridge(Rule),
    /// A log file of the journal is used again before the checkpoint that covers it.
    RecycleEarly,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub violation: Option<Violation>,
    pub trace: Trace,
    pub cases: CaseCounts,
    pub tally: Tally,
}

/// What a run is made of: the same gives the same run, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Steps before faults end.
    pub steps: u64,
    /// Cases that may come.
    pub cases: Vec<Case>,
    pub broken: Option<Break>,
    /// Lines of the trace that are kept.
    pub lines_max: usize,
}

/// Steps of a run before it comes to rest.
pub const STEPS: u64 = 500;

impl Plan {
    /// The run of a seed, with cases by chance.
    pub fn of(seed: u64, broken: Option<Break>) -> Self {
        let mut random = Random::new(!seed);
        let cases = Case::ALL.into_iter().filter(|_| random.percent(40));
        Self {
            seed,
            steps: STEPS,
            cases: cases.collect(),
            broken,
            lines_max: LINES_MAX,
        }
    }

    /// A smaller run that is violated as this one is: fewer steps, fewer cases.
    pub fn shrunk(self) -> Self {
        let mut smallest = self;
        loop {
            let smaller = smallest.smaller();
            let found = smaller
                .into_iter()
                .find(|plan| run(plan).violation.is_some());
            match found {
                Some(plan) => smallest = plan,
                None => return smallest,
            }
        }
    }

    fn smaller(&self) -> Vec<Self> {
        let steps = [self.steps / 2, self.steps * 3 / 4, self.steps * 9 / 10];
        let steps = steps.into_iter().chain(self.steps.checked_sub(1));
        let shorter = steps.filter(|steps| *steps < self.steps).map(|steps| Self {
            steps,
            ..self.clone()
        });
        let fewer = (0..self.cases.len()).map(|at| {
            let mut cases = self.cases.clone();
            cases.remove(at);
            Self {
                cases,
                ..self.clone()
            }
        });
        shorter.chain(fewer).collect()
    }
}

/// One run, and a time without faults. A panic of production code is a violation like any other.
pub fn run(plan: &Plan) -> Outcome {
    let rule = match plan.broken {
        Some(Break::Bridge(rule)) => Some(rule),
        _ => None,
    };
    broken::break_rule(rule);
    let mut world = World::new(plan);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    broken::break_rule(None);
    let violation = match ran {
        Ok(Ok(())) => None,
        Ok(Err(Stop::Violated(violation))) => Some(violation),
        Ok(Err(Stop::PowerGone)) => None,
        Err(panic) => Some(Violation {
            invariant: "nothing panics",
            what: panic_message(&*panic),
        }),
    };
    let (trace, cases, tally) = world.into_outcome();
    Outcome {
        violation,
        trace,
        cases,
        tally,
    }
}
