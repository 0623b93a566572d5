//! A violated run made small: steps, nodes, faults and publishes are left out as long as the same
//! invariant is violated. Chance is the same for what is left, see [`Step`](super::Step).

use super::{EDGES, Plan, Step, run};

/// Runs that may be spent on it.
const RUNS_MAX: u32 = 600;

/// Lines of a small run's trace: all of them, but for one that did not get small.
pub const SHRUNK_LINES_MAX: usize = 400;

#[derive(Debug)]
struct Shrinker {
    smallest: Plan,
    invariant: &'static str,
    runs_left: u32,
}

/// The smallest run found that violates what this one violates; the same where it violates nothing.
pub fn shrunk(plan: Plan) -> Plan {
    let Some(violation) = run(&plan).violation else {
        return plan;
    };
    let mut shrinker = Shrinker {
        smallest: plan,
        invariant: violation.invariant,
        runs_left: RUNS_MAX,
    };
    shrinker.leave_out_nodes();
    shrinker.leave_out_steps();
    shrinker.quieten(|step| step.fails, |step| step.fails = false);
    shrinker.quieten(|step| step.publishes, |step| step.publishes = false);
    shrinker.leave_out_steps();
    shrinker.smallest.lines_max = SHRUNK_LINES_MAX;
    shrinker.smallest
}

impl Shrinker {
    /// Whether that run, too, violates it: then it is the smallest.
    fn takes(&mut self, smaller: Plan) -> bool {
        if self.runs_left == 0 {
            return false;
        }
        self.runs_left -= 1;
        let violation = run(&smaller).violation;
        let takes = violation.is_some_and(|violation| violation.invariant == self.invariant);
        if takes {
            self.smallest = smaller;
        }
        takes
    }

    fn leave_out_nodes(&mut self) {
        for node in 0..EDGES {
            let mut smaller = self.smallest.clone();
            smaller.edges[node] = false;
            self.takes(smaller);
        }
    }

    /// Leaves out halves, then quarters, and so on; the end first, since most of it is aftermath.
    fn leave_out_steps(&mut self) {
        let mut length = self.smallest.steps.len();
        while length > 0 {
            let mut end = self.smallest.steps.len();
            while end > 0 {
                let from = end.saturating_sub(length);
                let mut smaller = self.smallest.clone();
                smaller.steps.drain(from..end);
                self.takes(smaller);
                end = from;
            }
            length /= 2;
        }
    }

    /// Leaves one thing out of steps that have it: of all, of halves, and so on.
    fn quieten(&mut self, has: impl Fn(&Step) -> bool, leave_out: impl Fn(&mut Step)) {
        let noisy = |steps: &[Step]| -> Vec<usize> {
            let numbered = steps.iter().enumerate();
            let noisy = numbered.filter(|(_, step)| has(step));
            noisy.map(|(at, _)| at).collect()
        };
        let mut length = noisy(&self.smallest.steps).len();
        while length > 0 {
            for part in noisy(&self.smallest.steps).chunks(length) {
                let mut smaller = self.smallest.clone();
                part.iter()
                    .for_each(|at| leave_out(&mut smaller.steps[*at]));
                self.takes(smaller);
            }
            length /= 2;
        }
    }
}
