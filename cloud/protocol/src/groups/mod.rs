//! The classic consumer group coordinator as a value: who is in a group, which generation it is in,
//! and what its leader assigned.
//!
//! `handle_*(now, …)` takes requests, `poll_answer` gives the answers that were waited for (by the
//! token that came with the request), `poll_timeout` says when `handle_timeout` is due. It neither
//! reads a clock nor makes ids, and it does not keep offsets: those are the ledger's. Nobody is told of an assignment
//! before `poll_keep` has given the generation away to be kept, and `handle_kept` has said that it is.
//!
//! Sources: Kafka's group protocol (`JoinGroup` … `LeaveGroup`), KIP-134 (initial delay), KIP-345
//! (static members), KIP-394 (member id required).

mod description;
mod error;
mod generation;
mod group;
mod join;
mod member;
mod rebalance;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tidegate_shared::id::GroupName;

pub use description::{CONSUMER_PROTOCOL_TYPE, GroupDescription, GroupState, MemberDescription};
pub use error::GroupError;
pub use generation::{Generation, GenerationMember};
use group::Group;
pub use member::{Client, Protocol};

/// What the coordinator allows.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// How long a group that was empty waits for more members before its first generation: without
    /// it, ten consumers that start together make ten rebalances. Kafka's default is 3000; a cloud
    /// that starts in a moment is started and tried by hand more often, so ours is shorter.
    pub initial_rebalance_delay_ms: u64,
    /// Kafka's `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: u64,
    /// Kafka's `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: u64,
    pub members_max: usize,
    pub groups_max: usize,
    /// What the members of one group say of themselves, and those of all groups together.
    pub group_bytes_max: usize,
    pub groups_bytes_max: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 500,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            members_max: 1_000,
            groups_max: 10_000,
            group_bytes_max: 4 << 20,
            groups_bytes_max: 64 << 20,
        }
    }
}

/// Names a request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A member that wants in, or that joins again.
#[derive(Clone, Debug)]
pub struct Join {
    pub group: GroupName,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// The id that it gets then; unique, from outside.
    pub new_member_id: String,
    pub instance: Option<String>,
    pub client: Client,
    /// The client can be told to come back with an id (JoinGroup 4 and later).
    pub member_id_required: bool,
    /// The client understands "you lead, but keep the assignment" (JoinGroup 9 and later).
    pub can_skip_assignment: bool,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
}

impl Join {
    /// What the group has to remember of it.
    pub(super) fn bytes(&self) -> usize {
        let id = self.member_id.len().max(self.new_member_id.len());
        id + member::bytes_of(self.instance.as_ref(), &self.client, &self.protocols)
    }
}

/// A member's place in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// For the leader only: id, instance, metadata.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

/// Who asks, within a group.
#[derive(Clone, Debug)]
pub struct Identity {
    pub group: GroupName,
    pub member_id: String,
    pub instance: Option<String>,
    pub generation: i32,
}

/// A member asks for its assignment; the leader brings everybody's.
#[derive(Clone, Debug)]
pub struct Sync {
    pub identity: Identity,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignments: Vec<(String, Bytes)>,
}

/// A member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// The answer to a request that waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Join {
        /// The member's id, also with an error (it is how a new member learns it).
        member_id: String,
        result: Result<Joined, GroupError>,
    },
    Sync(Result<Synced, GroupError>),
}

/// What is ready to be taken.
#[derive(Debug, Default)]
struct Effects {
    answers: VecDeque<(Token, Answer)>,
    /// A group has a new generation to be kept, of this number.
    keep: Option<(u64, Generation)>,
    next_keep: u64,
}

impl Effects {
    fn next_number(&mut self) -> u64 {
        self.next_keep += 1;
        self.next_keep
    }
}

/// A generation to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    pub number: u64,
    pub group: GroupName,
    pub generation: Generation,
}

/// All groups of this coordinator.
#[derive(Debug)]
pub struct Groups {
    limits: GroupLimits,
    groups: BTreeMap<GroupName, Group>,
    /// When each group next has something to do by itself.
    deadlines: BTreeSet<(u64, GroupName)>,
    effects: Effects,
    keeps: BTreeMap<GroupName, (u64, Generation)>,
    /// Of all groups' members: subscriptions and names.
    bytes: usize,
    /// The newest generation of any group that was forgotten: one that comes again under its name
    /// goes on from there, so that a generation means one thing for as long as the broker runs.
    generation_floor: i32,
}

impl Groups {
    pub fn new(limits: GroupLimits) -> Self {
        Self {
            limits,
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            effects: Effects::default(),
            keeps: BTreeMap::new(),
            bytes: 0,
            generation_floor: 0,
        }
    }

    /// Answered through [`Groups::poll_answer`].
    pub fn handle_join(&mut self, now_ms: u64, token: Token, join: Join) {
        if let Err(error) = self.check_join(&join) {
            let member_id = join.member_id;
            let result = Err(error);
            self.effects
                .answers
                .push_back((token, Answer::Join { member_id, result }));
            return;
        }
        let name = join.group.clone();
        self.groups
            .entry(name.clone())
            .or_insert_with(|| Group::new(self.limits, self.generation_floor));
        let bytes = self.bytes;
        let changed = self.with(&name, |group, effects| {
            let before = group.bytes;
            group.join(now_ms, token, join, effects);
            group.bytes = group.members_bytes();
            (before, group.bytes)
        });
        if let Some((before, after)) = changed
            && self.groups.contains_key(&name)
        {
            self.bytes = (bytes + after).saturating_sub(before);
        }
    }

    fn check_join(&self, join: &Join) -> Result<(), GroupError> {
        let limits = self.limits.session_timeout_min_ms..=self.limits.session_timeout_max_ms;
        if !limits.contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let known = self.groups.contains_key(&join.group);
        if !known && !join.member_id.is_empty() {
            return Err(GroupError::UnknownMember);
        }
        if !known && self.groups.len() >= self.limits.groups_max {
            return Err(GroupError::TooManyGroups);
        }
        if self.bytes + join.bytes() > self.limits.groups_bytes_max {
            return Err(GroupError::TooManyGroups);
        }
        Ok(())
    }

    /// Answered through [`Groups::poll_answer`].
    pub fn handle_sync(&mut self, now_ms: u64, token: Token, sync: Sync) {
        let name = sync.identity.group.clone();
        if !self.groups.contains_key(&name) {
            let unknown = Answer::Sync(Err(GroupError::UnknownMember));
            self.effects.answers.push_back((token, unknown));
            return;
        }
        self.with(&name, |group, effects| {
            group.sync(now_ms, token, sync, effects)
        });
    }

    pub fn handle_heartbeat(&mut self, now_ms: u64, identity: &Identity) -> Result<(), GroupError> {
        self.with(&identity.group, |group, _| {
            group.heartbeat(now_ms, identity)
        })
        .unwrap_or(Err(GroupError::UnknownMember))
    }

    /// A member leaves; a static one may be named by its instance alone (empty member id).
    pub fn handle_leave(
        &mut self,
        now_ms: u64,
        group: &GroupName,
        member_id: &str,
        instance: Option<&str>,
    ) -> Result<(), GroupError> {
        self.with(group, |group, effects| {
            group.leave(now_ms, member_id, instance, effects)
        })
        .unwrap_or(Err(GroupError::UnknownMember))
    }

    /// Whether `identity` may commit offsets now. A generation below 0 is a client that assigns its
    /// partitions itself; it may, while the group has no members.
    pub fn check_commit(&mut self, now_ms: u64, identity: &Identity) -> Result<(), GroupError> {
        let known = self.with(&identity.group, |group, _| group.commit(now_ms, identity));
        known.unwrap_or(match identity.generation {
            ..0 => Ok(()),
            _ => Err(GroupError::IllegalGeneration),
        })
    }

    /// Does what is due: sessions end, rebalances go on without those who did not come.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        while let Some((deadline, name)) = self.deadlines.first().cloned() {
            if deadline > now_ms {
                return;
            }
            self.with(&name, |group, effects| group.timeout(now_ms, effects));
        }
    }

    /// When `handle_timeout` is next due.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub fn poll_answer(&mut self) -> Option<(Token, Answer)> {
        self.effects.answers.pop_front()
    }

    /// Whether anybody is in the group.
    pub fn has_members(&self, group: &GroupName) -> bool {
        self.groups.contains_key(group)
    }

    /// Groups with members.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Runs `work` on a group, then keeps its deadline, or forgets the group where nobody is left.
    fn with<T>(
        &mut self,
        name: &GroupName,
        work: impl FnOnce(&mut Group, &mut Effects) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(name)?;
        if let Some(deadline) = group.next_deadline_ms() {
            self.deadlines.remove(&(deadline, name.clone()));
        }
        let result = work(group, &mut self.effects);
        if let Some(keep) = self.effects.keep.take() {
            // A newer one takes the place of one that still waits.
            self.keeps.insert(name.clone(), keep);
        }
        if let Some(deadline) = group.next_deadline_ms() {
            self.deadlines.insert((deadline, name.clone()));
        } else if group.is_vacant() {
            self.generation_floor = self.generation_floor.max(group.generation);
            self.bytes = self.bytes.saturating_sub(group.bytes);
            if group.is_kept {
                let over = Generation {
                    number: group.generation,
                    ..Generation::default()
                };
                let number = self.effects.next_number();
                self.keeps.insert(name.clone(), (number, over));
            }
            self.groups.remove(name);
        }
        Some(result)
    }
}
