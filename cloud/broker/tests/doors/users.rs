//! Users through Kafka's admin APIs.

use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest,
};
use tidegate_shared::scram::client::salted_password;

use super::*;

const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const RESOURCE_NOT_FOUND: i16 = 91;
const DUPLICATE_RESOURCE: i16 = 92;
const UNACCEPTABLE_CREDENTIAL: i16 = 93;

const SALT: &[u8] = b"1xgtl6ovqz8sxirrmqyx3oyhmv";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn upsertion(
    name: &str,
    mechanism: i8,
    password: &str,
    iterations: i32,
) -> ScramCredentialUpsertion {
    let of = match mechanism {
        2 => Mechanism::Sha512,
        _ => Mechanism::Sha256,
    };
    let salted = salted_password(of, password, SALT, iterations.max(1) as u32);
    ScramCredentialUpsertion::default()
        .with_name(text(name))
        .with_mechanism(mechanism)
        .with_iterations(iterations)
        .with_salt(SALT.into())
        .with_salted_password(salted.into())
}

fn deletion(name: &str, mechanism: i8) -> ScramCredentialDeletion {
    let deletion = ScramCredentialDeletion::default().with_name(text(name));
    deletion.with_mechanism(mechanism)
}

async fn alter(
    cloud: &Cloud,
    upsertions: Vec<ScramCredentialUpsertion>,
    deletions: Vec<ScramCredentialDeletion>,
) -> Vec<(String, i16)> {
    let request = AlterUserScramCredentialsRequest::default()
        .with_upsertions(upsertions)
        .with_deletions(deletions);
    let request = RequestKind::AlterUserScramCredentials(request);
    let mut client = Client::connect(cloud).await;
    let answer = client
        .ask(ApiKey::AlterUserScramCredentials, 0, request)
        .await;
    let ResponseKind::AlterUserScramCredentials(response) = answer else {
        panic!("{answer:?}");
    };
    let results = response.results.into_iter();
    results
        .map(|one| (one.user.to_string(), one.error_code))
        .collect()
}

/// Name, code, and mechanism with iterations.
async fn describe(cloud: &Cloud, names: Option<&[&str]>) -> Vec<(String, i16, Vec<(i8, i32)>)> {
    let names = names.map(|names| {
        let names = names
            .iter()
            .map(|name| UserName::default().with_name(text(name)));
        names.collect()
    });
    let request = DescribeUserScramCredentialsRequest::default().with_users(names);
    let request = RequestKind::DescribeUserScramCredentials(request);
    let mut client = Client::connect(cloud).await;
    let answer = client
        .ask(ApiKey::DescribeUserScramCredentials, 0, request)
        .await;
    let ResponseKind::DescribeUserScramCredentials(response) = answer else {
        panic!("{answer:?}");
    };
    let results = response.results.into_iter().map(|one| {
        let infos = one.credential_infos.iter();
        let infos = infos.map(|info| (info.mechanism, info.iterations));
        (one.user.to_string(), one.error_code, infos.collect())
    });
    results.collect()
}

fn user(name: &str, code: i16, infos: &[(i8, i32)]) -> (String, i16, Vec<(i8, i32)>) {
    (name.to_owned(), code, infos.to_vec())
}

#[tokio::test]
async fn a_user_is_made_used_described_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let both = vec![
        upsertion("ada", 1, "pencil", 4_096),
        upsertion("ada", 2, "pencil", 16_384),
    ];
    assert_eq!(alter(&cloud, both, vec![]).await, [("ada".to_owned(), 0)]);
    cloud.shutdown().await;
    let cloud = start(folder.path()).await;
    for mechanism in Mechanism::ALL {
        let mut client = at_the_gate(&cloud).await;
        assert_eq!(by_scram(&mut client, mechanism, "ada", "pencil").await, 0);
    }
    let mut client = at_the_gate(&cloud).await;
    assert_eq!(by_plain(&mut client, "ada", "pencil").await.error_code, 0);
    let ada = user("ada", 0, &[(1, 4_096), (2, 16_384)]);
    assert_eq!(describe(&cloud, None).await, std::slice::from_ref(&ada));
    let asked = describe(&cloud, Some(&["ada", "bob", "eve", "eve"])).await;
    let [bob, eve] = [("bob", RESOURCE_NOT_FOUND), ("eve", DUPLICATE_RESOURCE)]
        .map(|(name, code)| user(name, code, &[]));
    assert_eq!(asked, [ada, bob, eve]);
    let gone = alter(&cloud, vec![], vec![deletion("ada", 1)]).await;
    assert_eq!(gone, [("ada".to_owned(), 0)]);
    assert_eq!(
        describe(&cloud, None).await,
        [user("ada", 0, &[(2, 16_384)])]
    );
    let gone = alter(&cloud, vec![], vec![deletion("ada", 2)]).await;
    assert_eq!(gone, [("ada".to_owned(), 0)]);
    assert_eq!(describe(&cloud, None).await, []);
    let mut client = at_the_gate(&cloud).await;
    assert_ne!(
        by_scram(&mut client, Mechanism::Sha512, "ada", "pencil").await,
        0
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let short = upsertion("short", 2, "pencil", 4_096).with_salted_password(vec![1; 32].into());
    let no_salt = upsertion("no-salt", 1, "pencil", 4_096).with_salt(vec![].into());
    let upsertions = vec![
        upsertion("", 1, "pencil", 4_096),
        upsertion("few", 1, "pencil", 4_095),
        upsertion("many", 1, "pencil", 16_385),
        no_salt,
        short,
        upsertion("twice", 1, "pencil", 4_096),
        upsertion("twice", 1, "chalk", 4_096),
        upsertion("what", 3, "pencil", 4_096),
        upsertion("bell\u{7}", 1, "pencil", 4_096),
    ];
    let deletions = vec![deletion("nobody", 1), deletion("what-else", 0)];
    let results = alter(&cloud, upsertions, deletions).await;
    let expected = [
        ("", UNACCEPTABLE_CREDENTIAL),
        ("bell\u{7}", UNACCEPTABLE_CREDENTIAL),
        ("few", UNACCEPTABLE_CREDENTIAL),
        ("many", UNACCEPTABLE_CREDENTIAL),
        ("no-salt", UNACCEPTABLE_CREDENTIAL),
        ("nobody", RESOURCE_NOT_FOUND),
        ("short", UNACCEPTABLE_CREDENTIAL),
        ("twice", DUPLICATE_RESOURCE),
        ("what", UNSUPPORTED_SASL_MECHANISM),
        ("what-else", UNSUPPORTED_SASL_MECHANISM),
    ];
    assert_eq!(
        results,
        expected.map(|(name, code)| (name.to_owned(), code))
    );
    assert_eq!(describe(&cloud, None).await, []);
    cloud.shutdown().await;
}
