//! What the leaders of consumer groups have assigned, so that members that come after a restart are known. Who is in a group
//! at the moment, and who still has to come, only the coordinator knows.

use std::collections::BTreeMap;

use tidegate_shared::id::GroupName;

use super::command::KeepGeneration;
use super::{Effect, Ledger};
use crate::groups::Generation;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Generations {
    pub(super) of_groups: BTreeMap<GroupName, Generation>,
    /// The newest number of any group that is over: one that begins anew goes on from there.
    pub(super) floor: i32,
}

impl Ledger {
    /// Of each group that is not over.
    pub fn generations(&self) -> impl Iterator<Item = (&GroupName, &Generation)> {
        self.generations.of_groups.iter()
    }

    /// No group that begins now may have a generation up to this number.
    pub fn generation_floor(&self) -> i32 {
        self.generations.floor
    }

    pub(super) fn keep_generation(&mut self, keep: KeepGeneration) -> Effect {
        let KeepGeneration { group, generation } = keep;
        let generations = &mut self.generations;
        if generation.members.is_empty() {
            generations.floor = generations.floor.max(generation.number);
            generations.of_groups.remove(&group);
        } else {
            generations.of_groups.insert(group, generation);
        }
        Effect::GenerationKept
    }
}
