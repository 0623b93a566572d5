//! What a full journal does to those who wait for space: nothing overtakes what was refused.

use bytes::Bytes;
use bytes::BytesMut;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_protocol::mqtt::codec::Decoder;
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, Connection, Event, PublishRefused, PublishToken,
};
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_shared::id::{StoreId, StreamName, TopicName};
use tidegate_shared::record::Compression;

use super::*;

const LARGE_BYTES: usize = 512 << 10;
/// More than the journal's four log files hold.
const LARGE_MAX: usize = 128;

struct Full {
    committer: Committer,
    stream: StreamId,
    mailbox: Arc<Mailbox>,
    gate: Gate,
    _folder: tempfile::TempDir,
}

impl Full {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let medium = Directory::open(folder.path()).unwrap();
        let limits = Limits {
            free_disk_min_bytes: 0,
            log_files_max: 4,
            ..Limits::default()
        };
        let (mut journal, _) = Journal::open(Arc::new(medium), limits, StoreId(7)).unwrap();
        let (name, topic) = (StreamName::new("s").unwrap(), TopicName::new("s").unwrap());
        let stream = journal
            .open_stream(&name, &topic, Compression::None)
            .unwrap();
        let unrouted = StreamId(u32::MAX);
        let mailbox = Arc::default();
        Self {
            committer: Committer::start(journal, KeyedStreams::default(), Duration::ZERO, unrouted)
                .unwrap(),
            stream,
            gate: Gate::of(&mailbox),
            mailbox,
            _folder: folder,
        }
    }

    /// What becomes of a message of that size.
    async fn publish(&self, bytes: usize, gate: Option<&Gate>) -> Result<(), PublishRefused> {
        let answer = Answer::Publish(token(), Box::default());
        let append = Append {
            stream: self.stream,
            record: Record {
                value: Some(Bytes::from(vec![7; bytes])),
                ..Record::default()
            },
            mark: 0,
            rows: Vec::new(),
            waiter: Some((Arc::clone(&self.mailbox), answer)),
            gate: gate.cloned(),
            retained: None,
            is_addressed: false,
        };
        let room = self.committer.room_for(append.bytes()).await.unwrap();
        self.committer.append(append, room);
        self.mailbox.filled().await;
        let outcomes = self.mailbox.take(true).unwrap().outcomes;
        assert_eq!(outcomes.len(), 1);
        outcomes[0].1
    }
}

/// Only a connection makes them.
fn token() -> PublishToken {
    let now = Instant::now();
    let mut connection = Connection::new(ConnectionLimits::default(), now);
    let mut decoder = Decoder::server(1_000);
    let mut bytes = BytesMut::from(&b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c"[..]);
    let connect = decoder.decode(&mut bytes).unwrap().unwrap();
    connection.handle_packet(now, connect);
    connection.handle_accepted(now, Accepted::default());
    let mut bytes = BytesMut::from(&b"\x32\x05\x00\x01a\x00\x01"[..]);
    let publish = decoder.decode(&mut bytes).unwrap().unwrap();
    connection.handle_packet(now, publish);
    let events = std::iter::from_fn(|| connection.poll_event());
    let mut tokens = events.filter_map(|event| match event {
        Event::Publish { token, .. } => token,
        _ => None,
    });
    tokens.next().unwrap()
}

#[tokio::test]
async fn nothing_overtakes_what_waits_for_space() {
    let full = Full::new();
    let refused = Err(PublishRefused::QuotaExceeded);
    let mut outcome = Ok(());
    for _ in 0..LARGE_MAX {
        outcome = full.publish(LARGE_BYTES, Some(&full.gate)).await;
        if outcome.is_err() {
            break;
        }
    }
    assert_eq!(outcome, refused, "the journal takes everything");
    // It would fit in, and so it does for others; behind what waits it waits.
    assert_eq!(full.publish(1, Some(&full.gate)).await, refused);
    assert_eq!(full.publish(1, Some(&Gate::default())).await, Ok(()));
    assert_eq!(full.publish(1, None).await, Ok(()));
    full.mailbox.open_gate();
    assert_eq!(full.publish(1, Some(&full.gate)).await, Ok(()));
    assert_eq!(full.committer.refused(), 0, "who waits is not refused");
}

#[tokio::test]
async fn what_nobody_waits_for_is_counted_when_it_is_refused() {
    let full = Full::new();
    while full.publish(LARGE_BYTES, None).await.is_ok() {}
    assert_eq!(full.committer.refused(), 1);
    let append = Append {
        stream: full.stream,
        record: Record {
            value: Some(Bytes::from(vec![7; LARGE_BYTES])),
            ..Record::default()
        },
        mark: 0,
        rows: Vec::new(),
        waiter: None,
        gate: None,
        retained: None,
        is_addressed: false,
    };
    let room = full.committer.room_for(append.bytes()).await.unwrap();
    full.committer.append(append, room);
    full.committer.stop().await;
    assert_eq!(full.committer.refused(), 2);
}

#[tokio::test]
async fn who_stores_nothing_is_told_although_nobody_else_comes() {
    let full = Full::new();
    // The stream that was opened is committed with it.
    assert_eq!(full.publish(1, None).await, Ok(()));
    let answer = Answer::Publish(token(), Box::default());
    let waiter = (Arc::clone(&full.mailbox), answer);
    full.committer.store(Vec::new(), Some(waiter));
    let told = tokio::time::timeout(Duration::from_secs(10), full.mailbox.filled());
    assert!(told.await.is_ok());
    let outcomes = full.mailbox.take(true).unwrap().outcomes;
    let outcomes: Vec<_> = outcomes.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, [Ok(())]);
}

#[tokio::test]
async fn it_answers_until_it_has_ended() {
    let full = Full::new();
    assert!(full.committer.answers().await);
    full.committer.stop().await;
    assert!(!full.committer.answers().await);
}
