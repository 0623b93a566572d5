//! Fetch sessions (KIP-227): a consumer names its partitions once, then only what has changed, and is answered only where
//! there is something to tell. Without I/O.
//!
//! A session lives in its connection, one in each: a client that comes again over another one begins anew, as after any
//! session that a broker has forgotten. Source: Kafka's `FetchSession.scala`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, TopicName as NameOfTopic};
use kafka_protocol::protocol::StrBytes;
use tidegate_shared::id::TopicName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::reply_code;

/// The epoch of a request that begins a session, and of one that wants none.
const BEGINS: i32 = 0;
const WITHOUT: i32 = -1;

/// The first version that names topics by their ids.
const BY_ID: i16 = 13;

/// A topic as the request's version names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    Name(StrBytes),
    Id(Uuid),
}

/// A partition that is to be fetched.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) topic: Topic,
    pub(super) wanted: FetchPartition,
}

impl Asked {
    fn key(&self) -> Key {
        (self.topic.clone(), self.wanted.partition)
    }
}

type Key = (Topic, i32);

/// What a partition is answered.
#[derive(Debug)]
pub(super) struct Answer<R> {
    /// Without records.
    pub(super) data: PartitionData,
    pub(super) records: Option<R>,
}

/// What is told of one topic.
pub(super) type Told<R> = (Topic, Vec<Answer<R>>);

/// What a session knows of a partition.
#[derive(Debug)]
struct Kept {
    wanted: FetchPartition,
    /// What the client was told last; -1: nothing.
    high_watermark: i64,
    log_start: i64,
}

impl Kept {
    fn new(wanted: FetchPartition) -> Self {
        Self {
            wanted,
            high_watermark: -1,
            log_start: -1,
        }
    }

    /// Whether an answer has to be told, which is so if anything in it is new. Errors are told each time.
    fn is_news<R>(&mut self, Answer { data, records }: &Answer<R>) -> bool {
        let is_error = data.error_code != reply_code::NONE;
        let told = (data.high_watermark, data.log_start_offset);
        let is_changed = told != (self.high_watermark, self.log_start);
        (self.high_watermark, self.log_start) = match is_error {
            true => (-1, -1),
            false => told,
        };
        records.is_some() || is_error || is_changed
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FetchSession {
    id: i32,
    /// That the next request has.
    epoch: i32,
    is_by_id: bool,
    partitions: BTreeMap<Key, Kept>,
    /// The last partition that had records: those behind it come first the next time.
    served: Option<Key>,
    /// A permit for each of its partitions.
    room: OwnedSemaphorePermit,
}

/// One fetch.
#[derive(Debug)]
pub(super) struct Round {
    /// In the order in which they are served.
    pub(super) partitions: Vec<Asked>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Alone,
    /// It begins a session if there is room for one.
    Begins,
    GoesOn,
}

impl Round {
    /// What a request is about. `session` is the connection's.
    ///
    /// # Errors
    /// With Kafka's code, for the whole response.
    pub(super) fn begin(
        session: &mut Option<FetchSession>,
        version: i16,
        request: &mut FetchRequest,
    ) -> Result<Self, i16> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let kind = match epoch {
            WITHOUT => Kind::Alone,
            BEGINS => Kind::Begins,
            _ => Kind::GoesOn,
        };
        if kind != Kind::GoesOn {
            // A client that begins anew says which one is over.
            if session.as_ref().is_some_and(|session| session.id == id) {
                *session = None;
            }
            let partitions = asked(version, request).collect();
            return Ok(Self { partitions, kind });
        }
        let own = session.as_mut().filter(|session| session.id == id);
        let own = own.ok_or(reply_code::FETCH_SESSION_ID_NOT_FOUND)?;
        if own.epoch != epoch {
            return Err(reply_code::INVALID_FETCH_SESSION_EPOCH);
        }
        if own.is_by_id != (version >= BY_ID) {
            return Err(reply_code::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        own.update(version, request);
        let partitions = own.in_turn();
        // Kafka ends one that is empty, too.
        let kind = match !own.partitions.is_empty() && own.take_room() {
            true => kind,
            false => {
                *session = None;
                Kind::Alone
            }
        };
        Ok(Self { partitions, kind })
    }

    /// Whether there can be topics of these names: what cannot be is not remembered.
    fn names_can_be(&self) -> bool {
        let mut topics = self.partitions.iter().map(|asked| &asked.topic);
        topics.all(|topic| match topic {
            Topic::Name(name) => name.len() <= TopicName::LENGTH_MAX,
            Topic::Id(_) => true,
        })
    }

    /// The session's id (0: there is none), and what is to be told, of one answer for each partition. A session that begins
    /// gets `new_id`, and a permit of `room` for each partition: without them there is none.
    pub(super) fn end<R>(
        self,
        session: &mut Option<FetchSession>,
        version: i16,
        answers: Vec<Answer<R>>,
        (room, new_id): (&Arc<Semaphore>, i32),
    ) -> (i32, Vec<Told<R>>) {
        let begins = match self.kind {
            Kind::Begins if !self.partitions.is_empty() && self.names_can_be() => {
                // Its room is free for the one that begins.
                *session = None;
                room_for(room, self.partitions.len())
            }
            _ => None,
        };
        let has_begun = begins.is_some();
        if let Some(room) = begins {
            let mut apart = Apart::default();
            let partitions = self.partitions.iter().map(|asked| {
                let key = (apart.of(&asked.topic), asked.wanted.partition);
                (key, Kept::new(asked.wanted.clone()))
            });
            *session = Some(FetchSession {
                id: new_id,
                epoch: 1,
                is_by_id: version >= BY_ID,
                partitions: partitions.collect(),
                served: None,
                room,
            });
        }
        let goes_on = self.kind == Kind::GoesOn;
        let mut own = session.as_mut().filter(|_| has_begun || goes_on);
        let mut topics: Vec<Told<R>> = Vec::new();
        for (asked, answer) in self.partitions.into_iter().zip(answers) {
            let is_news = own
                .as_mut()
                .is_none_or(|own| own.is_news(&asked.key(), &answer));
            if goes_on && !is_news {
                continue;
            }
            match topics.last_mut() {
                Some((topic, partitions)) if *topic == asked.topic => partitions.push(answer),
                _ => topics.push((asked.topic, vec![answer])),
            }
        }
        if let Some(own) = own.filter(|_| goes_on) {
            own.epoch = own.epoch.checked_add(1).unwrap_or(1);
        }
        let own = session.as_ref().filter(|_| has_begun || goes_on);
        let id = own.map_or(0, |own| own.id);
        (id, topics)
    }
}

impl FetchSession {
    /// Whether there is room for all its partitions.
    fn take_room(&mut self) -> bool {
        let (has, wants) = (self.room.num_permits(), self.partitions.len());
        if wants <= has {
            // What is too much goes back with the permits that are split off.
            drop(self.room.split(has - wants));
            return true;
        }
        let more = room_for(self.room.semaphore(), wants - has);
        more.is_some_and(|more| {
            self.room.merge(more);
            true
        })
    }

    fn update(&mut self, version: i16, request: &mut FetchRequest) {
        let mut apart = Apart::default();
        for asked in asked(version, request) {
            let key = (apart.of(&asked.topic), asked.wanted.partition);
            match self.partitions.get_mut(&key) {
                Some(kept) => kept.wanted = asked.wanted,
                None => drop(self.partitions.insert(key, Kept::new(asked.wanted))),
            }
        }
        for forgotten in &request.forgotten_topics_data {
            let topic = Topic::of(version, &forgotten.topic, forgotten.topic_id);
            for partition in &forgotten.partitions {
                self.partitions.remove(&(topic.clone(), *partition));
            }
        }
    }

    /// All partitions; those behind the last one that had records first.
    fn in_turn(&self) -> Vec<Asked> {
        let asked = |((topic, _), kept): (&Key, &Kept)| Asked {
            topic: topic.clone(),
            wanted: kept.wanted.clone(),
        };
        let Some(served) = &self.served else {
            return self.partitions.iter().map(asked).collect();
        };
        let behind = (Bound::Excluded(served), Bound::Unbounded);
        let behind = self.partitions.range::<Key, _>(behind);
        let others = self.partitions.range(..=served);
        behind.chain(others).map(asked).collect()
    }

    fn is_news<R>(&mut self, key: &Key, answer: &Answer<R>) -> bool {
        let Some(kept) = self.partitions.get_mut(key) else {
            return true;
        };
        if answer.records.is_some() {
            self.served = Some((key.0.apart(), key.1));
        }
        kept.is_news(answer)
    }
}

impl Topic {
    fn of(version: i16, name: &NameOfTopic, id: Uuid) -> Self {
        match version {
            BY_ID.. => Self::Id(id),
            _ => Self::Name(name.0.clone()),
        }
    }

    /// The same, without a share in the request's bytes.
    fn apart(&self) -> Self {
        match self {
            Self::Name(name) => Self::Name(StrBytes::from_string(name.to_string())),
            Self::Id(id) => Self::Id(*id),
        }
    }
}

/// Topics without a share in the request's bytes. One that is named by many partitions in a row has its name once.
#[derive(Default)]
struct Apart(Option<Topic>);

impl Apart {
    fn of(&mut self, topic: &Topic) -> Topic {
        match &self.0 {
            Some(last) if last == topic => last.clone(),
            _ => self.0.insert(topic.apart()).clone(),
        }
    }
}

/// All that a request names, in its order.
fn asked(version: i16, request: &mut FetchRequest) -> impl Iterator<Item = Asked> {
    let topics = std::mem::take(&mut request.topics).into_iter();
    topics.flat_map(move |one| {
        let topic = Topic::of(version, &one.topic, one.topic_id);
        one.partitions.into_iter().map(move |wanted| Asked {
            topic: topic.clone(),
            wanted,
        })
    })
}

fn room_for(room: &Arc<Semaphore>, partitions: usize) -> Option<OwnedSemaphorePermit> {
    let permits = u32::try_from(partitions).ok()?;
    Arc::clone(room).try_acquire_many_owned(permits).ok()
}

#[cfg(test)]
mod tests;
