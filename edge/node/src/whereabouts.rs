//! `/api/v1/where` at the edge: the newest message in the journal that matches, and what holds it up here.
//! The log is read from its newest end in ever longer stretches; topic summaries pass over what cannot
//! match. What has landed and was let go of only the cloud knows.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_edge_journal::{Chunk, JournalReader, LogRead, ReadError, StreamStatus, TopicProbe};
use tidegate_shared::id::{EdgeId, EdgeOffset, Position, StreamId};
use tidegate_shared::record::Batch;
use tidegate_shared::topic::TopicFilter;

use crate::http::Context;
use crate::limits::{WHERE_READ_BYTES, WHERE_READ_BYTES_MAX};
use crate::record::topic_of;

/// Which message. A stream means its lanes, too.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Question {
    stream: Option<String>,
    /// A topic or a filter.
    topic: Option<String>,
    at_ms: Option<i64>,
    offset: Option<u64>,
    incarnation: Option<u64>,
}

pub(crate) async fn handle(State(context): State<Context>, asked: Query<Question>) -> Response {
    let Query(asked) = asked;
    let topic = asked.topic.as_deref().map(TopicFilter::new).transpose();
    let topic = match topic {
        Ok(topic) => topic,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("topic: {error}")),
    };
    let reader = context.sessions.committer.reader().clone();
    let streams = uplinked(&reader, &context, asked.stream.as_deref());
    let mut answer = describe(&context, &streams);
    let search = Search {
        reader,
        streams,
        topic,
        asked,
    };
    let searched = tokio::task::spawn_blocking(move || search.run()).await;
    match searched.map_err(|error| error.to_string()) {
        Ok(Ok((found, searched_all))) => {
            answer["found"] = found.map_or(Value::Null, |found| found.tell());
            answer["searched_all"] = json!(searched_all);
            Json(answer).into_response()
        }
        Ok(Err(error)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

fn refuse(status: StatusCode, why: String) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

fn uplinked(reader: &JournalReader, context: &Context, asked: Option<&str>) -> Vec<StreamStatus> {
    let mut streams = reader.streams();
    streams.retain(|status| {
        let rest = asked.map(|asked| status.name.as_str().strip_prefix(asked));
        let is_asked = rest
            .is_none_or(|rest| rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#')));
        is_asked && status.stream != context.unrouted
    });
    streams
}

fn describe(context: &Context, streams: &[StreamStatus]) -> Value {
    let link = context.metrics.link.get();
    let streams = streams.iter().map(|status| {
        let gaps = status.gaps.iter().map(|gap| {
            let reason = gap.reason.name();
            json!({ "from": gap.from, "to": gap.to, "reason": reason })
        });
        json!({
            "stream": status.name,
            "topic": status.topic,
            "incarnation": status.incarnation,
            "first": status.first,
            "next": status.next,
            "landed": status.landed,
            "gaps": gaps.collect::<Vec<_>>(),
            "held": link.held.get(&status.stream),
        })
    });
    json!({
        "edge": context.edge.as_ref().map(EdgeId::as_str),
        "uplink": {
            "configured": context.edge.is_some(),
            "connected": link.connected,
            "since_ms": link.since_ms,
            "why": link.why,
        },
        "streams": streams.collect::<Vec<_>>(),
    })
}

/// A message in the journal.
struct Found {
    status: StreamStatus,
    offset: EdgeOffset,
    time_ms: i64,
    mqtt_topic: Option<String>,
}

impl Found {
    fn tell(&self) -> Value {
        json!({
            "stream": self.status.name,
            "incarnation": self.status.incarnation,
            "edge_offset": self.offset,
            "landed": self.offset < self.status.landed,
            "time_ms": self.time_ms,
            "mqtt_topic": self.mqtt_topic,
        })
    }
}

/// What was found, and whether nothing was left out.
type Searched = (Option<Found>, bool);

struct Search {
    reader: JournalReader,
    streams: Vec<StreamStatus>,
    topic: Option<TopicFilter>,
    asked: Question,
}

impl Search {
    fn run(&self) -> Result<Searched, ReadError> {
        match self.asked.offset {
            Some(offset) => Ok((self.at_offset(EdgeOffset(offset))?, true)),
            None => self.newest(),
        }
    }

    fn at_offset(&self, offset: EdgeOffset) -> Result<Option<Found>, ReadError> {
        // An older life of the numbering is not in the journal under its own number.
        let is_meant = |status: &&StreamStatus| {
            let is_life = |asked: u64| asked == status.incarnation.0;
            let is_named = |asked: &str| asked == status.name.as_str();
            self.asked.incarnation.is_none_or(is_life)
                && self.asked.stream.as_deref().is_some_and(is_named)
        };
        let Some(status) = self.streams.iter().find(is_meant) else {
            return Ok(None);
        };
        if offset < status.first || offset >= status.next {
            return Ok(None);
        }
        match self.reader.read(status.stream, offset, 1) {
            Ok(chunks) => Ok(chunks
                .first()
                .and_then(|chunk| self.last_of(chunk, |at, _, _| at == offset))),
            Err(ReadError::Lost { .. } | ReadError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stretches of the log from its end, each several times as long as the one before.
    fn newest(&self) -> Result<Searched, ReadError> {
        let probe = match &self.topic {
            Some(filter) => TopicProbe::new([filter]),
            None => TopicProbe::anything(),
        };
        let first = self.reader.first_position();
        let (mut end, mut within) = (self.reader.next_position(), WHERE_READ_BYTES as u64);
        let mut room = WHERE_READ_BYTES_MAX;
        loop {
            let from = self.reader.position_within(within).min(end);
            if let Some(found) = self.newest_between((from, end), &probe, &mut room)? {
                return Ok((Some(found), true));
            }
            if from <= first || room == 0 {
                return Ok((None, from <= first && room > 0));
            }
            (end, within) = (from, within.saturating_mul(4));
        }
    }

    fn newest_between(
        &self,
        (from, end): (Position, Position),
        probe: &TopicProbe,
        room: &mut usize,
    ) -> Result<Option<Found>, ReadError> {
        let (mut next, mut newest) = (from, None);
        while next < end && *room > 0 {
            let LogRead {
                chunks, next: then, ..
            } = self.reader.read_log(next, probe, WHERE_READ_BYTES)?;
            for chunk in chunks.iter().filter(|chunk| chunk.position < end) {
                *room = room.saturating_sub(chunk.batch.len());
                newest = self
                    .last_of(chunk, |_, time_ms, topic| self.fits(time_ms, topic))
                    .or(newest);
            }
            if then <= next {
                break;
            }
            next = then;
        }
        Ok(newest)
    }

    fn fits(&self, time_ms: i64, topic: Option<&str>) -> bool {
        let in_time = self.asked.at_ms.is_none_or(|at| time_ms <= at);
        let on_topic = |filter: &TopicFilter| topic.is_some_and(|topic| filter.matches(topic));
        in_time && self.topic.as_ref().is_none_or(on_topic)
    }

    /// The last record of a chunk that fits, if the chunk is of a stream that is meant.
    fn last_of(
        &self,
        chunk: &Chunk,
        fits: impl Fn(EdgeOffset, i64, Option<&str>) -> bool,
    ) -> Option<Found> {
        let status = self.status(chunk.stream)?;
        let records = Batch::parse(chunk.batch.clone()).ok()?.records().ok()?;
        let mut last = None;
        for (index, (_, record)) in (0..).zip(records.map_while(Result::ok)) {
            let offset = chunk.base_offset.plus(index);
            let topic = topic_of(&record);
            if fits(offset, record.timestamp_ms, topic.as_deref()) {
                last = Some((offset, record.timestamp_ms, topic));
            }
        }
        let (offset, time_ms, mqtt_topic) = last?;
        Some(Found {
            status: status.clone(),
            offset,
            time_ms,
            mqtt_topic,
        })
    }

    fn status(&self, stream: StreamId) -> Option<&StreamStatus> {
        self.streams.iter().find(|status| status.stream == stream)
    }
}
