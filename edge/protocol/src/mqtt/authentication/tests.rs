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

fn hashed(password: &str, memory_kib: u32) -> PasswordHash {
    PasswordHash::derive(password.as_bytes(), b"salt of 16 bytes", memory_kib, 1).unwrap()
}

#[test]
fn a_password_is_held_against_a_hash_or_else_a_verifier() {
    let verifier = Verifier::derive(SCRAM, "pencil", b"salt of 16 bytes", 4_096).unwrap();
    let other = Verifier::derive(SCRAM, "other", b"salt of 16 bytes", 4_096).unwrap();
    let hash = hashed("lovelace", 64);
    let text = format!("ada:{hash}\npump:{verifier}\nboth:{hash}\nboth:{other}\na:b:{hash}\n");
    let users = Users::parse(&text, SECRET).unwrap();
    assert_eq!((users.len(), users.memory_kib_max()), (4, 64));
    for (name, password, fits) in [
        ("ada", "lovelace", true),
        ("ada", "Lovelace", false),
        ("ada", "", false),
        ("pump", "pencil", true),
        ("pump", "lovelace", false),
        ("both", "lovelace", true),
        ("both", "other", false),
        ("a:b", "lovelace", true),
        // The hash that an unknown name is held against is somebody's.
        ("nobody", "lovelace", false),
        ("", "lovelace", false),
    ] {
        assert_eq!(
            users.fits(name, password.as_bytes()),
            fits,
            "{name} {password}"
        );
    }
    assert!(!users.fits("ada", &[0xff]) && !users.fits("pump", &[0xff]));
    // What a name is checked by tells when it has changed.
    let known = users.known("ada").unwrap();
    assert_eq!(known.0, "ada");
    let again = Users::parse(&text.replace("pencil", "crayon"), SECRET).unwrap();
    assert_eq!(again.known("ada"), Some(known.clone()));
    let changed = Users::parse(&format!("ada:{}", hashed("another", 64)), SECRET).unwrap();
    assert_ne!(changed.known("ada"), Some(known));
    assert_eq!(changed.known("pump"), None);
}

#[test]
fn a_hash_says_what_it_costs_and_that_is_bounded() {
    let hash = hashed("p", 64);
    let text = hash.to_string();
    assert!(text.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{text}");
    assert_eq!(text.parse(), Ok(hash));
    // By the reference implementation of Argon2.
    let reference =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    assert!(reference.parse::<PasswordHash>().unwrap().fits(b"password"));
    for (from, to, problem) in [
        ("m=64", "m=65537", PasswordHashError::Cost),
        ("t=1", "t=65", PasswordHashError::Cost),
        ("p=1", "p=17", PasswordHashError::Form),
        ("argon2id", "argon2i", PasswordHashError::Form),
        ("v=19", "v=16", PasswordHashError::Form),
        ("$v=19", "", PasswordHashError::Form),
        ("$m=64,t=1,p=1", "$m=64", PasswordHashError::Form),
    ] {
        let text = text.replace(from, to);
        let refused = text.parse::<PasswordHash>();
        let is_known = matches!(&refused, Err(why) if *why == problem);
        // Fewer parameters are the defaults of Argon2, which are bounded as well.
        assert!(
            is_known || (to == "$m=64" && refused.is_ok()),
            "{text} {refused:?}"
        );
    }
    let cut = &text[..text.rfind('$').unwrap()];
    assert_eq!(cut.parse::<PasswordHash>(), Err(PasswordHashError::Form));
    let derive = |password: &[u8], memory_kib, passes| {
        PasswordHash::derive(password, b"salt of 16 bytes", memory_kib, passes)
    };
    assert_eq!(derive(b"", 64, 1), Err(PasswordHashError::Empty));
    assert_eq!(derive(b"p", 7, 1), Err(PasswordHashError::TooCheap));
    assert_eq!(derive(b"p", 64, 0), Err(PasswordHashError::TooCheap));
    assert_eq!(
        derive(b"p", ARGON2_MEMORY_KIB_MAX + 1, 1),
        Err(PasswordHashError::Cost)
    );
    for (line, problem) in [
        ("a:$argon2id$", "the password of a"),
        (
            "a:$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
            "it is not NAME",
        ),
        (":$argon2id$v=19$m=64", "the name is empty"),
    ] {
        let error = Users::parse(line, SECRET).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains("m=64"), "{error}");
    }
    let twice = format!("a:{text}\na:{text}");
    let error = Users::parse(&twice, SECRET).unwrap_err();
    assert_eq!((error.line, error.to_string().contains("twice")), (2, true));
}
