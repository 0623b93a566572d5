//! Assigning: the leader brings everybody's assignment, which is kept; the others ask for theirs.

use super::group::{Group, Phase};
use super::{Answer, Effects, GroupError, Sync, Synced, Token};

impl Group {
    pub(super) fn sync(&mut self, now_ms: u64, token: Token, sync: Sync, effects: &mut Effects) {
        if let Err(error) = self.try_sync(now_ms, token, sync, effects) {
            effects.answers.push_back((token, Answer::Sync(Err(error))));
        }
    }

    fn try_sync(
        &mut self,
        now_ms: u64,
        token: Token,
        sync: Sync,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        self.check_identity(&sync.identity)?;
        let differs = |said: &Option<String>, is: &String| said.as_ref().is_some_and(|s| s != is);
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        let id = sync.identity.member_id;
        match self.phase {
            Phase::Empty => return Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => return Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => {}
        }
        let member = self.members.get_mut(&id).expect("identity was checked");
        member.touch(now_ms);
        member.synced = true;
        if let Some(older) = member.waits_sync.replace(token) {
            effects
                .answers
                .push_back((older, Answer::Sync(Err(GroupError::RebalanceInProgress))));
        }
        if let Phase::Completing { keep: None, .. } = self.phase
            && self.leader == id
        {
            for (id, assignment) in sync.assignments {
                if let Some(member) = self.members.get_mut(&id) {
                    member.assignment = assignment;
                }
            }
            let number = self.keep(effects);
            if let Phase::Completing { keep, .. } = &mut self.phase {
                *keep = Some(number);
            }
        }
        self.answer_synced(now_ms, effects);
        Ok(())
    }

    /// The assignment is kept: who has asked for it is told.
    pub(super) fn begin_stable(&mut self, now_ms: u64, effects: &mut Effects) {
        let Phase::Completing { deadline_ms, .. } = self.phase else {
            return;
        };
        self.phase = Phase::Stable {
            sync_deadline_ms: Some(deadline_ms),
        };
        self.answer_synced(now_ms, effects);
    }

    /// The assignment cannot be kept: who has asked for it is told, and the group begins another generation.
    pub(super) fn assign_anew(&mut self, now_ms: u64, error: GroupError, effects: &mut Effects) {
        for member in self.members.values_mut() {
            if let Some(token) = member.waits_sync.take() {
                member.touch(now_ms);
                effects.answers.push_back((token, Answer::Sync(Err(error))));
            }
        }
        self.prepare(now_ms, effects);
    }

    fn answer_synced(&mut self, now_ms: u64, effects: &mut Effects) {
        let Phase::Stable { sync_deadline_ms } = &mut self.phase else {
            return;
        };
        for member in self.members.values_mut() {
            let Some(token) = member.waits_sync.take() else {
                continue;
            };
            member.touch(now_ms);
            let synced = Synced {
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: member.assignment.clone(),
            };
            effects.answers.push_back((token, Answer::Sync(Ok(synced))));
        }
        if self.members.values().all(|member| member.synced) {
            *sync_deadline_ms = None;
        }
    }
}
