//! A group's generation as it outlives the broker: what its leader assigned, and to whom. It is kept before anybody is told
//! of an assignment, so that a member that comes after a restart is known, and goes on with what it has. Kafka keeps the
//! same in its `__consumer_offsets`.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidegate_shared::id::GroupName;

use super::group::{Group, Phase};
use super::member::{Client, Member, Protocol, bytes_of};
use super::{GroupError, GroupLimits, Groups, Keep};

/// See the module. Without members it says that the group is over, and how far its numbers came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    pub number: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub members: BTreeMap<String, GenerationMember>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerationMember {
    pub instance: Option<String>,
    pub client: Client,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
}

impl Generation {
    /// As many bytes as it takes to keep it, or a few more.
    pub fn bytes(&self) -> usize {
        let members = self.members.iter().map(|(id, member)| {
            let said = bytes_of(member.instance.as_ref(), &member.client, &member.protocols);
            let lengths = member.protocols.len() * PROTOCOL_BYTES + MEMBER_BYTES;
            id.len() + said + member.assignment.len() + lengths
        });
        let texts = self.protocol_type.len() + self.protocol.len() + self.leader.len();
        texts + members.sum::<usize>() + GENERATION_BYTES
    }
}

/// Beside texts: lengths, numbers, counts.
const MEMBER_BYTES: usize = 4 + 5 + 4 + 4 + 8 + 8 + 4 + 4;
const PROTOCOL_BYTES: usize = 4 + 4;
const GENERATION_BYTES: usize = 4 + 4 + 4 + 4 + 4;

impl Group {
    pub(super) fn generation(&self) -> Generation {
        let members = self.members.iter().map(|(id, member)| {
            let kept = GenerationMember {
                instance: member.instance.clone(),
                client: member.client.clone(),
                session_timeout_ms: member.session_timeout_ms,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                protocols: member.protocols.clone(),
                assignment: member.assignment.clone(),
            };
            (id.clone(), kept)
        });
        Generation {
            number: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: members.collect(),
        }
    }

    /// All are there, and have their session's time to show it.
    fn of(limits: GroupLimits, now_ms: u64, generation: &Generation) -> Self {
        let members = generation.members.iter().map(|(id, kept)| {
            let mut member = Member {
                instance: kept.instance.clone(),
                client: kept.client.clone(),
                session_timeout_ms: kept.session_timeout_ms,
                rebalance_timeout_ms: kept.rebalance_timeout_ms,
                protocols: kept.protocols.clone(),
                assignment: kept.assignment.clone(),
                session_deadline_ms: 0,
                waits_join: None,
                waits_sync: None,
                synced: true,
                replaces: None,
            };
            member.touch(now_ms);
            (id.clone(), member)
        });
        let mut group = Self {
            phase: Phase::Stable {
                sync_deadline_ms: None,
            },
            protocol_type: generation.protocol_type.clone(),
            protocol: generation.protocol.clone(),
            leader: generation.leader.clone(),
            members: members.collect(),
            is_kept: true,
            ..Self::new(limits, generation.number)
        };
        group.bytes = group.members_bytes();
        group
    }
}

impl Groups {
    /// Goes on with what was kept: the generations of groups that are not over, and the newest number of one that is.
    pub fn restore<'a>(
        limits: GroupLimits,
        now_ms: u64,
        generation_floor: i32,
        kept: impl Iterator<Item = (&'a GroupName, &'a Generation)>,
    ) -> Self {
        let mut groups = Self::new(limits);
        groups.generation_floor = generation_floor;
        for (name, generation) in kept {
            let group = Group::of(limits, now_ms, generation);
            if let Some(deadline) = group.next_deadline_ms() {
                groups.deadlines.insert((deadline, name.clone()));
                groups.bytes += group.bytes;
                groups.groups.insert(name.clone(), group);
            }
        }
        groups
    }

    /// Whether [`Groups::poll_keep`] has anything.
    pub fn has_to_keep(&self) -> bool {
        !self.keeps.is_empty()
    }

    /// What is to be kept next. [`Groups::handle_kept`] is told once it is, or cannot be; in the order in which they were
    /// taken. Of each group one waits at most.
    pub fn poll_keep(&mut self) -> Option<Keep> {
        let (group, (number, generation)) = self.keeps.pop_first()?;
        Some(Keep {
            number,
            group,
            generation,
        })
    }

    /// A generation is durable, or will not be: then its members are told so, and come again.
    pub fn handle_kept(
        &mut self,
        now_ms: u64,
        group: &GroupName,
        number: u64,
        result: Result<(), GroupError>,
    ) {
        self.with(group, |group, effects| {
            group.tell_replacing(now_ms, number, result, effects);
            match (group.phase, result) {
                (
                    Phase::Completing {
                        keep: Some(kept), ..
                    },
                    Ok(()),
                ) if kept == number => {
                    group.begin_stable(now_ms, effects);
                }
                (
                    Phase::Completing {
                        keep: Some(kept), ..
                    },
                    Err(error),
                ) if kept == number => {
                    group.assign_anew(now_ms, error, effects);
                }
                _ => {}
            }
        });
    }
}
