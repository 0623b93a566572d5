//! What a hub asks of the ledger on behalf of one edge, and how the answers become frames. Pure: the
//! hub's driver carries both.

use bytes::Bytes;
use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::frame::{AnnouncedStream, GrantedStream, Hello, Landed, Refused};
use tidegate_bridge_protocol::hub::{self, HubConnection, HubError, HubEvent};
use tidegate_bridge_protocol::landing::{Head, Offer, RefusedReason};
use tidegate_bridge_protocol::limits::FRAME_FACTS_MAX;
use tidegate_shared::id::{EdgeId, SessionEpoch, StreamId, StreamName};
use tidegate_shared::record::Batch;

use crate::gathering::Wish;
use crate::ledger::command::{self, Entry, Part};
use crate::ledger::{Effect, Ledger, Opened};

/// A batch larger than this is refused as `TooLarge`.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// What is known beside the answer.
pub trait Known {
    /// Where a stream stands; the default where it is not known.
    fn head(&self, edge: &EdgeId, stream: &StreamName) -> Head;
    /// Facts of what has landed before; a few of them do.
    fn facts(&self, edge: &EdgeId, stream: &StreamName, offer: &Offer) -> Vec<Fact>;
}

/// One question. Several entries may come of it.
#[derive(Clone, Debug)]
pub enum Question {
    Session(Hello),
    Streams(SessionEpoch, Vec<AnnouncedStream>),
    Fork(hub::ForkStream),
    Land(hub::Land),
    Gap(hub::LandGap),
}

/// What was answered.
#[derive(Clone, Debug)]
pub enum Answer {
    Session(SessionEpoch),
    SessionRefused(RefusedReason),
    Streams(Vec<GrantedStream>),
    Landed(Landed),
    Refused(Refused),
}

impl Question {
    /// What an event of the hub asks; `session_epoch` is the connection's.
    pub fn of(event: HubEvent, session_epoch: SessionEpoch) -> Self {
        match event {
            HubEvent::OpenSession(hello) => Self::Session(hello),
            HubEvent::OpenStreams(streams) => Self::Streams(session_epoch, streams),
            HubEvent::ForkStream(fork) => Self::Fork(fork),
            HubEvent::Land(land) => Self::Land(land),
            HubEvent::LandGap(gap) => Self::Gap(gap),
        }
    }

    /// Bytes that it holds until it is answered, about: those of its batch or its streams. A gap counts
    /// what its answer may have, as a small frame can ask for very many facts.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Session(_) | Self::Fork(_) => 0,
            Self::Streams(_, streams) => streams.iter().map(announced_bytes).sum(),
            Self::Land(land) => land.batch.bytes().len(),
            Self::Gap(_) => FRAME_FACTS_MAX * size_of::<Fact>(),
        }
    }

    /// Whether it lands in a topic whose records have the time when they came (`LogAppendTime`).
    pub fn lands_at_append_time(&self, edge: &EdgeId, ledger: &Ledger) -> bool {
        let Self::Land(land) = self else {
            return false;
        };
        let stream = ledger.stream(edge, &land.name);
        let topic = stream.and_then(|stream| ledger.topic(stream.target.topic_id));
        topic.is_some_and(|topic| topic.settings.log_append_time)
    }

    /// What it lands came at `now_ms`.
    pub fn stamp(&mut self, now_ms: i64) {
        if let Self::Land(land) = self {
            land.batch = land.batch.appended_at(now_ms);
        }
    }

    /// The entries to decide. A batch that is too large has none: [`Question::answer`] refuses it.
    pub fn wishes(&self, edge: &EdgeId) -> Vec<Wish> {
        let edge = edge.clone();
        match self {
            Self::Session(hello) => vec![(
                Entry::OpenSession(command::OpenSession {
                    edge,
                    store_id: hello.store_id,
                    seen_cluster: hello.cluster_incarnation,
                    seen_epoch: hello.session_epoch,
                }),
                None,
            )],
            Self::Streams(session_epoch, streams) => {
                let open = |stream: &AnnouncedStream| {
                    Entry::OpenStream(command::OpenStream {
                        edge: edge.clone(),
                        session_epoch: *session_epoch,
                        stream: stream.name.clone(),
                        incarnation: stream.incarnation,
                        topic: stream.topic.clone(),
                        landed: stream.landed,
                        landed_life: stream.landed_life,
                    })
                };
                streams.iter().map(|stream| (open(stream), None)).collect()
            }
            Self::Fork(fork) => {
                let (stream, request) = (fork.name.clone(), fork.request);
                let fork = command::ForkStream {
                    edge,
                    stream,
                    request,
                };
                vec![(Entry::ForkStream(fork), None)]
            }
            Self::Land(land) => land_wish(edge, land.name.clone(), land.offer, &land.batch)
                .into_iter()
                .collect(),
            Self::Gap(gap) => {
                let (stream, offer, reason) = (gap.name.clone(), gap.offer, gap.reason);
                let land = command::LandGap {
                    edge,
                    stream,
                    offer,
                    reason,
                };
                vec![(Entry::LandGap(land), None)]
            }
        }
    }

    /// The answer, of exactly the effects of [`Question::wishes`]; `None` where they do not fit.
    pub fn answer(
        self,
        edge: &EdgeId,
        effects: &mut impl Iterator<Item = Effect>,
        known: &impl Known,
    ) -> Option<Answer> {
        Some(match self {
            Self::Session(_) => match effects.next()? {
                Effect::SessionOpened { session_epoch } => Answer::Session(session_epoch),
                Effect::SessionRefused { reason } => Answer::SessionRefused(reason),
                _ => return None,
            },
            Self::Streams(_, streams) => {
                let mut granted = Vec::with_capacity(streams.len());
                for announced in streams {
                    granted.push(grant(announced.stream, effects.next()?)?);
                }
                Answer::Streams(granted)
            }
            Self::Fork(fork) => Answer::Streams(vec![grant(fork.stream, effects.next()?)?]),
            Self::Land(land) => {
                let reason = RefusedReason::TooLarge;
                let effect = match is_too_large(&land.batch) {
                    true => Effect::Refused {
                        reason,
                        head: known.head(edge, &land.name),
                    },
                    false => effects.next()?,
                };
                let facts = || known.facts(edge, &land.name, &land.offer);
                answer_offer(land.request, land.stream, effect, facts)?
            }
            Self::Gap(gap) => {
                let facts = || known.facts(edge, &gap.name, &gap.offer);
                answer_offer(gap.request, gap.stream, effects.next()?, facts)?
            }
        })
    }
}

impl Answer {
    /// Hands the answer to the edge's connection.
    ///
    /// # Errors
    /// The connection is to be closed, after what it still has to say.
    pub fn tell(
        self,
        edge: &EdgeId,
        hub: &mut HubConnection,
        ledger: &Ledger,
        time_ms: i64,
    ) -> Result<(), HubError> {
        match self {
            Self::Session(session_epoch) => {
                // Another one was granted while this one was on its way.
                check_session(ledger, edge, session_epoch)?;
                let cluster = ledger.cluster_incarnation().unwrap_or_default();
                hub.handle_session(session_epoch, cluster, time_ms);
            }
            Self::SessionRefused(reason) => return Err(hub.handle_session_refused(reason)),
            Self::Streams(granted) => hub.handle_streams(granted)?,
            Self::Landed(landed) => {
                let name = hub.name_of(landed.stream);
                let stream = name.and_then(|name| ledger.stream(edge, name));
                let topic = stream.and_then(|stream| ledger.topic(stream.target.topic_id));
                let partitions = topic.map_or(0, |topic| topic.partitions().len() as u32);
                hub.handle_landed(landed, partitions);
            }
            Self::Refused(refused) => hub.handle_refused(refused)?,
        }
        Ok(())
    }
}

/// Whether a session goes on, although nothing was asked in it: to be looked at after every command that
/// names its edge among its [`speakers`](crate::ledger::Command::speakers). So one that has nothing to say is
/// told, too, that another connection is newer, or that its edge is held.
///
/// # Errors
/// The connection is to be closed.
pub fn check_session(
    ledger: &Ledger,
    edge: &EdgeId,
    session_epoch: SessionEpoch,
) -> Result<(), HubError> {
    let ended = ledger.session_end(edge, session_epoch);
    ended.map_or(Ok(()), |reason| Err(hub::session_over(reason)))
}

fn announced_bytes(stream: &AnnouncedStream) -> usize {
    let names = stream.name.as_str().len() + stream.topic.as_str().len();
    size_of::<AnnouncedStream>() + names
}

fn is_too_large(batch: &Batch) -> bool {
    batch.bytes().len() > BATCH_BYTES_MAX
}

/// The entry that lands a batch; `None` where it is too large. The batch was checked when it was
/// parsed; that it is of its offer's interval, by the hub.
pub fn land_wish(
    edge: EdgeId,
    stream: StreamName,
    offer: Offer,
    batch: &Batch,
) -> Option<(Entry, Option<Bytes>)> {
    if is_too_large(batch) {
        return None;
    }
    let part = Part {
        attachment_offset: 0,
        batch_bytes: u32::try_from(batch.bytes().len()).ok()?,
        max_timestamp_ms: batch.header().max_timestamp_ms,
    };
    let land = command::Land {
        edge,
        stream,
        offer,
        part,
    };
    Some((Entry::Land(land), Some(batch.bytes().clone())))
}

fn grant(stream: StreamId, effect: Effect) -> Option<GrantedStream> {
    let (opened, refused) = match effect {
        Effect::StreamOpened(opened) => (opened, None),
        Effect::StreamForked(forked) => (forked.opened, None),
        Effect::Refused { reason, head } => (Opened::refused(head), Some(reason)),
        _ => return None,
    };
    let head = opened.head;
    Some(GrantedStream {
        stream,
        incarnation: head.incarnation,
        next: head.next,
        hash: head.hash,
        refused,
        partitions: opened.partitions,
    })
}

fn answer_offer(
    request: u64,
    stream: StreamId,
    effect: Effect,
    known_facts: impl FnOnce() -> Vec<Fact>,
) -> Option<Answer> {
    let (head, facts) = match effect {
        Effect::GapLanded(gap) => (gap.head, Vec::new()),
        Effect::Landed(landed) => (landed.head, vec![landed.fact]),
        Effect::Duplicate { head } => (head, known_facts()),
        Effect::Refused { reason, head } => {
            let refused = Refused {
                request,
                stream,
                incarnation: head.incarnation,
                reason,
                next: head.next,
                hash: head.hash,
            };
            return Some(Answer::Refused(refused));
        }
        _ => return None,
    };
    let landed = Landed {
        request,
        stream,
        incarnation: head.incarnation,
        landed: head.next,
        hash: head.hash,
        facts,
    };
    Some(Answer::Landed(landed))
}

#[cfg(test)]
mod tests {
    use tidegate_shared::gap::GapReason;
    use tidegate_shared::id::*;

    use super::*;

    #[test]
    fn a_gap_and_an_announcement_hold_room_though_they_have_no_batch() {
        let name = StreamName::new("telemetry").unwrap();
        let offer = Offer {
            session_epoch: SessionEpoch(1),
            incarnation: Incarnation(1),
            base_offset: EdgeOffset(0),
            count: 1_000_000,
            hash_before: BoundaryHash(0),
            hash_after: BoundaryHash(1),
        };
        let gap = hub::LandGap {
            request: 1,
            stream: StreamId(0),
            name: name.clone(),
            offer,
            reason: GapReason::Overflow,
        };
        let answer_bytes_max = FRAME_FACTS_MAX * size_of::<Fact>();
        assert_eq!(Question::Gap(gap).held_bytes(), answer_bytes_max);
        let stream = AnnouncedStream {
            stream: StreamId(0),
            name,
            topic: TopicName::new("telemetry").unwrap(),
            incarnation: Incarnation(0),
            first: EdgeOffset(0),
            next: EdgeOffset(0),
            landed: EdgeOffset(0),
            landed_life: 0,
        };
        let streams = Question::Streams(SessionEpoch(1), vec![stream; 1_000]);
        assert!(streams.held_bytes() >= 1_000 * size_of::<AnnouncedStream>());
    }
}
