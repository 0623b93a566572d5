//! Who a client is: by SCRAM, which the session machine has seen to; by its certificate; or by the user name and password
//! of its CONNECT. Passwords are checked off the connections' threads, a few at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_edge_journal::is_plausible;
use tidegate_edge_protocol::mqtt::authentication::{Turn, looks_like_token};
use tidegate_edge_protocol::mqtt::codec::Text;
use tidegate_edge_protocol::mqtt::connection::{CloseReason, ConnectRequest};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Context;
use super::doors::Doors;
use super::driver::Task;
use super::mailbox::Mailbox;
use super::tokens::TokenFiles;
use super::transport::{Certified, Peer};
use crate::committer::now_ms;
use crate::limits::PASSWORD_CHECK_TIMEOUT;

/// A client that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: Text,
    means: Means,
    /// A token's end.
    pub(super) ends_at: Option<Instant>,
}

/// How it was proved, as far as it matters later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// By what the file of users says; a number that changes with that.
    Secret(u64),
    Certificate,
    /// By a token; its key.
    Token(u64),
}

impl User {
    /// Whether it would be let in as things are now.
    pub(super) fn comes_in(&self, doors: &Doors) -> bool {
        match self.means {
            Means::Certificate => true,
            Means::Token(key) => doors
                .tokens
                .as_ref()
                .is_some_and(|tokens| tokens.has_key(key)),
            Means::Secret(stamp) => {
                let known = doors
                    .users
                    .as_ref()
                    .and_then(|users| users.now().known(&self.name));
                known.is_some_and(|(_, now)| now == stamp)
            }
        }
    }
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    reason: ReasonCode,
    why: &'static str,
}

const UNKNOWN: Failure = Failure {
    reason: ReasonCode::NotAuthorized,
    why: "it does not say who it is, and the listener does not let anonymous clients in",
};
const NAMELESS: Failure = Failure {
    reason: ReasonCode::NotAuthorized,
    why: "its certificate has no name of the kind that certificate_user asks for",
};
const WRONG: Failure = Failure {
    reason: ReasonCode::BadUserNameOrPassword,
    why: "the user name or the password is wrong",
};
const STALE: Failure = Failure {
    reason: ReasonCode::NotAuthorized,
    why: "what it proved by SCRAM has changed since it opened the connection",
};
const HALF: Failure = Failure {
    reason: ReasonCode::BadUserNameOrPassword,
    why: "a user name without a password, or a password without a user name",
};
const BUSY: Failure = Failure {
    reason: ReasonCode::ServerBusy,
    why: "too many passwords wait to be checked, of all clients or from its address",
};

impl Task {
    /// `None`: the listener lets in who has proved nothing.
    pub(super) async fn authenticate(
        &mut self,
        request: &ConnectRequest,
    ) -> Result<Option<User>, ReasonCode> {
        let found = self.find_user(request).await;
        found.map_err(|failure| {
            let user = request.username.as_deref().unwrap_or_default();
            self.log_failure(user, failure.why);
            if failure != BUSY {
                self.count_failure();
            }
            failure.reason
        })
    }

    async fn find_user(&mut self, request: &ConnectRequest) -> Result<Option<User>, Failure> {
        let context = Arc::clone(&self.context);
        let doors = &context.doors;
        if let Some(name) = &request.authenticated_name {
            let user = doors.user_of_secret(name, request.proved_by);
            return user.map(Some).ok_or(STALE);
        }
        match self.certified() {
            Certified::User(name) => {
                return Ok(Some(User {
                    name: name.clone(),
                    means: Means::Certificate,
                    ends_at: None,
                }));
            }
            Certified::Nameless => return Err(NAMELESS),
            Certified::Nobody => {}
        }
        if let Some(tokens) = &doors.tokens
            && let Some(password) = &request.password
            && (doors.users.is_none() || looks_like_token(password))
        {
            if let Some(wait) = self.turn_again()? {
                wait_for_turn(&self.mailbox, wait).await?;
            }
            return self.user_of_token(tokens, password).map(Some);
        }
        match (&request.username, &request.password) {
            (Some(name), Some(password)) if doors.users.is_some() => {
                let proved = self.fits(name, password).await?;
                doors.user_of_secret(name, proved).map(Some).ok_or(WRONG)
            }
            (Some(_), None) | (None, Some(_)) if doors.knows_users() => Err(HALF),
            // What nobody can check counts for nothing.
            _ if context.lets_anonymous_in => Ok(None),
            _ => Err(UNKNOWN),
        }
    }

    fn user_of_token(&self, tokens: &TokenFiles, token: &[u8]) -> Result<User, Failure> {
        let now_s = self.context.trusted_now_s();
        let proved = tokens.check(token, now_s).map_err(|error| {
            let peer = self.peer;
            tracing::warn!(%peer, why = %error, "mqtt: a token is not taken");
            WRONG
        })?;
        let left_s = proved.ends_at_s.zip(now_s);
        let left = left_s.map(|(at_s, now_s)| Duration::from_secs(at_s.saturating_sub(now_s)));
        Ok(User {
            name: Text::try_from(proved.user).map_err(|_| WRONG)?,
            means: Means::Token(proved.key),
            // One that ends beyond what a clock can say does not end.
            ends_at: left.and_then(|left| Instant::now().checked_add(left)),
        })
    }

    /// By what it fits, if it does: a number that changes with that.
    async fn fits(&mut self, name: &Text, password: &Bytes) -> Result<Option<u64>, Failure> {
        let context = Arc::clone(&self.context);
        let Some(users) = context.doors.users.as_ref().map(|users| users.now()) else {
            return Err(WRONG);
        };
        let memory_kib = users.memory_kib_max();
        let mut permit = context.doors.may_check(memory_kib).await?;
        if let Some(wait) = self.turn_again()? {
            drop(permit);
            wait_for_turn(&self.mailbox, wait).await?;
            permit = context.doors.may_check(memory_kib).await?;
        }
        let (name, password) = (name.clone(), password.clone());
        let check = move || {
            let fits = users.fits(&name, &password);
            drop(permit);
            let stamp = users.known(&name).map(|(_, stamp)| stamp);
            stamp.filter(|_| fits)
        };
        tokio::task::spawn_blocking(check).await.map_err(|_| BUSY)
    }

    /// Many may have come at once, before the first of them had failed: how long this one has to wait.
    fn turn_again(&self) -> Result<Option<Duration>, Failure> {
        if self.has_had_turn {
            return Ok(None);
        }
        match self.context.doors.turn(self.peer) {
            Turn::Now => Ok(None),
            Turn::After(wait) => {
                self.context.metrics.mqtt_slowed_connections.inc();
                Ok(Some(wait))
            }
            Turn::Never => {
                self.context.metrics.mqtt_turned_away_connections.inc();
                Err(BUSY)
            }
        }
    }

    fn log_failure(&self, user: &str, why: &str) {
        let (peer, client) = (self.peer, String::from_utf8_lossy(&self.client_id));
        tracing::warn!(%peer, ?client, user, why, "mqtt: not authenticated");
    }

    fn count_failure(&self) {
        self.context.metrics.failed_authentication();
        if let Peer::Ip(address) = self.peer {
            self.context
                .doors
                .attempts()
                .failed(Instant::now(), address.ip());
        }
    }

    /// The session machine has refused a proof by SCRAM by itself, at CONNECT or later.
    pub(super) fn count_refused_proof(&self, reason: &CloseReason) {
        let is_refused = match reason {
            CloseReason::Rejected(ReasonCode::NotAuthorized) => self.client_id.is_empty(),
            CloseReason::PeerError { reason, .. } => *reason == ReasonCode::NotAuthorized,
            _ => false,
        };
        if is_refused {
            self.log_failure("", "its proof by SCRAM is wrong, or took too long");
            self.count_failure();
        }
    }
}

impl Context {
    /// Seconds since 1970. Where the clock was never set, the last that was believed; `None`: there was none.
    fn trusted_now_s(&self) -> Option<u64> {
        let now_ms = Some(now_ms()).filter(|now_ms| is_plausible(*now_ms));
        let last_ms = || Some(self.reader.wall_ms()).filter(|last_ms| is_plausible(*last_ms));
        let now_ms = now_ms.or_else(last_ms)?;
        u64::try_from(now_ms / 1_000).ok()
    }
}

async fn wait_for_turn(mailbox: &Mailbox, wait: Duration) -> Result<(), Failure> {
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(()),
        // The node stops, mostly.
        () = mailbox.filled() => Err(BUSY),
    }
}

impl Doors {
    fn knows_users(&self) -> bool {
        self.users.is_some() || self.tokens.is_some()
    }

    /// Who has proved a name by what had this number then: if that is another password now, nothing is proved.
    fn user_of_secret(&self, name: &str, proved_by: Option<u64>) -> Option<User> {
        let (name, stamp) = self.users.as_ref()?.now().known(name)?;
        (proved_by == Some(stamp)).then_some(())?;
        Some(User {
            name: Text::try_from(name).ok()?,
            means: Means::Secret(stamp),
            ends_at: None,
        })
    }

    async fn may_check(&self, memory_kib: u32) -> Result<OwnedSemaphorePermit, Failure> {
        let turn = timeout(PASSWORD_CHECK_TIMEOUT, self.checking.turn(memory_kib)).await;
        turn.ok().flatten().ok_or(BUSY)
    }

    /// When who comes from an address has their turn.
    pub(super) fn turn(&self, peer: Peer) -> Turn {
        match peer {
            Peer::Ip(address) => self.attempts().turn(Instant::now(), address.ip()),
            Peer::Local => Turn::Now,
        }
    }
}
