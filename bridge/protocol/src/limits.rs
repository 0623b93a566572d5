//! The bridge's named limits. Both ends hold to them, so that neither can make the other reserve
//! memory for what will never come.

use std::time::Duration;

/// The largest frame, its header included. A batch of one largest record fits with room to spare.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Streams in one Hello or Announce; an edge with more sends several Announces.
pub const FRAME_STREAMS_MAX: usize = 1_000;

/// Streams that one connection may announce.
pub const CONNECTION_STREAMS_MAX: usize = 100_000;

/// What a Gap under way counts in the window: about its frame.
pub const GAP_WINDOW_BYTES: usize = 96;

/// Facts in one Landed.
pub const FRAME_FACTS_MAX: usize = 1_000;

/// Forks of one stream on one connection; with more it stands still, with an alarm.
pub const CONNECTION_FORKS_MAX: u32 = 8;

/// What a sender does within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderLimits {
    /// Batch bytes sent and not answered yet, over all streams.
    pub window_bytes_max: usize,
    /// Small chunks are merged up to this.
    pub batch_bytes_max: usize,
    /// A batch that has no answer for so long is sent again.
    pub answer_timeout: Duration,
    /// How long a parked stream rests before it is tried again.
    pub parked_retry: Duration,
    /// Reads of the journal under way at once.
    pub reads_max: usize,
    /// Streams in one of them.
    pub read_streams_max: usize,
}

impl Default for SenderLimits {
    fn default() -> Self {
        Self {
            window_bytes_max: 8 << 20,
            batch_bytes_max: 1 << 20,
            answer_timeout: Duration::from_secs(30),
            parked_retry: Duration::from_secs(30),
            reads_max: 4,
            read_streams_max: 256,
        }
    }
}

impl SenderLimits {
    /// Holds the relations between the limits.
    ///
    /// # Panics
    /// When one contradicts another: an error of ours.
    pub fn check(&self) {
        assert!(
            self.batch_bytes_max * 2 < FRAME_BYTES_MAX,
            "a merged batch fits a frame"
        );
        assert!(
            self.batch_bytes_max <= self.window_bytes_max,
            "a batch fits the window"
        );
        assert!(self.reads_max > 0, "something must be read to be sent");
    }
}
