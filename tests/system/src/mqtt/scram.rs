//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), for tests that must be authenticated before they
//! do something wrong. It checks nothing of the server's: clients that somebody else wrote do (`scram.rs`
//! among the tests).

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

pub const METHOD: &str = "SCRAM-SHA-256";

/// One user, who may prove itself as often as it likes.
#[derive(Debug)]
pub struct Client {
    bare: String,
    password: String,
    /// What a salt and so many iterations make of the password: that takes long.
    salted: Option<(String, [u8; 32])>,
}

impl Client {
    pub fn new(name: &str, password: &str) -> Self {
        Self {
            bare: format!("n={name},r=rOprNGfwEbeRWgbNEkqO"),
            password: password.to_owned(),
            salted: None,
        }
    }

    /// Its first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// Its answer to the server's first message.
    pub fn last(&mut self, server_first: &str) -> String {
        let (nonce, salting) = server_first
            .split_once(",s=")
            .expect("the server's message has a salt");
        let salted = self.salted(salting);
        let key = mac(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &key);
        let without_proof = format!("c=biws,{nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.bare);
        let signature = mac(stored.as_ref(), signed.as_bytes());
        let proof = key.iter().zip(signature).map(|(key, mask)| key ^ mask);
        let proof: Vec<u8> = proof.collect();
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    /// `salting` is a salt in base64, and the iterations.
    fn salted(&mut self, salting: &str) -> [u8; 32] {
        match &self.salted {
            Some((of, salted)) if of == salting => *salted,
            _ => {
                let salted = salt(&self.password, salting);
                self.salted = Some((salting.to_owned(), salted));
                salted
            }
        }
    }
}

fn salt(password: &str, salting: &str) -> [u8; 32] {
    let (salt, iterations) = salting
        .split_once(",i=")
        .expect("the server's message has iterations");
    let iterations: NonZeroU32 = iterations.parse().expect("iterations are a number");
    let salt = STANDARD.decode(salt).expect("a salt is base64");
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    salted
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
