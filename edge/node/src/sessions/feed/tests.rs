//! What a stretch of the log holds: of a journal that is packed well, too, no more than a client's session
//! may take.

use std::path::Path;

use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_journal::{Journal, TOPIC_HEADER};
use tidegate_shared::id::{StoreId, StreamName, TopicName};
use tidegate_shared::record::{Compression, Header, Record};

use super::*;

const PAYLOAD_BYTES: usize = 400_000;
const MESSAGES: u64 = 12;
/// A record that no message was made of.
const FOREIGN: u64 = 7;

/// A commit for each message, which packs to next to nothing.
fn journal(folder: &Path) -> Journal {
    let medium = Directory::open(folder).unwrap();
    let limits = Limits {
        log_file_bytes: 8 << 20,
        free_disk_min_bytes: 0,
        ..Limits::default()
    };
    let (mut journal, _) = Journal::open(Arc::new(medium), limits, StoreId(7)).unwrap();
    let (name, topic) = (StreamName::new("s").unwrap(), TopicName::new("s").unwrap());
    let stream = journal
        .open_stream(&name, &topic, Compression::Zstd)
        .unwrap();
    for number in 0..MESSAGES {
        let topic = Header::new(Bytes::from_static(TOPIC_HEADER), Bytes::from_static(b"a/b"));
        let record = Record {
            value: Some(Bytes::from(vec![number as u8; PAYLOAD_BYTES])),
            headers: Vec::from_iter((number != FOREIGN).then_some(topic)),
            ..Record::default()
        };
        let mark = 1 << 3;
        journal.append_marked(stream, &record, mark).unwrap();
        journal.commit().unwrap();
    }
    journal
}

/// All stretches up to the journal's end.
fn read_all(reader: &JournalReader, begun: &[u64]) -> Vec<Stretch> {
    let until = reader.next_position();
    assert_eq!(until, Position(MESSAGES));
    let mut stretches = Vec::new();
    let mut from = Position(0);
    while from < until {
        let begun = begun.iter().copied().map(Position);
        let wanted = Wanted {
            from,
            until,
            filters: vec![TopicFilter::new("a/+").unwrap()],
            begun: begun.filter(|position| *position >= from).collect(),
        };
        let stretch = wanted.read(reader).unwrap();
        assert!(stretch.next > from, "no progress at {from:?}");
        from = stretch.next;
        stretches.push(stretch);
    }
    stretches
}

fn positions(stretches: &[Stretch]) -> Vec<u64> {
    let messages = stretches.iter().flat_map(|stretch| &stretch.messages);
    messages.map(|stored| stored.position.0).collect()
}

#[test]
fn a_stretch_is_bounded_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path());
    let reader = journal.reader();
    let packed = reader
        .read_log(Position(0), &TopicProbe::anything(), FEED_READ_BYTES_MAX)
        .unwrap();
    assert_eq!(
        packed.chunks.len() as u64,
        MESSAGES,
        "packed, they fit at once"
    );
    let stretches = read_all(&reader, &[2, FOREIGN]);
    for stretch in &stretches {
        let bytes = stretch.messages.len() * PAYLOAD_BYTES;
        assert!(bytes < FEED_UNPACKED_BYTES_MAX + PAYLOAD_BYTES, "{bytes}");
        let mut messages = stretch.messages.iter();
        assert!(messages.all(|stored| stored.position < stretch.next));
    }
    let expected = (0..MESSAGES).filter(|number| *number != FOREIGN);
    assert_eq!(positions(&stretches), Vec::from_iter(expected));
    let gone = stretches.iter().flat_map(|stretch| &stretch.gone);
    assert_eq!(gone.copied().collect::<Vec<_>>(), [Position(FOREIGN)]);
}

#[test]
fn damage_behind_the_end_of_a_stretch_is_counted_once() {
    const DAMAGED: u64 = 5;
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(folder.path());
    let reader = journal.reader();
    let packed = reader.read_log(Position(DAMAGED), &TopicProbe::anything(), 0);
    // Its offset is not in the file.
    let batch = packed.unwrap().chunks[0].batch.slice(size_of::<u64>()..);
    damage(folder.path(), &batch);
    let stretches = read_all(&reader, &[]);
    let damaged = stretches.iter().map(|stretch| stretch.damaged_records);
    assert_eq!(damaged.sum::<u64>(), 1);
    let expected = (0..MESSAGES).filter(|number| ![FOREIGN, DAMAGED].contains(number));
    assert_eq!(positions(&stretches), Vec::from_iter(expected));
}

/// Flips a bit of these bytes, wherever they lie in the log.
fn damage(folder: &Path, bytes: &[u8]) {
    for entry in std::fs::read_dir(folder.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let mut content = std::fs::read(&path).unwrap_or_default();
        let mut windows = content.windows(bytes.len());
        if let Some(at) = windows.position(|window| window == bytes) {
            content[at + bytes.len() - 1] ^= 1;
            return std::fs::write(&path, content).unwrap();
        }
    }
    panic!("the chunk is in no file");
}
