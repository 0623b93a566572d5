//! Tokens of each kind of key, and all that must not pass for one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use serde_json::json;

use super::*;

const SECRET: &[u8] = b"a secret of at least 32 bytes, or more";
const NOW_S: u64 = 1_700_000_000;

/// By openssl: a key of 2048 bits, and what it has signed, `{"sub":"ada","exp":4000000000}`.
const RSA_N: &str = "6YPOKh1I1m1BkXZefmbNworNN_pLmekP8Woc-FIOiY1jvWQCRRmm09c0hA3zbIx_kSBzeIjcJKA5bBvcMiaD8RCRBCCepubOqg3Z\
    npDhLKtZYBmNC-2M9hqaf2KyLWdMLD13qReNJqYOLlJRYidGCtbOdhwPj5OgkgmK2gDDn_qdl8xDUrBSclETPX9ZqeCASPwViW9_\
    U1UpSDvdrcSpOILr0ugblJPiYg8fo0QMdgnsTO7AmkBptcQH0r8-b5a3bKt_I3DNbE-xXsOJij8jFxYRieYp6AJEUftndotHDk2p\
    830J0qDioxML7bVEnp8KihQ02QMnM6_Q6JdCegQGRQ";
const RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjQwMDAwMDAwMDB9.pL9WcGpEnUY1C77k8IHnbs\
    yNvSDLYvVQ0IMKkAVmwTJHsiOenVBfqeN-dZtXkQdqveFeAaWxLTk0lXYfGvat2lbeFJUlLGfZDonfHtNmfjAcEXtUXIO9yMjm4b\
    7hl_QvrNOqjHi1xAYtWQ6aV3DZDlRV-jUXcxadWWZLZ0XRk3AvHCkDyUd3MVQwn9prjDU6tKMestXSF8XJYs55G1ZlMVPsUE0_uH\
    8hs_HuJCo97m7ZudECJJ__WmR76Dm53Uyr717To-uVyDTZnS-cBNzWgjSrQI8uFhw-vECTJm87jC4WM02d1SUFzOI_shTz0uk9Za\
    Sp5IpI6oMXDSDIcDjIkg";
const PS384: &str = "eyJhbGciOiJQUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOjQwMDAwMDAwMDB9.XId8KqHMUbiHNunRBN5LKW\
    iO_V8CWoZUowPWI6d2yKleWZSUHomthDL724-B_gknLHmmBhwyO0cXT1kHg0IdO_jHhlQB1x0PZ_YPPYCDeYdSgUPNLd3QWdzb6G\
    SAUfPbO0nltIoUeKS0E1JxjmtItqAar1mnSp0m6AjjlWxxk_xgrY6dGh3axATM1F2m_6vx7GROh6-YCYiH6FjnQUdEtHQHIsqq7k\
    UwmyiObGoDkgdTdevK-wZT_tqXpQtYMM-JBOVCupFReYdlVu4b7KKiUYMLInD2rnK8_TSL18htVN51TRnv-cUi5NobxUdhGaHPg1\
    sHK_GZzHss9sN6igXH1Q";

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()))
    )
}

fn by_secret(algorithm: &str, secret: &[u8], signed: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), signed)
        .as_ref()
        .to_vec()
}

/// Signed by the secret.
fn hs256(claims: &Value) -> String {
    token(&json!({ "alg": "HS256" }), claims, |signed| {
        by_secret("HS256", SECRET, signed)
    })
}

fn tokens(keys: Vec<TokenKey>) -> Tokens {
    let rules = TokenRules {
        user_claim: "sub".to_owned(),
        ..TokenRules::default()
    };
    Tokens {
        keys: vec![Arc::new(keys)],
        rules: Arc::new(rules),
    }
}

fn of_secret() -> Tokens {
    tokens(vec![TokenKey::secret(SECRET).unwrap()])
}

fn user(tokens: &Tokens, token: &str) -> Result<String, TokenError> {
    let proved = tokens.check(token.as_bytes(), Some(NOW_S));
    proved.map(|proved| proved.user)
}

fn elliptic(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap()
}

#[test]
fn each_kind_of_key_takes_its_own_algorithms_and_no_other() {
    let claims = json!({ "sub": "ada" });
    let random = SystemRandom::new();
    let (p256, p384) = (
        elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING),
        elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING),
    );
    let edwards = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let edwards = Ed25519KeyPair::from_pkcs8(edwards.as_ref()).unwrap();
    let rsa = json!({ "keys": [{ "kty": "RSA", "n": RSA_N, "e": "AQAB" }] });
    let keys = [
        TokenKey::secret(SECRET).unwrap(),
        TokenKey::p256(p256.public_key().as_ref()).unwrap(),
        TokenKey::p384(p384.public_key().as_ref()).unwrap(),
        TokenKey::ed25519(edwards.public_key().as_ref()).unwrap(),
        Jwks::parse(&rsa.to_string()).unwrap().remove(0),
    ];
    let sign =
        |pair: &EcdsaKeyPair, signed: &[u8]| pair.sign(&random, signed).unwrap().as_ref().to_vec();
    let header = |algorithm: &str| json!({ "alg": algorithm, "typ": "JWT" });
    let secret = |algorithm: &'static str| {
        (
            0,
            token(&header(algorithm), &claims, |signed| {
                by_secret(algorithm, SECRET, signed)
            }),
        )
    };
    let signed = [
        secret("HS256"),
        secret("HS384"),
        secret("HS512"),
        (
            1,
            token(&header("ES256"), &claims, |signed| sign(&p256, signed)),
        ),
        (
            2,
            token(&header("ES384"), &claims, |signed| sign(&p384, signed)),
        ),
        (
            3,
            token(&header("EdDSA"), &claims, |signed| {
                edwards.sign(signed).as_ref().to_vec()
            }),
        ),
        (4, RS256.to_owned()),
        (4, PS384.to_owned()),
    ];
    for (own, token) in &signed {
        for (at, key) in keys.iter().enumerate() {
            let expected = if at == *own {
                Ok("ada".to_owned())
            } else {
                Err(TokenError::Algorithm)
            };
            assert_eq!(
                user(&tokens(vec![key.clone()]), token),
                expected,
                "{own} {at}"
            );
        }
        // Among all, it is found; and each byte of it matters.
        let all = tokens(keys.to_vec());
        assert_eq!(user(&all, token), Ok("ada".to_owned()));
        for at in [10, token.len() / 2, token.len() - 10] {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(all.check(&changed, Some(NOW_S)).is_err(), "{own} {at}");
        }
    }
}

#[test]
fn none_and_a_key_taken_for_another_are_refused() {
    let claims = json!({ "sub": "ada" });
    let rsa = json!({ "keys": [{ "kty": "RSA", "n": RSA_N, "e": "AQAB" }] }).to_string();
    let rsa = tokens(Jwks::parse(&rsa).unwrap());
    for algorithm in ["none", "None", "NONE", "", "HS256", "hs256", "ES512"] {
        let header = json!({ "alg": algorithm });
        // Nothing, and what who knows the public key could make of it.
        let modulus = URL_SAFE_NO_PAD.decode(RSA_N).unwrap();
        for signature in [
            Vec::new(),
            by_secret("HS256", &modulus, part(&header).as_bytes()),
        ] {
            let token = token(&header, &claims, |_| signature.clone());
            assert_eq!(
                user(&rsa, &token),
                Err(TokenError::Algorithm),
                "{algorithm}"
            );
            if algorithm != "HS256" {
                assert_eq!(
                    user(&of_secret(), &token),
                    Err(TokenError::Algorithm),
                    "{algorithm}"
                );
            }
        }
    }
    let other = token(&json!({ "alg": "HS256" }), &claims, |signed| {
        by_secret("HS256", b"another", signed)
    });
    assert_eq!(user(&of_secret(), &other), Err(TokenError::Signature));
    let critical = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
    let critical = token(&critical, &claims, |signed| {
        by_secret("HS256", SECRET, signed)
    });
    assert_eq!(user(&of_secret(), &critical), Err(TokenError::Critical));
    for token in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9..",
        "\u{fc}.\u{fc}.\u{fc}",
    ] {
        assert!(user(&of_secret(), token).is_err(), "{token}");
    }
    assert_eq!(
        user(&of_secret(), &"a".repeat(TOKEN_BYTES_MAX + 1)),
        Err(TokenError::TooLong)
    );
}

#[test]
fn its_time_counts_with_some_leeway_and_only_by_a_clock_that_can_be_trusted() {
    let tokens = of_secret();
    let at = |claims: Value, now_s| {
        tokens
            .check(hs256(&claims).as_bytes(), now_s)
            .map(|proved| proved.ends_at_s)
    };
    let times = |exp: u64, nbf: u64| json!({ "sub": "ada", "exp": exp, "nbf": nbf });
    let end = Some(NOW_S + 1 + TOKEN_LEEWAY_S);
    for (claims, expected) in [
        (times(NOW_S + 1, NOW_S), Ok(end)),
        (times(NOW_S - TOKEN_LEEWAY_S, 0), Err(TokenError::Ended)),
        (times(NOW_S - TOKEN_LEEWAY_S + 1, 0), Ok(Some(NOW_S + 1))),
        (times(NOW_S + 1, NOW_S + TOKEN_LEEWAY_S), Ok(end)),
        (
            times(NOW_S + 1, NOW_S + TOKEN_LEEWAY_S + 1),
            Err(TokenError::NotBegun),
        ),
        (json!({ "sub": "ada" }), Ok(None)),
        (json!({ "sub": "ada", "exp": NOW_S as f64 + 1.5 }), Ok(end)),
        (
            json!({ "sub": "ada", "exp": "never" }),
            Err(TokenError::Time),
        ),
        (json!({ "sub": "ada", "exp": -1 }), Err(TokenError::Time)),
    ] {
        assert_eq!(at(claims.clone(), Some(NOW_S)), expected, "{claims}");
    }
    assert_eq!(at(times(1, 0), None), Ok(Some(1 + TOKEN_LEEWAY_S)));
}

#[test]
fn claims_are_held_against_what_is_asked_for() {
    let rules = TokenRules {
        user_claim: "device".to_owned(),
        issuer: Some("plant".to_owned()),
        audience: Some("edge".to_owned()),
    };
    let tokens = Tokens {
        rules: Arc::new(rules),
        ..of_secret()
    };
    for (claims, expected) in [
        (
            json!({ "device": "pump", "iss": "plant", "aud": "edge" }),
            Ok("pump".to_owned()),
        ),
        (
            json!({ "device": "pump", "iss": "plant", "aud": ["other", "edge"] }),
            Ok("pump".to_owned()),
        ),
        (
            json!({ "device": "pump", "iss": "plant", "aud": ["other"] }),
            Err(TokenError::Audience),
        ),
        (
            json!({ "device": "pump", "iss": "plant" }),
            Err(TokenError::Audience),
        ),
        (
            json!({ "device": "pump", "iss": "other", "aud": "edge" }),
            Err(TokenError::Issuer),
        ),
        (
            json!({ "sub": "pump", "iss": "plant", "aud": "edge" }),
            Err(TokenError::NoUser),
        ),
        (
            json!({ "device": "", "iss": "plant", "aud": "edge" }),
            Err(TokenError::NoUser),
        ),
        (
            json!({ "device": 7, "iss": "plant", "aud": "edge" }),
            Err(TokenError::NoUser),
        ),
    ] {
        assert_eq!(user(&tokens, &hs256(&claims)), expected, "{claims}");
    }
}

#[test]
fn a_set_of_keys_is_read_and_its_ids_count() {
    let other = URL_SAFE_NO_PAD.encode([7; 32]);
    let own = URL_SAFE_NO_PAD.encode(SECRET);
    let set = json!({ "keys": [
        { "kty": "oct", "kid": "a", "k": other },
        { "kty": "oct", "kid": "b", "k": own, "alg": "HS256", "use": "sig" },
        { "kty": "RSA", "use": "enc", "n": "AQAB" },
        { "kty": "of the future" },
        { "kty": "EC", "crv": "P-521", "x": "AQAB", "y": "AQAB" },
        { "kty": "OKP", "crv": "X25519", "x": "AQAB" },
        { "kty": "RSA", "n": "AQAB", "e": "AQAB" },
    ] });
    let tokens = tokens(Jwks::parse(&set.to_string()).unwrap());
    assert_eq!(tokens.keys().count(), 2);
    let by = |header: &Value| {
        let algorithm = header["alg"].as_str().unwrap().to_owned();
        let token = token(header, &json!({ "sub": "ada" }), |signed| {
            by_secret(&algorithm, SECRET, signed)
        });
        tokens.check(token.as_bytes(), None)
    };
    let proved = by(&json!({ "alg": "HS256", "kid": "b" })).unwrap();
    assert!(tokens.has_key(proved.key) && !of_secret().has_key(proved.key + 1));
    assert_eq!(by(&json!({ "alg": "HS256" })), Ok(proved));
    assert_eq!(
        by(&json!({ "alg": "HS256", "kid": "a" })),
        Err(TokenError::Signature)
    );
    assert_eq!(
        by(&json!({ "alg": "HS512", "kid": "b" })),
        Err(TokenError::Signature)
    );
    for (key, problem) in [
        (json!({ "kty": "oct" }), KeyError::Member("k")),
        (json!({ "kty": "oct", "k": "AQAB" }), KeyError::Secret(3)),
        (
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            KeyError::Empty,
        ),
        (
            json!({ "kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB" }),
            KeyError::Point,
        ),
        (
            json!({ "kty": "EC", "crv": "P-521", "x": "AQAB", "y": "AQAB" }),
            KeyError::Empty,
        ),
        (json!({ "kty": "of the future" }), KeyError::Empty),
    ] {
        let set = json!({ "keys": [key] }).to_string();
        assert_eq!(Jwks::parse(&set).unwrap_err(), problem, "{set}");
    }
    assert!(matches!(Jwks::parse("{}"), Err(KeyError::Json(_))));
}
