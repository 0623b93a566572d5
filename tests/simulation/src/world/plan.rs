//! Where each life of the broker ends: at a named point, the so-manieth time that it is reached, or at
//! a step where the harness lost its patience.

use tidegate_edge_journal::media::Survival;

use super::World;
use crate::Stop;
use crate::power::CrashPoint;

/// A life is at most so many steps long.
const LIFE_STEPS_MAX: u64 = 600;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    PowerCut(Survival),
    /// The process dies: what it wrote is seen by the next one, synced or not, and a later power cut
    /// may take it still.
    Kill,
}

impl World {
    /// The power may go while the journal is opened.
    pub(super) fn arm_opening(&mut self) {
        if self.random.percent(30) {
            let point = *self
                .random
                .pick(&[CrashPoint::OpenRewrite, CrashPoint::OpenRedbWrites]);
            self.arm(point);
        }
    }

    pub(super) fn arm_life(&mut self) {
        self.cut_at = self.step + self.random.between(50, LIFE_STEPS_MAX);
        let points = CrashPoint::ALL.into_iter();
        let points: Vec<_> = points.filter(|point| !point.is_of_opening()).collect();
        let point = *self.random.pick(&points);
        if point != CrashPoint::Anywhere {
            self.arm(point);
        }
    }

    fn arm(&mut self, point: CrashPoint) {
        let times = self.random.between(1, point.times_max() + 1);
        self.power.arm(point, times);
        self.note(format!("armed: {} after {times}", point.name()));
    }

    fn random_end(&mut self) -> End {
        match self.random.below(10) {
            0..5 => End::PowerCut(Survival::Random),
            5..7 => End::PowerCut(Survival::Nothing),
            7 => End::PowerCut(Survival::Everything),
            _ => End::Kill,
        }
    }

    pub(super) fn end_life(&mut self) -> Result<(), Stop> {
        let end = self.random_end();
        self.end_life_by(end)
    }

    /// Whatever was on the network arrives or not; what was not synced survives or not.
    pub(super) fn end_life_by(&mut self, end: End) -> Result<(), Stop> {
        for client in 0..self.clients.len() {
            self.hear_last(client)?;
        }
        self.half_open.clear();
        if let Some(broker) = &self.broker {
            self.audit.hear(broker.store());
            let stats = broker.store().journal().stats();
            self.counts.commits += stats.commits;
            self.counts.checkpoints += stats.checkpoints;
            self.counts.refused += broker.store().refused();
        }
        self.leave_medium(end);
        self.open()
    }

    /// The power goes while the journal is opened.
    pub(super) fn end_opening(&mut self) {
        let end = self.random_end();
        self.leave_medium(end);
    }

    fn leave_medium(&mut self, end: End) {
        self.note(format!("it ends by {end:?}"));
        // Nothing is said goodbye to: what is dropped here writes nothing any more.
        self.power.lose();
        self.broker = None;
        if let End::PowerCut(survival) = end {
            self.inner.cut_power(survival);
            self.counts.power_cuts += 1;
        }
        self.power.disarm();
        self.power.is_back();
    }
}
