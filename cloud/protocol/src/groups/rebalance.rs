//! Rebalancing: from the first change to the next generation.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::group::{Group, Phase};
use super::{Answer, Effects, GroupError};

/// The shortest time that a rebalance gives its members, whatever they say: a timeout of zero would
/// end each generation in the moment in which it begins.
const REBALANCE_TIMEOUT_MIN_MS: u64 = 1_000;

impl Group {
    /// Begins a rebalance, unless one has begun.
    pub(super) fn prepare(&mut self, now_ms: u64, effects: &mut Effects) {
        let delay_ms = match self.phase {
            Phase::Preparing { .. } => return,
            Phase::Empty => Some(now_ms + self.limits.initial_rebalance_delay_ms),
            Phase::Completing { .. } | Phase::Stable { .. } => None,
        };
        for member in self.members.values_mut() {
            member.synced = false;
            // It has come, and is told of the next generation.
            member.replaces = None;
            if let Some(token) = member.waits_sync.take() {
                member.touch(now_ms);
                let answer = Answer::Sync(Err(GroupError::RebalanceInProgress));
                effects.answers.push_back((token, answer));
            }
        }
        self.phase = Phase::Preparing {
            delay_ms,
            deadline_ms: now_ms + self.rebalance_timeout_ms(),
        };
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout_ms);
        timeouts
            .max()
            .unwrap_or_default()
            .max(REBALANCE_TIMEOUT_MIN_MS)
    }

    pub(super) fn complete_if_all_joined(&mut self, now_ms: u64, effects: &mut Effects) {
        let Phase::Preparing { delay_ms, .. } = self.phase else {
            return;
        };
        let delayed = delay_ms.is_some_and(|delay_ms| delay_ms > now_ms);
        let all = self.members.values().all(|m| m.waits_join.is_some());
        if all && !delayed && self.pending.is_empty() {
            self.complete(now_ms, effects);
        }
    }

    /// All who come have come: the next generation begins.
    pub(super) fn complete(&mut self, now_ms: u64, effects: &mut Effects) {
        // A static member that is away keeps its place until its session ends.
        self.members
            .retain(|_, m| m.waits_join.is_some() || m.instance.is_some());
        if !self.members.values().any(|m| m.waits_join.is_some()) && !self.members.is_empty() {
            // Only absent static members: nobody could lead.
            self.phase = Phase::Preparing {
                delay_ms: None,
                deadline_ms: now_ms + self.rebalance_timeout_ms(),
            };
            return;
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.leader.clear();
            return;
        }
        self.protocol = self.choose_protocol();
        let leads = self.members.get(&self.leader);
        if leads.is_none_or(|member| member.waits_join.is_none()) {
            let mut present = self.members.iter().filter(|(_, m)| m.waits_join.is_some());
            self.leader = present.next().map(|(id, _)| id.clone()).unwrap_or_default();
        }
        let deadline_ms = now_ms + self.rebalance_timeout_ms();
        self.phase = Phase::Completing {
            deadline_ms,
            keep: None,
        };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id, self.leader == id, false);
            let member = self.members.get_mut(&id).expect("just listed");
            member.assignment = Bytes::new();
            member.synced = false;
            if let Some(token) = member.waits_join.take() {
                member.touch(now_ms);
                let (member_id, result) = (id, Ok(joined));
                effects
                    .answers
                    .push_back((token, Answer::Join { member_id, result }));
            }
        }
    }

    /// Each member votes for the first of its protocols that all can do; ties go by name.
    fn choose_protocol(&self) -> String {
        let all_can = |name: &String| self.members.values().all(|m| m.supports(name));
        let mut votes: BTreeMap<&String, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| all_can(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let best = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        best.map(|(name, _)| name.clone()).unwrap_or_default()
    }
}
