//! One group's state machine: empty, preparing (members join), completing (the leader assigns),
//! stable.

use std::collections::BTreeMap;

use super::member::Member;
use super::{Answer, Effects, GroupError, GroupLimits, Identity};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Empty,
    /// Waits until all members have joined, at most until `deadline_ms`. The first generation of a
    /// group also waits for `delay_ms`, which each new member moves on.
    Preparing {
        delay_ms: Option<u64>,
        deadline_ms: u64,
    },
    /// Waits for the leader's assignment, and then until it is kept; who has not asked for its own by `deadline_ms` is
    /// out.
    Completing {
        deadline_ms: u64,
        /// The leader has assigned, and that is being kept by this number.
        keep: Option<u64>,
    },
    /// Some may still have to ask for their assignment, until `sync_deadline_ms`.
    Stable {
        sync_deadline_ms: Option<u64>,
    },
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) limits: GroupLimits,
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: String,
    pub(super) protocol: String,
    pub(super) leader: String,
    pub(super) members: BTreeMap<String, Member>,
    /// Ids given out that have not joined yet (KIP-394), and until when they may.
    pub(super) pending: BTreeMap<String, u64>,
    /// A generation of it was given away to be kept.
    pub(super) is_kept: bool,
    /// See [`Group::members_bytes`], as it was after the last join.
    pub(super) bytes: usize,
}

impl Group {
    pub(super) fn new(limits: GroupLimits, generation: i32) -> Self {
        Self {
            limits,
            phase: Phase::Empty,
            generation,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            is_kept: false,
            bytes: 0,
        }
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Empty => None,
            Phase::Preparing {
                delay_ms,
                deadline_ms,
            } => Some(delay_ms.unwrap_or(deadline_ms).min(deadline_ms)),
            Phase::Completing { deadline_ms, .. } => Some(deadline_ms),
            Phase::Stable { sync_deadline_ms } => sync_deadline_ms,
        };
        let sessions = self.members.values().filter_map(Member::expires_ms);
        let pending = self.pending.values().copied();
        sessions.chain(pending).chain(phase).min()
    }

    pub(super) fn check_identity(&self, identity: &Identity) -> Result<(), GroupError> {
        self.check_member(&identity.member_id, identity.instance.as_deref())?;
        match identity.generation == self.generation {
            true => Ok(()),
            false => Err(GroupError::IllegalGeneration),
        }
    }

    pub(super) fn touch(&mut self, now_ms: u64, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now_ms);
        }
    }

    pub(super) fn heartbeat(&mut self, now_ms: u64, who: &Identity) -> Result<(), GroupError> {
        self.check_identity(who)?;
        self.touch(now_ms, &who.member_id);
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }

    pub(super) fn commit(&mut self, now_ms: u64, who: &Identity) -> Result<(), GroupError> {
        if who.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_identity(who)?;
        self.touch(now_ms, &who.member_id);
        match self.phase {
            Phase::Completing { .. } => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    pub(super) fn leave(
        &mut self,
        now_ms: u64,
        member_id: &str,
        instance: Option<&str>,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        if self.pending.remove(member_id).is_some() {
            self.complete_if_all_joined(now_ms, effects);
            return Ok(());
        }
        let id = match instance {
            Some(instance) if member_id.is_empty() => self
                .of_instance(instance)
                .ok_or(GroupError::UnknownMember)?,
            _ => member_id.to_owned(),
        };
        self.check_member(&id, instance)?;
        self.remove(now_ms, &id, effects);
        Ok(())
    }

    pub(super) fn remove(&mut self, now_ms: u64, id: &str, effects: &mut Effects) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        answer_gone(id, &mut member, GroupError::UnknownMember, effects);
        self.prepare(now_ms, effects);
        self.complete_if_all_joined(now_ms, effects);
    }

    pub(super) fn timeout(&mut self, now_ms: u64, effects: &mut Effects) {
        self.pending.retain(|_, until_ms| *until_ms > now_ms);
        let over = |m: &Member| m.expires_ms().is_some_and(|at| at <= now_ms);
        for id in self.ids_where(over) {
            self.remove(now_ms, &id, effects);
        }
        match self.phase {
            Phase::Preparing { deadline_ms, .. } if deadline_ms <= now_ms => {
                self.complete(now_ms, effects);
            }
            Phase::Preparing { .. } => {
                if let Phase::Preparing { delay_ms, .. } = &mut self.phase
                    && delay_ms.is_some_and(|delay_ms| delay_ms <= now_ms)
                {
                    *delay_ms = None;
                }
                self.complete_if_all_joined(now_ms, effects);
            }
            Phase::Completing { deadline_ms, .. }
            | Phase::Stable {
                sync_deadline_ms: Some(deadline_ms),
            } if deadline_ms <= now_ms => {
                self.phase = Phase::Stable {
                    sync_deadline_ms: None,
                };
                let late = self.ids_where(|m| !m.synced);
                self.prepare(now_ms, effects);
                for id in late {
                    self.remove(now_ms, &id, effects);
                }
            }
            _ => {}
        }
    }

    /// The generation as it is now is to be kept; gives the number of that.
    pub(super) fn keep(&mut self, effects: &mut Effects) -> u64 {
        self.is_kept = true;
        let number = effects.next_number();
        effects.keep = Some((number, self.generation()));
        number
    }

    /// What its members say of themselves.
    pub(super) fn members_bytes(&self) -> usize {
        let bytes = self
            .members
            .iter()
            .map(|(id, member)| id.len() + member.bytes());
        bytes.sum()
    }

    pub(super) fn ids_where(&self, condition: impl Fn(&Member) -> bool) -> Vec<String> {
        let found = self.members.iter().filter(|(_, m)| condition(m));
        found.map(|(id, _)| id.clone()).collect()
    }
}

pub(super) fn join_error(id: &str, error: GroupError) -> Answer {
    Answer::Join {
        member_id: id.to_owned(),
        result: Err(error),
    }
}

pub(super) fn fence(id: &str, member: &mut Member, effects: &mut Effects) {
    answer_gone(id, member, GroupError::FencedInstance, effects);
}

pub(super) fn answer_gone(id: &str, member: &mut Member, error: GroupError, effects: &mut Effects) {
    if let Some(token) = member.waits_join.take() {
        effects.answers.push_back((token, join_error(id, error)));
    }
    if let Some(token) = member.waits_sync.take() {
        effects.answers.push_back((token, Answer::Sync(Err(error))));
    }
}
