//! Users over HTTP: list, make, give a password or a token, and remove. A password comes in and is not kept; a token goes
//! out once and is not kept either.

use axum::extract::{Path, State};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud_protocol::ledger::command::{AlterUser, Entry, UserChange};
use tidegate_cloud_protocol::ledger::{
    Effect, TokenName, USER_TOKENS_MAX, USERS_MAX, User, UserName, UserRefusal,
};

use super::Context;
use super::answer::{Answer, ApiError, Sent};
use crate::credentials::{NewToken, user_name};

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/users", get(list).post(create))
        .route("/users/{user}", delete(remove))
        .route("/users/{user}/password", put(set_password))
        .route("/users/{user}/tokens", post(add_token))
        .route("/users/{user}/tokens/{token}", delete(remove_token))
}

async fn list(State(context): State<Context>) -> Answer {
    let users = context.broker.ledger(|ledger| {
        let users = ledger.users().map(|(name, user)| described(name, user));
        users.collect::<Vec<_>>()
    });
    Ok(Json(json!({ "users": users })))
}

fn described(name: &UserName, user: &User) -> Value {
    let passwords = user.verifiers().map(|verifier| {
        json!({
            "mechanism": verifier.mechanism().name(),
            "iterations": verifier.iterations(),
        })
    });
    let tokens = user
        .tokens()
        .map(|(name, token)| json!({ "token": name.as_str(), "made_ms": token.made_ms }));
    json!({
        "user": name.as_str(),
        "passwords": passwords.collect::<Vec<_>>(),
        "tokens": tokens.collect::<Vec<_>>(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    user: String,
    /// Without one, the user has a token.
    password: Option<String>,
}

async fn create(State(context): State<Context>, Sent(asked): Sent<Create>) -> Answer {
    let name = parse_name(&asked.user)?;
    let (mut changes, mut token) = (Vec::new(), None);
    match asked.password {
        Some(password) => changes.extend(password_changes(&context, password).await?),
        None => {
            let made = NewToken::random();
            changes.push(UserChange::AddToken {
                name: usual_token_name(&made),
                hash: made.hash,
            });
            token = Some(made.text);
        }
    }
    alter(&context, &name, true, changes).await?;
    Ok(Json(json!({ "user": name.as_str(), "token": token })))
}

async fn remove(State(context): State<Context>, Path(user): Path<String>) -> Answer {
    let name = find(&context, &user)?;
    alter(&context, &name, false, vec![UserChange::RemoveAll]).await?;
    Ok(Json(json!({ "user": name.as_str() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPassword {
    password: String,
}

async fn set_password(
    State(context): State<Context>,
    Path(user): Path<String>,
    Sent(asked): Sent<SetPassword>,
) -> Answer {
    let name = find(&context, &user)?;
    let changes = password_changes(&context, asked.password).await?;
    alter(&context, &name, false, changes).await?;
    Ok(Json(json!({ "user": name.as_str() })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddToken {
    /// Default: one of its own.
    token: Option<String>,
}

async fn add_token(
    State(context): State<Context>,
    Path(user): Path<String>,
    Sent(asked): Sent<AddToken>,
) -> Answer {
    let name = find(&context, &user)?;
    let made = NewToken::random();
    let token = match asked.token {
        Some(token) => parse_token_name(&token)?,
        None => usual_token_name(&made),
    };
    let add = UserChange::AddToken {
        name: token.clone(),
        hash: made.hash,
    };
    alter(&context, &name, false, vec![add]).await?;
    Ok(Json(json!({
        "user": name.as_str(),
        "token": token.as_str(),
        "secret": made.text,
    })))
}

async fn remove_token(
    State(context): State<Context>,
    Path((user, token)): Path<(String, String)>,
) -> Answer {
    let (name, token) = (find(&context, &user)?, parse_token_name(&token)?);
    let change = UserChange::RemoveToken(token.clone());
    alter(&context, &name, false, vec![change]).await?;
    Ok(Json(
        json!({ "user": name.as_str(), "token": token.as_str() }),
    ))
}

fn parse_name(name: &str) -> Result<UserName, ApiError> {
    user_name(name).ok_or_else(|| {
        let most = UserName::BYTES_MAX;
        ApiError::bad_request(format!(
            "a user's name has 1 to {most} bytes, and no character that SASLprep (RFC 4013) forbids"
        ))
    })
}

fn parse_token_name(name: &str) -> Result<TokenName, ApiError> {
    TokenName::new(name).ok_or_else(|| {
        let most = TokenName::BYTES_MAX;
        ApiError::bad_request(format!(
            "a token's name has 1 to {most} of a-z A-Z 0-9 . _ -"
        ))
    })
}

fn find(context: &Context, user: &str) -> Result<UserName, ApiError> {
    let name = parse_name(user)?;
    let is_there = |name: &UserName| context.broker.ledger(|ledger| ledger.user(name).is_some());
    match is_there(&name) {
        true => Ok(name),
        false => Err(no_user(&name)),
    }
}

fn no_user(name: &UserName) -> ApiError {
    ApiError::not_found(format!("there is no user {name}"))
}

/// The beginning of its hash: no two tokens of a user have the same.
fn usual_token_name(made: &NewToken) -> TokenName {
    let digits = made.hash[..4].iter().map(|byte| format!("{byte:02x}"));
    TokenName::new(digits.collect::<String>()).expect("digits are a name")
}

async fn password_changes(
    context: &Context,
    password: String,
) -> Result<Vec<UserChange>, ApiError> {
    let verifiers = context.credentials.verifiers(password).await;
    let verifiers = verifiers.map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(verifiers.into_iter().map(UserChange::SetVerifier).collect())
}

async fn alter(
    context: &Context,
    name: &UserName,
    is_new: bool,
    changes: Vec<UserChange>,
) -> Result<(), ApiError> {
    let alter = AlterUser {
        name: name.clone(),
        is_new,
        secret: context.credentials.random(),
        changes,
    };
    let wishes = vec![(Entry::AlterUser(alter), None)];
    match context.broker.submit(wishes).await?[..] {
        [Effect::UserRefused { reason }] => Err(refused(name, reason)),
        _ => Ok(()),
    }
}

fn refused(name: &UserName, reason: UserRefusal) -> ApiError {
    match reason {
        UserRefusal::Unknown => no_user(name),
        UserRefusal::Exists => ApiError::conflict(format!("user {name} is there already")),
        UserRefusal::TooMany => ApiError::conflict(format!("there are {USERS_MAX} users already")),
        UserRefusal::NoVerifier => ApiError::not_found(format!("{name} has no password")),
        UserRefusal::NoToken => ApiError::not_found(format!("{name} has no such token")),
        UserRefusal::TokenExists => ApiError::conflict(format!("{name} has a token of that name")),
        UserRefusal::TooManyTokens => ApiError::conflict(format!(
            "{name} has {USER_TOKENS_MAX} tokens already: remove one"
        )),
    }
}
