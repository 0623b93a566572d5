//! The example of RFC 7677, and what goes wrong.

use std::collections::HashMap;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::client::client_final;
use super::*;

const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

struct Known(HashMap<String, Verifier>, Mechanism);

impl Verifiers for Known {
    fn verifier(&self, name: &str) -> (Verifier, bool) {
        let (made_up, iterations) = (MadeUp::new([7; 32]), NonZeroU32::new(4_096).unwrap());
        match self.0.get(name) {
            Some(verifier) => (verifier.clone(), true),
            None => (made_up.verifier(self.1, name, iterations, 16), false),
        }
    }
}

/// The user and the password of RFC 7677.
fn users_of(mechanism: Mechanism) -> Known {
    let verifier = Verifier::derive(mechanism, "pencil", &decode(SALT).unwrap(), 4_096).unwrap();
    Known(HashMap::from([("user".to_owned(), verifier)]), mechanism)
}

fn users() -> Known {
    users_of(Mechanism::Sha256)
}

fn begin(first: &str) -> Result<(Exchange, String), ScramError> {
    Exchange::begin(&users(), first.as_bytes(), SERVER_NONCE)
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
        let last = change(client_final(
            Mechanism::Sha256,
            password,
            bare,
            &first,
            header,
        ));
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

#[test]
fn passwords_are_prepared() {
    let derive = |password| Verifier::derive(Mechanism::Sha256, password, b"salt", 4_096);
    assert_eq!(derive("I\u{ad}X"), derive("IX"));
    assert_eq!(derive("\u{2168}"), derive("IX"));
    assert_eq!(derive(""), Err(PasswordError::Empty));
    assert_eq!(derive("\u{7}"), Err(PasswordError::Prohibited));
    let weak = Verifier::derive(Mechanism::Sha256, "p", b"salt", 4_095);
    assert_eq!(weak, Err(PasswordError::Iterations(4_095)));
    assert_eq!(
        Verifier::derive(Mechanism::Sha256, "p", b"", 4_096),
        Err(PasswordError::Salt)
    );
}

/// The format of PostgreSQL, whose documentation gives it.
#[test]
fn a_verifier_reads_as_it_is_written() {
    let verifier =
        Verifier::derive(Mechanism::Sha256, "pencil", &decode(SALT).unwrap(), 4_096).unwrap();
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

/// RFC 5802's own example is of SHA-1; this one was computed by another implementation (Python's `hashlib` and `hmac`).
#[test]
fn sha_512_as_another_implementation_computes_it() {
    let users = users_of(Mechanism::Sha512);
    let first = format!("n,,n=user,r={CLIENT_NONCE}");
    let (exchange, _) = Exchange::begin(&users, first.as_bytes(), SERVER_NONCE).unwrap();
    let last = format!(
        "c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ=="
    );
    let authenticated = exchange.finish(last.as_bytes()).unwrap();
    assert_eq!(
        authenticated.server_final,
        "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw=="
    );
}

#[test]
fn a_password_is_checked_against_either_verifier() {
    for mechanism in Mechanism::ALL {
        let (verifier, is_known) = users_of(mechanism).verifier("user");
        assert!(is_known && verifier.fits("pencil") && !verifier.fits("Pencil"));
        assert_eq!(verifier.to_string().parse(), Ok(verifier.clone()));
        let [stored, server] = verifier.keys();
        assert_eq!(
            (stored.len(), server.len()),
            (mechanism.key_bytes(), mechanism.key_bytes())
        );
        let (made_up, is_known) = users_of(mechanism).verifier("nobody");
        assert!(!is_known && !made_up.fits("pencil"));
    }
}

/// A proof of the other hash's length.
#[test]
fn mechanisms_are_not_mixed() {
    let (exchange, server_first) = begin("n,,n=user,r=abc").unwrap();
    let last = client_final(
        Mechanism::Sha512,
        "pencil",
        "n=user,r=abc",
        &server_first,
        "n,,",
    );
    let refused = ScramError::Malformed("its proof is not a key in base64");
    assert_eq!(exchange.finish(last.as_bytes()), Err(refused));
}

#[test]
fn a_nonce_that_is_said_twice_is_taken_only_where_that_is_meant() {
    let doubled = || {
        let (exchange, server_first) = begin("n,,n=user,r=abc").unwrap();
        // As librdkafka 2.0.2 does; and the proof covers it.
        let last = client_final(
            Mechanism::Sha256,
            "pencil",
            "n=user,r=abc",
            &server_first,
            "n,,",
        );
        let (without_proof, _) = last.rsplit_once(",p=").unwrap();
        let without_proof = without_proof.replacen("r=abc", "r=abcabc", 1);
        let proof = client::proof(
            Mechanism::Sha256,
            "pencil",
            &server_first,
            &format!("n=user,r=abc,{server_first},{without_proof}"),
        );
        (exchange, format!("{without_proof},p={proof}"))
    };
    let (exchange, last) = doubled();
    assert_eq!(exchange.finish(last.as_bytes()), Err(ScramError::Repeated));
    let (exchange, last) = doubled();
    assert!(exchange.finish_loosely(last.as_bytes()).is_ok());
    let (exchange, _) = begin("n,,n=user,r=abc").unwrap();
    let other = last.replace(SERVER_NONCE, "of another time");
    assert_eq!(
        exchange.finish_loosely(other.as_bytes()),
        Err(ScramError::Repeated)
    );
}
