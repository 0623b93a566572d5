//! A will that finds no space is not lost, and comes once when there is space.

use std::time::{Duration, Instant};

use tidegate_edge_journal::Journal;
use tidegate_edge_journal::limits::Limits;
use tidegate_edge_journal::media::Directory;
use tidegate_edge_protocol::mqtt::codec::{Qos, Text, WillProperties};
use tidegate_edge_protocol::mqtt::session::Change;
use tidegate_shared::fleet::{MqttSpec, RouteKey};
use tidegate_shared::id::{Position, StoreId, StreamId, StreamName, TopicName};
use tidegate_shared::record::Compression;
use tidegate_shared::topic::TopicFilter;

use super::*;
use crate::committer::Committer;
use crate::lanes::KeyedStreams;
use crate::limits::CHECKPOINT_INTERVAL;
use crate::metrics::Metrics;
use crate::mqtt::Mailbox;
use crate::mqtt::mailbox::Contents;
use crate::router::{Route, Router, Subscription};
use crate::sessions::{Clock, Loaded, Sessions};

const DEADLINE: Duration = Duration::from_secs(20);
const LARGE_BYTES: usize = 512 << 10;

struct Node {
    context: Arc<Context>,
    stream: StreamId,
    subscriber: Arc<Mailbox>,
    _folder: tempfile::TempDir,
}

impl Node {
    /// With room for little, all of it in one stream.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits {
            free_disk_min_bytes: 0,
            log_files_max: 4,
            ..Limits::default()
        };
        let medium = Arc::new(Directory::open(folder.path()).unwrap());
        let (mut journal, _) = Journal::open(medium, limits, StoreId(7)).unwrap();
        let (name, topic) = (StreamName::new("s").unwrap(), TopicName::new("s").unwrap());
        let stream = journal
            .open_stream(&name, &topic, Compression::None)
            .unwrap();
        let (clock, loaded) = (
            Clock::new(journal.reader().time()),
            Loaded::read(&journal).unwrap(),
        );
        let (keyed, unrouted) = (KeyedStreams::default(), StreamId(u32::MAX));
        let committer = Committer::start(journal, keyed, Duration::ZERO, unrouted).unwrap();
        let route = Route {
            stream,
            key: RouteKey::Topic,
            origin: Arc::default(),
            priority: 0,
        };
        let filter = TopicFilter::new("#").unwrap();
        let router = Arc::new(Router::new(vec![(filter.clone(), route)], unrouted));
        let subscriber = Arc::new(Mailbox::default());
        let subscription = Subscription {
            mailbox: Arc::clone(&subscriber),
            qos_max: Qos::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            identifier: None,
        };
        router.subscribe(1_000_000, filter, subscription);
        let sessions = Sessions::new(committer, router, clock, u64::MAX, loaded);
        let metrics = Arc::new(Metrics::default());
        Self {
            context: Context::new(
                &MqttSpec::default(),
                crate::mqtt::Doors::default(),
                sessions,
                crate::mqtt::Kept::default(),
                crate::mqtt::TopicRules::default(),
                metrics,
            ),
            stream,
            subscriber,
            _folder: folder,
        }
    }

    async fn post(&self) -> bool {
        let will = Will {
            topic: Text::try_from("filling").unwrap(),
            payload: Bytes::from(vec![7; LARGE_BYTES]),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: WillProperties::default(),
        };
        let client_id = Bytes::from_static(b"filling");
        let posted = self.context.post_will(will, &client_id, 1, None).await;
        let is_settled = self.context.is_will_settled(posted).await;
        self.received();
        is_settled
    }

    /// Until no checkpoint frees anything any more.
    async fn fill(&self) {
        let deadline = Instant::now() + DEADLINE;
        let mut full_since = Instant::now();
        while full_since.elapsed() < 3 * CHECKPOINT_INTERVAL {
            assert!(Instant::now() < deadline, "the journal takes everything");
            if self.post().await {
                full_since = Instant::now();
            }
        }
    }

    /// All that is there has landed.
    fn land(&self) {
        let status = self.context.reader.stream(self.stream).unwrap();
        let landing = (self.stream, status.next, status.hash);
        self.context.committer.landed(vec![landing]);
    }

    /// A client with a will has gone.
    async fn leave_will(&self, client_id: &str, expiry_interval_s: u32) {
        let client_id = Text::try_from(client_id).unwrap();
        let sessions = &self.context.sessions;
        let mut held = sessions.take_over(&client_id, 1, &Arc::default()).await;
        let will = Will {
            topic: Text::new(client_id.as_bytes().clone()).unwrap(),
            payload: Bytes::from(vec![7; LARGE_BYTES]),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties: WillProperties::default(),
        };
        let begun = Change::Begun {
            expiry_interval_s,
            position: Position(0),
        };
        let at_ms = held.now_ms();
        let left = Change::Disconnected { at_ms };
        held.store(&[begun, Change::WillSet(Box::new(will)), left], None);
    }

    async fn has_will(&self, client_id: &str) -> bool {
        let client_id = Text::try_from(client_id).unwrap();
        let sessions = &self.context.sessions;
        let held = sessions.take_over(&client_id, 2, &Arc::default()).await;
        held.session().will().is_some()
    }

    /// The topics of what the subscriber got.
    fn received(&self) -> Vec<String> {
        let Contents { letters, .. } = self.subscriber.take(true).unwrap_or_default();
        let topics = letters.iter().map(|letter| &letter.message.topic);
        topics.map(|topic| topic.as_str().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_waits_for_space_and_comes_once() {
    let node = Node::new();
    node.leave_will("stays", 3_600).await;
    node.leave_will("ends", 0).await;
    node.fill().await;
    for _ in 0..3 {
        node.context.sweep().await;
        assert_eq!(node.received(), Vec::<String>::new(), "refused, and there");
    }
    assert!(node.has_will("stays").await && node.has_will("ends").await);
    assert_eq!(node.context.committer.refused(), 0, "they wait");
    node.land();
    let (deadline, mut received) = (Instant::now() + DEADLINE, Vec::new());
    while received.len() < 2 {
        assert!(Instant::now() < deadline, "only {received:?}");
        node.context.sweep().await;
        received.extend(node.received());
    }
    node.context.sweep().await;
    received.extend(node.received());
    received.sort();
    assert_eq!(received, ["ends", "stays"]);
    assert!(!node.has_will("stays").await);
    assert_eq!(
        node.context.sessions.len(),
        1,
        "one has ended with its will"
    );
    assert_eq!(node.context.retained.len(), 2);
}
