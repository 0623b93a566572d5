//! What must hold, looked at from outside: a replica of its own that follows the log, and for every
//! node the history of what its devices were told is safe.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_bridge_protocol::fact::Fact;
use tidegate_cloud_protocol::ledger::command::Entry as Wish;
use tidegate_cloud_protocol::ledger::{Command, Effect};
use tidegate_cloud_protocol::offset_map::InCloud;
use tidegate_shared::gap::GapReason;
use tidegate_shared::id::{EdgeId, EdgeOffset, Incarnation, SessionEpoch, StreamName};
use tidegate_shared::record::Batch;

use super::cloud::{Entry, OrderedLog, Replica};
use crate::{Stop, violated};

type Payloads = BTreeMap<StreamName, Vec<u64>>;

/// What a journal holds, by edge offset. A clone is the same; [`History::copy`] is another that begins
/// alike.
#[derive(Clone, Debug, Default)]
pub struct History(Rc<RefCell<Payloads>>);

impl History {
    pub fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    pub fn acknowledged(&self, stream: &StreamName, payload: u64) {
        let mut streams = self.0.borrow_mut();
        streams.entry(stream.clone()).or_default().push(payload);
    }

    pub fn at(&self, stream: &StreamName, offset: u64) -> Option<u64> {
        self.0.borrow().get(stream)?.get(offset as usize).copied()
    }

    /// The journal was opened again: all that was acknowledged is there, and of what was not, some of
    /// `staged` may be.
    pub fn reopened(
        &self,
        stream: &StreamName,
        next: EdgeOffset,
        staged: &[(StreamName, u64)],
    ) -> Result<(), Stop> {
        let mut streams = self.0.borrow_mut();
        let payloads = streams.entry(stream.clone()).or_default();
        if next.0 < payloads.len() as u64 {
            let what = format!("{stream} had {} and has {next}", payloads.len());
            return violated("what was acknowledged is there", what);
        }
        let more = next.0 as usize - payloads.len();
        let of_stream = staged.iter().filter(|(name, _)| name == stream);
        payloads.extend(of_stream.map(|(_, payload)| *payload).take(more));
        match payloads.len() as u64 == next.0 {
            true => Ok(()),
            false => violated("a journal holds what was put into it", format!("{stream}")),
        }
    }
}

/// An interval of an incarnation, and what landed there; no payloads: a gap.
#[derive(Clone, Debug)]
struct Interval {
    edge: EdgeId,
    stream: StreamName,
    from: u64,
    to: u64,
    payloads: Vec<u64>,
}

type Numbering = (EdgeId, StreamName, Incarnation);

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    pub replica: Replica,
    intervals: Vec<Interval>,
    next: BTreeMap<Numbering, u64>,
    /// Whose journal spoke under an epoch, by the cluster incarnation's counter.
    sessions: BTreeMap<(EdgeId, u32, SessionEpoch), History>,
    /// The epochs that were granted last.
    newest: BTreeMap<EdgeId, SessionEpoch>,
    /// Below here entries were looked at before.
    checked: usize,
    pub forks: u64,
    pub gaps: u64,
    pub landed: u64,
    pub duplicates: u64,
    pub refusals: u64,
}

impl Truth {
    /// A hub has granted a session to a node with that history.
    pub fn session_granted(&mut self, edge: &EdgeId, epoch: SessionEpoch, history: &History) {
        let life = self.replica.ledger.cluster_incarnation();
        let counter = life.map_or(0, |life| life.counter);
        let session = (edge.clone(), counter, epoch);
        self.sessions.insert(session, history.clone());
    }

    /// The cloud's state is an old one again.
    pub fn restored(&mut self, log: &OrderedLog) -> Result<(), Stop> {
        let sessions = std::mem::take(&mut self.sessions);
        *self = Self {
            sessions,
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
            match effect {
                Effect::Landed(landed) => {
                    let Some(Wish::Land(land)) = wish else {
                        return violated("a landing was asked for", format!("{wish:?}"));
                    };
                    let offset = landed.part.attachment_offset;
                    let batch = entry.batches.iter().find(|(at, _)| *at == offset);
                    let Some((_, bytes)) = batch else {
                        return violated("a batch is as durable as its command", String::new());
                    };
                    let payloads = payloads(bytes.clone())?;
                    let fact = landed.fact;
                    let numbering = (landed.edge, landed.stream, fact.incarnation);
                    if is_new {
                        let epoch = land.offer.session_epoch;
                        self.check_content(&numbering, epoch, fact.edge_offset.0, &payloads)?;
                        self.landed += fact.count;
                    }
                    self.enter(numbering, fact.edge_offset.0, fact.count, payloads)?;
                }
                Effect::GapLanded(gap) => {
                    let declared =
                        gap.reason == GapReason::Overflow && gap.stream.as_str() == "logs";
                    if !declared {
                        let what = format!("{} of {} by {}", gap.from, gap.stream, gap.reason);
                        return violated("a gap has a reason", what);
                    }
                    self.gaps += u64::from(is_new);
                    let numbering = (gap.edge, gap.stream, gap.incarnation);
                    self.enter(numbering, gap.from.0, gap.count, Vec::new())?;
                }
                Effect::StreamForked(forked) => {
                    let fork = forked.fork;
                    self.forks += u64::from(is_new);
                    let numbering = (forked.edge, forked.stream, fork.incarnation);
                    if let Some((_, from, to)) = fork.gap() {
                        self.intervals.push(Interval {
                            edge: numbering.0.clone(),
                            stream: numbering.1.clone(),
                            from: from.0,
                            to: to.0,
                            payloads: Vec::new(),
                        });
                    }
                    if self.next.insert(numbering, fork.from.0).is_some() {
                        return violated("an incarnation begins once", format!("{fork:?}"));
                    }
                }
                Effect::SessionOpened { session_epoch } => {
                    if let Some(Wish::OpenSession(open)) = wish {
                        self.newest.insert(open.edge, session_epoch);
                    }
                }
                Effect::Duplicate { .. } => self.duplicates += u64::from(is_new),
                Effect::Refused { .. } => self.refusals += u64::from(is_new),
                _ => {}
            }
        }
        Ok(())
    }

    /// What landed under an epoch is what the journal behind it holds there.
    fn check_content(
        &self,
        (edge, stream, incarnation): &Numbering,
        epoch: SessionEpoch,
        from: u64,
        payloads: &[u64],
    ) -> Result<(), Stop> {
        let life = self.replica.ledger.cluster_incarnation();
        let counter = life.map_or(0, |life| life.counter);
        let newest = self.newest.get(edge);
        if newest != Some(&epoch) {
            let what = format!("{edge} {stream}: epoch {epoch}, the newest is {newest:?}");
            return violated("an older session is fenced", what);
        }
        let Some(history) = self.sessions.get(&(edge.clone(), counter, epoch)) else {
            return violated("nothing lands without a session", format!("{edge} {epoch}"));
        };
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
        count: u64,
        payloads: Vec<u64>,
    ) -> Result<(), Stop> {
        let next = self.next.entry(numbering.clone()).or_default();
        let (edge, stream, incarnation) = numbering;
        if *next != from {
            let what = format!("{edge} {stream} incarnation {incarnation}: {from} follows {next}");
            return violated("each entry lands exactly once, in order", what);
        }
        *next += count;
        let to = *next;
        self.intervals.push(Interval {
            edge,
            stream,
            from,
            to,
            payloads,
        });
        Ok(())
    }

    /// What an edge is told to have landed is durable, and lies where it is told.
    pub fn check_told(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        (incarnation, landed): (Incarnation, EdgeOffset),
        facts: &[Fact],
    ) -> Result<(), Stop> {
        let known = self.replica.ledger.stream(edge, stream);
        let is_true = known.is_some_and(|stream| {
            stream.head.incarnation > incarnation
                || (stream.head.incarnation == incarnation && stream.head.next >= landed)
        });
        if !is_true {
            let head = known.map(|stream| stream.head);
            let what =
                format!("{edge} {stream} incarnation {incarnation}: told {landed}, {head:?}");
            return violated("Landed is durable and applied", what);
        }
        for fact in facts {
            for delta in [0, fact.count - 1] {
                let offset = fact.edge_offset.plus(delta);
                let found = self
                    .replica
                    .map
                    .in_cloud(edge, stream, fact.incarnation, offset);
                let kafka_offset = fact.kafka_offset.plus(delta as i64);
                let fits = |found: InCloud| {
                    matches!(found, InCloud::Landed { place, kafka_offset: at }
                        if at == kafka_offset && place.target.partition == fact.partition
                            && place.target.topic_id == fact.topic_id)
                        || found == InCloud::Expired
                };
                if !found.is_some_and(fits) {
                    let what = format!("{edge} {stream}: {fact:?}, the map says {found:?}");
                    return violated("a fact is true", what);
                }
            }
        }
        Ok(())
    }

    /// Everything that a journal holds has landed, or is declared lost.
    pub fn check_complete(
        &self,
        edge: &EdgeId,
        stream: &StreamName,
        history: &History,
        next: EdgeOffset,
    ) -> Result<(), Stop> {
        let mut missing: BTreeMap<u64, u64> = (0..next.0)
            .filter_map(|offset| Some((offset, history.at(stream, offset)?)))
            .collect();
        let of_stream = self
            .intervals
            .iter()
            .filter(|interval| (&interval.edge, &interval.stream) == (edge, stream));
        for interval in of_stream {
            for offset in interval.from..interval.to {
                let at = (offset - interval.from) as usize;
                let landed = interval.payloads.get(at);
                if landed.is_none() || missing.get(&offset) == landed {
                    missing.remove(&offset);
                }
            }
        }
        match missing.iter().next() {
            None => Ok(()),
            Some((offset, payload)) => {
                let what = format!(
                    "{edge} {stream}: {} of {next} are missing, the first at {offset} ({payload})",
                    missing.len()
                );
                violated("journalled = landed + declared gaps", what)
            }
        }
    }

    /// The map leads back, and snapshot and replay give the live state.
    pub fn check_state(&self, log: &OrderedLog, cut: usize) -> Result<(), Stop> {
        if let Some(wrong) = self.replica.map.check().into_iter().next() {
            return violated("every fact is true both ways", wrong);
        }
        let entries = &log.entries[..log.durable];
        let replayed = Replica::replay(&entries[..cut.min(entries.len())]);
        let restored = replayed.and_then(|half| {
            let snapshot = half.ledger.snapshot();
            let ledger = tidegate_cloud_protocol::ledger::Ledger::restore(snapshot);
            let mut whole = Replica {
                ledger: ledger.map_err(|error| error.to_string())?,
                ..half
            };
            for entry in &entries[cut.min(entries.len())..] {
                let command = Command::decode(entry.command.clone());
                whole.apply(command.map_err(|error| error.to_string())?)?;
            }
            Ok(whole.ledger.snapshot())
        });
        match restored {
            Ok(bytes) if bytes == self.replica.ledger.snapshot() => Ok(()),
            Ok(_) => violated("snapshot and replay give the live state", String::new()),
            Err(what) => violated("snapshot and replay give the live state", what),
        }
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
