//! Who somebody is, by a password or a bearer token: the ledger's users, and the token of this machine's administrator.
//! A password costs its hashing, whoever's it is; that is done on threads of its own, a few at once. One that was right is
//! remembered for as long as it is the user's, by a hash whose key nobody has, so that a client that comes again does not
//! cost as much.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};
use tidegate_cloud_protocol::acls::ADMINISTRATOR;
use tidegate_cloud_protocol::ledger::{Ledger, TokenHash, UserName};
use tidegate_shared::scram::{Mechanism, PasswordError, Verifier, prepared_name};
use tokio::sync::Semaphore;

use crate::broker::Broker;
use crate::limits::{PASSWORD_CHECKS_AT_ONCE_MAX, PASSWORD_CHECKS_WAITING_MAX, USER_ITERATIONS};

/// Of a salt.
const SALT_BYTES: usize = 16;

/// What tokens begin with, so that they are recognised where they do not belong.
const TOKEN_START: &str = "tidegate_";

/// Kafka's principal of a user.
pub(crate) fn principal_of(name: &str) -> Arc<str> {
    format!("User:{name}").into()
}

/// A name as it is kept; `None` where it can be none.
pub(crate) fn user_name(name: &str) -> Option<UserName> {
    UserName::new(prepared_name(name)?)
}

/// A bearer token, shown once.
pub(crate) struct NewToken {
    pub(crate) text: String,
    pub(crate) hash: TokenHash,
}

/// Checks who somebody is.
pub(crate) struct Credentials {
    broker: Broker,
    administrator: TokenHash,
    random: SystemRandom,
    checks: Semaphore,
    /// Of those that came in by a password: the others do not wait behind more than these.
    waiting: Semaphore,
    /// Of this process alone.
    key: hmac::Key,
    /// Passwords that were right, at most one of each user.
    proved: Mutex<HashMap<UserName, Proved>>,
}

/// Nothing of it is shown.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .finish_non_exhaustive()
    }
}

/// A password that was right.
struct Proved {
    tag: hmac::Tag,
    /// By which it was.
    verifier: Verifier,
}

impl Credentials {
    pub(crate) fn new(broker: Broker, administrator: TokenHash) -> Arc<Self> {
        let random = SystemRandom::new();
        Arc::new(Self {
            broker,
            administrator,
            checks: Semaphore::new(PASSWORD_CHECKS_AT_ONCE_MAX),
            waiting: Semaphore::new(PASSWORD_CHECKS_WAITING_MAX),
            key: hmac::Key::new(hmac::HMAC_SHA256, &random_bytes(&random)),
            random,
            proved: Mutex::default(),
        })
    }

    pub(crate) fn random(&self) -> [u8; 32] {
        random_bytes(&self.random)
    }

    /// What a server adds to a client's nonce.
    pub(crate) fn nonce(&self) -> String {
        STANDARD_NO_PAD.encode(self.random())
    }

    /// See [`Ledger::user_verifier`].
    pub(crate) fn verifier(&self, mechanism: Mechanism, name: &str) -> (Verifier, bool) {
        self.broker
            .ledger(|ledger| ledger.user_verifier(mechanism, name))
    }

    /// The user whose name and password these are.
    pub(crate) async fn check(&self, name: &str, password: &str) -> Option<UserName> {
        let user = user_name(name);
        let (verifier, is_known) = self.broker.ledger(|ledger| {
            let mechanism = password_mechanism(ledger, user.as_ref());
            ledger.user_verifier(mechanism, user.as_ref().map_or(name, UserName::as_str))
        });
        let tagged = user
            .clone()
            .map(|user| (self.tagged(&user, password), user));
        if let Some((tagged, user)) = &tagged
            && is_known
            && self.is_proved(user, tagged, &verifier)
        {
            return Some(user.clone());
        }
        let waits = self.waiting.try_acquire().ok()?;
        let turn = self.checks.acquire().await.ok()?;
        let (checked, password) = (verifier.clone(), password.to_owned());
        let fits = tokio::task::spawn_blocking(move || checked.fits(&password)).await;
        drop((turn, waits));
        let (tagged, user) = tagged?;
        if !(fits.unwrap_or(false) && is_known) {
            return None;
        }
        let proved = Proved {
            tag: hmac::sign(&self.key, &tagged),
            verifier,
        };
        self.lock().insert(user.clone(), proved);
        self.forget_the_gone();
        Some(user)
    }

    /// What is kept of a new password: a verifier for each mechanism.
    pub(crate) async fn verifiers(&self, password: String) -> Result<Vec<Verifier>, PasswordError> {
        let salts = Mechanism::ALL.map(|mechanism| (mechanism, self.random()));
        // Nobody closes it.
        let _turn = self.checks.acquire().await;
        let deriving = tokio::task::spawn_blocking(move || {
            let derive = |(mechanism, salt): (Mechanism, [u8; 32])| {
                Verifier::derive(mechanism, &password, &salt[..SALT_BYTES], USER_ITERATIONS)
            };
            salts.into_iter().map(derive).collect()
        });
        deriving.await.expect("deriving does not panic")
    }

    /// The principal whose token it is.
    pub(crate) fn token(&self, token: &str) -> Option<Arc<str>> {
        let hash = token_hash(token);
        if hash == self.administrator {
            return Some(ADMINISTRATOR.into());
        }
        self.broker.ledger(|ledger| {
            let name = ledger.user_of_token(&hash);
            name.map(|name| principal_of(name.as_str()))
        })
    }

    /// What stands for a name and its password.
    fn tagged(&self, user: &UserName, password: &str) -> Vec<u8> {
        [user.as_str().as_bytes(), &[0], password.as_bytes()].concat()
    }

    fn is_proved(&self, user: &UserName, tagged: &[u8], verifier: &Verifier) -> bool {
        let proved = self.lock();
        let known = proved.get(user).filter(|known| known.verifier == *verifier);
        known.is_some_and(|known| hmac::verify(&self.key, tagged, known.tag.as_ref()).is_ok())
    }

    /// Users who are no more; so there are never more of these than users.
    fn forget_the_gone(&self) {
        let mut proved = self.lock();
        self.broker.ledger(|ledger| {
            if proved.len() > ledger.users().count() {
                proved.retain(|name, _| ledger.user(name).is_some());
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<UserName, Proved>> {
        self.proved.lock().expect("nobody panics with it")
    }
}

/// The mechanism by whose verifier a password is checked: the user's first, or what others have.
fn password_mechanism(ledger: &Ledger, user: Option<&UserName>) -> Mechanism {
    let user = user.and_then(|user| ledger.user(user));
    let own = user.and_then(|user| user.verifiers().next());
    let others = || {
        let mut users = ledger.users();
        users.find_map(|(_, user)| user.verifiers().next())
    };
    let verifier = own.or_else(others);
    verifier.map_or(Mechanism::Sha256, Verifier::mechanism)
}

impl NewToken {
    pub(crate) fn random() -> Self {
        let bytes = random_bytes(&SystemRandom::new());
        let text = format!("{TOKEN_START}{}", URL_SAFE_NO_PAD.encode(bytes));
        let hash = token_hash(&text);
        Self { text, hash }
    }
}

fn token_hash(token: &str) -> TokenHash {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn random_bytes(random: &SystemRandom) -> [u8; 32] {
    let mut bytes = [0; 32];
    let filled = random.fill(&mut bytes);
    filled.expect("the system gives random bytes: it has since the start");
    bytes
}
