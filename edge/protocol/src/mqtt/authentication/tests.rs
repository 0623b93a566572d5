//! The example of RFC 7677, and what goes wrong.

use proptest::prelude::*;
use ring::pbkdf2;

use super::*;

const SECRET: [u8; 32] = [7; 32];
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// The user and the password of RFC 7677.
fn users() -> Users {
    let verifier = Verifier::derive("pencil", &decode(SALT).unwrap(), 4_096).unwrap();
    Users::parse(&format!("# one user\n\nuser:{verifier}\n"), SECRET).unwrap()
}

fn begin(first: &str) -> Result<(Exchange, String), ScramError> {
    Exchange::begin(&users(), first.as_bytes(), SERVER_NONCE)
}

/// What a client expects of the server at the end.
pub(in crate::mqtt) fn server_final(
    password: &str,
    salt: &[u8],
    bare: &str,
    server_first: &str,
    client_final: &str,
) -> String {
    let verifier = Verifier::derive(password, salt, 4_096).unwrap();
    let (without_proof, _) = client_final.rsplit_once(",p=").unwrap();
    let signed = format!("{bare},{server_first},{without_proof}");
    format!(
        "v={}",
        encode(&hmac(&verifier.server_key, signed.as_bytes()))
    )
}

/// A client of its own: the proof for a password.
pub(in crate::mqtt) fn client_final(
    password: &str,
    bare: &str,
    server_first: &str,
    header: &str,
) -> String {
    let mut parts = server_first.split(',');
    let nonce = parts.next().unwrap().strip_prefix("r=").unwrap();
    let salt = decode(parts.next().unwrap().strip_prefix("s=").unwrap()).unwrap();
    let iterations = parts.next().unwrap().strip_prefix("i=").unwrap();
    let mut salted = [0; 32];
    let (algorithm, iterations) = (pbkdf2::PBKDF2_HMAC_SHA256, iterations.parse().unwrap());
    pbkdf2::derive(
        algorithm,
        iterations,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let key = hmac(&salted, b"Client Key");
    let without_proof = format!("c={},r={nonce}", encode(header.as_bytes()));
    let signed = format!("{bare},{server_first},{without_proof}");
    let signature = hmac(&verifier::hash(&key), signed.as_bytes());
    let proof: Vec<u8> = key
        .iter()
        .zip(signature)
        .map(|(key, mask)| key ^ mask)
        .collect();
    format!("{without_proof},p={}", encode(&proof))
}

#[test]
fn the_example_of_rfc_7677() {
    let (exchange, first) = begin(&format!("n,,n=user,r={CLIENT_NONCE}")).unwrap();
    assert_eq!(
        first,
        format!("r={CLIENT_NONCE}{SERVER_NONCE},s={SALT},i=4096")
    );
    let last = format!(
        "c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    let authenticated = exchange.finish(last.as_bytes()).unwrap();
    assert_eq!(authenticated.name, "user");
    let server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(authenticated.server_final, server_final);
}

#[test]
fn first_messages_that_are_refused() {
    use ScramError::{ActsAs, ChannelBinding, Extension, Malformed, Missing};
    for (first, refused) in [
        ("p=tls-unique,,n=user,r=x", ChannelBinding),
        ("n,,m=new,n=user,r=x", Extension),
        ("n,a=admin,n=user,r=x", ActsAs),
        ("n,a,n=user,r=x", Missing("a=")),
        ("n,,r=x,n=user", Missing("n=")),
        ("n,,n=user", Missing("r=")),
        ("n,", Missing("n=")),
        ("n", Missing("a=")),
        ("", Malformed("it begins with no channel binding flag")),
        (
            "x,,n=user,r=x",
            Malformed("it begins with no channel binding flag"),
        ),
        ("n,,n=us=er,r=x", Malformed("= in a name stands alone")),
        (
            "n,,n=user,r=",
            Malformed("its nonce is empty or not printable"),
        ),
        (
            "n,,n=user,r=\u{7f}",
            Malformed("its nonce is empty or not printable"),
        ),
    ] {
        let found = begin(first).map(|(_, answer)| answer);
        assert_eq!(found, Err(refused), "{first}");
    }
    let long = format!("n,,n=user,r={}", "x".repeat(SCRAM_MESSAGE_BYTES_MAX));
    assert_eq!(begin(&long).err(), Some(Malformed("it is too long")));
    for first in [
        "y,,n=user,r=x",
        "n,a=user,n=user,r=x",
        "n,,n=user,r=x,e=more",
    ] {
        assert!(begin(first).is_ok(), "{first}");
    }
}

#[test]
fn only_the_right_password_with_the_right_words_is_let_in() {
    let bare = "n=user,r=abc";
    let with = |password: &str, header: &str, change: fn(String) -> String| {
        let (exchange, first) = begin(&format!("y,,{bare}")).unwrap();
        let last = change(client_final(password, bare, &first, header));
        exchange.finish(last.as_bytes()).map(|done| done.name)
    };
    let same = |last| last;
    assert_eq!(with("pencil", "y,,", same), Ok("user".to_owned()));
    assert_eq!(with("Pencil", "y,,", same), Err(ScramError::Rejected));
    // Somebody between may have taken the offer of channel binding out.
    assert_eq!(with("pencil", "n,,", same), Err(ScramError::Repeated));
    let other_nonce = |last: String| last.replace("r=abc", "r=abd");
    assert_eq!(
        with("pencil", "y,,", other_nonce),
        Err(ScramError::Repeated)
    );
    let extended = |last: String| last.replace(",p=", ",x=1,p=");
    assert_eq!(with("pencil", "y,,", extended), Err(ScramError::Rejected));
    let no_proof = |last: String| last.split(",p=").next().unwrap().to_owned();
    assert_eq!(
        with("pencil", "y,,", no_proof),
        Err(ScramError::Missing("p="))
    );
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
    let last = client_final("pencil", "n=nobody,r=abc", &first, "n,,");
    assert_eq!(exchange.finish(last.as_bytes()), Err(ScramError::Rejected));
    let other = Users::parse("", [8; 32]).unwrap();
    let (_, elsewhere) = Exchange::begin(&other, b"n,,n=nobody,r=abc", SERVER_NONCE).unwrap();
    assert_ne!(elsewhere, first, "each node makes up its own");
}

#[test]
fn names_are_prepared_and_unescaped() {
    let verifier = Verifier::derive("p", b"salt", 4_096).unwrap();
    // ROMAN NUMERAL NINE becomes IX, and a soft hyphen nothing (RFC 4013).
    let text = format!("a:b:{verifier}\nx,y=z:{verifier}\n\u{2168}\u{ad}:{verifier}\n");
    let users = Users::parse(&text, SECRET).unwrap();
    assert_eq!(users.len(), 3);
    for name in ["a:b", "x=2Cy=3Dz", "IX", "I\u{ad}X"] {
        let bare = format!("n={name},r=abc");
        let first = format!("n,,{bare}");
        let (exchange, first) = Exchange::begin(&users, first.as_bytes(), "s").unwrap();
        let last = client_final("p", &bare, &first, "n,,");
        assert!(exchange.finish(last.as_bytes()).is_ok(), "{name}");
    }
}

#[test]
fn passwords_are_prepared() {
    let derive = |password| Verifier::derive(password, b"salt", 4_096);
    assert_eq!(derive("I\u{ad}X"), derive("IX"));
    assert_eq!(derive("\u{2168}"), derive("IX"));
    assert_eq!(derive(""), Err(PasswordError::Empty));
    assert_eq!(derive("\u{7}"), Err(PasswordError::Prohibited));
    let weak = Verifier::derive("p", b"salt", 4_095);
    assert_eq!(weak, Err(PasswordError::Iterations(4_095)));
    assert_eq!(Verifier::derive("p", b"", 4_096), Err(PasswordError::Salt));
}

#[test]
fn a_line_that_is_wrong_is_named() {
    let verifier = Verifier::derive("p", b"salt", 4_096).unwrap().to_string();
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

/// The format of PostgreSQL, whose documentation gives it.
#[test]
fn a_verifier_reads_as_it_is_written() {
    let verifier = Verifier::derive("pencil", &decode(SALT).unwrap(), 4_096).unwrap();
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
        $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert_eq!(verifier.to_string(), text);
    assert_eq!(text.parse(), Ok(verifier.clone()));
    assert!(!format!("{verifier:?}").contains("WG5d"));
}

proptest! {
    #[test]
    fn random_messages_never_panic_and_never_pass(
        first in "[ny]?[,]{0,3}(n=[a-z=,]{0,6})?(,r=[!-~]{0,6})?",
        last in "(c=[a-zA-Z=]{0,6})?(,r=[!-~]{0,30})?(,p=[a-zA-Z0-9+/=]{0,50})?",
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        if let Ok((exchange, _)) = begin(&first) {
            prop_assert!(exchange.finish(last.as_bytes()).is_err());
        }
        prop_assert!(Exchange::begin(&users(), &bytes, "s").is_err() || bytes.starts_with(b"n,") || bytes.starts_with(b"y,"));
    }
}
