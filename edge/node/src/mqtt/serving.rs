//! What a client is served: its session at CONNECT, its subscriptions, and its messages, from the
//! journal where the session outlives the connection and as they come where it does not.

use std::sync::Arc;
use std::time::Instant;

use tidegate_edge_protocol::mqtt::codec::{PacketId, Qos, SubscriptionIdentifier, Text};
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, CloseReason, Closed, ConnectRequest, DeliverOutcome, Delivery, DeliveryStage,
    DeliveryToken, PublishRefused, SharedFilter, SubscriptionRequest,
};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tidegate_edge_protocol::mqtt::session::Change;
use tidegate_shared::id::Position;
use tokio::time::timeout;

use super::driver::Task;
use super::mailbox::{Answer, Letter};
use super::rights::{Refused, ended_by, may_have_topic};
use super::subscribing::is_of_the_server;
use super::turn::{Counts, Turn};
use crate::limits::{CURSOR_INTERVAL, RETAINED_LOOKS_MAX, TAKE_OVER_TIMEOUT};
use crate::random;
use crate::retained::{Read, Wanted};
use crate::sessions::{Fed, Feed, Held};

/// Deliveries that come from no position of the journal have tokens from here on.
const LIVE_TOKENS: u64 = 1 << 63;

impl Task {
    /// Takes the client's session up, or begins one; the CONNACK waits until that is durable.
    pub(super) async fn connect(&mut self, mut request: ConnectRequest) {
        self.context.metrics.mqtt_connects.inc();
        if let Some(redirect) = &self.context.redirect.at_connect {
            return self.machine.handle_redirected(Instant::now(), redirect);
        }
        let assigned = match &request.client_id {
            Some(_) => None,
            None => assigned_id(),
        };
        let client_id = request.client_id.as_ref().or(assigned.as_ref());
        let client_id = client_id.map(Text::detached).unwrap_or_default();
        self.client_id = client_id.as_bytes().clone();
        if self.is_blocked(None, &client_id) {
            return self.machine.handle_rejected(ReasonCode::Banned);
        }
        let admitted = match self.authenticate(&request).await {
            Ok(user) => self.admit(user, &mut request, &client_id),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = admitted {
            return self.machine.handle_rejected(reason);
        }
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
        let mut changes = begin(&held, &request, resumed, position);
        if resumed {
            // The rules have changed while it was away, or it comes by another name.
            let ended = self.no_longer_allowed(held.session());
            for filter in &ended {
                self.refused(Refused::Subscribed, &filter.name);
            }
            changes.extend(ended.iter().map(ended_by));
        }
        let mut rows = held.change_all(&changes);
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
            let (committer, clock) = (self.context.committer.clone(), self.context.clock);
            self.feed = Some(Box::new(Feed::new(committer, clock, session)));
        }
        if let Some(user) = self.user() {
            tracing::info!(peer = %self.peer, client = ?client_id, ?user, "mqtt: authenticated");
        }
        tracing::debug!(peer = %self.peer, client = ?client_id, resumed, "mqtt: connected");
        self.held = Some(held);
        let with_retained = self.subscribe_automatically(&mut rows);
        let answer = Answer::Accepted(Box::new(accepted), with_retained);
        match &self.held {
            // Behind all that earlier connections of the session have left.
            Some(held) if !rows.is_empty() => {
                held.submit(rows, Some((Arc::clone(&self.mailbox), answer)));
            }
            _ => self.answer(answer, Ok(())),
        }
    }

    /// Something of this connection's is durable.
    pub(super) fn answer(&mut self, answer: Answer, outcome: Result<(), PublishRefused>) {
        match answer {
            Answer::Publish(token, published) => self.published(token, *published, outcome),
            Answer::Posted(_) => {}
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
                self.want_retained(with_retained, identifier);
            }
            Answer::Unsubscribed(token, reasons) => {
                self.machine.handle_unsubscribed(token, reasons);
            }
            Answer::Accepted(accepted, with_retained) => {
                self.accepted(*accepted);
                self.want_retained(with_retained, None);
            }
        }
    }

    fn want_retained(
        &mut self,
        requests: Vec<SubscriptionRequest>,
        identifier: Option<SubscriptionIdentifier>,
    ) {
        let behind = self.feed.as_ref().map_or(Position(0), |feed| feed.end());
        for SubscriptionRequest { filter, options } in requests {
            // It may have ended before it was durable.
            if !self.may_have(&filter) {
                continue;
            }
            let wanted = Wanted {
                filter,
                options,
                identifier,
            };
            self.retained.want(wanted, behind);
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
        if let Some(live) = &self.live {
            // What it has of itself and shares: now it can be given messages.
            let own = self.automatic();
            for own in own.filter(|own| live.groups.contains(&own.filter.name)) {
                held.join_group(&own.filter, &self.mailbox, own.options, None);
            }
        }
        for (packet_id, position) in held.session().progress().resume().releases {
            let token = DeliveryToken(position.0);
            self.machine.handle_release_again(now, packet_id, token);
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
        if let Some(live) = &mut self.live
            && let Some(shared) = live.shared.remove(&token.0)
        {
            shared.done(self.id);
            self.live.take_if(|live| live.is_idle());
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

    /// Hands over what the journal has for the session, and retained messages in between: behind what was there when
    /// they were asked for.
    pub(super) fn feed(&mut self, turn: &mut Turn) {
        let mut looks = RETAINED_LOOKS_MAX;
        while let Some(behind) = self.retained.behind() {
            self.pump(Some(behind));
            self.deliver_retained(turn, &mut looks);
            if self.retained.behind() == Some(behind) {
                return;
            }
        }
        self.pump(None);
    }

    fn pump(&mut self, until: Option<Position>) {
        let (Some(feed), Some(held)) = (&mut self.feed, &mut self.held) else {
            return;
        };
        if !self.machine.is_connected() {
            return;
        }
        let identity = self.identity.as_deref();
        let (topics, client_id) = (&self.context.topics, &self.client_id);
        let may_have = |topic: &str| may_have_topic(identity, topics, client_id, topic);
        let Fed {
            changes,
            delivered,
            dropped,
        } = feed.pump(held.session_mut(), &mut self.machine, until, may_have);
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
    fn deliver_retained(&mut self, turn: &mut Turn, looks: &mut usize) {
        let (now, now_ms) = (Instant::now(), self.context.clock.now_ms());
        while self.may_read_retained() {
            let (own, system) = (&*self.context.retained, &*self.context.system);
            let store_of = |filter: &SharedFilter| match is_of_the_server(filter) {
                true => system,
                false => own,
            };
            let letter = match self.retained.next(store_of, now_ms, looks) {
                Read::Message(retained, options, identifier) => {
                    // Of a session that goes on, QoS 2 would have to be completed by its next connection.
                    let qos_max = match self.feed {
                        Some(_) => Qos::AtLeastOnce.min(options.qos_max),
                        None => options.qos_max,
                    };
                    let priority = self.context.priority_of(&retained.message);
                    Letter {
                        priority,
                        ..retained.letter(qos_max, identifier, now, now_ms)
                    }
                }
                Read::NotYet | Read::Nothing => return,
            };
            self.deliver(now, letter, &mut turn.counts);
        }
    }

    /// A message that comes from no position of the journal.
    pub(super) fn deliver(&mut self, now: Instant, letter: Letter, counts: &mut Counts) {
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
            priority: letter.priority,
        };
        self.next_delivery += 1;
        let mut is_done = !is_acknowledged;
        match self.machine.handle_deliver(now, delivery) {
            DeliverOutcome::Queued => counts.delivered += 1,
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
            Some(shared) => {
                let live = self.live.get_or_insert_default();
                live.shared.insert(token.0, shared);
            }
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
        let live = self.live.as_mut();
        let groups = live.map(|live| std::mem::take(&mut live.groups));
        for name in groups.into_iter().flatten() {
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

/// One that nobody can guess: who says a client's id takes its session over.
fn assigned_id() -> Option<Text> {
    let chance = u128::from_le_bytes(random::bytes().ok()?);
    Text::new(format!("auto-{chance:032x}")).ok()
}
