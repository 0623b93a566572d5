//! Groups: listed, described, deleted, and told to forget.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::*;
use tidegate_shared::id::GroupName;

use super::support::{Client, start, telemetry};
use super::topics::{create, topic};
use super::*;

/// A consumer's subscription to topics, and its assignment, as opaque bytes of ours.
fn subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    out.freeze()
}

const ASSIGNMENT: &[u8] = b"partition 2";

/// Joins a group as its only member, which leads; returns its id and generation.
async fn join(client: &mut Client, group: &str, kind: &str, topics: &[&str]) -> (StrBytes, i32) {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(subscription(topics));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text(kind))
        .with_protocols(vec![protocol]);
    let response = client
        .ask(ApiKey::JoinGroup, 3, RequestKind::JoinGroup(request))
        .await;
    let ResponseKind::JoinGroup(joined) = response else {
        panic!("{response:?}");
    };
    assert_eq!(joined.error_code, 0);
    (joined.member_id, joined.generation_id)
}

async fn assign(client: &mut Client, group: &str, (member, generation): (StrBytes, i32)) {
    let assignment = sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(ASSIGNMENT));
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(generation)
        .with_member_id(member)
        .with_assignments(vec![assignment]);
    let response = client
        .ask(ApiKey::SyncGroup, 1, RequestKind::SyncGroup(request))
        .await;
    assert!(matches!(response, ResponseKind::SyncGroup(synced) if synced.error_code == 0));
}

async fn leave(client: &mut Client, group: &str, member: StrBytes) {
    let request = LeaveGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(member);
    let response = client
        .ask(ApiKey::LeaveGroup, 1, RequestKind::LeaveGroup(request))
        .await;
    assert!(matches!(response, ResponseKind::LeaveGroup(left) if left.error_code == 0));
}

/// Commits offset 1 in partitions 0 and 1 of `telemetry`, as a client that is in no group.
async fn commit(client: &mut Client, group: &str, (member, generation): (StrBytes, i32)) {
    let partitions = [0, 1].map(|partition| {
        offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(1)
    });
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(telemetry())
        .with_partitions(partitions.into());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(member)
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic]);
    let request = RequestKind::OffsetCommit(request);
    let response = client.ask(ApiKey::OffsetCommit, 8, request).await;
    let ResponseKind::OffsetCommit(committed) = response else {
        panic!("{response:?}");
    };
    let mut partitions = committed.topics[0].partitions.iter();
    assert!(partitions.all(|partition| partition.error_code == 0));
}

const NOBODY: (StrBytes, i32) = (StrBytes::from_static_str(""), -1);

/// Groups with their kinds and states.
async fn list(client: &mut Client, states: &[&str], types: &[&str]) -> Vec<[String; 3]> {
    let filter = |words: &[&str]| words.iter().map(|word| text(word)).collect();
    let request = ListGroupsRequest::default()
        .with_states_filter(filter(states))
        .with_types_filter(filter(types));
    let request = RequestKind::ListGroups(request);
    let ResponseKind::ListGroups(response) = client.ask(ApiKey::ListGroups, 5, request).await
    else {
        panic!("another response");
    };
    let groups = response.groups.into_iter();
    groups
        .map(|group| {
            assert_eq!(group.group_type.as_str(), "classic");
            let id = group.group_id.to_string();
            let (kind, state) = (group.protocol_type, group.group_state);
            [id, kind.to_string(), state.to_string()]
        })
        .collect()
}

async fn describe_group(
    client: &mut Client,
    version: i16,
    group: &str,
) -> describe_groups_response::DescribedGroup {
    // Asked twice, it is answered once.
    let groups = vec![GroupId(text(group)); 2];
    let request = DescribeGroupsRequest::default().with_groups(groups);
    let request = RequestKind::DescribeGroups(request);
    let response = client.ask(ApiKey::DescribeGroups, version, request).await;
    let ResponseKind::DescribeGroups(mut response) = response else {
        panic!("{response:?}");
    };
    assert_eq!(response.groups.len(), 1);
    response.groups.remove(0)
}

async fn heartbeat(client: &mut Client, group: &str, (member, generation): (StrBytes, i32)) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(generation)
        .with_member_id(member);
    let request = RequestKind::Heartbeat(request);
    match client.ask(ApiKey::Heartbeat, 3, request).await {
        ResponseKind::Heartbeat(response) => response.error_code,
        other => panic!("{other:?}"),
    }
}

/// A restart is nothing that a member has to notice: neither with a snapshot nor by the log alone.
#[tokio::test]
async fn members_go_on_over_a_restart_and_those_who_left_are_gone() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    create(&mut client, vec![topic("telemetry", 3, &[])], false).await;
    let member = join(&mut client, "stays", "consumer", &["telemetry"]).await;
    assign(&mut client, "stays", member.clone()).await;
    let gone = join(&mut client, "leaves", "consumer", &["telemetry"]).await;
    assign(&mut client, "leaves", gone.clone()).await;
    leave(&mut client, "leaves", gone.0.clone()).await;
    // All that was to be kept before it is kept with it.
    let other = join(&mut client, "other", "consumer", &["telemetry"]).await;
    assign(&mut client, "other", other).await;
    cloud.shutdown().await;
    for with_snapshot in [false, true] {
        if !with_snapshot {
            std::fs::remove_dir_all(data.path().join("snapshots")).unwrap();
        }
        let cloud = start(data.path()).await;
        let mut client = Client::connect(&cloud).await;
        assert_eq!(heartbeat(&mut client, "stays", member.clone()).await, 0);
        commit(&mut client, "stays", member.clone()).await;
        let described = describe_group(&mut client, 4, "stays").await;
        assert_eq!(described.group_state.as_str(), "Stable");
        assert_eq!(described.members[0].member_id, member.0);
        assert_eq!(described.members[0].member_assignment, ASSIGNMENT);
        let gone = heartbeat(&mut client, "leaves", gone.clone()).await;
        assert_eq!(gone, 25, "UNKNOWN_MEMBER_ID");
        cloud.shutdown().await;
    }
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let (_, generation) = join(&mut client, "new", "consumer", &["telemetry"]).await;
    assert_eq!(generation, 3, "behind that of the group that is over");
    cloud.shutdown().await;
}

#[tokio::test]
async fn groups_are_listed_and_described_as_they_are() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    commit(&mut client, "offsets", NOBODY).await;
    let member = join(&mut client, "members", "consumer", &["telemetry"]).await;

    let group = describe_group(&mut client, 5, "members").await;
    assert_eq!(group.group_state.as_str(), "CompletingRebalance");
    assert_eq!(group.protocol_data.as_str(), "");
    assert!(group.members[0].member_metadata.is_empty());
    assign(&mut client, "members", member.clone()).await;
    let group = describe_group(&mut client, 5, "members").await;
    let fields = [
        &group.group_state,
        &group.protocol_type,
        &group.protocol_data,
    ];
    assert_eq!(
        fields.map(|field| field.as_str()),
        ["Stable", "consumer", "range"]
    );
    let [one] = &group.members[..] else {
        panic!("{group:?}");
    };
    assert_eq!(one.member_id, member.0);
    let client_of = [&one.client_id, &one.client_host];
    assert_eq!(
        client_of.map(|field| field.as_str()),
        ["test", "/127.0.0.1"]
    );
    assert_eq!(one.member_metadata, subscription(&["telemetry"]));
    assert_eq!(one.member_assignment, ASSIGNMENT);

    let row = |fields: [&str; 3]| fields.map(str::to_owned);
    let members = row(["members", "consumer", "Stable"]);
    let offsets = row(["offsets", "", "Empty"]);
    let all = vec![members.clone(), offsets.clone()];
    assert_eq!(list(&mut client, &[], &[]).await, all);
    assert_eq!(list(&mut client, &[], &["CLASSIC"]).await, all);
    assert_eq!(list(&mut client, &["stable", "Dead"], &[]).await, [members]);
    assert_eq!(list(&mut client, &["Empty"], &[]).await, [offsets]);
    assert!(list(&mut client, &[], &["consumer"]).await.is_empty());

    let empty = describe_group(&mut client, 6, "offsets").await;
    assert_eq!((empty.error_code, empty.group_state.as_str()), (0, "Empty"));
    let dead = describe_group(&mut client, 5, "no").await;
    assert_eq!((dead.error_code, dead.group_state.as_str()), (0, "Dead"));
    let dead = describe_group(&mut client, 6, "no").await;
    let told = (dead.error_code, dead.group_state.as_str());
    assert_eq!(told, (GROUP_ID_NOT_FOUND, "Dead"));
    let unnamed = describe_group(&mut client, 5, "").await;
    assert_eq!(unnamed.error_code, INVALID_GROUP_ID);
    cloud.shutdown().await;
}

async fn delete_groups(client: &mut Client, groups: &[&str]) -> Vec<i16> {
    let groups = groups.iter().map(|group| GroupId(text(group)));
    let request = DeleteGroupsRequest::default().with_groups_names(groups.collect());
    let request = RequestKind::DeleteGroups(request);
    let ResponseKind::DeleteGroups(response) = client.ask(ApiKey::DeleteGroups, 2, request).await
    else {
        panic!("another response");
    };
    let results = response.results.iter();
    results.map(|result| result.error_code).collect()
}

#[tokio::test]
async fn a_group_goes_once_nobody_is_in_it_and_stays_away_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    commit(&mut client, "offsets", NOBODY).await;
    commit(&mut client, "others", NOBODY).await;
    let member = join(&mut client, "members", "consumer", &["telemetry"]).await;
    assign(&mut client, "members", member.clone()).await;
    commit(&mut client, "members", member.clone()).await;
    let codes = delete_groups(&mut client, &["offsets", "members", "no", ""]).await;
    let refused = [0, NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, INVALID_GROUP_ID];
    assert_eq!(codes, refused);
    leave(&mut client, "members", member.0).await;
    let codes = delete_groups(&mut client, &["members", "members", "offsets"]).await;
    assert_eq!(codes, [0, GROUP_ID_NOT_FOUND, GROUP_ID_NOT_FOUND]);
    cloud.shutdown().await;

    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    let left = list(&mut client, &[], &[]).await;
    assert_eq!(left, [["others", "", "Empty"].map(str::to_owned)]);
    cloud.shutdown().await;
}

/// The codes of OffsetDelete, the group's own first, for partitions of topics.
async fn delete_offsets(
    client: &mut Client,
    group: &str,
    partitions: &[(&str, i32)],
) -> (i16, Vec<i16>) {
    let topics = partitions.iter().map(|(topic, partition)| {
        let partition = offset_delete_request::OffsetDeleteRequestPartition::default()
            .with_partition_index(*partition);
        offset_delete_request::OffsetDeleteRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition])
    });
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(topics.collect());
    let request = RequestKind::OffsetDelete(request);
    let ResponseKind::OffsetDelete(response) = client.ask(ApiKey::OffsetDelete, 0, request).await
    else {
        panic!("another response");
    };
    let topics = response.topics.iter();
    let codes = topics.map(|topic| topic.partitions[0].error_code);
    (response.error_code, codes.collect())
}

#[tokio::test]
async fn a_group_forgets_offsets_of_topics_that_none_of_its_members_wants() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    create(&mut client, vec![topic("other", 1, &[])], false).await;
    let committed = |group: &str| {
        let group = GroupName::new(group).unwrap();
        cloud.broker().ledger(|ledger| {
            let committed = ledger.committed(&group);
            committed
                .map(|(target, _)| target.partition.0)
                .collect::<Vec<_>>()
        })
    };
    commit(&mut client, "offsets", NOBODY).await;
    let asked = [
        ("telemetry", 1),
        ("telemetry", 2),
        ("telemetry", 9),
        ("no", 0),
    ];
    let codes = delete_offsets(&mut client, "offsets", &asked).await;
    assert_eq!(codes, (0, vec![0, 0, UNKNOWN_TOPIC, UNKNOWN_TOPIC]));
    assert_eq!(committed("offsets"), [0]);

    let asked = [("telemetry", 0), ("other", 0)];
    let member = join(&mut client, "members", "consumer", &["telemetry"]).await;
    assign(&mut client, "members", member.clone()).await;
    commit(&mut client, "members", member).await;
    let codes = delete_offsets(&mut client, "members", &asked).await;
    assert_eq!(codes, (0, vec![GROUP_SUBSCRIBED_TO_TOPIC, 0]));
    assert_eq!(committed("members"), [0, 1]);

    let member = join(&mut client, "workers", "connect", &[]).await;
    assign(&mut client, "workers", member).await;
    let codes = delete_offsets(&mut client, "workers", &asked).await;
    assert_eq!(codes, (NON_EMPTY_GROUP, vec![]));
    let codes = delete_offsets(&mut client, "no", &asked).await;
    assert_eq!(codes, (GROUP_ID_NOT_FOUND, vec![]));
    let codes = delete_offsets(&mut client, "", &asked).await;
    assert_eq!(codes, (INVALID_GROUP_ID, vec![]));
    cloud.shutdown().await;
}
