//! A Fetch response on its way to the client: the codec's bytes, and between them batches, which are read as the client
//! takes them. So the length of all is known before anything of it is read.
//!
//! Should a batch turn out not to be as it was written when those before it are on their way already, it is sent as one
//! that is cut off, which clients leave out (KIP-74); they ask for it again, and are told then what is wrong with it.

use std::collections::VecDeque;

use anyhow::ensure;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{ApiKey, FetchResponse, ResponseHeader, TopicName};
use kafka_protocol::protocol::Encodable;
use tidegate_shared::id::KafkaOffset;

use super::Fetched;
use super::memory::Share;
use crate::kafka::fetch_session::{Answer, Told, Topic};
use crate::kafka::reply_code;
use crate::metrics::Metrics;
use crate::reading::{Chunk, Run, StorageError, Suspects};

/// So much goes at a time in any case: what stands between batches, and small ones.
const PIECE_BYTES_MIN: usize = 4 << 10;

/// From this version on, lengths are of varying size, and tagged fields come last (KIP-482).
const FLEXIBLE: i16 = 12;

/// Who is told of what cannot be read.
#[derive(Clone, Copy, Debug)]
pub(in crate::kafka) struct Seen<'a> {
    pub(in crate::kafka) metrics: &'a Metrics,
    pub(in crate::kafka) suspects: &'a Suspects,
}

impl Seen<'_> {
    fn by(self, error: &StorageError) {
        self.metrics.storage_errors.inc();
        self.suspects.note(Some(error));
        tracing::error!(%error, "kafka: a batch is left out of a response that is on its way");
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::kafka) struct Sending {
    parts: VecDeque<Part>,
    piece_bytes: usize,
    /// Until all is sent.
    _share: Share,
}

#[derive(Debug)]
enum Part {
    Encoded(Bytes),
    Records(Run),
    /// Of a batch that is left out, and those behind it.
    Zeros(usize),
}

impl Fetched {
    /// With all records; what is not as it was written, and not the first, is left out with all behind it.
    pub(in crate::kafka) async fn whole(self, seen: Seen<'_>) -> FetchResponse {
        let mut responses = Vec::with_capacity(self.topics.len());
        for (topic, answers) in self.topics {
            let mut partitions = Vec::with_capacity(answers.len());
            for Answer { mut data, records } in answers {
                if let Some(run) = records {
                    match run.read_all().await {
                        Ok(records) => data.records = Some(records),
                        Err(error) => {
                            seen.by(&error);
                            data.error_code = reply_code::KAFKA_STORAGE_ERROR;
                        }
                    }
                }
                partitions.push(data);
            }
            responses.push(topic_response(topic).with_partitions(partitions));
        }
        FetchResponse::default()
            .with_error_code(self.error_code)
            .with_session_id(self.session_id)
            .with_responses(responses)
    }

    /// As it is sent, length included.
    ///
    /// # Errors
    /// The codec cannot write it.
    pub(in crate::kafka) fn send(
        self,
        version: i16,
        correlation_id: i32,
    ) -> anyhow::Result<Sending> {
        let mut outline = Outline {
            version,
            out: BytesMut::with_capacity(512),
            parts: VecDeque::new(),
        };
        outline.out.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        let header_version = ApiKey::Fetch.response_header_version(version);
        header.encode(&mut outline.out, header_version)?;
        outline.response(&self)?;
        for topic in self.topics {
            outline.topic(topic)?;
        }
        outline.end();
        let mut parts = outline.into_parts();
        let bytes = parts.iter().map(Part::bytes).sum::<usize>() - 4;
        let length = i32::try_from(bytes).expect("responses are bounded far below 2 GiB");
        if let Some(Part::Encoded(first)) = parts.pop_front() {
            let mut first = BytesMut::from(first);
            first[..4].copy_from_slice(&length.to_be_bytes());
            parts.push_front(Part::Encoded(first.freeze()));
        }
        Ok(Sending {
            parts,
            piece_bytes: self.piece_bytes.max(PIECE_BYTES_MIN),
            _share: self.share,
        })
    }
}

/// Writes a response's parts.
struct Outline {
    version: i16,
    out: BytesMut,
    parts: VecDeque<Part>,
}

impl Outline {
    fn response(&mut self, fetched: &Fetched) -> anyhow::Result<()> {
        let mut response = FetchResponse::default();
        if self.version >= 7 {
            response.error_code = fetched.error_code;
            response.session_id = fetched.session_id;
        }
        self.begin(&response, fetched.topics.len())
    }

    fn topic(&mut self, (topic, answers): Told<Run>) -> anyhow::Result<()> {
        self.begin(&topic_response(topic), answers.len())?;
        for Answer { data, records } in answers {
            self.partition(&data, records)?;
        }
        self.end();
        Ok(())
    }

    fn partition(&mut self, data: &PartitionData, records: Option<Run>) -> anyhow::Result<()> {
        let Some(run) = records else {
            return data.encode(&mut self.out, self.version);
        };
        self.begin(data, run.bytes())?;
        let before = self.out.split().freeze();
        self.parts.push_back(Part::Encoded(before));
        self.parts.push_back(Part::Records(run));
        self.end();
        Ok(())
    }

    /// Writes `value`, whose last field is empty, up to that field, and that it has `length`.
    fn begin(&mut self, value: &impl Encodable, length: usize) -> anyhow::Result<()> {
        value.encode(&mut self.out, self.version)?;
        let empty: &[u8] = match self.version {
            // One, less one; and no tagged fields.
            FLEXIBLE.. => &[1, 0],
            _ => &[0; 4],
        };
        ensure!(self.out.ends_with(empty), "its last field is not empty");
        self.out.truncate(self.out.len() - empty.len());
        match self.version {
            FLEXIBLE.. => put_unsigned(&mut self.out, u32::try_from(length + 1)?),
            _ => self.out.put_i32(i32::try_from(length)?),
        }
        Ok(())
    }

    /// Ends what was begun.
    fn end(&mut self) {
        if self.version >= FLEXIBLE {
            self.out.put_u8(0);
        }
    }

    fn into_parts(mut self) -> VecDeque<Part> {
        self.parts.push_back(Part::Encoded(self.out.freeze()));
        self.parts
    }
}

/// As Kafka's protocol writes an UNSIGNED_VARINT.
fn put_unsigned(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn topic_response(topic: Topic) -> FetchableTopicResponse {
    let response = FetchableTopicResponse::default();
    match topic {
        Topic::Name(name) => response.with_topic(TopicName(name)),
        Topic::Id(id) => response.with_topic_id(id),
    }
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Self::Encoded(bytes) => bytes.len(),
            Self::Records(run) => run.bytes(),
            Self::Zeros(bytes) => *bytes,
        }
    }
}

impl Sending {
    /// Puts what comes next into `chunk`; at the end that is nothing.
    pub(in crate::kafka) async fn fill(&mut self, chunk: &mut Chunk, seen: Seen<'_>) {
        while let Some(part) = self.parts.pop_front() {
            match part {
                Part::Encoded(bytes) => chunk.put(&bytes),
                Part::Zeros(bytes) => {
                    let room = self.piece_bytes.saturating_sub(chunk.filled().len());
                    let now = bytes.min(room);
                    chunk.put_zeros(now);
                    if now < bytes {
                        self.parts.push_front(Part::Zeros(bytes - now));
                    }
                }
                Part::Records(run) => self.fill_with(run, chunk, seen).await,
            }
            if chunk.filled().len() >= self.piece_bytes || self.is_full(chunk) {
                return;
            }
        }
    }

    /// Whether the next batch does not fit.
    fn is_full(&self, chunk: &Chunk) -> bool {
        match self.parts.front() {
            Some(Part::Records(run)) => chunk.filled().len() + run.next_bytes() > self.piece_bytes,
            _ => false,
        }
    }

    async fn fill_with(&mut self, mut run: Run, chunk: &mut Chunk, seen: Seen<'_>) {
        let read = run.read(chunk, self.piece_bytes).await;
        match (read, run.next()) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => self.parts.push_front(Part::Records(run)),
            (Err(error), next) => {
                seen.by(&error);
                let next = next.unwrap_or_default();
                let left = run.bytes();
                let begins = begin_of_longer_batch(next, left);
                chunk.put(&begins);
                self.parts.push_front(Part::Zeros(left - begins.len()));
            }
        }
    }
}

/// The begin of a batch that is longer than what is left of the response by one byte.
fn begin_of_longer_batch(offset: KafkaOffset, left: usize) -> [u8; BATCH_BEGIN_BYTES] {
    let mut begin = [0; BATCH_BEGIN_BYTES];
    let length = u32::try_from(left + 1 - BATCH_LENGTH_BYTES).unwrap_or(u32::MAX >> 1);
    begin[..8].copy_from_slice(&offset.0.to_be_bytes());
    begin[8..BATCH_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    begin[BATCH_BEGIN_BYTES - 1] = 2;
    begin
}

/// Offset and length, which the length does not count; and behind them leader epoch and magic.
const BATCH_LENGTH_BYTES: usize = 12;
const BATCH_BEGIN_BYTES: usize = 17;

#[cfg(test)]
mod tests;
