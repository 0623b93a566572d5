//! Joining a group: new members, members that come again, static members that start again.

use bytes::Bytes;

use super::group::{Group, Phase, fence, join_error};
use super::member::Member;
use super::{Answer, Effects, GroupError, Join, Joined, Token};

impl Group {
    pub(super) fn join(&mut self, now_ms: u64, token: Token, join: Join, effects: &mut Effects) {
        let mut member_id = join.member_id.clone();
        if let Err(error) = self.try_join(now_ms, token, join, &mut member_id, effects) {
            let result = Err(error);
            effects
                .answers
                .push_back((token, Answer::Join { member_id, result }));
        }
    }

    fn try_join(
        &mut self,
        now_ms: u64,
        token: Token,
        join: Join,
        member_id: &mut String,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        self.check_protocols(&join)?;
        let by_instance = join.instance.as_deref().and_then(|i| self.of_instance(i));
        if member_id.is_empty() {
            if let Some(replaced) = by_instance {
                self.replace_static(now_ms, token, &replaced, join, effects);
                return Ok(());
            }
            self.check_room(&join)?;
            member_id.clone_from(&join.new_member_id);
            if join.instance.is_none() && join.member_id_required {
                let until_ms = now_ms + join.session_timeout_ms;
                self.pending.insert(member_id.clone(), until_ms);
                return Err(GroupError::MemberIdRequired);
            }
            self.admit(now_ms, token, member_id.clone(), join, effects);
            return Ok(());
        }
        if self.pending.contains_key(member_id.as_str()) {
            self.check_bytes(self.bytes, &join)?;
            self.pending.remove(member_id.as_str());
            self.admit(now_ms, token, member_id.clone(), join, effects);
            return Ok(());
        }
        self.check_member(member_id, join.instance.as_deref())?;
        self.check_bytes(0, &join)?;
        self.rejoin(now_ms, token, member_id, join, effects);
        Ok(())
    }

    fn check_protocols(&self, join: &Join) -> Result<(), GroupError> {
        let others = |id: &String| join.member_id != *id;
        let common = |name: &String| {
            let mut members = self.members.iter().filter(|(id, _)| others(id));
            members.all(|(_, member)| member.supports(name))
        };
        let same_type = self.members.is_empty() || join.protocol_type == self.protocol_type;
        let any = join.protocols.iter().any(|(name, _)| common(name));
        match same_type && any && !join.protocol_type.is_empty() {
            true => Ok(()),
            false => Err(GroupError::InconsistentProtocol),
        }
    }

    fn check_room(&self, join: &Join) -> Result<(), GroupError> {
        match self.members.len() + self.pending.len() < self.limits.members_max {
            true => self.check_bytes(self.bytes, join),
            false => Err(GroupError::GroupFull),
        }
    }

    /// Whether there is room for what the member says of itself beside what is `taken`.
    fn check_bytes(&self, taken: usize, join: &Join) -> Result<(), GroupError> {
        match taken + join.bytes() <= self.limits.group_bytes_max {
            true => Ok(()),
            false => Err(GroupError::GroupFull),
        }
    }

    pub(super) fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            let known = self
                .of_instance(instance)
                .ok_or(GroupError::UnknownMember)?;
            if known != id {
                return Err(GroupError::FencedInstance);
            }
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(GroupError::UnknownMember),
        }
    }

    pub(super) fn of_instance(&self, instance: &str) -> Option<String> {
        let found = self
            .members
            .iter()
            .find(|(_, member)| member.instance.as_deref() == Some(instance));
        found.map(|(id, _)| id.clone())
    }

    /// A new member.
    fn admit(&mut self, now_ms: u64, token: Token, id: String, join: Join, effects: &mut Effects) {
        self.protocol_type.clone_from(&join.protocol_type);
        let mut member = Member {
            instance: join.instance,
            client: join.client,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            session_deadline_ms: 0,
            waits_join: Some(token),
            waits_sync: None,
            synced: false,
            replaces: None,
        };
        member.touch(now_ms);
        self.members.insert(id, member);
        self.prepare(now_ms, effects);
        let delay = self.limits.initial_rebalance_delay_ms;
        if let Phase::Preparing {
            delay_ms: Some(delay_ms),
            ..
        } = &mut self.phase
        {
            *delay_ms = now_ms + delay;
        }
        self.complete_if_all_joined(now_ms, effects);
    }

    /// A member that the group knows joins again.
    fn rejoin(&mut self, now_ms: u64, token: Token, id: &str, join: Join, effects: &mut Effects) {
        let leads = self.leader == id;
        let member = self.members.get_mut(id).expect("the caller has checked it");
        let changed = member.protocols != join.protocols;
        member.touch(now_ms);
        member.client = join.client;
        member.protocols = join.protocols;
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        let needed = match self.phase {
            Phase::Empty | Phase::Preparing { .. } => true,
            Phase::Completing { .. } => changed,
            Phase::Stable { .. } => changed || leads,
        };
        if !needed {
            // It has lost our answer: it gets the same again.
            let result = Ok(self.joined(id, leads, false));
            let member_id = id.to_owned();
            effects
                .answers
                .push_back((token, Answer::Join { member_id, result }));
            return;
        }
        if let Some(older) = member.waits_join.replace(token) {
            effects
                .answers
                .push_back((older, join_error(id, GroupError::RebalanceInProgress)));
        }
        self.prepare(now_ms, effects);
        self.complete_if_all_joined(now_ms, effects);
    }

    /// A static member starts again: it gets a new id, and the older process is fenced. In a stable
    /// group it keeps its assignment without a rebalance, where it can do the same as before; its new id is kept before it
    /// is told: else it would be fenced by its older one after a restart.
    fn replace_static(
        &mut self,
        now_ms: u64,
        token: Token,
        old_id: &str,
        join: Join,
        effects: &mut Effects,
    ) {
        let mut member = self.members.remove(old_id).expect("found by its instance");
        fence(old_id, &mut member, effects);
        let same = member.protocols == join.protocols;
        let led = self.leader == old_id;
        let id = join.new_member_id;
        member.client = join.client;
        member.protocols = join.protocols;
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.touch(now_ms);
        if led {
            self.leader.clone_from(&id);
        }
        let keeps = same && matches!(self.phase, Phase::Stable { .. });
        member.waits_join = Some(token);
        self.members.insert(id.clone(), member);
        if !keeps {
            self.prepare(now_ms, effects);
            self.complete_if_all_joined(now_ms, effects);
            return;
        }
        let mut joined = self.joined(&id, led && join.can_skip_assignment, true);
        if led && !join.can_skip_assignment {
            // An older client that thought it leads would assign anew: it is told its old id.
            joined.leader = old_id.to_owned();
        }
        let number = self.keep(effects);
        if let Some(member) = self.members.get_mut(&id) {
            member.replaces = Some((number, joined));
        }
    }

    /// What has been kept up to a number is told to those who have started again.
    pub(super) fn tell_replacing(
        &mut self,
        now_ms: u64,
        number: u64,
        result: Result<(), GroupError>,
        effects: &mut Effects,
    ) {
        for (id, member) in &mut self.members {
            if !matches!(&member.replaces, Some((kept, _)) if *kept <= number) {
                continue;
            }
            let replaces = member.replaces.take();
            if let (Some((_, joined)), Some(token)) = (replaces, member.waits_join.take()) {
                member.touch(now_ms);
                let answer = Answer::Join {
                    member_id: id.clone(),
                    result: result.map(|()| joined),
                };
                effects.answers.push_back((token, answer));
            }
        }
    }

    pub(super) fn joined(&self, id: &str, as_leader: bool, skip_assignment: bool) -> Joined {
        let members = self.members.iter().filter(|_| as_leader);
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: id.to_owned(),
            skip_assignment: skip_assignment && as_leader,
            members: members
                .map(|(id, member)| {
                    let metadata = member.metadata(&self.protocol);
                    (id.clone(), member.instance.clone(), metadata)
                })
                .collect(),
        }
    }
}
