//! Every limit of the cloud node, with its unit, and what happens when it is reached.

use std::time::Duration;

use tidegate_cloud_protocol::ledger::TopicSettings;
use tidegate_cloud_protocol::packing;
use tidegate_cloud_protocol::questions::BATCH_BYTES_MAX;

/// A log file is closed and the next begun once it is as long as this.
pub const LOG_FILE_BYTES_MAX: u64 = 64 << 20;

/// Objects of the log that are on their way to the object store at once (`wal: object`); who comes then waits.
pub const LOG_OBJECTS_IN_FLIGHT_MAX: usize = 16;

/// What comes after an object of the log is gathered for so long into the next one: `wal_linger`'s default, and the
/// longest that it can be.
pub const LOG_LINGER: Duration = Duration::from_millis(250);
pub const LOG_LINGER_MAX: Duration = Duration::from_secs(10);

/// A start reads so much of each of the log's objects, and more only where a command is longer; and so many at once.
pub const LOG_OBJECT_HEAD_BYTES: u64 = 64 << 10;
pub const LOG_HEADS_AT_ONCE_MAX: usize = 16;

/// A start tries so often to take the log over from one who still writes to it; then it ends.
pub const LOG_TAKE_OVERS_MAX: usize = 64;

/// A start reads all anew so often where somebody else goes on with the log meanwhile; then it ends.
pub const LOG_OPENINGS_MAX: usize = 8;

/// Where the object store is away, the log waits so long before it tries again; it doubles up to the second.
pub const LOG_RETRY_WAIT_MIN: Duration = Duration::from_secs(1);
pub const LOG_RETRY_WAIT_MAX: Duration = Duration::from_secs(30);

/// What is on its way to the log when the cloud is stopped has so long to be durable.
pub const LOG_DRAIN_MAX: Duration = Duration::from_secs(10);

/// The log has so long to end: longer than that, and for the last snapshot.
pub const LOG_STOP_MAX: Duration = Duration::from_secs(30);

/// A snapshot is made when the log has grown by so much since the last one, or by
/// [`SNAPSHOT_LOG_RATIO`] times what the last one took.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 32 << 20;

/// Log bytes for each byte of snapshots: what snapshots add to what is written.
pub const SNAPSHOT_LOG_RATIO: u64 = 8;

/// A snapshot is made so often while anything changes at all.
pub const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);

/// The housekeeping looks so often for what is due.
pub const CARE_EVERY: Duration = Duration::from_secs(1);

/// Segments that are made at once.
pub const PACKS_AT_ONCE_MAX: usize = 4;

/// The housekeeping packs no longer than this before it looks after everything else.
pub const PACK_ROUND_MAX: Duration = Duration::from_secs(10);

/// Bytes of the segments that are made at once; one larger than this is made alone.
pub const PACK_BYTES_AT_ONCE_MAX: u64 = 32 << 20;

/// Partitions whose small segments are joined at once, while all of them together have no more than
/// [`PACK_BYTES_AT_ONCE_MAX`].
pub const JOINS_AT_ONCE_MAX: usize = 8;

/// The housekeeping looks so often for small segments to be joined.
pub const JOIN_EVERY: Duration = Duration::from_secs(10);

/// Records of one batch that is merged of tiny ones, not packed.
pub const MERGED_RECORDS_BYTES_MAX: usize = 64 << 10;

/// Keys that one pass of compaction holds, about 50 bytes each; what has more is compacted up to there.
pub const COMPACTION_KEYS_MAX: usize = 1_000_000;

/// The sizes that `pack.segment_size` can have: a segment is in memory while it is made.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
pub const SEGMENT_BYTES_MAX: u64 = packing::SEGMENT_BYTES_MAX;

/// So far the clock may be ahead of what the steady clock says since the start: what is further is a step, by
/// which nothing lands and nothing is given up.
pub const CLOCK_STEP_MAX: Duration = Duration::from_secs(3_600);

/// Segments that are moved to another object store at once, and their bytes, which are in memory meanwhile; one
/// larger than this is moved alone.
pub const MOVES_AT_ONCE_MAX: usize = 4;
pub const MOVE_BYTES_AT_ONCE_MAX: u64 = 32 << 20;

/// The housekeeping moves no longer than this before it looks after everything else.
pub const MOVE_ROUND_MAX: Duration = Duration::from_secs(5);

/// What could not be moved is tried again after this.
pub const MOVE_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Object stores that are not well are looked after so often, and each has so long to answer.
pub const STORES_MEND_EVERY: Duration = Duration::from_secs(15);
pub const STORE_ANSWER_MAX: Duration = Duration::from_secs(5);

/// Segments that are looked for in an object store before it is believed to be the one that was used before.
pub const STORE_SAMPLES_MAX: usize = 4;

/// A store that a topic is to have is asked for so long before it is refused.
pub const STORE_PROBE_MAX: Duration = Duration::from_secs(10);

/// Objects that are deleted at once.
pub const DELETIONS_AT_ONCE_MAX: usize = 16;

/// Segments deleted in one round of the housekeeping; the rest waits for the next. For each object store.
pub const SWEPT_AT_ONCE_MAX: usize = 1_000;

/// Decoded indexes of segments in memory; those not used for longest go first.
pub const SEGMENT_INDEXES_BYTES_MAX: usize = 32 << 20;

/// Backups of a running cloud at once; the next one is refused (409).
pub const BACKUPS_AT_ONCE_MAX: usize = 4;

/// A backup that is under way is told so often that it is still held: a connection that broke is noticed then.
pub const BACKUP_BEAT_EVERY: Duration = Duration::from_secs(2);

/// Segments that a backup or a restore copies at once: each is in memory meanwhile.
pub const SEGMENT_COPIES_AT_ONCE_MAX: usize = 4;

/// One tick gathers until its batches reach this; what is queued beyond waits for the next.
pub const TICK_BATCHES_BYTES_MAX: usize = 8 << 20;

/// One tick gathers until it has so many entries; what is queued beyond waits for the next.
pub const TICK_ENTRIES_MAX: usize = 16_384;

/// Entries of one submission; a longer one is decided in parts, one after the other. A tick exceeds its
/// bound by less than one of them.
pub const SUBMISSION_ENTRIES_MAX: usize = 4_096;

/// Submissions that wait for the sequencer; who comes then waits.
pub const SEQUENCER_QUEUE_MAX: usize = 1_024;

/// Bytes of batches that wait for the sequencer; who comes then waits.
pub const SEQUENCER_QUEUE_BYTES_MAX: usize = 32 << 20;

/// Batches kept in memory for consumers at the tail; the oldest go first.
pub const RECENT_BATCHES_BYTES_MAX: usize = 16 << 20;

/// A Kafka request that says it is longer is refused before it is read: the connection is closed.
pub const KAFKA_REQUEST_BYTES_MAX: usize = 16 << 20;

/// A batch of a Kafka client that is longer is refused (MESSAGE_TOO_LARGE) unless its topic says otherwise (`max.message.bytes`).
pub const KAFKA_MESSAGE_BYTES_MAX: u32 = TopicSettings::MESSAGE_BYTES_MAX;

/// Batches of Kafka clients that are unpacked at once to look into them, and what each may unpack to: a larger one cannot be
/// produced to a compacted topic.
pub const KAFKA_UNPACKINGS_MAX: usize = 2;
pub const KAFKA_UNPACKED_BYTES_MAX: usize = 32 << 20;

/// Bytes of Kafka requests longer than [`KAFKA_SMALL_REQUEST_BYTES_MAX`] that are being read or handled, of all connections;
/// who comes then waits. A request that has begun comes within [`KAFKA_REQUEST_READ_MAX`].
pub const KAFKA_REQUESTS_BYTES_MAX: usize = 256 << 20;
pub const KAFKA_SMALL_REQUEST_BYTES_MAX: usize = 64 << 10;
pub const KAFKA_REQUEST_READ_MAX: Duration = Duration::from_secs(60);

/// Topics that one request makes by asking for them; who asks for more asks again.
pub const AUTO_CREATED_AT_ONCE_MAX: usize = 16;

/// Produce requests of one connection that are on their way to the log at once; who sends more waits.
pub const KAFKA_PRODUCES_MAX: usize = 5;

/// Rules (ACLs) that one entry of a tick adds; more are added in parts.
pub const RULES_AT_ONCE_MAX: usize = 1_000;

/// Items in all arrays of one Kafka request; with more the connection is closed.
pub const KAFKA_REQUEST_ITEMS_MAX: usize = 65_536;

/// Bytes of batches in one fetch response, whatever the client asks; the first batch always comes.
pub const KAFKA_FETCH_BYTES_MAX: usize = 16 << 20;

/// Of a fetch response, so much is read and sent at a time, a whole batch in any case; and so much may be in memory before
/// (of what lies in the log's files; the newest batches are in memory anyway).
pub const KAFKA_SEND_BYTES_MAX: usize = 256 << 10;
pub const KAFKA_FETCH_AHEAD_BYTES_MAX: usize = 256 << 10;

/// What an object store has given for fetch responses that clients have not taken yet, of all connections; one response
/// gets no more than half of what is free, and a first batch in any case.
pub const KAFKA_FETCH_MEMORY_BYTES_MAX: usize = 64 << 20;

/// Partitions in the fetch sessions of all connections; a consumer that finds no room has none, and names all its partitions
/// in each request.
pub const KAFKA_SESSION_PARTITIONS_MAX: usize = 1_000_000;

/// A fetch waits no longer than this for records.
pub const KAFKA_FETCH_WAIT_MAX: Duration = Duration::from_secs(60);

/// Open Kafka connections of one listener; the next one is closed at once.
pub const KAFKA_CONNECTIONS_MAX: usize = 10_000;

/// A Kafka connection without a request for so long is closed (Kafka's `connections.max.idle.ms`).
pub const KAFKA_CONNECTION_IDLE_MAX: Duration = Duration::from_secs(600);

/// A response, or a piece of [`KAFKA_SEND_BYTES_MAX`] of one to a fetch, that the client does not take within this time ends
/// its connection.
pub const KAFKA_WRITE_MAX: Duration = Duration::from_secs(60);

/// It is known who a client is within this time, where a listener wants to know; a request until then is no longer than
/// this, and who fails waits so long for the answer (Kafka's `connection.failed.authentication.delay.ms`).
pub const KAFKA_AUTHENTICATION_MAX: Duration = Duration::from_secs(30);
pub const KAFKA_SASL_REQUEST_BYTES_MAX: usize = 64 << 10;
pub const KAFKA_AUTHENTICATION_DELAY: Duration = Duration::from_millis(100);

/// A connection that ends waits no longer than this for the client to take what TLS says last.
pub const KAFKA_GOODBYE_MAX: Duration = Duration::from_secs(1);

/// A TLS handshake that takes longer is given up.
pub const TLS_HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// TLS handshakes of HTTP that are under way at once, and its open connections; who comes then is closed at once.
pub const HTTP_HANDSHAKES_MAX: usize = 256;
pub const HTTP_CONNECTIONS_MAX: usize = 1_024;

/// Passwords that wait to be checked; who comes then is refused.
pub const PASSWORD_CHECKS_WAITING_MAX: usize = 256;

/// The certificates' files of listeners are looked at so often.
pub const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(5);

/// Passwords that are checked at once, each on a thread; who comes then waits.
pub const PASSWORD_CHECKS_AT_ONCE_MAX: usize = 2;

/// The iterations that a user's password can have who is made through Kafka, as Kafka has them (clients compute them at
/// each connection), and those of users that are made here.
pub const USER_ITERATIONS_MAX: u32 = 16_384;
pub const USER_ITERATIONS: u32 = 8_192;

/// What one connection of an edge has asked and was not answered, in bytes; past it, no more is read.
pub const HUB_OFFERED_BYTES_MAX: usize = 16 << 20;

/// Questions of one connection that are put to the ledger at once; as many more wait for it.
pub const HUB_QUESTIONS_MAX: usize = 256;

/// Questions of one connection without an answer, whatever their bytes; past it, no more are read.
pub const HUB_UNANSWERED_MAX: usize = 2 * HUB_QUESTIONS_MAX;

/// Open connections of one edge: more than one are those that are about to end. The next is closed.
pub const HUB_EDGE_CONNECTIONS_MAX: usize = 8;

/// A topic has at most so many partitions, and so many are made by one request of a Kafka client.
pub const TOPIC_PARTITIONS_MAX: u32 = 10_000;

/// And so many where nobody says how many.
pub const TOPIC_PARTITIONS_DEFAULT: u32 = 12;

/// Once there are so many topics, none is made any more because a Kafka client asks for it (POLICY_VIOLATION).
pub const AUTO_CREATED_TOPICS_MAX: usize = 10_000;

/// Facts of an export that are looked up at once: the ledger waits meanwhile.
pub const EXPORT_FACTS_MAX: usize = 1_000;

/// A body of facts over HTTP, about 150,000 of them; a longer one is refused (413).
pub const HTTP_FACTS_BYTES_MAX: usize = 48 << 20;

/// Records that one request over HTTP produces or consumes, and the bytes that are read for it; it waits no longer than this.
pub const HTTP_RECORDS_MAX: usize = 10_000;
pub const HTTP_FETCH_BYTES_MAX: i32 = 4 << 20;
pub const HTTP_UNPACKED_BYTES_MAX: usize = 8 << 20;
pub const HTTP_FETCH_WAIT_MAX: Duration = Duration::from_secs(30);

/// What is wrong with facts is told so many times; the rest is counted.
pub const WRONG_FACTS_SHOWN_MAX: usize = 20;

/// Index entries that one search for a message looks at; then it says how far it came.
pub const WHERE_ENTRIES_MAX: usize = 100_000;

/// Facts that a search takes at once; those of one segment at most.
pub const WHERE_FACTS_MAX: usize = 1_000;

/// Batches that one search for a message unpacks, and what they may take.
pub const WHERE_BATCHES_MAX: usize = 256;
pub const WHERE_BATCH_BYTES_MAX: usize = 64 << 20;

/// Intervals of a stream that are declared lost: so many, the newest, are shown.
pub const WHERE_GAPS_MAX: usize = 10;

/// Consumer groups that are told of with a message; there is no order among the others.
pub const WHERE_GROUPS_MAX: usize = 100;

const _: () = {
    assert!(SUBMISSION_ENTRIES_MAX <= TICK_ENTRIES_MAX);
    // Stores that do not answer take a part of the housekeeping's time.
    assert!(2 * STORE_ANSWER_MAX.as_secs() < STORES_MEND_EVERY.as_secs());
    // A batch that is taken can be landed, read and sent.
    assert!(BATCH_BYTES_MAX <= SEQUENCER_QUEUE_BYTES_MAX);
    assert!(BATCH_BYTES_MAX <= KAFKA_FETCH_BYTES_MAX);
    // A frame's lengths are 32 bits wide: one gathering may exceed its bound by one submission.
    assert!(TICK_BATCHES_BYTES_MAX + SEQUENCER_QUEUE_BYTES_MAX < u32::MAX as usize);
};
