//! The file of users.

use tidegate_shared::scram::client::client_final;

use super::*;

const SECRET: [u8; 32] = [7; 32];
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

fn users() -> Users {
    let verifier = Verifier::derive(SCRAM, "pencil", b"salt of 16 bytes", 4_096).unwrap();
    Users::parse(&format!("# one user\n\nuser:{verifier}\n"), SECRET).unwrap()
}

fn begin(first: &str) -> Result<(Exchange, String), ScramError> {
    Exchange::begin(&users(), first.as_bytes(), SERVER_NONCE)
}

/// Who guesses at names sees a salt for each, and the same one each time.
#[test]
fn a_name_that_is_not_there_looks_like_one_that_is() {
    let ask = |name: &str| begin(&format!("n,,n={name},r=abc")).unwrap();
    let (exchange, first) = ask("nobody");
    assert_eq!(ask("nobody").1, first);
    assert_ne!(ask("somebody").1, first);
    assert_eq!(first.len(), ask("user").1.len());
    assert!(first.ends_with(",i=4096"));
    let last = client_final(SCRAM, "pencil", "n=nobody,r=abc", &first, "n,,");
    assert_eq!(exchange.finish(last.as_bytes()), Err(ScramError::Rejected));
    let other = Users::parse("", [8; 32]).unwrap();
    let (_, elsewhere) = Exchange::begin(&other, b"n,,n=nobody,r=abc", SERVER_NONCE).unwrap();
    assert_ne!(elsewhere, first, "each node makes up its own");
}

#[test]
fn names_are_prepared_and_unescaped() {
    let verifier = Verifier::derive(SCRAM, "p", b"salt", 4_096).unwrap();
    // ROMAN NUMERAL NINE becomes IX, and a soft hyphen nothing (RFC 4013).
    let text = format!("a:b:{verifier}\nx,y=z:{verifier}\n\u{2168}\u{ad}:{verifier}\n");
    let users = Users::parse(&text, SECRET).unwrap();
    assert_eq!(users.len(), 3);
    for name in ["a:b", "x=2Cy=3Dz", "IX", "I\u{ad}X"] {
        let bare = format!("n={name},r=abc");
        let first = format!("n,,{bare}");
        let (exchange, first) = Exchange::begin(&users, first.as_bytes(), "s").unwrap();
        let last = client_final(SCRAM, "p", &bare, &first, "n,,");
        assert!(exchange.finish(last.as_bytes()).is_ok(), "{name}");
    }
}

#[test]
fn a_line_that_is_wrong_is_named() {
    let verifier = Verifier::derive(SCRAM, "p", b"salt", 4_096)
        .unwrap()
        .to_string();
    for (line, problem) in [
        ("name".to_owned(), "is not NAME:SCRAM-SHA-256$"),
        (format!(":{verifier}"), "the name is empty"),
        (format!("a:{verifier}\na:{verifier}"), "a is there twice"),
        (
            format!("a:{}", verifier.replace("4096", "4095")),
            "iterations",
        ),
        (format!("a:{verifier}="), "keys"),
        (
            format!("a:{verifier}$"),
            "the verifier of a: it is not SCRAM",
        ),
        (format!("a:{}", verifier.replace("c2FsdA==", "!")), "salt"),
    ] {
        let error = Users::parse(&format!("# users\n{line}"), SECRET).unwrap_err();
        let at = 1 + line.lines().count();
        assert_eq!(error.line, at, "{line}");
        assert!(error.to_string().contains(problem), "{error}");
        assert!(!error.to_string().contains(&verifier[15..]), "{error}");
    }
}
