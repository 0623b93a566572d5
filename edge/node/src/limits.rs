//! The node's named limits, beside those of the protocols and the journal.

use std::num::NonZeroU16;
use std::time::Duration;

/// Records that wait for the committer, in bytes. Publishers wait while it is full.
pub const COMMIT_QUEUE_BYTES_MAX: usize = 16 << 20;

/// A commit with so much in it no longer waits for company when none has come for this part of the linger.
pub const COMMIT_QUIET_BYTES_MIN: usize = 8 << 10;
pub const COMMIT_QUIET_OF_LINGER: u32 = 20;

/// Checkpoints are this far apart, if anything changed.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Ways of topics that a thread keeps, and how long a topic and how many subscribers such a way may have: a
/// few megabytes at most.
pub const WAYS_KEPT_MAX: usize = 512;
pub const WAY_TOPIC_BYTES_KEPT_MAX: usize = 256;
pub const WAY_ONLINE_KEPT_MAX: usize = 128;

/// Messages for subscribers that a connection gathers, while it reads packets, before they go into mailboxes.
pub const OUTBOX_LETTERS_MAX: usize = 1_024;

/// A message up to this size that waits for a subscriber is copied out of the buffer that it was read into,
/// where more than so many wait before it, or so much is not written yet.
pub const DETACHED_BYTES_MAX: usize = 4 << 10;
pub const LETTERS_ATTACHED_MAX: usize = 64;
pub const UNWRITTEN_ATTACHED_MAX: usize = 64 << 10;

/// QoS 1 publishes of one client that are not acknowledged yet. A lone device's throughput is at most
/// this per `commit_linger`; what they take together is bounded by the commit queue.
pub const INFLIGHT_INBOUND_MAX: NonZeroU16 = NonZeroU16::new(1024).unwrap();

/// What publishes of MQTT 3 clients take that wait for space in the journal, over all connections. Past
/// it, such a client's connection is closed without the acknowledgement.
pub const WITHHELD_BYTES_MAX: usize = 32 << 20;

/// Bytes read from a socket at once.
pub const READ_BYTES: usize = 64 << 10;

/// Bytes that wait to be written to a socket; past it the client is not read from.
pub const WRITE_BYTES_MAX: usize = 256 << 10;

/// A thread keeps a write buffer up to this size for the next connection that writes.
pub const WRITE_BYTES_SPARE: usize = 512 << 10;

/// Open files that connections leave to the uplink, HTTP, listeners and whatever else, beside the journal's.
pub const FILES_RESERVED: u64 = 256;

/// Connections that wait to be accepted, of one listener; the kernel's own bound (`net.core.somaxconn`)
/// may be less.
pub const LISTEN_BACKLOG: u32 = 4_096;

/// A client's handshakes, TLS and WebSocket among them, take at most so long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The files of listeners' certificates, of users and of rules are looked at so often.
pub const FILES_INTERVAL: Duration = Duration::from_secs(5);

/// The file of `mqtt.users`.
pub const USERS_FILE_BYTES_MAX: u64 = 32 << 20;

/// Each file of `mqtt.jwt`.
pub const JWT_FILE_BYTES_MAX: u64 = 1 << 20;

/// What checks of passwords take together.
pub const PASSWORD_CHECKS_MIB_MAX: u32 = 64;

/// A check has its turn within this, or the client is told that the server is busy.
pub const PASSWORD_CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The file of `mqtt.acl`.
pub const ACL_FILE_BYTES_MAX: u64 = 4 << 20;

/// What was said to a client at the end may take so long to be written.
pub const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The first pause before the hub is tried again; the longest is `uplink.reconnect_max`.
pub const RECONNECT_MIN: Duration = Duration::from_millis(100);

/// A connection attempt takes at most so long.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of QoS 1 that a broker of MQTT 5 may send a source before it acknowledges one (Receive Maximum). Older
/// brokers have a bound of their own.
pub const SOURCE_UNACKNOWLEDGED_MAX: u16 = 256;

/// What those take that a source holds. Past it nothing more is read; past twice as much, which a broker
/// reaches that has no bound, the connection is closed, and what was not acknowledged comes again.
pub const SOURCE_HELD_BYTES_MAX: usize = 16 << 20;

/// The largest packet that a source hears. One that is larger than the node's own clients may send is
/// acknowledged, dropped and counted: else the broker would send it for ever.
pub const SOURCE_PACKET_BYTES_MAX: usize = 4 << 20;

/// A message that found no space in the journal is tried again so often.
pub const SOURCE_RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// A source asks so often whether its broker is there.
pub const SOURCE_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A connection that lived so long is no reason to wait before the next.
pub const SOURCE_STABLE_MIN: Duration = Duration::from_secs(10);

/// Each file of a source: its password, certificates, a key.
pub const SOURCE_FILE_BYTES_MAX: u64 = 4 << 20;

/// Changes behind a client session's row before the row is written anew.
pub const SESSION_CHANGES_MAX: u32 = 64;

/// The same while the row cannot be written anew, since a message may still be refused: past it the
/// client is not read from until the next commit.
pub const SESSION_CHANGES_UNSURE_MAX: u32 = 4_096;

/// What a client session reads of the journal at once, as it lies there.
pub const FEED_READ_BYTES_MAX: usize = 256 << 10;

/// What it takes of that in memory, unpacked: past it the rest is left for the next read. What is packed well
/// is a thousand times as large.
pub const FEED_UNPACKED_BYTES_MAX: usize = 1 << 20;

/// A session's cursor is stored so often while it moves; after a crash, as much is sent again.
pub const CURSOR_INTERVAL: Duration = Duration::from_secs(1);

/// Expired sessions and wills that are due are looked for so often.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Wills that are published at once; the others have their turn with the next look.
pub const WILLS_AT_ONCE_MAX: usize = 1_000;

/// Messages of a shared subscription that one member has and has not acknowledged.
pub const SHARED_IN_FLIGHT_MAX: usize = 32;

/// A connection waits so long for the one before to let go of the client's session.
pub const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Retained messages of a node, and what they take in memory.
pub const RETAINED_MESSAGES_MAX: usize = 100_000;
pub const RETAINED_BYTES_MAX: usize = 64 << 20;

/// Delayed messages of a node, and what they take in memory.
pub const DELAYED_MESSAGES_MAX: usize = 100_000;
pub const DELAYED_BYTES_MAX: usize = 32 << 20;

/// Of both, one publisher has one part of so many at most.
pub const DELAYED_PUBLISHER_SHARE: usize = 4;

/// Those that are published at once when they are due; the others follow when these are durable.
pub const DELAYED_AT_ONCE_MAX: usize = 256;

/// Where the journal has no space for one that is due, it is tried again so much later.
pub const DELAYED_AGAIN: Duration = Duration::from_secs(1);

/// Messages that a connection takes out of its mailbox at once: those behind may still be overtaken.
pub const LETTERS_TAKEN_MAX: usize = 256;

/// The file of `mqtt.blocked`.
pub const BLOCKED_FILE_BYTES_MAX: u64 = 16 << 20;

/// The log is told so often of those that find no room.
pub const RETAINED_REFUSED_TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// Expired ones that are taken away at once; the others have their turn with the next sweep.
pub const RETAINED_SWEPT_MAX: usize = 10_000;

/// Rows that are handed to the committer as one, where there are many.
pub const ROWS_AT_ONCE_BYTES_MAX: usize = 256 << 10;

/// Retained messages that a connection looks at before others have their turn.
pub const RETAINED_LOOKS_MAX: usize = 1_024;

/// Filters of one connection whose session ends with it.
pub const CONNECTION_SUBSCRIPTIONS_MAX: usize = 10_000;

/// Shared subscriptions of one client. Each group looks at what each commit brings: one more is refused (0x97).
pub const CLIENT_GROUPS_MAX: usize = 64;

/// Groups of one node.
pub const GROUPS_MAX: usize = 1_000;

/// Streams that `/metrics` names one by one.
pub const METRICS_STREAMS_MAX: usize = 200;

/// Client sessions whose losses are kept by name, and how many of them, the worst, are named under `$SYS`
/// and in `/metrics`.
pub const SESSION_LOSSES_TRACKED_MAX: usize = 1_000;
pub const SESSION_LOSSES_SHOWN_MAX: usize = 10;

/// What a search for one message reads of the journal at once, and at most in all; then it says that it
/// did not look at everything.
pub const WHERE_READ_BYTES: usize = 8 << 20;
pub const WHERE_READ_BYTES_MAX: usize = 256 << 20;

const _: () = {
    // A client fills its windows before it waits for a commit.
    assert!(SESSION_CHANGES_UNSURE_MAX > 2 * INFLIGHT_INBOUND_MAX.get() as u32);
    // A publish that is taken finds room, if it waits for long enough.
    assert!(COMMIT_QUEUE_BYTES_MAX >= 2 << 20);
    assert!(COMMIT_QUEUE_BYTES_MAX <= u32::MAX as usize);
    // Small messages of a source fill its window before its memory.
    assert!(SOURCE_UNACKNOWLEDGED_MAX as usize * (32 << 10) < SOURCE_HELD_BYTES_MAX);
    assert!(SOURCE_PACKET_BYTES_MAX < SOURCE_HELD_BYTES_MAX);
    // A merged batch fits a frame, even where compression gains nothing.
    assert!(
        2 * tidegate_edge_journal::limits::MERGED_RECORDS_BYTES_MAX
            <= tidegate_bridge_protocol::limits::FRAME_BYTES_MAX
    );
};
