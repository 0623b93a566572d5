//! Users in a snapshot.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::{Reader, put_bytes};

use super::super::DecodeError;
use super::super::command::{
    put_verifier, take_32, take_token_name, take_user_name, take_verifier,
};
use super::super::users::{Token, TokenName, User, UserName, Users};
use super::{put_map, take_map};

pub(super) fn put(out: &mut BytesMut, users: &Users) {
    out.put_slice(&users.secret);
    put_map(out, &users.by_name, |out, name, user| {
        put_bytes(out, name.as_str().as_bytes());
        put_map(out, &user.verifiers, |out, _, verifier| {
            put_verifier(out, verifier)
        });
        put_map(out, &user.tokens, put_token);
    });
}

pub(super) fn take(reader: &mut Reader) -> Result<Users, DecodeError> {
    let secret = take_32(reader, "secret of users")?;
    let by_name: BTreeMap<UserName, User> = take_map(reader, "users", |reader| {
        let name = take_user_name(reader)?;
        let verifiers = take_map(reader, "verifiers of a user", |reader| {
            let verifier = take_verifier(reader)?;
            Ok((verifier.mechanism(), verifier))
        })?;
        let tokens = take_map(reader, "tokens of a user", take_token)?;
        Ok((name, User { verifiers, tokens }))
    })?;
    Ok(Users::of(by_name, secret))
}

fn put_token(out: &mut BytesMut, name: &TokenName, token: &Token) {
    put_bytes(out, name.as_str().as_bytes());
    out.put_slice(&token.hash);
    out.put_i64_le(token.made_ms);
}

fn take_token(reader: &mut Reader) -> Result<(TokenName, Token), DecodeError> {
    let name = take_token_name(reader)?;
    let hash = take_32(reader, "token's hash")?;
    let made_ms = reader.i64("token made at")?;
    Ok((name, Token { hash, made_ms }))
}
