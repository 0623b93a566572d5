//! The cloud: one ordered log, and hubs that propose to it, apply it in its order, and answer what
//! they proposed. What the log has not synced is lost with the power; a hub that dies alone loses only
//! what it had in memory.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::hub::{HubConnection, HubError};
use tidegate_bridge_protocol::landing::{Head, Offer};
use tidegate_bridge_protocol::limits::FRAME_FACTS_MAX;
use tidegate_cloud_protocol::gathering::{Gathering, Pending};
use tidegate_cloud_protocol::index::{LogPlace, SegmentId};
use tidegate_cloud_protocol::ledger::command::{self as wish, Pack, Tick};
use tidegate_cloud_protocol::ledger::{Command, Effect, Effects, Ledger, Segment};
use tidegate_cloud_protocol::offset_map::OffsetMap;
use tidegate_cloud_protocol::packing::{self, PackRule};
use tidegate_cloud_protocol::questions::{Answer, Known, Question, check_session};
use tidegate_shared::id::{EdgeId, SessionEpoch, StreamName};

/// Who waits for an answer: a link's questions, in their order.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub link: u64,
    pub edge: EdgeId,
    pub questions: Vec<Question>,
}

/// One command in the log, with its batches.
#[derive(Clone, Debug)]
pub struct Entry {
    pub command: Bytes,
    pub batches: Vec<(u32, Bytes)>,
    /// The hub that proposed it, in one of its lives, and how manieth.
    pub proposal: Option<(usize, u64, u64)>,
}

/// The ordered log.
#[derive(Clone, Debug, Default)]
pub struct OrderedLog {
    pub entries: Vec<Entry>,
    pub durable: usize,
}

/// The ledger and its map, as one process has them.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    pub ledger: Ledger,
    pub map: OffsetMap,
    pub applied: usize,
}

impl Replica {
    pub fn apply(&mut self, command: Command) -> Result<Effects, String> {
        // A log object for each command: what the packer would free goes one by one.
        let place = LogPlace {
            object: self.applied as u64,
            position: 0,
        };
        let effects = self.ledger.apply(command, place);
        let effects = effects.map_err(|error| error.to_string())?;
        let life = self.ledger.cluster_incarnation().unwrap_or_default();
        for effect in &effects {
            self.map
                .apply(effect, life)
                .map_err(|clash| clash.to_string())?;
        }
        self.applied += 1;
        Ok(effects)
    }

    /// Bytes of the ledger's snapshot once all that has landed is packed: it grows with segments, and with
    /// batches only until then.
    pub fn ledger_bytes(&self) -> Result<usize, String> {
        let mut ledger = self.ledger.clone();
        let rule = PackRule {
            segment_bytes: u64::MAX,
            max_age_ms: i64::MIN,
        };
        let plans = packing::plan(&ledger, rule, ledger.now_ms(), &BTreeSet::new(), usize::MAX);
        let entries = (0..).zip(&plans).map(|(number, plan)| {
            let id = SegmentId {
                store: 0,
                broker_epoch: ledger.broker_epoch(),
                number,
            };
            wish::Entry::Pack(Pack {
                target: plan.target,
                segment: Segment {
                    id,
                    base: plan.base(),
                    end: plan.end(),
                    ..Segment::default()
                },
                replaces: Vec::new(),
                facts: None,
            })
        });
        let tick = Tick {
            now_ms: ledger.now_ms(),
            entries: entries.collect(),
        };
        let effects = ledger.apply(Command::Tick(tick), LogPlace::default());
        let effects = effects.map_err(|error| error.to_string())?;
        let is_packed = |effect: &Effect| matches!(effect, Effect::Packed { .. });
        match effects.iter().all(is_packed) {
            true => Ok(ledger.snapshot().len()),
            false => Err(format!("a tail cannot be packed: {effects:?}")),
        }
    }

    /// Everything in a log, from its start.
    pub fn replay(entries: &[Entry]) -> Result<Self, String> {
        let mut replica = Self::default();
        for entry in entries {
            let command = Command::decode(entry.command.clone());
            replica.apply(command.map_err(|error| error.to_string())?)?;
        }
        Ok(replica)
    }
}

impl Known for Replica {
    fn head(&self, edge: &EdgeId, stream: &StreamName) -> Head {
        let stream = self.ledger.stream(edge, stream);
        stream.map_or(Head::default(), |stream| stream.head)
    }

    fn facts(&self, edge: &EdgeId, stream: &StreamName, offer: &Offer) -> Vec<Fact> {
        let interval = (offer.base_offset, offer.end().unwrap_or(offer.base_offset));
        let map = &self.map;
        map.facts_of(edge, stream, offer.incarnation, interval, FRAME_FACTS_MAX)
    }
}

/// A hub's end of a link.
#[derive(Debug)]
pub struct HubEnd {
    pub edge: EdgeId,
    pub connection: HubConnection,
    pub session_epoch: SessionEpoch,
}

/// One hub process.
#[derive(Debug)]
pub struct Hub {
    pub number: usize,
    /// Counts its starts.
    pub life: u64,
    pub replica: Replica,
    pub ends: BTreeMap<u64, HubEnd>,
    gathering: Gathering<Ticket>,
    proposed: BTreeMap<u64, Pending<Ticket>>,
    proposals: u64,
    /// Answers that came before their time: only where a rule is broken.
    early: Vec<(Ticket, Effects)>,
}

impl Hub {
    pub fn start(number: usize, life: u64, log: &OrderedLog) -> Result<Self, String> {
        Ok(Self {
            number,
            life,
            replica: Replica::replay(&log.entries[..log.durable])?,
            ends: BTreeMap::new(),
            gathering: Gathering::default(),
            proposed: BTreeMap::new(),
            proposals: 0,
            early: Vec::new(),
        })
    }

    /// Asks what its end of a link wants to know.
    pub fn gather(&mut self, link: u64) {
        let Some(end) = self.ends.get_mut(&link) else {
            return;
        };
        let mut questions = Vec::new();
        while let Some(event) = end.connection.poll_event() {
            questions.push(Question::of(event, end.session_epoch));
        }
        if questions.is_empty() {
            return;
        }
        let edge = end.edge.clone();
        let wishes = questions.iter().flat_map(|question| question.wishes(&edge));
        let ticket = Ticket {
            link,
            edge: edge.clone(),
            questions: questions.clone(),
        };
        self.gathering.add(wishes.collect(), ticket);
    }

    /// Puts what has gathered into the log; it is not durable yet.
    pub fn propose(&mut self, log: &mut OrderedLog, now_ms: i64) {
        if self.gathering.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.gathering).seal(now_ms);
        let early = pending.answers_too_early(&self.replica.ledger);
        let mut command = BytesMut::new();
        pending.command().encode(&mut command);
        log.entries.push(Entry {
            command: command.freeze(),
            batches: pending.batches().to_vec(),
            proposal: Some((self.number, self.life, self.proposals)),
        });
        match early {
            Some(early) => self.early.extend(early),
            None => drop(self.proposed.insert(self.proposals, pending)),
        }
        self.proposals += 1;
    }

    /// Applies the next durable entry; returns what is to be answered. `None` where there is none.
    pub fn apply_next(
        &mut self,
        log: &OrderedLog,
    ) -> Result<Option<Vec<(Ticket, Effects)>>, String> {
        let at = self.replica.applied;
        if at >= log.durable {
            return Ok(None);
        }
        let entry = &log.entries[at];
        let own = entry
            .proposal
            .filter(|(hub, life, _)| (*hub, *life) == (self.number, self.life))
            .and_then(|(_, _, number)| self.proposed.remove(&number));
        let replica = &mut self.replica;
        match own {
            Some(pending) => Ok(Some(pending.durable(|command, _| replica.apply(command))?)),
            None => {
                let command = Command::decode(entry.command.clone());
                replica.apply(command.map_err(|error| error.to_string())?)?;
                Ok(Some(Vec::new()))
            }
        }
    }

    pub fn take_early(&mut self) -> Vec<(Ticket, Effects)> {
        std::mem::take(&mut self.early)
    }

    /// Links whose sessions are over, although nothing was said in them.
    pub fn ended(&self) -> Vec<(u64, HubError)> {
        let ledger = &self.replica.ledger;
        let ended = self.ends.iter().filter_map(|(link, end)| {
            let checked = check_session(ledger, &end.edge, end.session_epoch);
            Some((*link, checked.err()?))
        });
        ended.collect()
    }

    /// Tells a link what was decided; the session epoch where one was granted.
    pub fn tell(
        &mut self,
        ticket: Ticket,
        effects: Effects,
        time_ms: i64,
    ) -> Result<Option<SessionEpoch>, HubError> {
        let Self { replica, ends, .. } = self;
        let Some(end) = ends.get_mut(&ticket.link) else {
            return Ok(None);
        };
        let mut effects: std::vec::IntoIter<Effect> = effects.into_iter();
        let mut granted = None;
        for question in ticket.questions {
            let Some(answer) = question.answer(&ticket.edge, &mut effects, &*replica) else {
                continue;
            };
            if let Answer::Session(epoch) = &answer {
                end.session_epoch = *epoch;
                granted = Some(*epoch);
            }
            let connection = &mut end.connection;
            answer.tell(&ticket.edge, connection, &replica.ledger, time_ms)?;
        }
        Ok(granted)
    }
}
