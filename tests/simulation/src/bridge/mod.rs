//! The bridge in a world that fails: real senders over real journals, real hubs over the real ledger,
//! joined by links that cut, delay and keep frames back; edges and clouds that lose power, are restored
//! and cloned; topics that go and come. One run comes of one seed.
//!
//! What must hold is in [`truth`]: journalled = landed exactly once, in order, + declared gaps (+
//! declared duplicates after a fork); every fact true both ways; nothing that was told is lost.

pub mod cases;
mod cloud;
mod described;
mod faults;
mod link;
mod node;
pub mod shrink;
mod truth;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidegate_bridge_protocol::broken::{self, Rule};

use crate::random::Random;
use crate::trace::{LINES_MAX, Trace};
use crate::{Violation, violation_of};
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
    /// What happens before faults end.
    pub steps: Vec<Step>,
    /// Nodes that there are from the start, of [`EDGES`].
    pub edges: [bool; EDGES],
    /// Cases that may come.
    pub cases: Vec<Case>,
    pub broken: Option<Break>,
    /// Lines of the trace that are kept.
    pub lines_max: usize,
}

/// One step. All chance in it comes of the seed and its number: what is left out of a run changes
/// nothing of what chance says elsewhere, so that a violated run can be made small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub number: u64,
    /// Something may fail in it.
    pub fails: bool,
    /// Devices may publish in it.
    pub publishes: bool,
}

/// Edges of a run.
pub const EDGES: usize = 3;

/// Steps of a run before it comes to rest.
pub const STEPS: u64 = 500;

impl Plan {
    /// The run of a seed, with cases by chance.
    pub fn of(seed: u64, broken: Option<Break>) -> Self {
        let mut random = Random::new(!seed);
        let faults = Case::ALL.into_iter().filter(|case| case.is_fault());
        // Few that come often, or more of which each comes seldom: some things need the same twice.
        let share = *random.pick(&[15, 40]);
        let cases = faults.filter(|_| random.percent(share));
        let steps = (0..STEPS).map(|number| Step {
            number,
            fails: true,
            publishes: true,
        });
        Self {
            seed,
            steps: steps.collect(),
            edges: [true; EDGES],
            cases: cases.collect(),
            broken,
            lines_max: LINES_MAX,
        }
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
    let violation = violation_of(ran);
    let (trace, cases, tally) = world.into_outcome();
    Outcome {
        violation,
        trace,
        cases,
        tally,
    }
}
