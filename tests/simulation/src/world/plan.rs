//! Where each life of the broker ends: at a named point, the so-manieth time that it is reached, or at
//! a step where the harness lost its patience.

use tidegate_edge_journal::media::Survival;

use super::World;
use crate::Stop;
use crate::power::CrashPoint;

/// A life is at most so many steps long.
const LIFE_STEPS_MAX: u64 = 600;

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

    pub(super) fn survival(&mut self) -> Survival {
        match self.random.below(10) {
            0..6 => Survival::Random,
            6..9 => Survival::Nothing,
            _ => Survival::Everything,
        }
    }

    pub(super) fn cut_power(&mut self) -> Result<(), Stop> {
        let survival = self.survival();
        self.lose_power(survival)
    }

    /// Whatever was on the network arrives or not; what was not synced survives or not.
    pub(super) fn lose_power(&mut self, survival: Survival) -> Result<(), Stop> {
        self.note(format!("the power goes: {survival:?}"));
        for client in 0..self.clients.len() {
            self.hear_last(client)?;
        }
        self.half_open.clear();
        self.inner.cut_power(survival);
        if let Some(broker) = self.broker.take() {
            self.audit.hear(broker.store());
            let stats = broker.store().journal().stats();
            self.counts.commits += stats.commits;
            self.counts.checkpoints += stats.checkpoints;
        }
        self.counts.power_cuts += 1;
        self.power.disarm();
        self.power.is_back();
        self.open()
    }
}
