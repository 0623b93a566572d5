//! Kafka's side: all records through a real client, and a Fetch by hand for its exact bytes.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::account::{Message, Read};
use crate::workspace;

/// What one Fetch by hand asks for at most.
const FETCH_BYTES_MAX: i32 = 8 << 20;

/// A record as the client library gives it.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<String>,
    pub value: String,
    pub headers: Vec<(String, String)>,
}

/// Reads a topic from its beginning to where it ends now, with confluent-kafka.
pub fn read_all(kafka: SocketAddr, topic: &str, out: &Path) -> Vec<Record> {
    let mut command = workspace::python("kafka_read.py");
    command.arg(kafka.to_string()).arg(topic).arg(out);
    let output = command.output().expect("python can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kafka_read.py: {said}");
    let text = std::fs::read_to_string(out).expect("kafka_read.py has written its file");
    text.lines().map(parse).collect()
}

/// Has confluent-kafka delete the records of a partition below an offset; says where it begins then.
pub fn delete(kafka: SocketAddr, topic: &str, partition: i32, offset: i64) -> Result<i64, String> {
    let mut command = workspace::python("kafka_delete.py");
    command.arg(kafka.to_string()).arg(topic);
    command.arg(partition.to_string()).arg(offset.to_string());
    let output = command.output().expect("python can be run");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said
        .trim()
        .parse()
        .expect("kafka_delete.py prints an offset"))
}

/// The partition that Kafka's own partitioner takes for a key: `murmur2`, without its sign.
pub fn partition_of(key: &str, partitions: u32) -> i32 {
    const MIX: u32 = 0x5bd1_e995;
    let bytes = key.as_bytes();
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let word = u32::from_le_bytes(word.try_into().expect("four bytes"));
        let mixed = word.wrapping_mul(MIX);
        let mixed = (mixed ^ (mixed >> 24)).wrapping_mul(MIX);
        hash = hash.wrapping_mul(MIX) ^ mixed;
    }
    for (at, byte) in words.remainder().iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
        if at == 0 {
            hash = hash.wrapping_mul(MIX);
        }
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MIX);
    hash ^= hash >> 15;
    ((hash & 0x7fff_ffff) % partitions) as i32
}

fn parse(line: &str) -> Record {
    let json: serde_json::Value = serde_json::from_str(line).expect("kafka_read.py writes JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let headers = json["headers"].as_array().cloned().unwrap_or_default();
    Record {
        partition: json["partition"].as_i64().expect("a number") as i32,
        offset: json["offset"].as_i64().expect("a number"),
        timestamp_ms: json["timestamp"].as_i64().expect("a number"),
        key: json["key"].as_str().map(ToOwned::to_owned),
        value: text(&json["value"]),
        headers: headers
            .iter()
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect(),
    }
}

impl Record {
    /// The message of a payload as the load makes it; also checks the key and the header.
    pub fn message(&self) -> Read {
        let mut parts = self.value.split(':');
        let (device, number) = (
            parts.next(),
            parts.next().and_then(|part| part.parse().ok()),
        );
        let (Some(device), Some(number)) = (device, number) else {
            panic!("not a payload of ours: {:?}", self.value);
        };
        let topic = crate::load::topic(device);
        assert_eq!(
            self.key.as_deref(),
            Some(topic.as_str()),
            "the key is the MQTT topic"
        );
        let header = ("mqtt.topic".to_owned(), topic);
        assert!(
            self.headers.contains(&header),
            "the header mqtt.topic: {:?}",
            self.headers
        );
        let message = Message {
            device: device.to_owned(),
            number,
        };
        Read {
            partition: self.partition,
            offset: self.offset,
            message,
        }
    }
}

/// The record set of a partition from `offset` on, byte for byte, by a Fetch request of version 4.
pub fn fetch(kafka: SocketAddr, topic: &str, partition: i32, offset: i64) -> Vec<u8> {
    let fetched = try_fetch(kafka, topic, partition, offset);
    fetched.unwrap_or_else(|code| panic!("the fetch's error code is {code}"))
}

/// As [`fetch`]; or the error code, with which no record may come.
pub fn try_fetch(
    kafka: SocketAddr,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Vec<u8>, i16> {
    let mut body = Vec::new();
    // Header version 1: API key, version, correlation id, client id.
    body.extend(1_i16.to_be_bytes());
    body.extend(4_i16.to_be_bytes());
    body.extend(7_i32.to_be_bytes());
    put_string(&mut body, "same-bytes");
    // Replica, wait ms, minimum bytes, maximum bytes, isolation level.
    body.extend((-1_i32).to_be_bytes());
    body.extend(1_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(FETCH_BYTES_MAX.to_be_bytes());
    body.push(0);
    // One topic, one partition: its number, the offset, its maximum bytes.
    body.extend(1_i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(offset.to_be_bytes());
    body.extend(FETCH_BYTES_MAX.to_be_bytes());
    let response = exchange(kafka, &body);
    records(&response, topic)
}

/// Where in a batch its length lies, what the length does not count, and the last record's offset from the first.
const BATCH_LENGTH_AT: usize = 8;
const BATCH_REST_AT: usize = 12;
const BATCH_LAST_DELTA_AT: usize = 23;

/// Splits a record set into batches.
pub fn batches(mut set: &[u8]) -> Vec<&[u8]> {
    let mut batches = Vec::new();
    while set.len() > BATCH_REST_AT {
        let length = number_at(set, BATCH_LENGTH_AT);
        let (batch, rest) = set.split_at(BATCH_REST_AT + length as usize);
        batches.push(batch);
        set = rest;
    }
    batches
}

fn number_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The batches of a partition from its beginning to where it ends now, each with the offset behind it.
pub fn fetch_all(kafka: SocketAddr, topic: &str, partition: i32) -> Vec<(i64, Vec<u8>)> {
    let (mut next, mut all) = (0, Vec::new());
    loop {
        let set = fetch(kafka, topic, partition, next);
        let batches = batches(&set);
        if batches.is_empty() {
            return all;
        }
        for batch in batches {
            let base = batch[..8].try_into().expect("eight bytes");
            next = i64::from_be_bytes(base) + i64::from(number_at(batch, BATCH_LAST_DELTA_AT)) + 1;
            all.push((next, batch.to_vec()));
        }
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// Sends one request, and returns the response without its length.
fn exchange(kafka: SocketAddr, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(kafka).expect("the cloud takes Kafka connections");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a socket has a timeout");
    stream
        .write_all(&(body.len() as i32).to_be_bytes())
        .expect("the request is taken");
    stream.write_all(body).expect("the request is taken");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a response comes");
    let mut response = vec![0; i32::from_be_bytes(length) as usize];
    stream
        .read_exact(&mut response)
        .expect("the response is whole");
    response
}

/// The records within a Fetch response of version 4 with one topic and one partition.
fn records(response: &[u8], topic: &str) -> Result<Vec<u8>, i16> {
    // Correlation id, throttle ms, topics; name; partitions; partition, error, high watermark, last
    // stable offset; aborted transactions; then the records' length.
    let at = 4 + 4 + 4 + 2 + topic.len() + 4 + 4;
    let code = i16::from_be_bytes([response[at], response[at + 1]]);
    let aborted_at = at + 2 + 8 + 8;
    let number = |at: usize| number_at(response, at);
    let aborted = number(aborted_at).max(0) as usize;
    let length_at = aborted_at + 4 + aborted * 16;
    let length = number(length_at).max(0) as usize;
    let records = response[length_at + 4..][..length].to_vec();
    match code {
        0 => Ok(records),
        _ => {
            assert!(records.is_empty(), "records come with error code {code}");
            Err(code)
        }
    }
}
