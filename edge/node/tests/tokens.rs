//! Tokens as passwords: who has one comes in as whom it names, for as long as it says; a key that is taken away takes its
//! tokens' owners with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SigningKey};
use ring::hmac;
use serde_json::{Value, json};
use support::{Connect, metric};
use tidegate_edge::Edge;
use tidegate_shared::fleet::{JwtSpec, parse_yaml};

const JOURNAL: &str = "journal: {commit_linger: 0, bytes_max: 64MiB, free_disk_min: 0}\n";
const SECRET: &str = "a secret of at least 32 bytes, or more";

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn token(algorithm: &str, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": algorithm })), part(claims));
    format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()))
    )
}

fn by_secret(secret: &str, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    token("HS256", claims, |signed| {
        hmac::sign(&key, signed).as_ref().to_vec()
    })
}

async fn edge(folder: &Path, keys: &str) -> Edge {
    let mut spec = support::spec(folder, JOURNAL);
    let mut jwt: JwtSpec = parse_yaml(keys).unwrap();
    jwt.resolve(folder);
    spec.mqtt.jwt = Some(jwt);
    let rules = folder.join("acl.yaml");
    std::fs::write(&rules, "rules: [{allow: [publish], topics: ['of/%u']}]").unwrap();
    spec.mqtt.acl = Some(rules);
    Edge::start(spec).await.unwrap()
}

fn client<'a>(level: u8, client_id: &'a str, token: &'a str) -> Connect<'a> {
    Connect {
        level,
        client_id,
        clean: true,
        user: Some("what is said here counts for nothing"),
        password: Some(token.as_bytes()),
        ..Connect::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_a_password_and_its_claim_the_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
    let edge = edge(folder.path(), "secret: secret").await;
    let at = edge.mqtt_addresses()[0];
    let good = by_secret(SECRET, &json!({ "sub": "ada", "exp": now_s() + 3_600 }));
    for level in [3, 4, 5] {
        client(level, "device", &good).opened(at).ping();
    }
    let asked = client(5, "device", &good);
    let mut ada = asked.opened(at);
    assert!(ada.answer(&asked.publish(1, "of/ada", b"x")).1 < 0x80);
    assert_eq!(ada.answer(&asked.publish(1, "of/bob", b"x")).1, 0x87);
    let none = token("none", &json!({ "sub": "ada" }), |_| Vec::new());
    let old = by_secret(SECRET, &json!({ "sub": "ada", "exp": now_s() - 3_600 }));
    let forged = by_secret(
        "another secret of at least 32 bytes",
        &json!({ "sub": "ada" }),
    );
    for (wrong, level, code) in [(none, 5, 0x86), (old, 5, 0x86), (forged, 4, 4)] {
        assert_eq!(client(level, "device", &wrong).open(at).0, code, "{wrong}");
    }
    let nothing = Connect {
        user: None,
        password: None,
        ..client(5, "device", "")
    };
    assert_eq!(nothing.open(at).0, 0x87);
    let failed = "tidegate_failed_authentications_total{door=\"mqtt\"}";
    assert_eq!(metric(edge.http_address(), failed), 4);
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_keys_are_read_from_pem() {
    for (kind, algorithm) in [
        (&PKCS_ECDSA_P256_SHA256, "ES256"),
        (&PKCS_ECDSA_P384_SHA384, "ES384"),
        (&PKCS_ED25519, "EdDSA"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate_for(kind).unwrap();
        std::fs::write(folder.path().join("key.pem"), pair.public_key_pem()).unwrap();
        let edge = edge(folder.path(), "public_key: key.pem").await;
        let sign = |signed: &[u8]| fixed(algorithm, &pair.sign(signed).unwrap());
        let good = token(algorithm, &json!({ "sub": "ada" }), sign);
        client(5, "device", &good)
            .opened(edge.mqtt_addresses()[0])
            .ping();
        edge.shutdown().await;
    }
}

/// What X.509 has as ASN.1, a token has as two numbers of a fixed length.
fn fixed(algorithm: &str, signature: &[u8]) -> Vec<u8> {
    let half = match algorithm {
        "ES256" => 32,
        "ES384" => 48,
        _ => return signature.to_vec(),
    };
    let mut rest = &signature[2..];
    let mut out = Vec::new();
    for _ in 0..2 {
        let (number, behind) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(half)..];
        out.extend(vec![0; half - number.len()]);
        out.extend(number);
        rest = behind;
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token_or_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let set = |secrets: &[&str]| {
        let keys = secrets
            .iter()
            .map(|secret| json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret) }));
        json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
    };
    let other = "another secret of at least 32 bytes";
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, set(&[SECRET, other])).unwrap();
    let edge = edge(folder.path(), "{jwks: jwks.json, user_claim: device}").await;
    let at = edge.mqtt_addresses()[0];
    let claims = |exp: u64| json!({ "device": "ada", "exp": exp });
    let stays = by_secret(SECRET, &claims(now_s() + 3_600));
    let loses_its_key = by_secret(other, &claims(now_s() + 3_600));
    let mut staying = client(5, "staying", &stays).opened(at);
    let mut losing = client(5, "losing", &loses_its_key).opened(at);
    // It counts for a minute after its end, of which a few seconds are left.
    let mut let_in = None;
    support::wait_until("it comes while its token counts", || {
        let ends = by_secret(SECRET, &claims(now_s() - 54));
        let (reason, ending) = client(5, "ending", &ends).open(at);
        let_in = (reason == 0).then_some(ending);
        let_in.is_some()
    });
    let mut ending = let_in.unwrap();
    assert_eq!(ending.ends(), [0xe0, 1, 0x87]);
    std::fs::write(&jwks, "{}").unwrap();
    edge.reload().await;
    losing.ping();
    std::fs::write(&jwks, set(&[SECRET])).unwrap();
    edge.reload().await;
    assert_eq!(losing.ends(), [0xe0, 1, 0x87]);
    staying.ping();
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_wrong_do_not_start_a_node() {
    let folder = tempfile::tempdir().unwrap();
    for (keys, text, problem) in [
        ("secret: key", "short", "mqtt.jwt.secret"),
        ("public_key: key", SECRET, "BEGIN PUBLIC KEY"),
        ("jwks: key", "{}", "no set of keys"),
    ] {
        std::fs::write(folder.path().join("key"), text).unwrap();
        let mut spec = support::spec(folder.path(), JOURNAL);
        let mut jwt: JwtSpec = parse_yaml(keys).unwrap();
        jwt.resolve(folder.path());
        spec.mqtt.jwt = Some(jwt);
        let said = format!("{:#}", Edge::start(spec).await.unwrap_err());
        assert!(said.contains(problem), "{said}");
    }
}
