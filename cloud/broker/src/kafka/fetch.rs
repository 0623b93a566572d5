//! Fetch: plans, waits until there is enough, and opens what is to be sent, which is read as it is sent (`sending`). What a
//! request leaves out its session knows (`fetch_session`).

mod memory;
mod sending;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{EpochEndOffset, PartitionData};
use tidegate_cloud_protocol::acls::Operation;
use tidegate_cloud_protocol::fetch::{Plan, Planned, Wish};
use tidegate_shared::id::{KafkaOffset, TopicId};
use tokio::time::Instant;
use uuid::Uuid;

use super::fetch_session::{Answer, Asked, FetchSession, Round, Told, Topic};
use super::{Context, reply_code, target};
use crate::limits::{
    KAFKA_FETCH_AHEAD_BYTES_MAX, KAFKA_FETCH_BYTES_MAX, KAFKA_FETCH_WAIT_MAX, KAFKA_SEND_BYTES_MAX,
};
use crate::reading::{LOOK_UPS_MAX, Read, Run, StorageError};
pub(crate) use memory::FetchMemory;
use memory::Share;
pub(super) use sending::{Seen, Sending};

const READ_COMMITTED: i8 = 1;

/// A response, of which the records are not read yet.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    error_code: i16,
    session_id: i32,
    topics: Vec<Told<Run>>,
    /// So much is read and sent at a time, and one batch in any case.
    piece_bytes: usize,
    /// What of it is in memory.
    share: Share,
}

/// Who is told of what cannot be read.
pub(super) fn seen(context: &Context) -> Seen<'_> {
    let shared = context.broker.shared();
    Seen {
        metrics: &shared.metrics,
        suspects: &shared.suspects,
    }
}

pub(super) async fn handle(context: &Context, version: i16, mut request: FetchRequest) -> Fetched {
    context.broker.metrics().fetch_requests.inc();
    let mut session = lock(&context.fetch_session).take();
    let response = fetch(context, version, &mut request, &mut session).await;
    *lock(&context.fetch_session) = session;
    response
}

fn lock(session: &Mutex<Option<FetchSession>>) -> std::sync::MutexGuard<'_, Option<FetchSession>> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn fetch(
    context: &Context,
    version: i16,
    request: &mut FetchRequest,
    session: &mut Option<FetchSession>,
) -> Fetched {
    let round = match Round::begin(session, version, request) {
        Ok(round) => round,
        Err(error_code) => {
            return Fetched {
                error_code,
                ..Fetched::default()
            };
        }
    };
    let (wishes, refused) = wishes(context, &round.partitions);
    let asked = round.partitions.iter().zip(&wishes);
    let diverging = asked.map(|(asked, wish)| Diverging::find(context, &asked.wanted, wish));
    let mut diverging: Vec<_> = diverging.collect();
    if diverging.iter().any(Option::is_some) {
        // That is not to wait.
        request.max_wait_ms = 0;
    }
    let plan = wait_for(context, request, &wishes).await;
    let planned = plan.partitions.into_iter().zip(&wishes);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut room = Room {
        left: bytes_max.min(KAFKA_FETCH_BYTES_MAX),
        ahead: None,
        share: Share::default(),
        is_empty: true,
    };
    let mut answers = Vec::with_capacity(round.partitions.len());
    let asked = round.partitions.iter().zip(diverging.drain(..));
    let answers_to = asked.zip(planned).zip(refused);
    for (((Asked { wanted, .. }, diverging), (planned, wish)), refused) in answers_to {
        let planned = match refused {
            Some(code) => Err(code),
            None => planned.ok_or_else(|| unknown(version, wish)),
        };
        let planned = planned.map(|planned| (planned, wish, diverging));
        answers.push(answer(context, version, request, wanted, planned, &mut room).await);
    }
    let new_id = (Uuid::new_v4().as_u128() as i32 & i32::MAX).max(1);
    let (session_id, topics) =
        round.end(session, version, answers, (&context.session_room, new_id));
    // What there was no use for.
    room.share.give_back(room.ahead.unwrap_or(0));
    let records = topics.iter().flat_map(|(_, answers)| answers);
    let records = records.filter_map(|answer| answer.records.as_ref());
    let bytes: usize = records.map(Run::bytes).sum();
    let piece = bytes.min(KAFKA_SEND_BYTES_MAX);
    Fetched {
        error_code: reply_code::NONE,
        piece_bytes: room.share.reserve(&context.fetch_memory, piece),
        session_id,
        topics,
        share: room.share,
    }
}

/// What is to be read of each, and the code for who may not.
fn wishes(context: &Context, asked: &[Asked]) -> (Vec<Wish>, Vec<Option<i16>>) {
    let mut last: Option<(&Topic, Found)> = None;
    let wishes = asked.iter().map(|Asked { topic, wanted }| {
        let (id, refused) = match last {
            Some((known, found)) if known == topic => found,
            _ => find(context, topic),
        };
        last = Some((topic, (id, refused)));
        let wish = Wish {
            target: match id {
                Some(id) => target(id, wanted.partition),
                // A topic that is not there, or not for this client, has no partition -1 either.
                None => target(TopicId::default(), -1),
            },
            offset: KafkaOffset(wanted.fetch_offset),
            bytes_max: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
        };
        (wish, refused)
    });
    wishes.unzip()
}

/// A topic, if it is there; and the code for who may not read it.
type Found = (Option<TopicId>, Option<i16>);

fn find(context: &Context, topic: &Topic) -> Found {
    let (name, id) = match topic {
        Topic::Name(name) => (name.as_str(), Uuid::nil()),
        Topic::Id(id) => ("", *id),
    };
    match context.check_topic(Operation::Read, name, id) {
        Ok(()) => (context.topic_id(name, id), None),
        Err(refusal) => (None, Some(refusal.code)),
    }
}

/// Plans until there are `min_bytes`, or an error, or the time is over.
async fn wait_for(context: &Context, request: &FetchRequest, wishes: &[Wish]) -> Plan {
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
    let bytes_max = bytes_max.min(KAFKA_FETCH_BYTES_MAX);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait.min(KAFKA_FETCH_WAIT_MAX);
    let mut landed = context.broker.shared().watch_landed();
    loop {
        landed.mark_unchanged();
        let plan = context.broker.shared().state().plan(wishes, bytes_max);
        let enough = plan.bytes >= bytes_min.min(bytes_max) || plan.more || plan.has_error();
        if enough
            || tokio::time::timeout_at(deadline, landed.changed())
                .await
                .is_err()
        {
            return plan;
        }
    }
}

/// What whoever fetches has read of an epoch, and is not there (KIP-595).
enum Diverging {
    /// There never was such an epoch.
    Epoch,
    /// The epoch ends here.
    End { epoch: i32, end: KafkaOffset },
}

impl Diverging {
    fn find(context: &Context, wanted: &FetchPartition, wish: &Wish) -> Option<Self> {
        let epoch = wanted.last_fetched_epoch;
        if epoch < 0 {
            return None;
        }
        let end = context.broker.ledger(|ledger| {
            ledger.partition(wish.target)?;
            Some(ledger.epoch_end(wish.target, epoch))
        });
        match end? {
            None => Some(Self::Epoch),
            Some(end) => (end < wish.offset).then_some(Self::End { epoch, end }),
        }
    }
}

/// The code where there is nothing to be fetched.
fn unknown(version: i16, wish: &Wish) -> i16 {
    match version {
        13.. if wish.target.topic_id == TopicId::default() => reply_code::UNKNOWN_TOPIC_ID,
        _ => reply_code::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

async fn answer(
    context: &Context,
    version: i16,
    request: &FetchRequest,
    wanted: &FetchPartition,
    planned: Result<(Planned, &Wish, Option<Diverging>), i16>,
    room: &mut Room,
) -> Answer<Run> {
    let data = PartitionData::default()
        .with_partition_index(wanted.partition)
        .with_high_watermark(-1)
        .with_records(Some(Bytes::new()));
    let (planned, wish, diverging) = match planned {
        Ok(planned) => planned,
        Err(code) => return without_records(data.with_error_code(code)),
    };
    let (mut data, has_records) = describe(data, version, request, wanted, &planned, diverging);
    if !has_records {
        return without_records(data);
    }
    match open(context, planned, wish, room).await {
        Ok(run) => {
            room.take(run.bytes());
            let bytes = run.bytes() as u64;
            context.broker.metrics().fetch_bytes.inc_by(bytes);
            let records = (!run.is_empty()).then_some(run);
            Answer { data, records }
        }
        Err(error) => {
            context.broker.metrics().storage_errors.inc();
            tracing::error!(%error, partition = wanted.partition, "kafka: a fetch cannot be answered");
            data.error_code = reply_code::KAFKA_STORAGE_ERROR;
            without_records(data)
        }
    }
}

fn without_records(data: PartitionData) -> Answer<Run> {
    let records = None;
    Answer { data, records }
}

/// What is told of a partition beside its records, and whether records go with it.
fn describe(
    mut data: PartitionData,
    version: i16,
    request: &FetchRequest,
    wanted: &FetchPartition,
    planned: &Planned,
    diverging: Option<Diverging>,
) -> (PartitionData, bool) {
    data.aborted_transactions = None;
    let partition = planned.partition;
    data.error_code = reply_code::leader_epoch(wanted.current_leader_epoch, partition.leader_epoch);
    if data.error_code != reply_code::NONE {
        return (data, false);
    }
    let is_out = planned.out_of_range && diverging.is_none();
    if is_out || matches!(diverging, Some(Diverging::Epoch)) {
        return (data.with_error_code(reply_code::OFFSET_OUT_OF_RANGE), false);
    }
    data.high_watermark = partition.next.0;
    data.last_stable_offset = partition.next.0;
    if version >= 5 {
        data.log_start_offset = partition.log_start.0;
    }
    if request.isolation_level == READ_COMMITTED {
        data.aborted_transactions = Some(Vec::new());
    }
    if let Some(Diverging::End { epoch, end }) = diverging {
        let known = EpochEndOffset::default()
            .with_epoch(epoch)
            .with_end_offset(end.0);
        return (data.with_diverging_epoch(known), false);
    }
    (data, true)
}

/// What a response still has room for: what is planned of segments is an estimate.
#[derive(Debug)]
struct Room {
    left: usize,
    /// What may be in memory before it is sent, of what lies in files; not known before it is wanted.
    ahead: Option<usize>,
    /// What is in memory.
    share: Share,
    /// Nothing is in it yet.
    is_empty: bool,
}

impl Room {
    fn ahead(&mut self, memory: &FetchMemory) -> usize {
        let share = &mut self.share;
        let reserve = || share.reserve(memory, KAFKA_FETCH_AHEAD_BYTES_MAX);
        *self.ahead.get_or_insert_with(reserve)
    }

    fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.is_empty &= bytes == 0;
    }
}

/// Opens what was planned; where that has been moved meanwhile, what is planned then; and where all that it
/// could be was compacted away, what lies behind.
async fn open(
    context: &Context,
    planned: Planned,
    wish: &Wish,
    room: &mut Room,
) -> Result<Run, StorageError> {
    let shared = context.broker.shared();
    let leader_epoch = planned.partition.leader_epoch;
    let (mut wish, mut next, mut look_ups) = (*wish, Some(planned), 1);
    loop {
        let plan = || {
            let plan = shared.state().plan(&[wish], wish.bytes_max);
            plan.partitions.into_iter().next().flatten()
        };
        let Some(mut planned) = next.take().or_else(plan) else {
            return Ok(Run::default());
        };
        if planned.source.is_empty() {
            return Ok(Run::default());
        }
        let mut reserved = 0;
        let mut left = room.left;
        if shared.is_read_into_memory(&planned.source) {
            left = left.min(wish.bytes_max);
            reserved = room.share.reserve(&context.fetch_memory, left);
            left = reserved;
        }
        planned.source.bound(left, room.is_empty);
        let mut ahead = room.ahead(&context.fetch_memory);
        let opened = shared.open(planned.source, leader_epoch, &mut ahead);
        let opened = opened.await;
        room.ahead = Some(ahead);
        let used = match &opened {
            Ok(Read::Batches(run)) => run.bytes(),
            _ => 0,
        };
        room.share.give_back(reserved.saturating_sub(used));
        match opened {
            Err(error) if error.is_missing() && look_ups < LOOK_UPS_MAX => look_ups += 1,
            Ok(Read::Hole { to }) => wish.offset = to,
            Ok(Read::Batches(run)) => return Ok(run),
            Err(error) => return Err(error),
        }
    }
}
