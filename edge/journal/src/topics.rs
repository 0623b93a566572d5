//! Which topics a chunk, and a whole log file, may hold: Bloom filters over topics and their first
//! levels, so that a client session's replay passes over what its filters cannot match.
//!
//! A filter is asked for by its part before the first wildcard. False answers are always "maybe".

use std::collections::HashSet;

use bytes::Bytes;
use tidegate_shared::record::{Batch, Record};
use tidegate_shared::topic::TopicFilter;
use xxhash_rust::xxh3::xxh3_64;

/// The record header that names the topic.
pub const TOPIC_HEADER: &[u8] = b"mqtt.topic";

/// Prefixes are kept of this many levels; a filter that is plain for longer is asked by these.
const PREFIX_LEVELS_MAX: usize = 8;

/// The filter over a whole file.
const WHOLE_BYTES: usize = 4096;

/// What is hashed for a topic or a prefix.
type Key = u64;

fn topic_key(topic: &[u8]) -> Key {
    xxh3_64(topic)
}

/// A prefix ends with its `/`, so that it is never taken for a topic that has the same letters.
fn prefix_keys(topic: &[u8]) -> impl Iterator<Item = Key> {
    let ends = topic.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    ends.take(PREFIX_LEVELS_MAX)
        .map(|(at, _)| !xxh3_64(&topic[..=at]))
}

/// The keys of what one commit adds to one stream, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicKeys {
    keys: HashSet<Key>,
}

impl TopicKeys {
    pub(crate) fn add(&mut self, record: &Record) {
        let header = record.headers.iter();
        let topic = header
            .filter(|header| header.name == TOPIC_HEADER)
            .find_map(|header| header.value.as_deref());
        let topic = topic.unwrap_or_default();
        if self.keys.insert(topic_key(topic)) {
            self.keys.extend(prefix_keys(topic));
        }
    }

    /// By unpacking a batch; one that cannot be read has none, and is not looked for.
    pub(crate) fn of_batch(batch: &Bytes) -> Self {
        let mut keys = Self::default();
        let records = Batch::parse(batch.clone()).and_then(|batch| batch.records());
        for record in records.into_iter().flatten().flatten() {
            keys.add(&record.1);
        }
        keys
    }

    /// 64 bits for one chunk: tells chunks of a few topics apart.
    pub(crate) fn bits(&self) -> u64 {
        self.keys
            .iter()
            .fold(0, |bits, key| bits | chunk_bits(*key))
    }
}

/// Two of 64 bits.
fn chunk_bits(key: Key) -> u64 {
    (1 << (key & 63)) | (1 << ((key >> 6) & 63))
}

/// Topics of a whole log file, and of each part of it: a chunk with many topics has all of its 64 bits
/// set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSummary {
    bits: Box<[u8]>,
    /// `SECTIONS` filters of the same size, one behind the other; empty before anything was added.
    sections: Vec<u8>,
}

impl Default for TopicSummary {
    fn default() -> Self {
        Self {
            bits: vec![0; WHOLE_BYTES].into(),
            sections: Vec::new(),
        }
    }
}

/// Where bits of a filter of so many bytes lie.
fn places(key: Key, bytes: usize) -> impl Iterator<Item = usize> {
    const HASHES: u32 = 4;
    // 16 bits each, out of the 64.
    (0..HASHES).map(move |turn| (key.rotate_left(turn * 16) as usize) % (bytes * 8))
}

fn set(bits: &mut [u8], key: Key) {
    for place in places(key, bits.len()) {
        bits[place / 8] |= 1 << (place % 8);
    }
}

fn has(bits: &[u8], key: Key) -> bool {
    places(key, bits.len()).all(|place| bits[place / 8] & (1 << (place % 8)) != 0)
}

/// Parts of a log file with a filter each.
const SECTIONS: usize = 32;

/// A section's filter takes this part of it.
const SECTION_PART: usize = 256;

fn section_bytes(file_bytes: usize) -> usize {
    (file_bytes / SECTIONS / SECTION_PART).max(8)
}

impl TopicSummary {
    /// What a summary takes in a file's table.
    pub(crate) fn encoded_bytes(file_bytes: usize) -> usize {
        WHOLE_BYTES + SECTIONS * section_bytes(file_bytes)
    }

    fn section_of(at: usize, file_bytes: usize) -> usize {
        (at * SECTIONS / file_bytes).min(SECTIONS - 1)
    }

    /// Of a chunk that lies at `at`.
    pub(crate) fn add(&mut self, keys: &TopicKeys, at: usize, file_bytes: usize) {
        let bytes = section_bytes(file_bytes);
        self.sections.resize(SECTIONS * bytes, 0);
        let from = Self::section_of(at, file_bytes) * bytes;
        for key in &keys.keys {
            set(&mut self.bits, *key);
            set(&mut self.sections[from..from + bytes], *key);
        }
    }

    pub(crate) fn encode(&self) -> [&[u8]; 2] {
        [&self.bits, &self.sections]
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (bits, sections) = bytes.split_at_checked(WHOLE_BYTES)?;
        sections.len().is_multiple_of(SECTIONS).then(|| Self {
            bits: bits.into(),
            sections: sections.to_vec(),
        })
    }

    fn has(&self, key: Key) -> bool {
        has(&self.bits, key)
    }

    /// Whether the part of the file around `at` may have it.
    fn has_at(&self, key: Key, at: usize, file_bytes: usize) -> bool {
        let bytes = self.sections.len() / SECTIONS;
        let from = Self::section_of(at, file_bytes) * bytes;
        let section = self.sections.get(from..from + bytes);
        section.is_none_or(|section| section.is_empty() || has(section, key))
    }
}

/// What filters look for.
#[derive(Clone, Debug, Default)]
pub struct TopicProbe {
    /// `None`: a filter begins with a wildcard, so anything may match.
    keys: Option<Vec<Key>>,
}

impl TopicProbe {
    pub fn new<'a>(filters: impl IntoIterator<Item = &'a TopicFilter>) -> Self {
        let mut keys = Vec::new();
        for filter in filters {
            let Some(of_filter) = filter_keys(filter.as_str()) else {
                return Self { keys: None };
            };
            keys.extend(of_filter);
        }
        Self { keys: Some(keys) }
    }

    /// Passes nothing over.
    pub fn anything() -> Self {
        Self { keys: None }
    }

    pub(crate) fn may_be_in_chunk(&self, bits: u64) -> bool {
        let has = |key: &Key| bits & chunk_bits(*key) == chunk_bits(*key);
        self.keys.as_ref().is_none_or(|keys| keys.iter().any(has))
    }

    pub(crate) fn may_be_at(&self, summary: &TopicSummary, at: usize, file_bytes: usize) -> bool {
        let has = |key: &Key| summary.has_at(*key, at, file_bytes);
        self.keys.as_ref().is_none_or(|keys| keys.iter().any(has))
    }

    pub(crate) fn may_be_in(&self, summary: &TopicSummary) -> bool {
        let has = |key: &Key| summary.has(*key);
        self.keys.as_ref().is_none_or(|keys| keys.iter().any(has))
    }
}

/// One of these is in whatever the filter matches; `None` where nothing can be said.
fn filter_keys(filter: &str) -> Option<Vec<Key>> {
    let Some(wildcard) = filter.find(['+', '#']) else {
        return Some(vec![topic_key(filter.as_bytes())]);
    };
    let plain = &filter[..wildcard];
    let prefix = prefix_keys(plain.as_bytes()).last()?;
    let mut keys = vec![prefix];
    // `a/#` matches `a` too.
    if &filter[wildcard..] == "#" {
        keys.push(topic_key(plain.trim_end_matches('/').as_bytes()));
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_shared::record::Header;

    use super::*;

    fn record(topic: &str) -> Record {
        Record {
            headers: vec![Header::new(TOPIC_HEADER, Bytes::from(topic.to_owned()))],
            ..Record::default()
        }
    }

    fn keys<'a>(topics: impl IntoIterator<Item = &'a str>) -> TopicKeys {
        let mut keys = TopicKeys::default();
        topics
            .into_iter()
            .for_each(|topic| keys.add(&record(topic)));
        keys
    }

    fn level() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            "[ab]{1,2}".prop_map(String::from),
            Just("+".to_owned())
        ]
    }

    proptest! {
        /// What matches is never passed over.
        #[test]
        fn no_match_is_missed(
            topics in proptest::collection::vec(proptest::collection::vec("[ab]{0,2}", 1..11), 1..9),
            levels in proptest::collection::vec(level(), 1..11),
            multi in any::<bool>(),
            at in 0..8_usize << 20,
        ) {
            let topics: Vec<String> = topics.iter().map(|levels| levels.join("/")).collect();
            let mut filter = levels.join("/");
            if multi {
                filter.push_str("/#");
            }
            prop_assume!(!filter.is_empty());
            let filter = TopicFilter::new(filter).unwrap();
            let keys = keys(topics.iter().map(String::as_str));
            let mut summary = TopicSummary::default();
            summary.add(&keys, at, 8 << 20);
            let bytes = summary.encode().concat();
            let summary = TopicSummary::decode(&bytes).unwrap();
            if topics.iter().any(|topic| filter.matches(topic)) {
                let probe = TopicProbe::new([&filter]);
                prop_assert!(probe.may_be_in_chunk(keys.bits()), "{filter}");
                prop_assert!(probe.may_be_in(&summary), "{filter}");
                prop_assert!(probe.may_be_at(&summary, at, 8 << 20), "{filter}");
            }
        }
    }

    #[test]
    fn most_others_are_passed_over() {
        let topics: Vec<String> = (0..500).map(|n| format!("plant/{n}/temperature")).collect();
        let mut summary = TopicSummary::default();
        summary.add(&keys(topics.iter().map(String::as_str)), 5_000, 8 << 20);
        let found = (500..1_500)
            .map(|n| TopicFilter::new(format!("plant/{n}/#")).unwrap())
            .filter(|filter| TopicProbe::new([filter]).may_be_in(&summary))
            .count();
        assert!(
            found < 20,
            "{found} of 1,000 files would be read for nothing"
        );
        let elsewhere = TopicProbe::new([&TopicFilter::new("plant/7/#").unwrap()]);
        assert!(elsewhere.may_be_at(&summary, 5_000, 8 << 20));
        assert!(!elsewhere.may_be_at(&summary, 5_000_000, 8 << 20));
        let any = TopicFilter::new("+/7/#").unwrap();
        assert!(TopicProbe::new([&any]).may_be_in(&summary));
        assert!(!TopicProbe::new([]).may_be_in(&summary));
    }
}
