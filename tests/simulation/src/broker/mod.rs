//! A small broker on one thread: connections as the protocol's machines, sessions and messages in the
//! real journal. It keeps the node's rules and none of its tasks: whoever drives it says when a commit
//! comes, when answers arrive, and when a session is fed.

mod feed;
mod record;
mod serving;
mod sessions;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidegate_edge_journal::OpenReport;
use tidegate_edge_protocol::mqtt::codec::{Decoder, Text};
use tidegate_edge_protocol::mqtt::connection::{
    CloseReason, Closed, ConnectRequest, Connection, Event, PublishRefused,
};
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;

pub use record::to_message;
pub use store::{Answer, ROUTES, Store, Waiter};

use self::feed::Feed;
use self::sessions::Sessions;
use crate::medium::SimulatedMedium;
use crate::power::{CrashPoint, Power};
use crate::rule::Rule;
use crate::{Stop, violated};

/// A connection's number, never used again in a run.
pub type LinkId = u64;

/// QoS 1 and 2 messages of one client that are on their way at once; announced to those of MQTT 5.
pub const INFLIGHT_INBOUND_MAX: u16 = 6;

/// The server's end of one connection.
#[derive(Debug)]
struct Link {
    machine: Connection,
    decoder: Decoder,
    input: BytesMut,
    /// Whose session it has.
    client_id: Option<Text>,
    feed: Option<Feed>,
    /// Results of commits that have not reached it yet.
    mailbox: VecDeque<Answer>,
    /// It has ended, and waits for the fate of what it took: a session that is let go of before would
    /// take a message that is refused for received.
    ending: Option<Closed>,
}

#[derive(Debug)]
pub struct Broker {
    store: Store,
    sessions: Sessions,
    links: BTreeMap<LinkId, Link>,
    power: Power,
    broken: Option<Rule>,
    /// CONNECTs that wait for an older connection of their client to let go.
    waiting: VecDeque<(LinkId, Box<ConnectRequest>)>,
    now: Instant,
}

impl Broker {
    pub fn open(
        medium: &SimulatedMedium,
        power: &Power,
        broken: Option<Rule>,
        log_files_max: usize,
        now: Instant,
    ) -> Result<(Self, OpenReport), Stop> {
        let (mut store, report) = Store::open(medium, power, broken, log_files_max)?;
        let sessions = Sessions::load(&mut store, broken)?;
        let broker = Self {
            store,
            sessions,
            links: BTreeMap::new(),
            power: power.clone(),
            broken,
            waiting: VecDeque::new(),
            now,
        };
        Ok((broker, report))
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether its end is open.
    pub fn has(&self, id: LinkId) -> bool {
        let link = self.links.get(&id);
        link.is_some_and(|link| link.ending.is_none())
    }

    pub fn set_now(&mut self, now: Instant, monotonic_ms_since_open: u64) {
        self.now = now;
        self.store.tick(monotonic_ms_since_open);
    }

    /// A client has opened a connection.
    pub fn accept(&mut self, id: LinkId) {
        let limits = limits();
        let link = Link {
            decoder: Decoder::server(limits.packet_bytes_max.get()),
            machine: Connection::new(limits, self.now),
            input: BytesMut::new(),
            client_id: None,
            feed: None,
            mailbox: VecDeque::new(),
            ending: None,
        };
        self.links.insert(id, link);
    }

    /// Bytes of the client.
    pub fn receive(&mut self, id: LinkId, bytes: &[u8]) -> Result<(), Stop> {
        if let Some(link) = self.links.get_mut(&id) {
            link.input.extend_from_slice(bytes);
        }
        self.decode(id)
    }

    /// Feeds whole packets to the machine while it takes them.
    fn decode(&mut self, id: LinkId) -> Result<(), Stop> {
        while let Some(link) = self.links.get_mut(&id) {
            if !link.machine.can_read() {
                break;
            }
            match link.decoder.decode(&mut link.input) {
                Ok(None) => break,
                Ok(Some(packet)) => link.machine.handle_packet(self.now, packet),
                Err(error) => return violated("clients send packets", error.to_string()),
            }
            self.handle_events(id)?;
        }
        Ok(())
    }

    /// Bytes for the client.
    pub fn transmit(&mut self, id: LinkId, out: &mut BytesMut) -> Result<(), Stop> {
        self.feed(id)?;
        while let Some(link) = self.links.get_mut(&id) {
            if !link.machine.poll_transmit(out) {
                break;
            }
            self.handle_events(id)?;
            self.feed(id)?;
        }
        self.decode(id)
    }

    /// The network connection has ended.
    pub fn close(&mut self, id: LinkId) -> Result<(), Stop> {
        if let Some(link) = self.links.get_mut(&id) {
            link.machine.handle_closed(self.now);
        }
        self.handle_events(id)
    }

    /// Commits if anybody waits for it.
    pub fn commit(&mut self) -> Result<(), Stop> {
        let waiters = self.store.commit()?;
        self.post(waiters)
    }

    /// One step of a checkpoint.
    pub fn checkpoint(&mut self) -> Result<(), Stop> {
        let waiters = self.store.checkpoint()?;
        self.post(waiters)
    }

    pub fn land(&mut self, route: usize, bytes_max: usize) -> Result<(), Stop> {
        self.store.land_some(route, bytes_max)
    }

    /// Lets the journal go of what no session reads any more.
    pub fn sweep(&mut self) -> Result<(), Stop> {
        self.sessions.pass_over(&mut self.store)?;
        self.sessions.tell_needed_from(&mut self.store);
        Ok(())
    }

    fn post(&mut self, waiters: Vec<Waiter>) -> Result<(), Stop> {
        for (id, answer) in waiters {
            // Whoever has gone meanwhile is not told.
            if let Some(link) = self.links.get_mut(&id) {
                link.mailbox.push_back(answer);
            }
        }
        let ending = self.links.iter().filter(|(_, link)| link.ending.is_some());
        let ending: Vec<_> = ending.map(|(id, _)| *id).collect();
        ending.into_iter().try_for_each(|id| self.empty_mailbox(id))
    }

    /// Ends a connection that knows what became of all that it submitted.
    fn end(&mut self, id: LinkId) -> Result<(), Stop> {
        if self.is_unsure(id) {
            return Ok(());
        }
        let link = self.links.get_mut(&id);
        if let Some(closed) = link.and_then(|link| link.ending.take()) {
            self.let_go(id, &closed);
            self.links.remove(&id);
            for _ in 0..self.waiting.len() {
                if let Some((newer, request)) = self.waiting.pop_front() {
                    self.connect(newer, request)?;
                }
            }
        }
        Ok(())
    }

    /// What was committed for a connection reaches it.
    pub fn empty_mailbox(&mut self, id: LinkId) -> Result<(), Stop> {
        while let Some(link) = self.links.get_mut(&id) {
            let Some(answer) = link.mailbox.pop_front() else {
                break;
            };
            if let Some(point) = point_before(&answer)
                && self.power.reach(point)
            {
                return Err(Stop::PowerGone);
            }
            self.answer(id, answer);
            self.handle_events(id)?;
        }
        self.end(id)?;
        self.decode(id)
    }

    /// A read of the log that is under way comes to its end.
    pub fn read(&mut self, id: LinkId) -> Result<(), Stop> {
        let reader = self.store.reader();
        let link = self.links.get_mut(&id);
        match link.and_then(|link| link.feed.as_mut()) {
            Some(feed) => feed.read(&reader),
            None => Ok(()),
        }
    }

    fn handle_events(&mut self, id: LinkId) -> Result<(), Stop> {
        while let Some(event) = self.links.get_mut(&id).and_then(|l| l.machine.poll_event()) {
            match event {
                Event::Connect(request) => self.connect(id, request)?,
                Event::Publish { token, publish } => self.publish(id, token, &publish)?,
                Event::Release { token, packet_id } => self.release(id, token, packet_id),
                Event::Subscribe { token, filters, .. } => self.subscribe(id, token, filters),
                Event::Assign { token, packet_id } => self.assign(id, token, packet_id),
                Event::Received { token, packet_id } => self.received(id, token, packet_id),
                Event::DeliveryDone { token, .. } => self.delivery_done(id, token),
                Event::Unsubscribe { token, filters } => self.unsubscribe(id, token, &filters),
                Event::WillDue(_) => {}
                // A full journal ends this broker's connections: it has nobody wait.
                Event::PublishAgain { .. } => unreachable!("nothing was withheld"),
                Event::Closed(closed) => {
                    check_end(&closed.reason)?;
                    if let Some(link) = self.links.get_mut(&id) {
                        link.ending = Some(closed);
                    }
                    self.end(id)?;
                }
            }
            if self.store.must_commit() {
                self.commit()?;
            }
        }
        Ok(())
    }

    /// What has not reached its client yet, if anything.
    pub fn unrest(&self) -> Option<String> {
        let end = self.store.reader().next_position();
        let mut sessions = self.sessions.all();
        let busy = sessions.find(|session| {
            let progress = session.progress();
            let has_read = session.subscriptions().len() == 0 || progress.cursor() == end;
            let is_free = progress.assigned_positions().next().is_none();
            !has_read || !is_free || !progress.resume().releases.is_empty()
        });
        if let Some(session) = busy {
            let (client_id, progress) = (session.client_id(), session.progress());
            return Some(format!("{client_id} of {end:?}: {progress:?}"));
        }
        if self.store.journal().wants_commit() {
            return Some("a commit".to_owned());
        }
        let is_told =
            |link: &Link| link.ending.is_none() && link.mailbox.is_empty() && link.input.is_empty();
        let mut links = self.links.iter();
        let link = links.find(|(_, link)| !is_told(link));
        link.map(|(id, _)| format!("link {id}"))
    }
}

/// Where the power may go between a commit and what it lets be said.
fn point_before(answer: &Answer) -> Option<CrashPoint> {
    match answer {
        Answer::Puback(..) => Some(CrashPoint::CommittedBeforePuback),
        Answer::Pubrec(..) => Some(CrashPoint::ReceivedBeforePubrec),
        Answer::Released(_) => Some(CrashPoint::ReleasedBeforePubcomp),
        Answer::Assigned(_) => Some(CrashPoint::AssignedBeforePublish),
        Answer::Received(_) => Some(CrashPoint::ReceivedBeforePubrel),
        Answer::Subscribed(..) | Answer::Unsubscribed(..) | Answer::Accepted(_) => None,
    }
}

/// Clients keep the rules, so nobody is thrown out.
fn check_end(reason: &CloseReason) -> Result<(), Stop> {
    match reason {
        CloseReason::NetworkClosed
        // Who is of an older version cannot be told otherwise that the journal is full.
        | CloseReason::PublishRefused(PublishRefused::QuotaExceeded)
        | CloseReason::ClientDisconnected(_)
        | CloseReason::Shutdown(ReasonCode::SessionTakenOver) => Ok(()),
        other => violated("a client that keeps the rules stays", format!("{other:?}")),
    }
}

fn limits() -> ConnectionLimits {
    let packet_bytes_max = NonZeroU32::new(8 << 10).expect("it is not 0");
    ConnectionLimits {
        packet_bytes_max,
        connect_timeout: Duration::from_secs(u64::from(u32::MAX)),
        inflight_inbound_max: NonZeroU16::new(INFLIGHT_INBOUND_MAX).expect("it is not 0"),
        inflight_outbound_max: NonZeroU16::new(5).expect("it is not 0"),
        outbound_queue_messages_max: 8,
        outbound_queue_bytes_max: 16 << 10,
        ..ConnectionLimits::default()
    }
}
