//! Users: who is made, changed, refused and removed.

use tidegate_shared::scram::{Mechanism, Verifier};

use super::super::command::{AlterUser, UserChange};
use super::*;

fn ada() -> UserName {
    UserName::new("ada").unwrap()
}

fn verifier(mechanism: Mechanism) -> Verifier {
    let key = vec![7; mechanism.key_bytes()];
    Verifier::of_parts(mechanism, 8_192, b"a salt of 18 bytes", [&key, &key]).unwrap()
}

fn token(name: &str, hash: u16) -> UserChange {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&hash.to_le_bytes());
    UserChange::AddToken {
        name: TokenName::new(name).unwrap(),
        hash: bytes,
    }
}

fn alter(ledger: &mut Ledger, name: &str, is_new: bool, changes: Vec<UserChange>) -> Effect {
    let alter = AlterUser {
        name: UserName::new(name).unwrap(),
        is_new,
        secret: [name.as_bytes()[0]; 32],
        changes,
    };
    one(ledger, Entry::AlterUser(alter))
}

fn refused(reason: UserRefusal) -> Effect {
    Effect::UserRefused { reason }
}

#[test]
fn a_user_is_there_until_nothing_proves_them() {
    let mut ledger = begun();
    let set = |mechanism| UserChange::SetVerifier(verifier(mechanism));
    let unknown = vec![token("ci", 1)];
    assert_eq!(
        alter(&mut ledger, "ada", false, unknown.clone()),
        refused(UserRefusal::Unknown),
        "a token is for who is there"
    );
    let both = vec![set(Mechanism::Sha256), set(Mechanism::Sha512)];
    assert_eq!(
        alter(&mut ledger, "ada", true, both.clone()),
        Effect::UserAltered
    );
    assert_eq!(
        alter(&mut ledger, "ada", true, both),
        refused(UserRefusal::Exists)
    );
    assert_eq!(
        alter(&mut ledger, "ada", false, unknown),
        Effect::UserAltered
    );
    let mut hash = [0; 32];
    hash[0] = 1;
    assert_eq!(ledger.user_of_token(&hash), Some(&ada()));
    let (found, is_known) = ledger.user_verifier(Mechanism::Sha512, "ada");
    assert!(is_known && found == verifier(Mechanism::Sha512));
    let remove = |mechanism| UserChange::RemoveVerifier(mechanism);
    alter(
        &mut ledger,
        "ada",
        false,
        Mechanism::ALL.map(remove).to_vec(),
    );
    assert!(ledger.user(&ada()).is_some(), "the token is left");
    let untoken = UserChange::RemoveToken(TokenName::new("ci").unwrap());
    assert_eq!(
        alter(&mut ledger, "ada", false, vec![untoken]),
        Effect::UserAltered
    );
    assert_eq!(
        (ledger.user(&ada()), ledger.user_of_token(&hash)),
        (None, None)
    );
}

#[test]
fn either_all_changes_are_made_or_none() {
    let mut ledger = begun();
    alter(&mut ledger, "ada", true, vec![token("ci", 1)]);
    let before = ledger.user(&ada()).cloned();
    for (changes, reason) in [
        (
            vec![
                token("other", 2),
                UserChange::RemoveVerifier(Mechanism::Sha256),
            ],
            UserRefusal::NoVerifier,
        ),
        (
            vec![
                token("other", 2),
                UserChange::RemoveToken(TokenName::new("no").unwrap()),
            ],
            UserRefusal::NoToken,
        ),
        (
            vec![token("other", 2), token("ci", 3)],
            UserRefusal::TokenExists,
        ),
        (
            vec![token("other", 2), token("same", 2)],
            UserRefusal::TokenExists,
        ),
    ] {
        assert_eq!(alter(&mut ledger, "ada", false, changes), refused(reason));
        assert_eq!(ledger.user(&ada()).cloned(), before);
    }
    let same = alter(&mut ledger, "bob", true, vec![token("ci", 1)]);
    assert_eq!(
        same,
        refused(UserRefusal::TokenExists),
        "a token is one user's"
    );
}

#[test]
fn users_and_tokens_are_bounded() {
    let mut ledger = begun();
    let many = |count: u16| (0..count).map(|n| token(&format!("t{n}"), n)).collect();
    let max = USER_TOKENS_MAX as u16;
    let too_many = alter(&mut ledger, "ada", true, many(max + 1));
    assert_eq!(too_many, refused(UserRefusal::TooManyTokens));
    assert_eq!(
        alter(&mut ledger, "ada", true, many(max)),
        Effect::UserAltered
    );
    for n in 1..USERS_MAX as u16 {
        alter(
            &mut ledger,
            &format!("u{n}"),
            true,
            vec![token("ci", max + n)],
        );
    }
    assert_eq!(ledger.users().count(), USERS_MAX);
    let one_more = alter(&mut ledger, "one more", true, vec![token("ci", u16::MAX)]);
    assert_eq!(one_more, refused(UserRefusal::TooMany));
    alter(&mut ledger, "ada", false, vec![UserChange::RemoveAll]);
    let one_more = alter(&mut ledger, "one more", true, vec![token("ci", u16::MAX)]);
    assert_eq!(one_more, Effect::UserAltered);
}

#[test]
fn a_name_that_is_not_there_looks_like_the_others() {
    let mut ledger = begun();
    let set = UserChange::SetVerifier(verifier(Mechanism::Sha256));
    alter(&mut ledger, "ada", true, vec![set.clone()]);
    let made_up = |ledger: &Ledger| ledger.user_verifier(Mechanism::Sha256, "nobody");
    let (first, is_known) = made_up(&ledger);
    assert!(!is_known);
    assert_eq!((first.iterations().get(), first.salt().len()), (8_192, 18));
    // Neither more users nor a start change what is made up.
    alter(&mut ledger, "bob", true, vec![set]);
    assert_eq!(made_up(&ledger).0, first);
    let restored = Ledger::restore(ledger.snapshot()).unwrap();
    assert_eq!(made_up(&restored).0, first);
}

#[test]
fn names_are_checked() {
    for name in ["", "a\nb", &"x".repeat(256)] {
        assert_eq!(UserName::new(name), None, "{name}");
    }
    assert!(UserName::new("CN=ada,O=Ümlaut").is_some());
    assert!(TokenName::new("a b").is_none() && TokenName::new("").is_none());
}
