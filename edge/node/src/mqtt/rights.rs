//! Who a connection's client is, and what it may do: asked of the rules of `mqtt.acl` as they are: at CONNECT, at each message and
//! filter, and again when the rules change.

use std::time::Instant;

use tidegate_edge_protocol::mqtt::authorization::{Client, Rights};
use tidegate_edge_protocol::mqtt::codec::{Text, Will};
use tidegate_edge_protocol::mqtt::connection::{ConnectRequest, SharedFilter};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession};

use super::Context;
use super::authentication::User;
use super::driver::Task;
use super::topic_rules::TopicRules;
use super::transport::Certified;

/// See the module. There is one only where there is something to say.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// Before any CONNECT.
    certified: Certified,
    user: Option<User>,
    /// `None`: there are no rules to go by.
    rights: Option<Rights>,
    will_topic: Option<Text>,
    /// The log has its first refusal.
    is_told: bool,
}

/// What is counted where the rules do not allow it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    Publish,
    Subscribe,
    Will,
    /// A subscription that there was, and that the rules no longer allow.
    Subscribed,
}

impl Refused {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Will => "will",
            Self::Subscribed => "subscription_ended",
        }
    }
}

impl Context {
    /// Whether what a client has left behind is not to be published any more: it is known by its id alone.
    pub(super) fn is_silenced(&self, client_id: &[u8]) -> bool {
        let Some(list) = self.doors.blocked.as_ref().map(|list| list.now()) else {
            return false;
        };
        std::str::from_utf8(client_id).is_ok_and(|id| list.has_client(id))
    }

    fn rights(&self, user: Option<&str>, id: &str) -> Option<Rights> {
        let acl = self.doors.acl.as_ref()?;
        Some(acl.now().rights(Client { user, id }))
    }
}

impl Task {
    /// Before anything is done for a CONNECT: whether the client may have what it asks for.
    pub(super) fn admit(
        &mut self,
        user: Option<User>,
        request: &mut ConnectRequest,
        client_id: &Text,
    ) -> Result<(), ReasonCode> {
        let name = user.as_ref().map(|user| user.name.as_str());
        if self.is_blocked(name, client_id) {
            return Err(ReasonCode::Banned);
        }
        let is_assigned = request.client_id.is_none();
        if self.context.doors.client_id_of_user && !is_assigned && !is_id_of(client_id, name) {
            let (peer, user) = (self.peer, name);
            tracing::warn!(%peer, client = client_id.as_str(), user, "mqtt: the client id is not its user's, as mqtt.client_id_of_user wants");
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        if let Some(will) = &mut request.will {
            let client = Client {
                user: name,
                id: client_id,
            };
            self.context.topics.rewrite(client, &mut will.topic);
        }
        let rights = self.context.rights(name, client_id);
        if user.is_none() && rights.is_none() {
            return Ok(());
        }
        let will_topic = request.will.as_ref().map(|will| will.topic.detached());
        let identity = self.identity.get_or_insert_default();
        (identity.user, identity.rights) = (user, rights);
        identity.will_topic = will_topic;
        match identity.may_keep_its_will() {
            true => Ok(()),
            false => {
                let topic = request.will.as_ref().map(|will| will.topic.clone());
                self.refused(Refused::Will, &topic.unwrap_or_default());
                Err(ReasonCode::NotAuthorized)
            }
        }
    }

    pub(super) fn certified(&self) -> &Certified {
        let identity = self.identity.as_ref();
        identity.map_or(&Certified::Nobody, |identity| &identity.certified)
    }

    /// When the token ends by which the client came.
    pub(super) fn token_ends_at(&self) -> Option<Instant> {
        self.identity.as_ref()?.user.as_ref()?.ends_at
    }

    /// Who came by a token goes with it.
    pub(super) fn check_token(&mut self, now: Instant) {
        if self.token_ends_at().is_some_and(|at| now >= at) {
            self.machine.handle_shutdown(now, ReasonCode::NotAuthorized);
        }
    }

    pub(super) fn user(&self) -> Option<&Text> {
        Some(&self.identity.as_ref()?.user.as_ref()?.name)
    }

    pub(super) fn rights(&self) -> Option<&Rights> {
        self.identity.as_ref()?.rights()
    }

    pub(super) fn may_publish(&self, topic: &str) -> bool {
        self.rights().is_none_or(|rights| rights.may_publish(topic))
    }

    /// Of its own accord.
    pub(super) fn may_subscribe(&self, filter: &SharedFilter) -> bool {
        let filter = filter.filter.as_str();
        self.rights()
            .is_none_or(|rights| rights.may_subscribe(filter))
    }

    /// Of its own accord, or since the configuration gives it to each client.
    pub(super) fn may_have(&self, filter: &SharedFilter) -> bool {
        self.may_subscribe(filter) || self.has_automatically(filter)
    }

    fn is_in_block_list(&self, user: Option<&str>, id: &str) -> bool {
        let Some(list) = self.context.doors.blocked.as_ref().map(|list| list.now()) else {
            return false;
        };
        let address = self.peer.ip();
        list.has_client(id)
            || user.is_some_and(|user| list.has_user(user))
            || address.is_some_and(|address| list.has_address(address))
    }

    /// Who is in `mqtt.blocked` is kept out.
    pub(super) fn is_blocked(&self, user: Option<&str>, id: &str) -> bool {
        let is_blocked = self.is_in_block_list(user, id);
        if is_blocked {
            self.context.metrics.mqtt_blocked_connections.inc();
            tracing::info!(peer = %self.peer, client = id, user, "mqtt: kept out by mqtt.blocked");
        }
        is_blocked
    }

    /// Counts it; the first of a connection is in the log.
    pub(super) fn refused(&mut self, refused: Refused, topic: &str) {
        self.context.metrics.not_authorized(refused.name());
        let Some(identity) = self.identity.as_mut().filter(|own| !own.is_told) else {
            return;
        };
        identity.is_told = true;
        let (peer, client) = (self.peer, String::from_utf8_lossy(&self.client_id));
        let user = identity.user.as_ref().map_or("", |user| user.name.as_str());
        let what = refused.name();
        tracing::warn!(%peer, ?client, user, what, topic, "mqtt: mqtt.acl does not allow it; more of this connection is only counted");
    }

    /// Whether the will may be published as things are now: who is kept out says nothing any more. If not, it is gone.
    pub(super) fn keeps_will(&mut self, will: &Will) -> bool {
        let id = String::from_utf8_lossy(&self.client_id);
        let is_blocked = self.is_in_block_list(self.user().map(Text::as_str), &id);
        let is_allowed = self.may_publish(&will.topic);
        if is_allowed && !is_blocked {
            return true;
        }
        if !is_allowed {
            self.refused(Refused::Will, &will.topic);
        }
        if let Some(held) = &mut self.held {
            held.store(&[Change::WillCleared], None);
        }
        false
    }

    /// What of a session's subscriptions its client may not have.
    pub(super) fn no_longer_allowed(&self, session: &ClientSession) -> Vec<SharedFilter> {
        let filters = session.subscriptions().map(|own| &own.filter);
        let filters = filters.filter(|filter| !self.may_have(filter));
        filters.cloned().collect()
    }

    /// The rules or the users have changed: who could not connect as it did is disconnected, and subscriptions that are not allowed
    /// any more end.
    pub(super) fn judge_again(&mut self) {
        let id = String::from_utf8_lossy(&self.client_id);
        let name = self.user().map(|user| user.as_str());
        if !self.client_id.is_empty() && self.is_blocked(name, &id) {
            return self
                .machine
                .handle_shutdown(Instant::now(), ReasonCode::AdministrativeAction);
        }
        let Some(mut identity) = self.identity.take() else {
            // Its CONNECT is still to come, or there is nothing to judge.
            return;
        };
        let id = String::from_utf8_lossy(&self.client_id);
        let user = identity.user.as_ref();
        identity.rights = self
            .context
            .rights(user.map(|user| user.name.as_str()), &id);
        identity.is_told = false;
        let comes_in = user.is_none_or(|user| user.comes_in(&self.context.doors));
        let may_stay = comes_in && identity.may_keep_its_will();
        self.identity = Some(identity);
        if !may_stay {
            return self
                .machine
                .handle_shutdown(Instant::now(), ReasonCode::NotAuthorized);
        }
        self.end_subscriptions();
    }

    fn end_subscriptions(&mut self) {
        let mut ended = self.live_filters();
        ended.retain(|filter| !self.may_have(filter));
        let kept = self.held.as_ref().filter(|_| self.feed.is_some());
        let kept = kept.map(|held| self.no_longer_allowed(held.session()));
        let changes: Vec<_> = kept.iter().flatten().map(ended_by).collect();
        for filter in &ended {
            self.unsubscribe_live(filter);
        }
        if let Some(held) = &mut self.held {
            held.store(&changes, None);
        }
        for filter in ended.iter().chain(kept.iter().flatten()) {
            self.retained.forget(&filter.name);
            self.refused(Refused::Subscribed, &filter.name);
        }
    }
}

impl Identity {
    /// Of a connection that has just begun.
    pub(super) fn certified(certified: Certified) -> Option<Box<Self>> {
        let counts = certified != Certified::Nobody;
        counts.then(|| {
            Box::new(Self {
                certified,
                ..Self::default()
            })
        })
    }

    pub(super) fn rights(&self) -> Option<&Rights> {
        self.rights.as_ref()
    }

    fn may_keep_its_will(&self) -> bool {
        match (&self.rights, &self.will_topic) {
            (Some(rights), Some(topic)) => rights.may_publish(topic),
            _ => true,
        }
    }
}

/// Whether a client id is a user's own: the name, or what stands below it, as `name/…`. A name with a `/` has none.
fn is_id_of(id: &str, user: Option<&str>) -> bool {
    let Some(user) = user.filter(|user| !user.contains('/')) else {
        return false;
    };
    let rest = id.strip_prefix(user);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a client may have the messages of a topic, by the rules or as it has them of itself.
pub(super) fn may_have_topic(
    identity: Option<&Identity>,
    topics: &TopicRules,
    client_id: &[u8],
    topic: &str,
) -> bool {
    let Some(rights) = identity.and_then(Identity::rights) else {
        return true;
    };
    let user = identity.and_then(|own| own.user.as_ref());
    let client = Client {
        user: user.map(|user| user.name.as_str()),
        id: std::str::from_utf8(client_id).unwrap_or_default(),
    };
    rights.may_subscribe(topic) || topics.gives(client, topic)
}

/// The change that ends a subscription of a session.
pub(super) fn ended_by(filter: &SharedFilter) -> Change {
    Change::Unsubscribed(filter.name.clone())
}
