//! DescribeUserScramCredentials (KIP-554): which users have a password for which mechanism, and how often it is hashed;
//! nothing by which it could be guessed. Source: Kafka's `ScramPublisher` and its image.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::{Ledger, User};

use super::alter_user_scram_credentials::number_of;
use super::refusal::Refusal;
use super::{Context, reply_code};
use crate::credentials::user_name;

pub(super) fn handle(
    context: &Context,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    if let Err(refusal) = context.check(Operation::Describe, Resource::Cluster) {
        return not_authorized(&request, refusal);
    }
    let asked = request.users.filter(|users| !users.is_empty());
    let results = context.broker.ledger(|ledger| match asked {
        None => all(ledger),
        Some(asked) => {
            // Who is asked for twice is answered once, and told so.
            let mut times: BTreeMap<String, u32> = BTreeMap::new();
            for one in &asked {
                *times.entry(one.name.to_string()).or_default() += 1;
            }
            let results = times.iter().map(|(name, times)| match times {
                1 => one(ledger, name),
                _ => refused(
                    name,
                    reply_code::DUPLICATE_RESOURCE,
                    format!("Cannot describe SCRAM credentials for the same user twice in a single request: {name}"),
                ),
            });
            results.collect()
        }
    });
    DescribeUserScramCredentialsResponse::default().with_results(results)
}

/// With as many results as users were asked for, none of which says whose it is, as Kafka answers.
fn not_authorized(
    request: &DescribeUserScramCredentialsRequest,
    refusal: Refusal,
) -> DescribeUserScramCredentialsResponse {
    let (code, message) = refusal.fields();
    let asked = request.users.iter().flatten();
    let results = asked.map(|_| {
        DescribeUserScramCredentialsResult::default()
            .with_error_code(code)
            .with_error_message(message.clone())
    });
    DescribeUserScramCredentialsResponse::default()
        .with_results(results.collect())
        .with_error_code(code)
        .with_error_message(message)
}

fn all(ledger: &Ledger) -> Vec<DescribeUserScramCredentialsResult> {
    let users = ledger.users();
    let with_password = users.filter(|(_, user)| user.verifiers().next().is_some());
    with_password
        .map(|(name, user)| described(name.as_str(), user))
        .collect()
}

fn one(ledger: &Ledger, name: &str) -> DescribeUserScramCredentialsResult {
    let user = user_name(name).and_then(|name| ledger.user(&name));
    match user.filter(|user| user.verifiers().next().is_some()) {
        Some(user) => described(name, user),
        None => refused(
            name,
            reply_code::RESOURCE_NOT_FOUND,
            format!("Attempt to describe a user credential that does not exist: {name}"),
        ),
    }
}

fn described(name: &str, user: &User) -> DescribeUserScramCredentialsResult {
    let infos = user.verifiers().map(|verifier| {
        let iterations = i32::try_from(verifier.iterations().get()).unwrap_or(i32::MAX);
        CredentialInfo::default()
            .with_mechanism(number_of(verifier.mechanism()))
            .with_iterations(iterations)
    });
    DescribeUserScramCredentialsResult::default()
        .with_user(StrBytes::from_string(name.to_owned()))
        .with_credential_infos(infos.collect())
}

fn refused(name: &str, code: i16, why: String) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult::default()
        .with_user(StrBytes::from_string(name.to_owned()))
        .with_error_code(code)
        .with_error_message(Some(StrBytes::from_string(why)))
}
