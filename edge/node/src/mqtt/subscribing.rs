//! What a client subscribes to: in its session where that reads the journal, with the router where it is
//! served as messages come, and in a group where it shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_edge_journal::RowEntry;
use tidegate_edge_protocol::mqtt::automatic::addressed;
use tidegate_edge_protocol::mqtt::codec::{Qos, RetainHandling, SubscriptionIdentifier, Text};
use tidegate_edge_protocol::mqtt::connection::{SharedFilter, SubscribeToken, SubscriptionRequest};
use tidegate_edge_protocol::mqtt::destination::is_addressed;
use tidegate_edge_protocol::mqtt::limits::SESSION_SUBSCRIPTIONS_BYTES_MAX;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession, Subscription as Kept};

use super::Context;
use super::driver::Task;
use super::mailbox::Answer;
use super::rights::Refused;
use crate::committer::Waiter;
use crate::limits::CLIENT_GROUPS_MAX;
use crate::router::Subscription;
use crate::sessions::SharedDelivery;
use crate::system;

/// What a client is served as it comes, beside its session.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Filters, and what they take.
    filters: usize,
    filters_bytes: usize,
    /// Those of them that it shares.
    pub(super) groups: Vec<Text>,
    /// Deliveries whose group waits for their end, by token.
    pub(super) shared: BTreeMap<u64, SharedDelivery>,
}

impl Live {
    pub(super) fn is_idle(&self) -> bool {
        self.filters == 0 && self.shared.is_empty()
    }
}

impl Task {
    pub(super) fn subscribe(
        &mut self,
        token: SubscribeToken,
        requests: Vec<SubscriptionRequest>,
        identifier: Option<SubscriptionIdentifier>,
    ) {
        let (mut reasons, mut rows) = (Vec::with_capacity(requests.len()), Vec::new());
        let mut with_retained = Vec::new();
        for mut request in requests {
            self.rewrite_filter(&mut request.filter);
            if request.filter.group.is_some() {
                // What a member leaves behind goes to another.
                let qos_max = &mut request.options.qos_max;
                *qos_max = Qos::AtLeastOnce.min(*qos_max);
            }
            let (reason, is_new) = self.subscribe_one(&request, identifier, &mut rows);
            reasons.push(reason);
            if !reason.is_error() && wants_retained(&request, is_new) {
                with_retained.push(request);
            }
        }
        let answer = Answer::Subscribed {
            token,
            reasons,
            with_retained,
            identifier,
        };
        match &self.held {
            Some(held) if !rows.is_empty() => {
                held.submit(rows, Some((Arc::clone(&self.mailbox), answer)));
            }
            _ => self.answer(answer, Ok(())),
        }
    }

    /// Whether the subscription is granted, and whether it is new.
    fn subscribe_one(
        &mut self,
        request: &SubscriptionRequest,
        identifier: Option<SubscriptionIdentifier>,
        rows: &mut Vec<RowEntry>,
    ) -> (ReasonCode, bool) {
        if !self.may_subscribe(&request.filter) {
            self.refused(Refused::Subscribe, &request.filter.name);
            return (ReasonCode::NotAuthorized, false);
        }
        self.grant(request, identifier, rows)
    }

    /// What a client has of itself: all that the configuration gives it, and where its session is read from the journal,
    /// what is for everybody or for it alone. The rules are not asked. Gives those for which retained messages follow.
    pub(super) fn subscribe_automatically(
        &mut self,
        rows: &mut Vec<RowEntry>,
    ) -> Vec<SubscriptionRequest> {
        let mut requests: Vec<_> = self.automatic().collect();
        if self.feed.is_some() {
            let client_id = String::from_utf8_lossy(&self.client_id).into_owned();
            requests.extend(addressed(&client_id));
        }
        let mut with_retained = Vec::new();
        for request in requests {
            let held = self.held.as_ref().filter(|_| self.feed.is_some());
            let name = &request.filter.name;
            let is_new = held.is_none_or(|held| held.session().subscription(name).is_none());
            if is_new && self.grant(&request, None, rows).0.is_error() {
                let (peer, filter) = (self.peer, name.as_str());
                tracing::warn!(%peer, filter, "mqtt: no room for a subscription of mqtt.auto_subscribe");
                continue;
            }
            if wants_retained(&request, is_new) {
                with_retained.push(request);
            }
        }
        with_retained
    }

    fn grant(
        &mut self,
        request: &SubscriptionRequest,
        identifier: Option<SubscriptionIdentifier>,
        rows: &mut Vec<RowEntry>,
    ) -> (ReasonCode, bool) {
        if self.feed.is_none() || is_of_the_server(&request.filter) {
            return self.subscribe_live(request, identifier);
        }
        let Some(held) = &mut self.held else {
            return (ReasonCode::UnspecifiedError, false);
        };
        let (name, since) = (&request.filter.name, self.context.reader.next_position());
        let is_new = held.session().subscription(name).is_none();
        let session = held.session();
        let is_of_itself = is_addressed(request.filter.filter.as_str())
            && addressed(session.client_id()).any(|own| own.filter.name == *name);
        let subscriptions_max = self.context.listener.subscriptions_max;
        let has_room = || {
            (is_of_itself || asked_for(session) < subscriptions_max)
                && (request.filter.group.is_none()
                    || self.context.has_room_for_group(name, groups_of(session)))
        };
        if !session.may_subscribe(name) || (is_new && !has_room()) {
            return (ReasonCode::QuotaExceeded, false);
        }
        if held.session().subscriptions().len() == 0 {
            // Nothing was read for so far.
            held.session_mut().progress_mut().skipped_to(since);
        }
        let subscription = Kept {
            filter: request.filter.clone(),
            options: request.options,
            identifier,
            since,
        };
        held.change_into(&Change::Subscribed(subscription), rows);
        if request.filter.group.is_some() && self.machine.is_connected() {
            // It takes its turn from now on; before its CONNACK it could not.
            held.join_group(&request.filter, &self.mailbox, request.options, identifier);
        }
        (request.granted(), is_new)
    }

    fn subscribe_live(
        &mut self,
        request: &SubscriptionRequest,
        identifier: Option<SubscriptionIdentifier>,
    ) -> (ReasonCode, bool) {
        if request.filter.group.is_some() {
            return self.subscribe_group(request, identifier);
        }
        let subscription = Subscription {
            mailbox: Arc::clone(&self.mailbox),
            qos_max: request.options.qos_max,
            no_local: request.options.no_local,
            retain_as_published: request.options.retain_as_published,
            identifier,
        };
        let (filter, name_bytes) = (&request.filter.filter, request.filter.name.len());
        let router = &self.context.router;
        let is_new = router.subscribe(self.id, filter.clone(), subscription);
        if is_new && !self.has_room_for_filter(name_bytes) {
            router.unsubscribe(self.id, filter);
            return (ReasonCode::QuotaExceeded, false);
        }
        self.count_subscription(name_bytes, is_new);
        (request.granted(), is_new)
    }

    fn subscribe_group(
        &mut self,
        request: &SubscriptionRequest,
        identifier: Option<SubscriptionIdentifier>,
    ) -> (ReasonCode, bool) {
        let (filter, options) = (&request.filter, request.options);
        let live = self.live.as_ref();
        let is_new = live.is_none_or(|live| !live.groups.contains(&filter.name));
        let name_bytes = filter.name.len();
        let groups = live.map_or(0, |live| live.groups.len());
        let has_room = self.has_room_for_filter(name_bytes)
            && self.context.has_room_for_group(&filter.name, groups);
        if is_new && !has_room {
            return (ReasonCode::QuotaExceeded, false);
        }
        let Some(held) = &mut self.held else {
            return (ReasonCode::UnspecifiedError, false);
        };
        held.subscribe_group(filter, self.context.reader.next_position());
        if self.machine.is_connected() {
            held.join_group(filter, &self.mailbox, options, identifier);
        }
        if is_new {
            let live = self.live.get_or_insert_default();
            live.groups.push(filter.name.clone());
        }
        self.count_subscription(name_bytes, is_new);
        (request.granted(), is_new)
    }

    /// Of those that are served as messages come.
    fn has_room_for_filter(&self, name_bytes: usize) -> bool {
        let (filters, filters_bytes) = self
            .live
            .as_ref()
            .map_or((0, 0), |live| (live.filters, live.filters_bytes));
        filters < self.context.listener.subscriptions_max
            && filters_bytes + name_bytes <= SESSION_SUBSCRIPTIONS_BYTES_MAX
    }

    fn count_subscription(&mut self, name_bytes: usize, is_new: bool) {
        let live = self.live.get_or_insert_default();
        live.filters += usize::from(is_new);
        live.filters_bytes += if is_new { name_bytes } else { 0 };
    }

    pub(super) fn unsubscribe(&mut self, token: SubscribeToken, filters: Vec<SharedFilter>) {
        let (mut reasons, mut changes) = (Vec::with_capacity(filters.len()), Vec::new());
        for mut filter in filters {
            self.rewrite_filter(&mut filter);
            self.retained.forget(&filter.name);
            let existed = match (&self.feed, &self.held) {
                (Some(_), Some(held)) if !is_of_the_server(&filter) => {
                    let existed = held.session().subscription(&filter.name).is_some();
                    changes.extend(existed.then(|| Change::Unsubscribed(filter.name.clone())));
                    existed
                }
                _ => self.unsubscribe_live(&filter),
            };
            reasons.push(match existed {
                true => ReasonCode::Success,
                false => ReasonCode::NoSubscriptionExisted,
            });
        }
        self.store_and_answer(&changes, Answer::Unsubscribed(token, reasons));
    }

    /// What it is served as it comes.
    pub(super) fn live_filters(&self) -> Vec<SharedFilter> {
        let Some(live) = &self.live else {
            return Vec::new();
        };
        let own = self.context.router.filters_of(self.id).into_iter();
        let own = own.filter_map(|filter| Text::try_from(filter.as_str()).ok());
        let names = own.chain(live.groups.iter().cloned());
        names
            .filter_map(|name| SharedFilter::parse(name).ok())
            .collect()
    }

    pub(super) fn unsubscribe_live(&mut self, filter: &SharedFilter) -> bool {
        let existed = if filter.group.is_none() {
            self.context.router.unsubscribe(self.id, &filter.filter)
        } else {
            let groups = self.live.as_mut().map(|live| &mut live.groups);
            let left = groups.and_then(|groups| {
                let at = groups.iter().position(|name| *name == filter.name)?;
                Some(groups.swap_remove(at))
            });
            if let (Some(name), Some(held)) = (&left, &mut self.held) {
                held.unsubscribe_group(name);
            }
            left.is_some()
        };
        if let Some(live) = self.live.as_mut().filter(|_| existed) {
            live.filters -= 1;
            live.filters_bytes -= filter.name.len();
        }
        self.live.take_if(|live| live.is_idle());
        existed
    }

    fn store_and_answer(&mut self, changes: &[Change], answer: Answer) {
        match &mut self.held {
            Some(held) if !changes.is_empty() => {
                let waiter: Waiter = (Arc::clone(&self.mailbox), answer);
                held.store(changes, Some(waiter));
            }
            _ => self.answer(answer, Ok(())),
        }
    }
}

/// [MQTT-3.3.1-9]; a shared subscription gets none (4.8.2).
fn wants_retained(request: &SubscriptionRequest, is_new: bool) -> bool {
    let wants = match request.options.retain_handling {
        RetainHandling::AtSubscribe => true,
        RetainHandling::AtNewSubscribe => is_new,
        RetainHandling::Never => false,
    };
    wants && request.filter.group.is_none()
}

impl Context {
    /// Whether a client that is in so many groups may be in this one, too: each reads the journal for itself.
    fn has_room_for_group(&self, name: &Text, groups: usize) -> bool {
        groups < CLIENT_GROUPS_MAX && self.sessions.has_room_for_group(name)
    }
}

fn groups_of(session: &ClientSession) -> usize {
    let shared = session.subscriptions();
    shared.filter(|own| own.filter.group.is_some()).count()
}

/// Subscriptions, but for those that a session has of what is for everybody or for it alone.
fn asked_for(session: &ClientSession) -> usize {
    let has = |own: &SubscriptionRequest| session.subscription(&own.filter.name).is_some();
    let own = addressed(session.client_id()).filter(has).count();
    session.subscriptions().len() - own
}

/// What the server says of itself is not kept: it is served as it comes.
pub(super) fn is_of_the_server(filter: &SharedFilter) -> bool {
    filter.group.is_none() && system::is_of_the_server(filter.filter.as_str())
}
