//! Each API that is served asks whether its client may: refused without the right, answered with it. One that is
//! served and stands not here fails.

use kafka_protocol::messages::*;
use tidegate_cloud::{Broker, Cloud};
use tidegate_cloud_protocol::acls::{
    CLUSTER_NAME, Operation, PatternKind, Permission, ResourceKind, Rule, RuleFilter,
};

use super::request_of;
use super::support::{Client, Edge, start_with};

use Operation::*;
use ResourceKind::{Cluster, Group, Topic};

const TOPIC_REFUSED: i16 = 29;
const GROUP_REFUSED: i16 = 30;
const CLUSTER_REFUSED: i16 = 31;
const TRANSACTION_REFUSED: i16 = 53;

/// Nobody may do anything.
pub const CLOSED: &str = ", authorization: {allow_everyone_if_no_acl_found: false}";

type Rights = &'static [(Operation, ResourceKind)];

/// What a client needs for the request of [`request_of`], and the code without it; no code where everybody is
/// answered, and sees less.
fn needs(key: ApiKey) -> (Rights, Option<i16>) {
    let (rights, code): (Rights, i16) = match key {
        ApiKey::ApiVersions | ApiKey::DescribeCluster => return (&[], None),
        // Before anybody is known.
        ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => return (&[], None),
        ApiKey::DescribeUserScramCredentials => (&[(Describe, Cluster)], CLUSTER_REFUSED),
        ApiKey::AlterUserScramCredentials => (&[(Alter, Cluster)], CLUSTER_REFUSED),
        ApiKey::ListGroups => return (&[(Describe, Group)], None),
        ApiKey::Produce => (&[(Write, Topic)], TOPIC_REFUSED),
        ApiKey::Fetch => (&[(Read, Topic)], TOPIC_REFUSED),
        ApiKey::ListOffsets => (&[(Describe, Topic)], TOPIC_REFUSED),
        ApiKey::Metadata => (&[(Describe, Topic), (Create, Topic)], TOPIC_REFUSED),
        ApiKey::OffsetForLeaderEpoch => (&[(Describe, Topic)], TOPIC_REFUSED),
        ApiKey::CreateTopics => (&[(Create, Topic), (DescribeConfigs, Topic)], TOPIC_REFUSED),
        ApiKey::DeleteTopics => (&[(Delete, Topic)], TOPIC_REFUSED),
        ApiKey::DeleteRecords => (&[(Delete, Topic)], TOPIC_REFUSED),
        ApiKey::CreatePartitions => (&[(Alter, Topic)], TOPIC_REFUSED),
        ApiKey::DescribeProducers => (&[(Read, Topic)], TOPIC_REFUSED),
        ApiKey::AlterConfigs => (&[(AlterConfigs, Topic)], TOPIC_REFUSED),
        ApiKey::IncrementalAlterConfigs => (&[(AlterConfigs, Topic)], TOPIC_REFUSED),
        ApiKey::DescribeConfigs => (
            &[(DescribeConfigs, Topic), (DescribeConfigs, Cluster)],
            TOPIC_REFUSED,
        ),
        ApiKey::OffsetCommit => (&[(Read, Group), (Read, Topic)], GROUP_REFUSED),
        ApiKey::OffsetFetch => (&[(Describe, Group), (Describe, Topic)], GROUP_REFUSED),
        ApiKey::OffsetDelete => (&[(Delete, Group), (Read, Topic)], GROUP_REFUSED),
        ApiKey::FindCoordinator => (&[(Describe, Group)], GROUP_REFUSED),
        ApiKey::JoinGroup => (&[(Read, Group)], GROUP_REFUSED),
        ApiKey::SyncGroup => (&[(Read, Group)], GROUP_REFUSED),
        ApiKey::Heartbeat => (&[(Read, Group)], GROUP_REFUSED),
        ApiKey::LeaveGroup => (&[(Read, Group)], GROUP_REFUSED),
        ApiKey::DescribeGroups => (&[(Describe, Group)], GROUP_REFUSED),
        ApiKey::DeleteGroups => (&[(Delete, Group)], GROUP_REFUSED),
        ApiKey::InitProducerId => (&[(IdempotentWrite, Cluster)], CLUSTER_REFUSED),
        ApiKey::DescribeLogDirs => (&[(Describe, Cluster)], CLUSTER_REFUSED),
        ApiKey::DescribeAcls => (&[(Describe, Cluster)], CLUSTER_REFUSED),
        ApiKey::CreateAcls => (&[(Alter, Cluster)], CLUSTER_REFUSED),
        ApiKey::DeleteAcls => (&[(Alter, Cluster)], CLUSTER_REFUSED),
        other => panic!("{other:?} is served, and nothing says who may ask it"),
    };
    (rights, Some(code))
}

fn rule(operation: Operation, resource: ResourceKind) -> Rule {
    Rule {
        resource,
        pattern: PatternKind::Literal,
        name: match resource {
            Cluster => CLUSTER_NAME.to_owned(),
            _ => "*".to_owned(),
        },
        principal: "User:ANONYMOUS".to_owned(),
        host: "127.0.0.1".to_owned(),
        operation,
        permission: Permission::Allow,
    }
}

async fn allow(broker: &Broker, rights: Rights) {
    let all = vec![RuleFilter::default()];
    broker.remove_rules(all).await.unwrap();
    let rules = rights
        .iter()
        .map(|(operation, kind)| rule(*operation, *kind));
    broker.add_rules(rules.collect()).await.unwrap();
}

/// The APIs with the versions that this crate's codec has.
pub(super) async fn served(client: &mut Client) -> Vec<(ApiKey, i16, i16)> {
    let request = RequestKind::ApiVersions(ApiVersionsRequest::default());
    let response = client.ask(ApiKey::ApiVersions, 0, request).await;
    let ResponseKind::ApiVersions(served) = response else {
        panic!("{response:?}");
    };
    assert!(served.api_keys.len() > 30, "{served:?}");
    let apis = served.api_keys.into_iter().map(|api| {
        let key = ApiKey::try_from(api.api_key).unwrap();
        let first = api.min_version.max(key.valid_versions().min);
        (key, first, api.max_version)
    });
    apis.collect()
}

fn has(response: &ResponseKind, code: i16) -> bool {
    format!("{response:?}").contains(&format!("error_code: {code},"))
}

async fn closed(data: &std::path::Path) -> (Cloud, Edge) {
    let cloud = start_with(data, CLOSED).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    (cloud, edge)
}

#[tokio::test]
async fn whoever_has_no_right_is_refused_at_every_version() {
    let data = tempfile::tempdir().unwrap();
    let (cloud, edge) = closed(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    for (key, first, last) in served(&mut client).await {
        for version in first..=last {
            let request = request_of(key, version, edge.target);
            let response = client.ask(key, version, request).await;
            match needs(key).1 {
                // There is no field for it yet: nothing is told.
                Some(_) if key == ApiKey::DescribeLogDirs && version < 3 => {
                    assert!(!format!("{response:?}").contains("log_dir"));
                }
                Some(code) => assert!(has(&response, code), "{version}: {response:?}"),
                None => {}
            }
        }
    }
    let topics = cloud.broker().ledger(|ledger| ledger.topics().count());
    assert_eq!(topics, 1, "nothing was made");
    let refused = cloud.broker().metrics().kafka_refused_requests.get();
    assert!(refused > 100, "{refused}");
    cloud.shutdown().await;
}

#[tokio::test]
async fn whoever_has_the_right_and_no_other_is_answered() {
    let data = tempfile::tempdir().unwrap();
    let (cloud, edge) = closed(data.path()).await;
    let mut client = Client::connect(&cloud).await;
    for (key, _, version) in served(&mut client).await {
        allow(&cloud.broker(), needs(key).0).await;
        let request = request_of(key, version, edge.target);
        let response = client.ask(key, version, request).await;
        for code in [
            TOPIC_REFUSED,
            GROUP_REFUSED,
            CLUSTER_REFUSED,
            TRANSACTION_REFUSED,
        ] {
            assert!(!has(&response, code), "{key:?} {version}: {response:?}");
        }
    }
    cloud.shutdown().await;
}
