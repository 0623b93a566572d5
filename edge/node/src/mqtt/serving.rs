//! What a client is served: its session at CONNECT, its subscriptions, and its messages, from the
//! journal where the session outlives the connection and as they come where it does not.

use std::sync::Arc;
use std::time::Instant;

use tidegate_edge_journal::RowEntry;
use tidegate_edge_protocol::mqtt::codec::{
    PacketId, Qos, RetainHandling, SubscriptionIdentifier, Text,
};
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, CloseReason, Closed, ConnectRequest, DeliverOutcome, Delivery, DeliveryStage,
    DeliveryToken, PublishRefused, SharedFilter, SubscribeToken, SubscriptionRequest,
};
use tidegate_edge_protocol::mqtt::limits::SESSION_SUBSCRIPTIONS_BYTES_MAX;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tidegate_edge_protocol::mqtt::session::{Change, Subscription as Kept};
use tidegate_shared::id::Position;
use tokio::time::timeout;

use super::driver::Task;
use super::mailbox::{Answer, Letter};
use crate::committer::{Waiter, now_ms};
use crate::limits::{CURSOR_INTERVAL, RETAINED_LOOKS_MAX, TAKE_OVER_TIMEOUT};
use crate::retained::{Read, Wanted};
use crate::router::Subscription;
use crate::sessions::{Fed, Feed, Held};
use crate::system;

/// Deliveries that come from no position of the journal have tokens from here on.
const LIVE_TOKENS: u64 = 1 << 63;

impl Task {
    /// Takes the client's session up, or begins one; the CONNACK waits until that is durable.
    pub(super) async fn connect(&mut self, request: ConnectRequest) {
        self.context.metrics.mqtt_connects.inc();
        if let Some(redirect) = &self.context.redirect.at_connect {
            return self.machine.handle_redirected(Instant::now(), redirect);
        }
        let assigned = match &request.client_id {
            Some(_) => None,
            None => Text::new(format!("auto-{:x}-{}", self.id, start_nonce())).ok(),
        };
        let client_id = request.client_id.as_ref().or(assigned.as_ref());
        let client_id = client_id.map(Text::detached).unwrap_or_default();
        self.client_id = client_id.as_bytes().clone();
        let sessions = Arc::clone(&self.context.sessions);
        let taking = sessions.take_over(&client_id, self.id, &self.mailbox);
        let Ok(held) = timeout(TAKE_OVER_TIMEOUT, taking).await else {
            sessions.abandon(&client_id, self.id);
            return self.machine.handle_rejected(ReasonCode::ServerBusy);
        };
        let resumed = held.is_present() && !request.clean_start;
        self.held = Some(held);
        if !resumed && !self.settle_will().await {
            // It would be lost with the session that it belongs to.
            self.held = None;
            return self.machine.handle_rejected(ReasonCode::ServerBusy);
        }
        let Some(mut held) = self.held.take() else {
            return;
        };
        let position = self.context.reader.next_position();
        let changes = begin(&held, &request, resumed, position);
        let rows = held.change_all(&changes);
        let session = held.session();
        let accepted = Accepted {
            session_present: resumed,
            assigned_client_id: assigned,
            received: session.received().collect(),
            unacknowledged: session.progress().packet_ids().collect(),
            ..Accepted::default()
        };
        // A session that is here only for its will is not read for.
        if session.is_present() && (resumed || session.expiry_interval_s() > 0) {
            let durable = self.context.committer.durable();
            let (reader, clock) = (self.context.reader.clone(), self.context.clock);
            self.feed = Some(Box::new(Feed::new(reader, clock, durable, session)));
        }
        if let Some(user) = &request.authenticated_name {
            tracing::info!(peer = %self.peer, client = %client_id, %user, "mqtt: authenticated");
        }
        tracing::debug!(peer = %self.peer, client = %client_id, resumed, "mqtt: connected");
        let answer = Answer::Accepted(Box::new(accepted));
        if rows.is_empty() {
            self.held = Some(held);
            return self.answer(answer, Ok(()));
        }
        // Behind all that earlier connections of the session have left.
        held.submit(rows, Some((Arc::clone(&self.mailbox), answer)));
        self.held = Some(held);
    }

    /// Something of this connection's is durable.
    pub(super) fn answer(&mut self, answer: Answer, outcome: Result<(), PublishRefused>) {
        match answer {
            Answer::Publish(token, published) => self.published(token, *published, outcome),
            Answer::Will => {}
            Answer::Released(token) => self.machine.handle_released(token),
            Answer::Assigned(token) => self.machine.handle_assigned(token),
            Answer::Received(token) => self.machine.handle_received(token),
            Answer::Subscribed {
                token,
                reasons,
                with_retained,
                identifier,
            } => {
                self.machine.handle_subscribed(token, reasons);
                for SubscriptionRequest { filter, options } in with_retained {
                    self.retained.want(Wanted {
                        filter,
                        options,
                        identifier,
                    });
                }
            }
            Answer::Unsubscribed(token, reasons) => {
                self.machine.handle_unsubscribed(token, reasons);
            }
            Answer::Accepted(accepted) => self.accepted(*accepted),
        }
    }

    fn accepted(&mut self, accepted: Accepted) {
        let now = Instant::now();
        self.machine.handle_accepted(now, accepted);
        let Some(held) = &self.held else { return };
        for own in held.session().subscriptions() {
            if own.filter.group.is_some() {
                held.join_group(&own.filter, &self.mailbox, own.options, own.identifier);
            }
        }
        for (packet_id, position) in held.session().progress().resume().releases {
            let token = DeliveryToken(position.0);
            self.machine.handle_release_again(now, packet_id, token);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        token: SubscribeToken,
        requests: Vec<SubscriptionRequest>,
        identifier: Option<SubscriptionIdentifier>,
    ) {
        let (mut reasons, mut rows) = (Vec::with_capacity(requests.len()), Vec::new());
        let mut with_retained = Vec::new();
        for mut request in requests {
            if request.filter.group.is_some() {
                // What a member leaves behind goes to another.
                let qos_max = &mut request.options.qos_max;
                *qos_max = Qos::AtLeastOnce.min(*qos_max);
            }
            let (reason, is_new) = self.subscribe_one(&request, identifier, &mut rows);
            reasons.push(reason);
            let wants_retained = match request.options.retain_handling {
                RetainHandling::AtSubscribe => true,
                RetainHandling::AtNewSubscribe => is_new,
                RetainHandling::Never => false,
            };
            // [MQTT-3.3.1-9]; a shared subscription gets none (4.8.2).
            if wants_retained && !reason.is_error() && request.filter.group.is_none() {
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
        if self.feed.is_none() || is_of_the_server(&request.filter) {
            return self.subscribe_live(request, identifier);
        }
        let Some(held) = &mut self.held else {
            return (ReasonCode::UnspecifiedError, false);
        };
        let (name, since) = (&request.filter.name, self.context.reader.next_position());
        let is_new = held.session().subscription(name).is_none();
        let is_full =
            held.session().subscriptions().len() >= self.context.listener.subscriptions_max;
        if !held.session().may_subscribe(name) || (is_new && is_full) {
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
        if request.filter.group.is_some() {
            // It takes its turn from now on.
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
        let (name_bytes, is_new) = (filter.name.len(), !self.groups.contains(&filter.name));
        if is_new && !self.has_room_for_filter(name_bytes) {
            return (ReasonCode::QuotaExceeded, false);
        }
        let Some(held) = &mut self.held else {
            return (ReasonCode::UnspecifiedError, false);
        };
        held.subscribe_group(filter, self.context.reader.next_position());
        held.join_group(filter, &self.mailbox, options, identifier);
        if is_new {
            self.groups.push(filter.name.clone());
        }
        self.count_subscription(name_bytes, is_new);
        (request.granted(), is_new)
    }

    /// Of those that are served as messages come.
    fn has_room_for_filter(&self, name_bytes: usize) -> bool {
        self.subscriptions < self.context.listener.subscriptions_max
            && self.subscriptions_bytes + name_bytes <= SESSION_SUBSCRIPTIONS_BYTES_MAX
    }

    fn count_subscription(&mut self, name_bytes: usize, is_new: bool) {
        self.subscriptions += usize::from(is_new);
        self.subscriptions_bytes += if is_new { name_bytes } else { 0 };
    }

    pub(super) fn unsubscribe(&mut self, token: SubscribeToken, filters: Vec<SharedFilter>) {
        let (mut reasons, mut changes) = (Vec::with_capacity(filters.len()), Vec::new());
        for filter in filters {
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

    fn unsubscribe_live(&mut self, filter: &SharedFilter) -> bool {
        let existed = if filter.group.is_none() {
            self.context.router.unsubscribe(self.id, &filter.filter)
        } else {
            let at = self.groups.iter().position(|name| *name == filter.name);
            if let (Some(at), Some(held)) = (at, &mut self.held) {
                held.unsubscribe_group(&self.groups.swap_remove(at));
            }
            at.is_some()
        };
        self.subscriptions -= usize::from(existed);
        self.subscriptions_bytes -= if existed { filter.name.len() } else { 0 };
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

    /// A QoS 2 delivery from the journal has its identifier once that is durable; others end with
    /// their connection.
    pub(super) fn assign(&mut self, token: DeliveryToken, packet_id: PacketId) {
        let position = Position(token.0);
        match &mut self.held {
            Some(held) if token.0 < LIVE_TOKENS => {
                let change = Change::OutboundAssigned {
                    packet_id,
                    position,
                };
                let waiter = (Arc::clone(&self.mailbox), Answer::Assigned(token));
                held.store(&[change], Some(waiter));
            }
            _ => self.machine.handle_assigned(token),
        }
    }

    pub(super) fn received(&mut self, token: DeliveryToken, packet_id: PacketId) {
        match &mut self.held {
            Some(held) if token.0 < LIVE_TOKENS => {
                let waiter = (Arc::clone(&self.mailbox), Answer::Received(token));
                held.store(&[Change::OutboundReceived(packet_id)], Some(waiter));
            }
            _ => self.machine.handle_received(token),
        }
    }

    pub(super) fn delivery_done(&mut self, token: DeliveryToken) {
        if !self.shared.is_empty()
            && let Some(shared) = self.shared.remove(&token.0)
        {
            shared.done(self.id);
        }
        let Some(held) = self.held.as_mut().filter(|_| token.0 < LIVE_TOKENS) else {
            return;
        };
        if let Some(change) = held.session_mut().done(Position(token.0)) {
            held.store(&[change], None);
        }
        self.store_cursor_at
            .get_or_insert_with(|| Instant::now() + CURSOR_INTERVAL);
    }

    /// Stores how far the session has come, if it is time.
    pub(super) fn store_cursor(&mut self, now: Instant) {
        if self.store_cursor_at.is_none_or(|at| now < at) {
            return;
        }
        self.store_cursor_at = None;
        if let Some(held) = self.held.as_mut().filter(|_| self.feed.is_some()) {
            let change = held.session().cursor_change();
            held.store(change.as_slice(), None);
            // It may read the journal.
            tokio::task::block_in_place(|| held.trim());
        }
        // As long as something waits, it is looked at again.
        let behind =
            self.feed.as_ref().is_some_and(|feed| feed.is_behind()) || self.has_outstanding();
        self.store_cursor_at = behind.then(|| now + CURSOR_INTERVAL);
    }

    fn has_outstanding(&self) -> bool {
        let held = self.held.as_ref().filter(|_| self.feed.is_some());
        held.is_some_and(|held| {
            let progress = held.session().progress();
            progress.cursor() < progress.next()
        })
    }

    /// Hands over what the journal has for the session, behind retained messages that wait.
    pub(super) fn feed(&mut self) {
        self.deliver_retained();
        if !self.retained.is_empty() {
            return;
        }
        let (Some(feed), Some(held)) = (&mut self.feed, &mut self.held) else {
            return;
        };
        if !self.machine.is_connected() {
            return;
        }
        let Fed {
            changes,
            delivered,
            dropped,
        } = feed.pump(held.session_mut(), &mut self.machine);
        held.store(&changes, None);
        let metrics = &self.context.metrics;
        metrics.mqtt_messages_delivered.inc_by(delivered);
        metrics.mqtt_messages_dropped.inc_by(dropped);
        let progress = held.session().progress();
        if progress.cursor() > progress.stored_cursor()
            || progress.cursor() < progress.next()
            || feed.is_behind()
        {
            self.store_cursor_at
                .get_or_insert_with(|| Instant::now() + CURSOR_INTERVAL);
        }
    }

    /// As many as there is room for, and as may be looked at in one go.
    fn deliver_retained(&mut self) {
        let (now, now_ms) = (Instant::now(), self.context.clock.now_ms());
        let mut looks = RETAINED_LOOKS_MAX;
        while self.may_read_retained() {
            let (own, system) = (&*self.context.retained, &*self.context.system);
            let store_of = |filter: &SharedFilter| match is_of_the_server(filter) {
                true => system,
                false => own,
            };
            let letter = match self.retained.next(store_of, now_ms, &mut looks) {
                Read::Message(retained, options, identifier) => {
                    // Of a session that goes on, QoS 2 would have to be completed by its next connection.
                    let qos_max = match self.feed {
                        Some(_) => Qos::AtLeastOnce.min(options.qos_max),
                        None => options.qos_max,
                    };
                    retained.letter(qos_max, identifier, now, now_ms)
                }
                Read::NotYet | Read::Nothing => return,
            };
            self.deliver(now, letter);
        }
    }

    /// A message that comes from no position of the journal.
    pub(super) fn deliver(&mut self, now: Instant, letter: Letter) {
        let token = DeliveryToken(LIVE_TOKENS | self.next_delivery);
        let is_acknowledged = letter.qos.min(letter.qos_max) > Qos::AtMostOnce;
        let delivery = Delivery {
            token,
            qos: letter.qos,
            qos_max: letter.qos_max,
            retain: letter.retain,
            subscription_identifiers: letter.identifiers,
            expires_at: letter.expires_at,
            message: letter.message,
            resent: None,
        };
        self.next_delivery += 1;
        let mut is_done = !is_acknowledged;
        match self.machine.handle_deliver(now, delivery) {
            DeliverOutcome::Queued => self.counts.delivered += 1,
            DeliverOutcome::Dropped | DeliverOutcome::TooLarge => {
                self.context.metrics.mqtt_messages_dropped.inc();
                is_done = true;
            }
            // Never skipped: a subscriber that cannot follow is disconnected.
            DeliverOutcome::Overflow => {
                self.machine.handle_shutdown(now, ReasonCode::QuotaExceeded);
                is_done = false;
            }
            DeliverOutcome::NotConnected => is_done = false,
        }
        match letter.shared {
            Some(shared) if is_done => shared.done(self.id),
            Some(shared) => drop(self.shared.insert(token.0, shared)),
            None => {}
        }
    }

    /// The connection has ended: notes in the session how it left off, and gives it up.
    pub(super) async fn let_go(&mut self, closed: &Closed) {
        self.context.router.leave(self.id);
        self.feed = None;
        let Some(held) = &mut self.held else {
            return;
        };
        for name in std::mem::take(&mut self.groups) {
            held.unsubscribe_group(&name);
        }
        held.leave_groups();
        for delivery in &closed.unacknowledged {
            if delivery.stage == DeliveryStage::AtLeastOnce && delivery.token.0 < LIVE_TOKENS {
                let position = Position(delivery.token.0);
                let progress = held.session_mut().progress_mut();
                progress.sent(delivery.packet_id, position);
            }
        }
        let mut changes: Vec<_> = held.session().cursor_change().into_iter().collect();
        if let Some(expiry_interval_s) = closed.session_expiry_interval_s {
            changes.push(Change::ExpiryChanged { expiry_interval_s });
        }
        // [MQTT-3.14.4-3]
        let takes_back = CloseReason::ClientDisconnected(ReasonCode::Success);
        if closed.reason == takes_back && held.session().will().is_some() {
            changes.push(Change::WillCleared);
        }
        held.store(&changes, None);
        let stays = held.session().expiry_interval_s() > 0;
        // What has no space for its will stays for that.
        let stays = stays || !self.settle_will().await;
        if let Some(held) = &mut self.held {
            let at_ms = held.now_ms();
            held.store(
                &[match stays {
                    true => Change::Disconnected { at_ms },
                    false => Change::Ended,
                }],
                None,
            );
        }
    }
}

/// What CONNECT changes in the session.
fn begin(held: &Held, request: &ConnectRequest, resumed: bool, position: Position) -> Vec<Change> {
    let expiry_interval_s = request.session_expiry_interval_s;
    let will = request.will.clone().map(Box::new);
    let session = held.session();
    let mut changes = Vec::new();
    if resumed {
        changes.push(Change::Connected);
        if session.expiry_interval_s() != expiry_interval_s {
            changes.push(Change::ExpiryChanged { expiry_interval_s });
        }
        if session.will().is_some() && will.is_none() {
            changes.push(Change::WillCleared);
        }
    } else if expiry_interval_s > 0 || will.is_some() {
        changes.push(Change::Begun {
            expiry_interval_s,
            position,
        });
    } else if session.is_present() {
        changes.push(Change::Ended);
    }
    changes.extend(will.map(Change::WillSet));
    changes
}

/// What the server says of itself is not kept: it is served as it comes.
fn is_of_the_server(filter: &SharedFilter) -> bool {
    filter.group.is_none() && system::is_of_the_server(filter.filter.as_str())
}

/// Tells apart the assigned client ids of two lives of this process.
fn start_nonce() -> String {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    format!("{:x}", START.get_or_init(now_ms))
}
