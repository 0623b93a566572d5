//! What may follow what, and what is refused.

use tidegate_shared::scram::client::{client_final, server_final};

use super::*;

const BARE: &str = "n=ada,r=abc";

fn verifier_of(mechanism: Mechanism, name: &str) -> (Verifier, bool) {
    let verifier = Verifier::derive(mechanism, "pencil", b"salt of 16 bytes", 4_096);
    (verifier.unwrap(), name == "ada")
}

fn chosen(name: &str) -> Sasl<'static> {
    let mut sasl = Sasl::new(&SaslMechanism::ALL);
    sasl.handshake(1, name).unwrap();
    sasl
}

fn token(sasl: &mut Sasl<'_>, token: &str) -> Result<Step, SaslError> {
    sasl.token(token.as_bytes(), verifier_of, "nonce")
}

fn challenge(sasl: &mut Sasl<'_>) -> String {
    let Ok(Step::Challenge(challenge)) = token(sasl, &format!("n,,{BARE}")) else {
        panic!("no challenge");
    };
    String::from_utf8(challenge).unwrap()
}

#[test]
fn a_client_proves_itself_by_scram() {
    for mechanism in Mechanism::ALL {
        let mut sasl = chosen(mechanism.name());
        let server_first = challenge(&mut sasl);
        let last = client_final(mechanism, "pencil", BARE, &server_first, "n,,");
        let Ok(Step::Done(done)) = token(&mut sasl, &last) else {
            panic!("it is the password");
        };
        assert_eq!(done.name, "ada");
        let proof = server_final(mechanism, "pencil", BARE, &server_first, &last);
        assert_eq!(done.token, proof.into_bytes());
        let after = token(&mut sasl, &last).unwrap_err();
        assert_eq!(after, SaslError::OutOfTurn("SaslAuthenticate"));
    }
}

#[test]
fn a_wrong_proof_ends_it() {
    let mut sasl = chosen("SCRAM-SHA-256");
    let server_first = challenge(&mut sasl);
    let last = client_final(Mechanism::Sha256, "wrong", BARE, &server_first, "n,,");
    let refused = token(&mut sasl, &last).unwrap_err();
    assert_eq!(refused, SaslError::Scram(ScramError::Rejected));
    let told = refused.told(sasl.mechanism());
    assert!(told.ends_with("SASL mechanism SCRAM-SHA-256"), "{told}");
    let right = client_final(Mechanism::Sha256, "pencil", BARE, &server_first, "n,,");
    assert!(token(&mut sasl, &right).is_err(), "there is no second try");
}

#[test]
fn plain_asks_for_a_check() {
    let mut sasl = chosen("PLAIN");
    let Ok(Step::Check(password)) = token(&mut sasl, "\0ada\0pencil") else {
        panic!("no check");
    };
    assert_eq!((&*password.name, &*password.password), ("ada", "pencil"));
    assert!(!format!("{password:?}").contains("pencil"));
    let done = sasl.checked(Some("ada".to_owned())).unwrap();
    assert_eq!((&*done.name, done.token.len()), ("ada", 0));
    let mut sasl = chosen("PLAIN");
    assert!(token(&mut sasl, "ada\0ada\0wrong").is_ok());
    assert_eq!(sasl.checked(None), Err(SaslError::WrongPassword));
    assert!(
        sasl.checked(Some("ada".to_owned())).is_err(),
        "nobody asked"
    );
}

#[test]
fn plain_tokens_that_are_none() {
    for (said, why) in [
        ("", PlainError::Form),
        ("ada\0pencil", PlainError::Form),
        ("\0ada\0pencil\0", PlainError::Form),
        ("\0\0pencil", PlainError::NoName),
        ("\0ada\0", PlainError::NoPassword),
        ("root\0ada\0pencil", PlainError::ActsAs),
    ] {
        let refused = token(&mut chosen("PLAIN"), said).unwrap_err();
        assert_eq!(refused, SaslError::Plain(why), "{said:?}");
    }
    let refused = chosen("PLAIN").token(&[0xff, 0, 0], verifier_of, "nonce");
    assert!(refused.is_err());
}

#[test]
fn what_is_out_of_turn_is_refused() {
    let mut sasl = Sasl::new(&SaslMechanism::ALL);
    let refused = token(&mut sasl, "\0ada\0pencil").unwrap_err();
    assert_eq!(refused, SaslError::OutOfTurn("SaslAuthenticate"));
    let mut sasl = chosen("PLAIN");
    let refused = sasl.handshake(1, "PLAIN");
    assert_eq!(refused, Err(SaslError::OutOfTurn("SaslHandshake")));
}

#[test]
fn only_what_is_offered_can_be_chosen() {
    let offered = [SaslMechanism::Scram(Mechanism::Sha512)];
    let mut sasl = Sasl::new(&offered);
    for name in ["PLAIN", "SCRAM-SHA-256", "GSSAPI", ""] {
        let refused = sasl.handshake(1, name);
        assert_eq!(refused, Err(SaslError::NotOffered(name.to_owned())));
    }
    assert_eq!(sasl.handshake(0, "SCRAM-SHA-512"), Ok(()));
    assert!(sasl.is_raw());
    assert!(
        "GSSAPI"
            .parse::<SaslMechanism>()
            .unwrap_err()
            .contains("PLAIN")
    );
}

#[test]
fn random_tokens_never_pass() {
    let tokens: [&[u8]; 6] = [
        b"",
        b"\0",
        b"n,,",
        b"n,,n=ada,r=",
        b"c=biws,r=abcnonce,p=",
        &[0xff; 40],
    ];
    for name in SaslMechanism::ALL.map(SaslMechanism::name) {
        for first in tokens {
            for second in tokens {
                let mut sasl = chosen(name);
                let _ = sasl.token(first, verifier_of, "nonce");
                let second = sasl.token(second, verifier_of, "nonce");
                assert!(!matches!(second, Ok(Step::Done(_))));
            }
        }
    }
}
