//! The client's side, for tests of servers: its second message for a password, and what it expects of the server at
//! the end. It is written after the RFC, not after the server.

use std::num::NonZeroU32;

use super::{Mechanism, decode, encode};

/// The client's second message. `bare` is the first one without `header`.
///
/// # Panics
/// Where the server's message is none.
pub fn client_final(
    mechanism: Mechanism,
    password: &str,
    bare: &str,
    server_first: &str,
    header: &str,
) -> String {
    let (nonce, _) = salted(mechanism, password, server_first);
    let without_proof = format!("c={},r={nonce}", encode(header.as_bytes()));
    let signed = format!("{bare},{server_first},{without_proof}");
    let proof = proof(mechanism, password, server_first, &signed);
    format!("{without_proof},p={proof}")
}

/// Of what both have said.
pub(super) fn proof(
    mechanism: Mechanism,
    password: &str,
    server_first: &str,
    signed: &str,
) -> String {
    let (_, salted) = salted(mechanism, password, server_first);
    let key = mechanism.hmac(&salted, b"Client Key");
    let signature = mechanism.hmac(&mechanism.hash(&key), signed.as_bytes());
    let proof: Vec<u8> = key
        .iter()
        .zip(signature)
        .map(|(key, mask)| key ^ mask)
        .collect();
    encode(&proof)
}

/// What the client expects of the server at the end.
///
/// # Panics
/// Where the messages are none.
pub fn server_final(
    mechanism: Mechanism,
    password: &str,
    bare: &str,
    server_first: &str,
    client_final: &str,
) -> String {
    let (_, salted) = salted(mechanism, password, server_first);
    let key = mechanism.hmac(&salted, b"Server Key");
    let (without_proof, _) = client_final.rsplit_once(",p=").expect("it has a proof");
    let signed = format!("{bare},{server_first},{without_proof}");
    format!("v={}", encode(&mechanism.hmac(&key, signed.as_bytes())))
}

/// What a client sends in place of a password where it makes a user.
///
/// # Panics
/// There are no iterations.
pub fn salted_password(
    mechanism: Mechanism,
    password: &str,
    salt: &[u8],
    iterations: u32,
) -> Vec<u8> {
    let iterations = NonZeroU32::new(iterations).expect("at least one");
    mechanism.salted(password.as_bytes(), salt, iterations)
}

fn salted<'a>(mechanism: Mechanism, password: &str, server_first: &'a str) -> (&'a str, Vec<u8>) {
    let mut parts = server_first.split(',');
    let mut part = |name| {
        let part = parts.next().and_then(|part: &str| part.strip_prefix(name));
        part.unwrap_or_else(|| panic!("no {name} in {server_first}"))
    };
    let (nonce, salt, iterations) = (part("r="), part("s="), part("i="));
    let salt = decode(salt).expect("the salt is base64");
    let iterations: NonZeroU32 = iterations.parse().expect("iterations are a number");
    let salted = mechanism.salted(password.as_bytes(), &salt, iterations);
    (nonce, salted)
}
