//! AlterUserScramCredentials (KIP-554): makes users, gives them passwords and takes them away. The client salts the
//! password; it does not come here. Source: Kafka's `ScramControlManager`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::command::{AlterUser, Entry, UserChange};
use tidegate_cloud_protocol::ledger::{Effect, USERS_MAX, UserName, UserRefusal};
use tidegate_shared::scram::{Mechanism, SCRAM_ITERATIONS_MIN, Verifier};

use super::refusal::{self, Refusal};
use super::{Context, reply_code};
use crate::credentials::user_name;
use crate::limits::USER_ITERATIONS_MAX;

/// Kafka's numbers.
pub(super) fn number_of(mechanism: Mechanism) -> i8 {
    match mechanism {
        Mechanism::Sha256 => 1,
        Mechanism::Sha512 => 2,
    }
}

fn mechanism_of(number: i8) -> Result<Mechanism, Refusal> {
    let mut all = Mechanism::ALL.into_iter();
    let found = all.find(|mechanism| number_of(*mechanism) == number);
    let unknown = || {
        Refusal::new(
            reply_code::UNSUPPORTED_SASL_MECHANISM,
            "Unknown SCRAM mechanism",
        )
    };
    found.ok_or_else(unknown)
}

fn unacceptable(message: impl Into<String>) -> Refusal {
    Refusal::new(reply_code::UNACCEPTABLE_CREDENTIAL, message)
}

/// Of each user all changes are made, or none.
pub(super) async fn handle(
    context: &Context,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let mut users: BTreeMap<String, Result<Vec<UserChange>, Refusal>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let deletions = request.deletions.iter().map(|deletion| {
        let change = deletion_of(deletion);
        (deletion.name.to_string(), deletion.mechanism, change)
    });
    let upsertions = request.upsertions.iter().map(|upsertion| {
        let change = upsertion_of(upsertion);
        (upsertion.name.to_string(), upsertion.mechanism, change)
    });
    for (name, mechanism, change) in deletions.chain(upsertions) {
        let is_twice = !seen.insert((name.clone(), mechanism));
        let change = match is_twice {
            true => Err(twice()),
            false => change,
        };
        let changes = users.entry(name).or_insert_with(|| Ok(Vec::new()));
        match (changes, change) {
            (Ok(changes), Ok(change)) => changes.push(change),
            (changes @ Ok(_), Err(refusal)) => *changes = Err(refusal),
            (Err(_), _) => {}
        }
    }
    let may = context.check(Operation::Alter, Resource::Cluster);
    let mut results = Vec::with_capacity(users.len());
    for (name, changes) in users {
        let done = match may.clone().and(changes) {
            Ok(changes) => alter(context, &name, changes).await,
            Err(refusal) => Err(refusal),
        };
        let (error_code, error_message) = refusal::fields(done);
        let result = AlterUserScramCredentialsResult::default()
            .with_user(StrBytes::from_string(name))
            .with_error_code(error_code)
            .with_error_message(error_message);
        results.push(result);
    }
    AlterUserScramCredentialsResponse::default().with_results(results)
}

fn twice() -> Refusal {
    Refusal::new(
        reply_code::DUPLICATE_RESOURCE,
        "A user credential cannot be altered twice in the same request",
    )
}

fn deletion_of(deletion: &ScramCredentialDeletion) -> Result<UserChange, Refusal> {
    mechanism_of(deletion.mechanism).map(UserChange::RemoveVerifier)
}

fn upsertion_of(upsertion: &ScramCredentialUpsertion) -> Result<UserChange, Refusal> {
    let mechanism = mechanism_of(upsertion.mechanism)?;
    let iterations = u32::try_from(upsertion.iterations).unwrap_or(0);
    if iterations < SCRAM_ITERATIONS_MIN {
        return Err(unacceptable("Too few iterations"));
    }
    if iterations > USER_ITERATIONS_MAX {
        return Err(unacceptable("Too many iterations"));
    }
    let (salted, salt) = (&upsertion.salted_password, &upsertion.salt);
    let verifier = Verifier::of_salted(mechanism, salted, salt, iterations);
    let verifier = verifier.map_err(|error| unacceptable(error.to_string()))?;
    Ok(UserChange::SetVerifier(verifier))
}

async fn alter(context: &Context, name: &str, changes: Vec<UserChange>) -> Result<(), Refusal> {
    let name = match name.is_empty() {
        true => return Err(unacceptable("Username must not be empty")),
        false => user_name(name),
    };
    let name = name.ok_or_else(|| {
        let most = UserName::BYTES_MAX;
        unacceptable(format!(
            "Username must have at most {most} bytes, and no character that SASLprep (RFC 4013) forbids"
        ))
    })?;
    let alter = AlterUser {
        name,
        is_new: false,
        secret: context.credentials.random(),
        changes,
    };
    let effects = context
        .broker
        .submit(vec![(Entry::AlterUser(alter), None)])
        .await?;
    match effects[..] {
        [Effect::UserRefused { reason }] => Err(refused(reason)),
        _ => Ok(()),
    }
}

fn refused(reason: UserRefusal) -> Refusal {
    match reason {
        UserRefusal::TooMany => Refusal::new(
            reply_code::POLICY_VIOLATION,
            format!("There are {USERS_MAX} users already"),
        ),
        _ => Refusal::new(
            reply_code::RESOURCE_NOT_FOUND,
            "Attempt to delete a user credential that does not exist",
        ),
    }
}
