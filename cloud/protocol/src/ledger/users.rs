//! Who may come in: users by name, with what proves that a client is one of them. There are no passwords here, only what
//! SCRAM checks them by, and of bearer tokens only hashes. What a user may do is not decided here.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use tidegate_shared::scram::{MadeUp, Mechanism, SCRAM_ITERATIONS_MIN, Verifier};

use super::command::{AlterUser, UserChange};
use super::{Effect, Ledger};

/// Users; one more is refused.
pub const USERS_MAX: usize = 10_000;

/// Tokens of one user; one more is refused.
pub const USER_TOKENS_MAX: usize = 16;

/// The salt of a user who does not exist, where no other tells the usual length.
const SALT_BYTES: usize = 16;

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// A user's name as SASLprep leaves it; Kafka's principal is `User:` and this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

/// What a user calls one of their tokens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenName(String);

impl UserName {
    pub const BYTES_MAX: usize = 255;

    /// `None` where it is empty, too long, or has a control character.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let is_one = (1..=Self::BYTES_MAX).contains(&name.len());
        (is_one && !name.chars().any(char::is_control)).then_some(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl TokenName {
    pub const BYTES_MAX: usize = 64;

    /// `None` where it is not 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let is_one = (1..=Self::BYTES_MAX).contains(&name.len());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (is_one && name.bytes().all(is_plain)).then_some(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What proves that a client is the user. One without anything is no user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// At most one for each mechanism, in their order.
    pub(super) verifiers: BTreeMap<Mechanism, Verifier>,
    pub(super) tokens: BTreeMap<TokenName, Token>,
}

/// A bearer token that was given out.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(super) hash: TokenHash,
    /// In milliseconds since the Unix epoch.
    pub made_ms: i64,
}

/// Without the hash.
impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Token");
        shown
            .field("made_ms", &self.made_ms)
            .finish_non_exhaustive()
    }
}

impl User {
    pub fn verifier(&self, mechanism: Mechanism) -> Option<&Verifier> {
        self.verifiers.get(&mechanism)
    }

    pub fn verifiers(&self) -> impl Iterator<Item = &Verifier> {
        self.verifiers.values()
    }

    pub fn tokens(&self) -> impl Iterator<Item = (&TokenName, &Token)> {
        self.tokens.iter()
    }

    fn is_empty(&self) -> bool {
        self.verifiers.is_empty() && self.tokens.is_empty()
    }

    /// Changes nothing where it refuses.
    fn change(&mut self, change: &UserChange, now_ms: i64) -> Result<(), UserRefusal> {
        match change {
            UserChange::SetVerifier(verifier) => {
                let mechanism = verifier.mechanism();
                self.verifiers.insert(mechanism, verifier.clone());
            }
            UserChange::RemoveVerifier(mechanism) => {
                let removed = self.verifiers.remove(mechanism);
                removed.ok_or(UserRefusal::NoVerifier)?;
            }
            UserChange::AddToken { name, hash } => {
                let mut known = self.tokens.iter();
                if known.any(|(other, token)| other == name || token.hash == *hash) {
                    return Err(UserRefusal::TokenExists);
                }
                if self.tokens.len() >= USER_TOKENS_MAX {
                    return Err(UserRefusal::TooManyTokens);
                }
                let token = Token {
                    hash: *hash,
                    made_ms: now_ms,
                };
                self.tokens.insert(name.clone(), token);
            }
            UserChange::RemoveToken(name) => {
                self.tokens.remove(name).ok_or(UserRefusal::NoToken)?;
            }
            UserChange::RemoveAll => *self = Self::default(),
        }
        Ok(())
    }
}

/// Why a user is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRefusal {
    /// There is none of that name.
    Unknown,
    /// There is one already, and it should be new.
    Exists,
    /// There are [`USERS_MAX`].
    TooMany,
    NoVerifier,
    NoToken,
    TokenExists,
    /// The user has [`USER_TOKENS_MAX`].
    TooManyTokens,
}

/// All users.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Users {
    pub(super) by_name: BTreeMap<UserName, User>,
    /// What salts for unknown names are made of: of the first user that there was, and the same for ever.
    pub(super) secret: [u8; 32],
    /// Made of the users.
    of_token: BTreeMap<TokenHash, UserName>,
    /// Made of the users: how many verifiers have these iterations and so long a salt.
    kinds: BTreeMap<(Mechanism, NonZeroU32, usize), usize>,
}

/// Without names, and without what they are checked by.
impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Users");
        shown
            .field("len", &self.by_name.len())
            .finish_non_exhaustive()
    }
}

impl Users {
    pub(super) fn of(by_name: BTreeMap<UserName, User>, secret: [u8; 32]) -> Self {
        let mut users = Self {
            secret,
            ..Self::default()
        };
        for (name, user) in by_name {
            users.insert(name, user);
        }
        users
    }

    fn insert(&mut self, name: UserName, user: User) {
        for token in user.tokens.values() {
            self.of_token.insert(token.hash, name.clone());
        }
        for verifier in user.verifiers.values() {
            *self.kinds.entry(kind(verifier)).or_default() += 1;
        }
        self.by_name.insert(name, user);
    }

    fn remove(&mut self, name: &UserName) {
        let Some(user) = self.by_name.remove(name) else {
            return;
        };
        for token in user.tokens.values() {
            self.of_token.remove(&token.hash);
        }
        for verifier in user.verifiers.values() {
            let kind = kind(verifier);
            let count = self.kinds.get_mut(&kind).expect("it was counted");
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(&kind);
            }
        }
    }

    /// Either all changes, or none.
    fn alter(&mut self, alter: AlterUser, now_ms: i64) -> Result<(), UserRefusal> {
        let known = self.by_name.get(&alter.name);
        if alter.is_new && known.is_some() {
            return Err(UserRefusal::Exists);
        }
        let creates = |change: &UserChange| matches!(change, UserChange::SetVerifier(_));
        let creates = alter.is_new || alter.changes.iter().any(creates);
        if known.is_none() && !creates {
            return Err(UserRefusal::Unknown);
        }
        if known.is_none() && self.by_name.len() >= USERS_MAX {
            return Err(UserRefusal::TooMany);
        }
        let mut user = known.cloned().unwrap_or_default();
        for change in &alter.changes {
            user.change(change, now_ms)?;
            if let UserChange::AddToken { hash, .. } = change
                && self.of_token.contains_key(hash)
            {
                return Err(UserRefusal::TokenExists);
            }
        }
        if self.secret == [0; 32] {
            self.secret = alter.secret;
        }
        self.remove(&alter.name);
        if !user.is_empty() {
            self.insert(alter.name, user);
        }
        Ok(())
    }

    /// As most have it, whether or not there is any.
    fn usual(&self, mechanism: Mechanism) -> (NonZeroU32, usize) {
        let kinds = self.kinds.iter();
        let of_it = kinds.filter(|((of, ..), _)| *of == mechanism);
        let most = of_it.max_by_key(|(kind, count)| (**count, **kind));
        let least = NonZeroU32::new(SCRAM_ITERATIONS_MIN).expect("it is not 0");
        most.map_or((least, SALT_BYTES), |((_, iterations, salt), _)| {
            (*iterations, *salt)
        })
    }
}

fn kind(verifier: &Verifier) -> (Mechanism, NonZeroU32, usize) {
    let salt_bytes = verifier.salt().len();
    (verifier.mechanism(), verifier.iterations(), salt_bytes)
}

impl Ledger {
    pub fn users(&self) -> impl Iterator<Item = (&UserName, &User)> {
        self.users.by_name.iter()
    }

    pub fn user(&self, name: &UserName) -> Option<&User> {
        self.users.by_name.get(name)
    }

    /// Whose token it is.
    pub fn user_of_token(&self, hash: &TokenHash) -> Option<&UserName> {
        self.users.of_token.get(hash)
    }

    /// What a client is checked by who says that it has this name, and whether there is such a user. For a name that is not
    /// there it is made up, the same each time.
    pub fn user_verifier(&self, mechanism: Mechanism, name: &str) -> (Verifier, bool) {
        let (iterations, salt_bytes) = self.users.usual(mechanism);
        let made_up = MadeUp::new(self.users.secret);
        let made_up = made_up.verifier(mechanism, name, iterations, salt_bytes);
        let user = UserName::new(name).and_then(|name| self.users.by_name.get(&name));
        match user.and_then(|user| user.verifier(mechanism)) {
            Some(verifier) => (verifier.clone(), true),
            None => (made_up, false),
        }
    }

    pub(super) fn alter_user(&mut self, alter: AlterUser) -> Effect {
        match self.users.alter(alter, self.now_ms) {
            Ok(()) => Effect::UserAltered,
            Err(reason) => Effect::UserRefused { reason },
        }
    }
}
