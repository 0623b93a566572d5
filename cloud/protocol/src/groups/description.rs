//! What a group looks like from outside, for who asks: its state, its members, and which topics they want.
//!
//! Source: Kafka's `ClassicGroup`.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};

use super::group::{Group, Phase};
use super::{Client, Groups};
use tidegate_shared::id::GroupName;

/// Where a group is. Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A group as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub state: GroupState,
    /// Empty where nobody has joined yet.
    pub protocol_type: String,
    /// How partitions are assigned; empty before the first generation.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

/// One of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance: Option<String>,
    pub client: Client,
    /// Of the group's protocol.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// Of groups whose members consume topics; others, such as those of Kafka Connect, are of their own kinds.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

impl GroupDescription {
    fn of(group: &Group) -> Self {
        let members = group.members.iter().map(|(id, member)| MemberDescription {
            member_id: id.clone(),
            instance: member.instance.clone(),
            client: member.client.clone(),
            metadata: member.metadata(&group.protocol),
            assignment: member.assignment.clone(),
        });
        Self {
            state: group.state(),
            protocol_type: group.protocol_type.clone(),
            protocol: group.protocol.clone(),
            members: members.collect(),
        }
    }

    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type == CONSUMER_PROTOCOL_TYPE
    }

    /// Whether its members want a topic. Where that is not known yet, or can't be read, consumers do.
    pub fn wants(&self, topic: &str) -> bool {
        if !self.is_of_consumers() {
            return false;
        }
        if self.members.is_empty() {
            return false;
        }
        if self.protocol.is_empty() {
            return true;
        }
        let topics = self.members.iter().map(|one| topics(&one.metadata));
        let topics: Option<Vec<_>> = topics.collect();
        topics.is_none_or(|topics| topics.iter().any(|wanted| wanted.contains(topic)))
    }
}

impl Group {
    fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing { .. } => GroupState::CompletingRebalance,
            Phase::Stable { .. } => GroupState::Stable,
        }
    }
}

impl Groups {
    /// `None` where nobody is in the group, or was promised a place in it.
    pub fn describe(&self, group: &GroupName) -> Option<GroupDescription> {
        self.groups.get(group).map(GroupDescription::of)
    }

    /// All groups in which somebody is, or was promised a place, each with its state and kind.
    pub fn list(&self) -> impl Iterator<Item = (&GroupName, GroupState, &str)> {
        let groups = self.groups.iter();
        groups.map(|(name, group)| (name, group.state(), group.protocol_type.as_str()))
    }
}

/// The topics of a consumer's subscription: after the version, an array of strings comes first in each.
fn topics(metadata: &Bytes) -> Option<BTreeSet<String>> {
    let mut rest = metadata.clone();
    rest.try_get_i16().ok()?;
    let count = rest.try_get_i32().ok()?;
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let length = usize::try_from(rest.try_get_i16().ok()?).ok()?;
        if length > rest.len() {
            return None;
        }
        let topic = rest.split_to(length);
        topics.insert(String::from_utf8(topic.to_vec()).ok()?);
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(metadata: &'static [u8]) -> GroupDescription {
        GroupDescription {
            state: GroupState::Stable,
            protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
            protocol: "range".to_owned(),
            members: vec![MemberDescription {
                member_id: "a".to_owned(),
                instance: None,
                client: Client::default(),
                metadata: Bytes::from_static(metadata),
                assignment: Bytes::new(),
            }],
        }
    }

    #[test]
    fn a_group_wants_the_topics_of_its_members() {
        let group = description(b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff");
        assert!(group.wants("a") && group.wants("bc") && !group.wants("b"));
        let of_others = GroupDescription {
            protocol_type: "connect".to_owned(),
            ..group.clone()
        };
        assert!(!of_others.wants("a"));
        let empty = GroupDescription {
            members: Vec::new(),
            ..group.clone()
        };
        assert!(!empty.wants("a"));
        let first = GroupDescription {
            protocol: String::new(),
            ..group
        };
        assert!(first.wants("b"), "it is not known yet");
    }

    #[test]
    fn a_subscription_that_cannot_be_read_is_taken_for_one_of_all() {
        for metadata in [
            &b"\0"[..],
            b"\0\x01\x7f\xff\xff\xff",
            b"\0\x01\0\0\0\x01\0\x09a",
            b"\0\x01\0\0\0\x01\xff\xffa",
            b"\0\x01\0\0\0\x01\0\x01\xff",
        ] {
            assert!(description(metadata).wants("b"), "{metadata:?}");
        }
    }
}
