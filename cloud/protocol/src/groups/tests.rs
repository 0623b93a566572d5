use proptest::prelude::*;

use super::*;

fn name() -> GroupName {
    GroupName::new("dashboards").unwrap()
}

fn groups() -> Groups {
    Groups::new(GroupLimits::default())
}

fn join(member_id: &str, new_member_id: &str) -> Join {
    Join {
        group: name(),
        member_id: member_id.into(),
        new_member_id: new_member_id.into(),
        instance: None,
        client: Client::default(),
        member_id_required: true,
        can_skip_assignment: true,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"topics"))],
    }
}

fn static_join(new_member_id: &str) -> Join {
    Join {
        instance: Some("instance-a".into()),
        ..join("", new_member_id)
    }
}

fn identity(member_id: &str, generation: i32) -> Identity {
    Identity {
        group: name(),
        member_id: member_id.into(),
        instance: None,
        generation,
    }
}

fn sync(member_id: &str, generation: i32, assignments: &[(&str, &'static str)]) -> Sync {
    let assignment = |(id, bytes): &(&str, &'static str)| ((*id).to_owned(), Bytes::from(*bytes));
    Sync {
        identity: identity(member_id, generation),
        protocol_type: None,
        protocol: None,
        assignments: assignments.iter().map(assignment).collect(),
    }
}

fn keep_all(groups: &mut Groups, now_ms: u64) {
    while let Some(keep) = groups.poll_keep() {
        groups.handle_kept(now_ms, &keep.group, keep.number, Ok(()));
    }
}

/// All is kept at once.
fn handle_sync(groups: &mut Groups, now_ms: u64, token: Token, sync: Sync) {
    groups.handle_sync(now_ms, token, sync);
    keep_all(groups, now_ms);
}

fn joined(groups: &mut Groups) -> Vec<(Token, Result<Joined, GroupError>)> {
    std::iter::from_fn(|| groups.poll_answer())
        .map(|(token, answer)| match answer {
            Answer::Join { result, .. } => (token, result),
            Answer::Sync(other) => panic!("{other:?}"),
        })
        .collect()
}

fn synced(groups: &mut Groups) -> Vec<(Token, Result<Bytes, GroupError>)> {
    std::iter::from_fn(|| groups.poll_answer())
        .map(|(token, answer)| match answer {
            Answer::Sync(result) => (token, result.map(|synced| synced.assignment)),
            Answer::Join { .. } => panic!("{answer:?}"),
        })
        .collect()
}

/// Members a and b, stable in generation 1.
fn stable_pair() -> Groups {
    let mut groups = groups();
    for (number, id) in ["a", "b"].into_iter().enumerate() {
        groups.handle_join(0, Token(0), join("", id));
        assert_eq!(joined(&mut groups)[0].1, Err(GroupError::MemberIdRequired));
        groups.handle_join(1, Token(number as u64), join(id, ""));
    }
    groups.handle_timeout(501);
    let answers = joined(&mut groups);
    assert_eq!(answers.len(), 2, "one generation for both");
    handle_sync(&mut groups, 502, Token(1), sync("b", 1, &[]));
    assert!(groups.poll_answer().is_none(), "it waits for the leader");
    handle_sync(
        &mut groups,
        503,
        Token(0),
        sync("a", 1, &[("a", "0"), ("b", "1")]),
    );
    assert_eq!(synced(&mut groups).len(), 2);
    groups
}

#[test]
fn two_that_start_together_make_one_generation() {
    let mut groups = stable_pair();
    assert_eq!(groups.handle_heartbeat(600, &identity("b", 1)), Ok(()));
    assert_eq!(
        groups.handle_heartbeat(600, &identity("b", 0)),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(groups.check_commit(600, &identity("a", 1)), Ok(()));
    assert_eq!(
        groups.check_commit(600, &identity("nobody", 1)),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn a_dead_member_expires_and_the_others_are_told() {
    let mut groups = stable_pair();
    groups.handle_heartbeat(9_000, &identity("a", 1)).unwrap();
    assert_eq!(groups.poll_timeout(), Some(10_503));
    groups.handle_timeout(10_503);
    assert_eq!(
        groups.handle_heartbeat(10_600, &identity("a", 1)),
        Err(GroupError::RebalanceInProgress)
    );
    groups.handle_join(10_700, Token(7), join("a", ""));
    let answers = joined(&mut groups);
    let next = answers[0].1.as_ref().unwrap();
    assert_eq!((next.generation, next.members.len()), (2, 1));
    assert_eq!(
        groups.check_commit(10_800, &identity("b", 1)),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn one_who_does_not_come_to_a_rebalance_is_out() {
    let mut groups = stable_pair();
    groups.handle_join(1_000, Token(9), join("", "c"));
    joined(&mut groups);
    groups.handle_join(1_000, Token(9), join("c", ""));
    groups.handle_join(1_001, Token(0), join("a", ""));
    // b heartbeats and never joins.
    for now_ms in (2_000..31_000).step_by(1_000) {
        let told = groups.handle_heartbeat(now_ms, &identity("b", 1));
        assert_eq!(told, Err(GroupError::RebalanceInProgress));
        groups.handle_timeout(now_ms);
    }
    assert!(groups.poll_answer().is_none());
    groups.handle_timeout(31_000);
    let answers = joined(&mut groups);
    assert_eq!(answers.len(), 2);
    assert!(
        answers
            .iter()
            .all(|(_, answer)| answer.as_ref().unwrap().generation == 2)
    );
}

#[test]
fn leaving_makes_the_others_rebalance() {
    let mut groups = stable_pair();
    assert_eq!(groups.handle_leave(700, &name(), "a", None), Ok(()));
    assert_eq!(
        groups.handle_leave(700, &name(), "a", None),
        Err(GroupError::UnknownMember)
    );
    groups.handle_join(800, Token(3), join("b", ""));
    assert_eq!(joined(&mut groups)[0].1.as_ref().unwrap().leader, "b");
    assert_eq!(groups.handle_leave(900, &name(), "b", None), Ok(()));
    assert!(groups.is_empty(), "a group that nobody is in is forgotten");
    assert_eq!(groups.poll_timeout(), None);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_the_older() {
    let mut groups = groups();
    groups.handle_join(0, Token(0), static_join("first"));
    groups.handle_timeout(500);
    assert!(joined(&mut groups)[0].1.is_ok());
    handle_sync(
        &mut groups,
        501,
        Token(0),
        sync("first", 1, &[("first", "all")]),
    );
    assert_eq!(synced(&mut groups).len(), 1);

    groups.handle_join(600, Token(1), static_join("second"));
    assert!(groups.poll_answer().is_none(), "its id is kept first");
    keep_all(&mut groups, 600);
    let answers = joined(&mut groups);
    let again = answers[0].1.as_ref().unwrap();
    assert_eq!((again.generation, again.skip_assignment), (1, true));
    handle_sync(&mut groups, 601, Token(1), sync("second", 1, &[]));
    assert_eq!(synced(&mut groups)[0].1, Ok(Bytes::from("all")));
    let older = Identity {
        instance: Some("instance-a".into()),
        ..identity("first", 1)
    };
    assert_eq!(
        groups.handle_heartbeat(700, &older),
        Err(GroupError::FencedInstance)
    );
}

#[test]
fn strangers_are_refused() {
    let mut groups = stable_pair();
    let other = Join {
        protocols: vec![("sticky".into(), Bytes::new())],
        ..join("", "x")
    };
    groups.handle_join(600, Token(5), other);
    assert_eq!(
        joined(&mut groups)[0].1,
        Err(GroupError::InconsistentProtocol)
    );
    let hasty = Join {
        session_timeout_ms: 5,
        ..join("", "x")
    };
    groups.handle_join(600, Token(5), hasty);
    assert_eq!(
        joined(&mut groups)[0].1,
        Err(GroupError::InvalidSessionTimeout)
    );
    assert_eq!(
        groups.check_commit(600, &identity("", -1)),
        Err(GroupError::UnknownMember),
        "one without a group may not commit over those in it"
    );
}

/// Member a alone, which has synced, and what is to be kept of it.
fn assigned() -> (Groups, Keep) {
    let mut groups = groups();
    groups.handle_join(0, Token(0), static_join("a"));
    groups.handle_timeout(500);
    assert!(joined(&mut groups)[0].1.is_ok());
    groups.handle_sync(501, Token(0), sync("a", 1, &[("a", "all")]));
    let keep = groups.poll_keep().expect("it is to be kept");
    assert_eq!((&keep.group, keep.generation.number), (&name(), 1));
    (groups, keep)
}

fn static_identity(member_id: &str, generation: i32) -> Identity {
    Identity {
        instance: Some("instance-a".into()),
        ..identity(member_id, generation)
    }
}

fn restored(generation: &Generation) -> Groups {
    let (name, limits) = (name(), GroupLimits::default());
    Groups::restore(limits, 0, 7, std::iter::once((&name, generation)))
}

/// Whatever is lost of it: an id that a static member was told is known after a restart.
#[test]
fn a_static_member_that_was_told_its_new_id_is_known_by_it_after_a_restart() {
    let (mut groups, keep) = assigned();
    groups.handle_kept(502, &name(), keep.number, Ok(()));
    synced(&mut groups);
    groups.handle_join(600, Token(1), static_join("second"));
    assert!(groups.poll_answer().is_none());
    let keep = groups.poll_keep().unwrap();
    let mut again = restored(&keep.generation);
    let who = static_identity("second", 1);
    assert_eq!(again.handle_heartbeat(1, &who), Ok(()));
    // It could not be kept: it is told so, and comes again.
    groups.handle_kept(601, &name(), keep.number, Err(GroupError::NotKept));
    assert_eq!(joined(&mut groups)[0].1, Err(GroupError::NotKept));
    groups.handle_join(602, Token(2), static_join("third"));
    keep_all(&mut groups, 603);
    assert!(joined(&mut groups)[0].1.is_ok());
}

#[test]
fn of_each_group_one_generation_waits_to_be_kept() {
    let (mut groups, keep) = assigned();
    groups.handle_kept(502, &name(), keep.number, Ok(()));
    synced(&mut groups);
    for nth in 0..5 {
        let id = format!("again-{nth}");
        groups.handle_join(600, Token(1), static_join(&id));
    }
    let waits = groups.poll_keep().unwrap();
    assert!(groups.poll_keep().is_none());
    assert!(waits.generation.members.contains_key("again-4"));
    let fenced = joined(&mut groups);
    assert!(
        fenced
            .iter()
            .all(|(_, told)| *told == Err(GroupError::FencedInstance))
    );
    groups.handle_kept(601, &name(), waits.number, Ok(()));
    assert!(joined(&mut groups)[0].1.is_ok());
}

#[test]
fn a_group_and_all_groups_have_room_for_so_much() {
    let large = |member: &str, group: &str, bytes: usize| Join {
        group: GroupName::new(group).unwrap(),
        member_id_required: false,
        protocols: vec![("range".into(), vec![0; bytes].into())],
        ..join("", member)
    };
    let mut groups = groups();
    let told = |groups: &mut Groups| {
        groups.handle_timeout(u64::MAX / 2);
        joined(groups)
    };
    groups.handle_join(0, Token(0), large("a", "g0", (4 << 20) + 1));
    assert_eq!(told(&mut groups)[0].1, Err(GroupError::GroupFull));
    groups.handle_join(0, Token(0), large("a", "g0", 3 << 20));
    groups.handle_join(0, Token(1), large("b", "g0", 2 << 20));
    assert_eq!(
        joined(&mut groups),
        [(Token(1), Err(GroupError::GroupFull))]
    );
    for nth in 1..30 {
        groups.handle_join(0, Token(0), large("a", &format!("g{nth}"), 3 << 20));
    }
    let refused = joined(&mut groups);
    let told = refused
        .iter()
        .all(|(_, told)| *told == Err(GroupError::TooManyGroups));
    assert!(told && refused.len() == 30 - 21, "{}", refused.len());
    groups.handle_timeout(20_000);
    groups.handle_timeout(40_000);
    groups.handle_timeout(80_000);
    assert!(
        groups.is_empty() && groups.bytes == 0,
        "{} {}",
        groups.len(),
        groups.bytes
    );
}

#[test]
fn nobody_is_told_of_an_assignment_before_it_is_kept() {
    let (mut groups, keep) = assigned();
    assert!(groups.poll_answer().is_none());
    let who = static_identity("a", 1);
    assert_eq!(groups.handle_heartbeat(502, &who), Ok(()));
    let told = groups.check_commit(502, &who);
    assert_eq!(told, Err(GroupError::RebalanceInProgress));
    groups.handle_kept(503, &name(), keep.number - 1, Ok(()));
    assert!(groups.poll_answer().is_none(), "that is another one");
    groups.handle_kept(503, &name(), keep.number, Ok(()));
    assert_eq!(synced(&mut groups)[0].1, Ok(Bytes::from("all")));
    assert_eq!(groups.check_commit(504, &who), Ok(()));
}

#[test]
fn one_that_cannot_be_kept_is_told_and_another_is_made() {
    let (mut groups, keep) = assigned();
    groups.handle_kept(503, &name(), keep.number, Err(GroupError::NotKept));
    assert_eq!(synced(&mut groups)[0].1, Err(GroupError::NotKept));
    let again = Join {
        member_id: "a".into(),
        ..static_join("")
    };
    groups.handle_join(504, Token(1), again);
    assert_eq!(joined(&mut groups)[0].1.as_ref().unwrap().generation, 2);
}

#[test]
fn who_was_in_a_group_is_in_it_after_a_restart() {
    let (_, keep) = assigned();
    let restart = || restored(&keep.generation);
    let mut groups = restart();
    let who = static_identity("a", 1);
    assert_eq!(groups.handle_heartbeat(9_000, &who), Ok(()));
    assert_eq!(groups.check_commit(9_001, &who), Ok(()));
    handle_sync(
        &mut groups,
        9_002,
        Token(0),
        Sync {
            identity: who,
            ..sync("a", 1, &[])
        },
    );
    assert_eq!(synced(&mut groups)[0].1, Ok(Bytes::from("all")));
    let groups_of = groups.describe(&name()).unwrap();
    assert_eq!(groups_of.state, GroupState::Stable);

    // One that does not come is out when its session ends, and the group is over.
    let mut groups = restart();
    assert_eq!(groups.poll_timeout(), Some(10_000));
    groups.handle_timeout(10_000);
    groups.handle_timeout(40_000);
    assert!(groups.is_empty());
    let over = groups.poll_keep().unwrap().generation;
    assert!(over.members.is_empty() && over.number == 2, "{over:?}");
}

#[test]
fn a_group_that_begins_anew_goes_on_behind_what_was_there_before_a_restart() {
    let mut groups = Groups::restore(GroupLimits::default(), 0, 7, std::iter::empty());
    groups.handle_join(0, Token(0), static_join("a"));
    groups.handle_timeout(500);
    assert_eq!(joined(&mut groups)[0].1.as_ref().unwrap().generation, 8);
}

/// A consumer as clients write it: joins, syncs, heartbeats, joins again when told to.
#[derive(Clone, Debug, Default)]
struct Consumer {
    id: String,
    generation: i32,
    waits: bool,
    owned: Option<Vec<u8>>,
    dead: bool,
}

const PARTITIONS: u8 = 6;

struct World {
    groups: Groups,
    consumers: Vec<Consumer>,
    now_ms: u64,
    ids: u64,
    /// Who was given a partition, by generation.
    owners: BTreeMap<(i32, u8), usize>,
}

impl World {
    fn new(count: usize) -> Self {
        Self {
            groups: groups(),
            consumers: vec![Consumer::default(); count],
            now_ms: 0,
            ids: 0,
            owners: BTreeMap::new(),
        }
    }

    fn step(&mut self, who: usize) {
        let consumer = &mut self.consumers[who];
        if consumer.waits || consumer.dead {
            return;
        }
        if consumer.owned.is_none() {
            consumer.waits = true;
            self.ids += 1;
            let join = join(&consumer.id, &format!("member-{}", self.ids));
            self.groups
                .handle_join(self.now_ms, Token(who as u64), join);
            return self.answer();
        }
        let identity = identity(&consumer.id, consumer.generation);
        if let Err(error) = self.groups.handle_heartbeat(self.now_ms, &identity) {
            consumer.owned = None;
            if error == GroupError::UnknownMember {
                consumer.id.clear();
            }
        }
    }

    fn answer(&mut self) {
        while let Some((token, answer)) = self.groups.poll_answer() {
            let who = token.0 as usize;
            let consumer = &mut self.consumers[who];
            consumer.waits = false;
            match answer {
                Answer::Join { member_id, result } => {
                    consumer.id = member_id;
                    match result {
                        Ok(joined) => self.sync(who, &joined),
                        Err(GroupError::UnknownMember) => consumer.id.clear(),
                        Err(_) => {}
                    }
                }
                Answer::Sync(Ok(synced)) => {
                    let owned = synced.assignment.to_vec();
                    for partition in &owned {
                        let key = (consumer.generation, *partition);
                        let owner = *self.owners.entry(key).or_insert(who);
                        assert_eq!(owner, who, "partition {partition} is owned twice");
                    }
                    consumer.owned = Some(owned);
                }
                Answer::Sync(Err(GroupError::UnknownMember)) => consumer.id.clear(),
                Answer::Sync(Err(_)) => {}
            }
        }
    }

    fn sync(&mut self, who: usize, joined: &Joined) {
        let consumer = &mut self.consumers[who];
        consumer.generation = joined.generation;
        if consumer.dead {
            return;
        }
        consumer.waits = true;
        let count = joined.members.len();
        let share = |index: usize| (0..PARTITIONS).filter(move |p| *p as usize % count == index);
        let assignments = joined.members.iter().enumerate();
        let sync = Sync {
            assignments: assignments
                .map(|(index, (id, ..))| (id.clone(), share(index).collect::<Vec<_>>().into()))
                .collect(),
            ..sync(&consumer.id, joined.generation, &[])
        };
        handle_sync(&mut self.groups, self.now_ms, Token(who as u64), sync);
    }

    fn pass(&mut self, elapsed_ms: u64) {
        self.now_ms += elapsed_ms;
        self.groups.handle_timeout(self.now_ms);
        self.answer();
        let due = self.groups.poll_timeout();
        assert!(
            due.is_none_or(|due| due > self.now_ms),
            "a timeout is done once"
        );
    }
}

proptest! {
    #[test]
    fn no_partition_is_owned_twice_and_the_living_end_up_owning_all(
        steps in proptest::collection::vec((0usize..4, 0u64..4_000, 0u8..20), 0..150),
    ) {
        let mut world = World::new(4);
        for (who, elapsed_ms, dice) in steps {
            match dice {
                0 => world.consumers[who].dead = true,
                1 => {
                    let id = std::mem::take(&mut world.consumers[who].id);
                    let _ = world.groups.handle_leave(world.now_ms, &name(), &id, None);
                    world.consumers[who] = Consumer::default();
                    world.answer();
                }
                _ => world.step(who),
            }
            world.pass(elapsed_ms);
        }
        for _ in 0..100 {
            (0..4).for_each(|who| world.step(who));
            world.pass(1_000);
        }
        let living = world.consumers.iter().filter(|consumer| !consumer.dead);
        let mut owned: Vec<u8> = living.clone().flat_map(|c| c.owned.clone().unwrap_or_default()).collect();
        owned.sort_unstable();
        if living.count() > 0 {
            prop_assert_eq!(owned, (0..PARTITIONS).collect::<Vec<_>>());
        }
    }
}
