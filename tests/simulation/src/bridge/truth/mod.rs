//! What must hold, looked at from outside: a replica of its own that follows the log, a plain map of
//! every single record, and for every node the history of what its devices were told is safe.

mod check;
mod history;
mod keys;
mod plain;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_cloud_protocol::ledger::command::Entry as Wish;
use tidegate_cloud_protocol::ledger::{Command, Effect, Fork, Forked, GapLanded, Landed};
use tidegate_edge_journal::Overflow;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{EdgeId, Incarnation, SessionEpoch, StreamName};
use tidegate_shared::record::Batch;

use super::cloud::{Entry, OrderedLog, Replica};
use super::node::Node;
use crate::{Stop, violated};
pub use history::History;
use keys::KeyOrder;
pub use plain::PlainMap;

/// An interval of an incarnation that landed, or is declared lost: what the journal behind it held
/// there. A gap of one journal says nothing of what another one holds at the same offsets.
#[derive(Clone, Debug)]
struct Interval {
    edge: EdgeId,
    stream: StreamName,
    incarnation: Incarnation,
    /// The counter of the cluster incarnation in which it did.
    life: u32,
    from: u64,
    payloads: Vec<Option<u64>>,
    is_gap: bool,
}

pub type Numbering = (EdgeId, StreamName, Incarnation);

type Session = (EdgeId, u32, SessionEpoch);

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    pub replica: Replica,
    intervals: Vec<Interval>,
    next: BTreeMap<Numbering, u64>,
    pub plain: PlainMap,
    keys: KeyOrder,
    /// Whose journal spoke under an epoch, by the cluster incarnation's counter.
    sessions: BTreeMap<Session, History>,
    /// Forks that were granted, by what they began.
    begun: BTreeMap<Numbering, Fork>,
    /// The epochs that were granted last.
    newest: BTreeMap<EdgeId, SessionEpoch>,
    /// Below here entries were looked at before.
    checked: usize,
    /// Edges with forks.
    forked: BTreeSet<EdgeId>,
    pub forks: u64,
    pub gaps: u64,
    pub landed: u64,
    pub duplicates: u64,
    pub refusals: u64,
}

impl Truth {
    /// A hub has granted a session to a node with that history.
    pub fn session_granted(&mut self, edge: &EdgeId, epoch: SessionEpoch, history: &History) {
        let session = (edge.clone(), self.life(), epoch);
        self.sessions.insert(session, history.clone());
    }

    /// The cloud's state is an old one again.
    pub fn restored(&mut self, log: &OrderedLog) -> Result<(), Stop> {
        let sessions = std::mem::take(&mut self.sessions);
        let keys = std::mem::take(&mut self.keys);
        *self = Self {
            sessions,
            keys,
            checked: log.entries.len(),
            ..Self::default()
        };
        self.follow(log)
    }

    /// Looks at all that became durable.
    pub fn follow(&mut self, log: &OrderedLog) -> Result<(), Stop> {
        while self.replica.applied < log.durable {
            let at = self.replica.applied;
            self.take(&log.entries[at], at >= self.checked)?;
        }
        self.checked = self.checked.max(log.durable);
        Ok(())
    }

    fn take(&mut self, entry: &Entry, is_new: bool) -> Result<(), Stop> {
        let command = match Command::decode(entry.command.clone()) {
            Ok(command) => command,
            Err(error) => return violated("a command can be read", error.to_string()),
        };
        let wishes = match &command {
            Command::Tick(tick) => tick.entries.clone(),
            _ => Vec::new(),
        };
        let effects = match self.replica.apply(command) {
            Ok(effects) => effects,
            Err(what) => return violated("the ledger does not contradict itself", what),
        };
        let mut wishes = wishes.into_iter();
        for effect in effects {
            let wish = wishes.next();
            match (effect, wish) {
                (Effect::Landed(landed), Some(Wish::Land(land))) => {
                    let offset = landed.part.attachment_offset;
                    let batch = entry.batches.iter().find(|(at, _)| *at == offset);
                    let Some((_, bytes)) = batch else {
                        return violated("a batch is as durable as its command", String::new());
                    };
                    let epoch = land.offer.session_epoch;
                    self.take_landed(landed, epoch, payloads(bytes.clone())?, is_new)?;
                }
                (Effect::GapLanded(gap), Some(Wish::LandGap(land))) => {
                    self.take_gap(gap, land.offer.session_epoch, is_new)?;
                }
                (Effect::StreamForked(forked), Some(Wish::ForkStream(fork))) => {
                    self.take_fork(forked, fork.request.session_epoch, is_new)?;
                }
                (Effect::SessionOpened { session_epoch }, Some(Wish::OpenSession(open))) => {
                    self.newest.insert(open.edge, session_epoch);
                }
                (Effect::TopicDeleted { topic_id }, _) => self.plain.forget(topic_id),
                (Effect::Duplicate { .. }, _) => self.duplicates += u64::from(is_new),
                (Effect::Refused { .. }, _) => self.refusals += u64::from(is_new),
                (
                    effect @ (Effect::Landed(_) | Effect::GapLanded(_) | Effect::StreamForked(_)),
                    wish,
                ) => {
                    let what = format!("{effect:?} of {wish:?}");
                    return violated("what was done was asked for", what);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take_landed(
        &mut self,
        landed: Landed,
        epoch: SessionEpoch,
        payloads: Vec<u64>,
        is_new: bool,
    ) -> Result<(), Stop> {
        let fact = landed.fact;
        let numbering = (landed.edge, landed.stream, fact.incarnation);
        if payloads.len() as u64 != fact.count {
            let what = format!("{} records, {fact:?}", payloads.len());
            return violated("a fact is of all records of its batch", what);
        }
        if is_new {
            self.check_content(&numbering, epoch, fact.edge_offset.0, &payloads)?;
            self.landed += fact.count;
        }
        self.plain.land(&numbering, &fact)?;
        let payloads = payloads.into_iter().map(Some).collect();
        self.enter(numbering, fact.edge_offset.0, payloads, false)
    }

    fn take_gap(&mut self, gap: GapLanded, epoch: SessionEpoch, is_new: bool) -> Result<(), Stop> {
        let may_drop = match gap.stream.lane() {
            Some(_) => Node::keyed_overflow(gap.edge.as_str()) == Overflow::DropOldest,
            None => gap.stream.as_str() == "logs",
        };
        let declared = gap.reason == GapReason::Overflow && may_drop;
        if !declared {
            let what = format!("{} of {} by {}", gap.from, gap.stream, gap.reason);
            return violated("a gap has a reason", what);
        }
        self.gaps += u64::from(is_new);
        let numbering = (gap.edge, gap.stream, gap.incarnation);
        let (from, to) = (gap.from.0, gap.from.0 + gap.count);
        self.plain.lose(&numbering, (from, to), gap.reason);
        let held = self.held(&numbering, epoch, (from, to));
        self.enter(numbering, from, held, true)
    }

    fn take_fork(&mut self, forked: Forked, epoch: SessionEpoch, is_new: bool) -> Result<(), Stop> {
        let fork = forked.fork;
        self.forks += u64::from(is_new);
        let numbering = (forked.edge, forked.stream, fork.incarnation);
        if let Some((incarnation, from, to)) = fork.gap() {
            let (edge, stream) = (numbering.0.clone(), numbering.1.clone());
            let ended = (edge.clone(), stream.clone(), incarnation);
            let reason = GapReason::CloudRestored;
            self.plain.lose(&ended, (from.0, to.0), reason);
            let payloads = self.held(&numbering, epoch, (from.0, to.0));
            self.check_lost(&ended, from.0, &payloads)?;
            self.keys.settle(&stream, &payloads);
            let life = self.life();
            self.intervals.push(Interval {
                life,
                payloads,
                edge,
                stream,
                incarnation,
                from: from.0,
                is_gap: true,
            });
        }
        if is_new {
            self.forked.insert(numbering.0.clone());
        }
        self.begun.insert(numbering.clone(), fork);
        match self.next.insert(numbering, fork.from.0) {
            Some(_) => violated("an incarnation begins once", format!("{fork:?}")),
            None => Ok(()),
        }
    }

    /// What the journal that speaks under an epoch holds, or held, in an interval.
    fn held(
        &self,
        (edge, stream, _): &Numbering,
        epoch: SessionEpoch,
        (from, to): (u64, u64),
    ) -> Vec<Option<u64>> {
        let history = self.sessions.get(&(edge.clone(), self.life(), epoch));
        let at = |offset| history.and_then(|history| history.at(stream, offset));
        (from..to).map(at).collect()
    }

    /// The cluster incarnation's counter.
    fn life(&self) -> u32 {
        let life = self.replica.ledger.cluster_incarnation();
        life.map_or(0, |life| life.counter)
    }

    /// What landed under an epoch is what the journal behind it holds there.
    fn check_content(
        &self,
        (edge, stream, incarnation): &Numbering,
        epoch: SessionEpoch,
        from: u64,
        payloads: &[u64],
    ) -> Result<(), Stop> {
        let newest = self.newest.get(edge);
        if newest != Some(&epoch) {
            let what = format!("{edge} {stream}: epoch {epoch}, the newest is {newest:?}");
            return violated("an older session is fenced", what);
        }
        let Some(history) = self.sessions.get(&(edge.clone(), self.life(), epoch)) else {
            return violated("nothing lands without a session", format!("{edge} {epoch}"));
        };
        self.keys.check((edge, stream), history, payloads)?;
        for (offset, payload) in (from..).zip(payloads) {
            let held = history.at(stream, offset);
            if held != Some(*payload) {
                let what = format!(
                    "{edge} {stream} incarnation {incarnation} offset {offset}: {payload} landed, the journal has {held:?}"
                );
                return violated("what landed is what was journalled", what);
            }
        }
        Ok(())
    }

    /// Each numbering lands once, in order, without a hole.
    fn enter(
        &mut self,
        numbering: Numbering,
        from: u64,
        payloads: Vec<Option<u64>>,
        is_gap: bool,
    ) -> Result<(), Stop> {
        let life = self.life();
        let next = self.next.entry(numbering.clone()).or_default();
        let (edge, stream, incarnation) = numbering;
        if *next != from {
            let what = format!("{edge} {stream} incarnation {incarnation}: {from} follows {next}");
            return violated("each entry lands exactly once, in order", what);
        }
        *next += payloads.len() as u64;
        self.keys.settle(&stream, &payloads);
        self.intervals.push(Interval {
            edge,
            stream,
            incarnation,
            life,
            from,
            payloads,
            is_gap,
        });
        Ok(())
    }
}

fn payloads(batch: bytes::Bytes) -> Result<Vec<u64>, Stop> {
    let read = || {
        let batch = Batch::parse(batch)?;
        let mut payloads = Vec::new();
        for record in batch.records()? {
            let value = record?.1.value.unwrap_or_default();
            let bytes: [u8; 8] = value
                .get(..8)
                .and_then(|head| head.try_into().ok())
                .unwrap_or_default();
            payloads.push(u64::from_le_bytes(bytes));
        }
        Ok::<_, tidegate_shared::record::BatchError>(payloads)
    };
    match read() {
        Ok(payloads) => Ok(payloads),
        Err(error) => violated("what landed can be read", error.to_string()),
    }
}
