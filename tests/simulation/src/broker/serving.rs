//! What each event of a connection comes to: changes of its client's session, records in the journal,
//! and answers that wait for the commit. The node's `serving` and `publishing` do the same.

use tidegate_edge_protocol::mqtt::codec::{PacketId, Publish, PublishQos, Text};
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, Closed, ConnectRequest, DeliveryStage, DeliveryToken, PublishToken, ReleaseToken,
    SharedFilter, SubscribeToken, SubscriptionRequest,
};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tidegate_edge_protocol::mqtt::session::{Change, Subscription};
use tidegate_shared::id::Position;

use super::record::to_record;
use super::store::Outcome;
use super::{Answer, Broker, Feed, LinkId};
use crate::Stop;
use crate::rule::Rule;

impl Broker {
    /// Takes the client's session up, or begins one; the CONNACK waits until that is durable.
    pub(super) fn connect(&mut self, id: LinkId, request: Box<ConnectRequest>) -> Result<(), Stop> {
        if !self.has(id) {
            return Ok(());
        }
        let client_id = request.client_id.as_ref().map(Text::detached);
        let client_id = client_id.unwrap_or_default();
        if let Some(before) = self.sessions.slot(&client_id).owner {
            self.shut_down(before)?;
        }
        if self.sessions.slot(&client_id).owner.is_some() {
            self.waiting.push_back((id, request));
            return Ok(());
        }
        let position = self.store.reader().next_position();
        let slot = self.sessions.slot(&client_id);
        slot.owner = Some(id);
        let resumed = slot.session.is_present() && !request.clean_start;
        let change = match resumed {
            true => Change::Connected,
            false => Change::Begun {
                expiry_interval_s: request.session_expiry_interval_s,
                position,
            },
        };
        let row = self.sessions.change(&mut self.store, &client_id, &change);
        let session = &self.sessions.slot(&client_id).session;
        let accepted = Accepted {
            session_present: resumed,
            received: session.received().collect(),
            unacknowledged: session.progress().packet_ids().collect(),
            ..Accepted::default()
        };
        if let Some(link) = self.links.get_mut(&id) {
            link.feed = Some(Feed::new(session));
            link.client_id = Some(client_id);
        }
        let answer = self.answer_early(id, Answer::Accepted(Box::new(accepted)));
        let waiter = answer.map(|answer| (id, answer));
        self.store.store(row.into_iter().collect(), waiter);
        Ok(())
    }

    /// A newer connection of the same client has come `[MQTT-3.1.4-3]`.
    fn shut_down(&mut self, id: LinkId) -> Result<(), Stop> {
        if let Some(link) = self.links.get_mut(&id) {
            let reason = ReasonCode::SessionTakenOver;
            link.machine.handle_shutdown(self.now, reason);
        }
        self.handle_events(id)
    }

    fn client_of(&self, id: LinkId) -> Option<Text> {
        self.links.get(&id)?.client_id.clone()
    }

    fn change_and_wait(&mut self, id: LinkId, changes: &[Change], answer: Option<Answer>) {
        if let Some(client_id) = self.client_of(id) {
            let waiter = answer.map(|answer| (id, answer));
            self.sessions
                .store(&mut self.store, &client_id, changes, waiter);
        }
    }

    pub(super) fn publish(
        &mut self,
        id: LinkId,
        token: Option<PublishToken>,
        publish: &Publish,
    ) -> Result<(), Stop> {
        let Some(client_id) = self.client_of(id) else {
            return Ok(());
        };
        let (change, answer) = match publish.qos {
            PublishQos::AtMostOnce => (None, None),
            PublishQos::AtLeastOnce(_) => (None, token.map(|token| Answer::Puback(token, Ok(())))),
            PublishQos::ExactlyOnce(packet_id) => (
                Some(Change::InboundReceived(packet_id)),
                token.map(|token| Answer::Pubrec(token, packet_id, Ok(()))),
            ),
        };
        let row =
            change.and_then(|change| self.sessions.change(&mut self.store, &client_id, &change));
        let rows: Vec<_> = row.into_iter().collect();
        let answer = answer.and_then(|answer| self.answer_early(id, answer));
        if let Some(Answer::Pubrec(..)) = &answer {
            self.sessions.slot(&client_id).unsure += 1;
        }
        let waiter = answer.map(|answer| (id, answer));
        let topic = publish.message.topic.as_str();
        let wanted = self.sessions.want(topic).then_some(self.store.unrouted());
        let Some(stream) = self.store.route(topic).or(wanted) else {
            // Nobody would read it, so there is no more to wait for than the identifier.
            match waiter {
                Some(waiter) if rows.is_empty() => return self.post(vec![waiter]),
                waiter => self.store.store(rows, waiter),
            }
            return Ok(());
        };
        let record = to_record(&publish.message);
        let mark = publish.qos.qos() as u8;
        self.store.append(stream, &record, mark, rows, waiter)
    }

    /// Says at once what a broken rule says too early; gives back what waits for its commit.
    fn answer_early(&mut self, id: LinkId, answer: Answer) -> Option<Answer> {
        let is_broken = match answer {
            Answer::Puback(..) => self.broken == Some(Rule::PubackBeforeCommit),
            Answer::Pubrec(..) => self.broken == Some(Rule::PubrecBeforeCommit),
            Answer::Released(_) => self.broken == Some(Rule::PubcompBeforeCommit),
            Answer::Assigned(_) => self.broken == Some(Rule::AssignBeforeCommit),
            Answer::Received(_) => self.broken == Some(Rule::ReceivedBeforeCommit),
            Answer::Accepted(_) => self.broken == Some(Rule::ConnackBeforeCommit),
            Answer::Subscribed(..) => self.broken == Some(Rule::SubackBeforeCommit),
            Answer::Unsubscribed(..) => false,
        };
        if !is_broken {
            return Some(answer);
        }
        self.answer(id, answer);
        None
    }

    pub(super) fn release(&mut self, id: LinkId, token: ReleaseToken, packet_id: PacketId) {
        let answer = self.answer_early(id, Answer::Released(token));
        self.change_and_wait(id, &[Change::InboundReleased(packet_id)], answer);
    }

    pub(super) fn assign(&mut self, id: LinkId, token: DeliveryToken, packet_id: PacketId) {
        let position = Position(token.0);
        let change = Change::OutboundAssigned {
            packet_id,
            position,
        };
        let answer = self.answer_early(id, Answer::Assigned(token));
        self.change_and_wait(id, &[change], answer);
    }

    pub(super) fn received(&mut self, id: LinkId, token: DeliveryToken, packet_id: PacketId) {
        let answer = self.answer_early(id, Answer::Received(token));
        self.change_and_wait(id, &[Change::OutboundReceived(packet_id)], answer);
    }

    pub(super) fn delivery_done(&mut self, id: LinkId, token: DeliveryToken) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let change = self
            .sessions
            .slot(&client_id)
            .session
            .done(Position(token.0));
        self.change_and_wait(id, change.as_slice(), None);
    }

    pub(super) fn subscribe(
        &mut self,
        id: LinkId,
        token: SubscribeToken,
        requests: Vec<SubscriptionRequest>,
    ) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let since = self.store.reader().next_position();
        let session = &mut self.sessions.slot(&client_id).session;
        if session.subscriptions().len() == 0 {
            // Nothing was read for so far.
            session.progress_mut().skipped_to(since);
        }
        let reasons = requests.iter().map(SubscriptionRequest::granted).collect();
        let changes: Vec<_> = requests
            .into_iter()
            .map(|request| {
                Change::Subscribed(Subscription {
                    filter: request.filter,
                    options: request.options,
                    identifier: None,
                    since,
                })
            })
            .collect();
        let answer = self.answer_early(id, Answer::Subscribed(token, reasons));
        self.change_and_wait(id, &changes, answer);
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: LinkId,
        token: SubscribeToken,
        filters: &[SharedFilter],
    ) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let session = &self.sessions.slot(&client_id).session;
        let (mut reasons, mut changes) = (Vec::new(), Vec::new());
        for filter in filters {
            let existed = session.subscription(&filter.name).is_some();
            changes.extend(existed.then(|| Change::Unsubscribed(filter.name.clone())));
            reasons.push(match existed {
                true => ReasonCode::Success,
                false => ReasonCode::NoSubscriptionExisted,
            });
        }
        let answer = Answer::Unsubscribed(token, reasons);
        match changes.is_empty() {
            true => self.answer(id, answer),
            false => self.change_and_wait(id, &changes, Some(answer)),
        }
    }

    /// Whether a QoS 2 message that it took may still be refused.
    pub(super) fn is_unsure(&mut self, id: LinkId) -> bool {
        let is_asked = self.broken != Some(Rule::LetGoUnsure);
        let client_id = self.client_of(id).filter(|_| is_asked);
        client_id.is_some_and(|client_id| {
            let slot = self.sessions.slot(&client_id);
            slot.owner == Some(id) && slot.unsure > 0
        })
    }

    fn fate_is_known(&mut self, id: LinkId, packet_id: PacketId, outcome: Outcome) {
        if outcome.is_err() {
            // A message that was refused was never received: its identifier is free.
            self.change_and_wait(id, &[Change::InboundReleased(packet_id)], None);
        }
        if let Some(client_id) = self.client_of(id) {
            let slot = self.sessions.slot(&client_id);
            slot.unsure = slot.unsure.saturating_sub(1);
        }
    }

    /// Something of this connection's is durable.
    pub(super) fn answer(&mut self, id: LinkId, answer: Answer) {
        let now = self.now;
        if let Answer::Pubrec(_, packet_id, outcome) = answer {
            self.fate_is_known(id, packet_id, outcome);
        }
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let machine = &mut link.machine;
        match answer {
            Answer::Puback(token, outcome) | Answer::Pubrec(token, _, outcome) => {
                machine.handle_committed(token, outcome);
            }
            Answer::Released(token) => machine.handle_released(token),
            Answer::Assigned(token) => machine.handle_assigned(token),
            Answer::Received(token) => machine.handle_received(token),
            Answer::Subscribed(token, reasons) => machine.handle_subscribed(token, reasons),
            Answer::Unsubscribed(token, reasons) => machine.handle_unsubscribed(token, reasons),
            Answer::Accepted(accepted) => {
                machine.handle_accepted(now, *accepted);
                let Some(client_id) = &link.client_id else {
                    return;
                };
                let session = &self.sessions.slot(client_id).session;
                for (packet_id, position) in session.progress().resume().releases {
                    let token = DeliveryToken(position.0);
                    link.machine.handle_release_again(now, packet_id, token);
                }
            }
        }
    }

    /// Hands over what the journal has for the session.
    pub fn feed(&mut self, id: LinkId) -> Result<(), Stop> {
        let durable = self.store.reader().next_position();
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        if let (Some(feed), Some(client_id)) = (&mut link.feed, &link.client_id)
            && link.machine.is_connected()
        {
            let session = &mut self.sessions.slot(client_id).session;
            let changes = feed.pump(self.now, durable, session, &mut link.machine);
            self.change_and_wait(id, &changes, None);
        }
        self.handle_events(id)
    }

    /// Stores how far the session has come.
    pub fn store_cursor(&mut self, id: LinkId) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let change = self.sessions.slot(&client_id).session.cursor_change();
        self.change_and_wait(id, change.as_slice(), None);
    }

    /// The connection has ended: notes in the session how it left off, and gives it up.
    pub(super) fn let_go(&mut self, id: LinkId, closed: &Closed) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let slot = self.sessions.slot(&client_id);
        slot.owner = None;
        for delivery in &closed.unacknowledged {
            if delivery.stage == DeliveryStage::AtLeastOnce {
                let position = Position(delivery.token.0);
                let progress = slot.session.progress_mut();
                progress.sent(delivery.packet_id, position);
            }
        }
        let mut changes: Vec<_> = slot.session.cursor_change().into_iter().collect();
        changes.push(Change::Disconnected { at_ms: 0 });
        self.change_and_wait(id, &changes, None);
    }
}
