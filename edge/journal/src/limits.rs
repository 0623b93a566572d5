//! The journal's named limits, and the relations between them that must hold.

/// Frames begin at multiples of this: one block of the flash's file system. A frame that shared a
/// block with its neighbour would have the block written twice.
pub const FRAME_ALIGN_BYTES: usize = 4096;

/// The first block of a log file is its header.
pub const LOG_FILE_HEADER_BYTES: usize = FRAME_ALIGN_BYTES;

/// Spare log files kept ready, zero-filled: freeing space needs space.
pub const SPARE_LOG_FILES: usize = 2;

/// Tables of full log files kept in memory for readers that lag behind.
pub const FILE_TABLES_CACHED_MAX: usize = 16;

/// Hashes kept of one stream's dropped boundaries that may have been sent, from its landed offset
/// on: after a restart that can be all it had. Beyond it they join the gap.
pub const BOUNDARIES_KEPT_MAX: usize = 16_384;

/// The first log files are made however little the disk has left: without them nothing goes.
pub const LOG_FILES_MIN: usize = SPARE_LOG_FILES + 1;

/// A full log file is emptied by the cleaner where copies of what lives in it take at most this much of
/// it, in per cent: five of them free one at the least.
pub const CLEANED_ALIVE_PER_CENT_MAX: u64 = 80;

/// The same where streams have just lost data for it: the less is gained, the more of them it takes.
pub const CLEANED_AFTER_LOSS_PER_CENT_MAX: u64 = 90;

/// The cleaner works ahead up to one more spare file for so many log files, and at most
/// [`CLEANED_AHEAD_FILES_MAX`].
pub const LOG_FILES_PER_CLEANED_AHEAD: usize = 64;

pub const CLEANED_AHEAD_FILES_MAX: usize = 2;

/// The cleaner's frames are this part of a commit's bound, and a few blocks at the least: a frame that
/// finds no room at a file's end leaves that empty, and a last block is half empty.
pub const CLEANED_FRAMES_PER_COMMIT: usize = 8;

pub const CLEANED_FRAME_BLOCKS_MIN: usize = 8;

/// Dead files that only wait for their readers: with so many of them, no stream loses more.
pub const LEASED_FILES_BEFORE_LOSS_MAX: usize = 4;

/// So much of the journal's time may be forgotten by a crash of an idle edge.
pub const CLOCK_CHECKPOINT_INTERVAL_MS: u64 = 60_000;

/// Streams of one journal. Each costs a few hundred bytes of memory.
pub const STREAMS_MAX: usize = 100_000;

/// Chunks below this are merged with their neighbours before they are sent.
pub const MERGE_CHUNK_BYTES_MAX: usize = 32 << 10;

/// What a merged batch's records take before compression. A chunk that unpacks to more goes alone.
pub const MERGED_RECORDS_BYTES_MAX: usize = 1 << 20;

/// What a journal may use, settable per node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one log file.
    pub log_file_bytes: usize,
    /// A commit is made at the latest when this much is staged.
    pub commit_bytes_max: usize,
    /// The largest record, key and headers included.
    pub record_bytes_max: usize,
    /// Bytes appended since the last checkpoint at which the next one is due.
    pub checkpoint_log_bytes_max: usize,
    /// Log files in all, spares included; with all of them in use, appends are refused.
    pub log_files_max: usize,
    /// No new log file is made with less than this left on the file system; 0 for no floor.
    pub free_disk_min_bytes: u64,
    /// Held in a file of its own, and given up when the index has no space for a checkpoint.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            log_file_bytes: 8 << 20,
            commit_bytes_max: 2 << 20,
            record_bytes_max: 1 << 20,
            checkpoint_log_bytes_max: 16 << 20,
            log_files_max: 1280, // 10 GiB
            free_disk_min_bytes: 256 << 20,
            reserve_bytes: 8 << 20,
        }
    }
}

impl Limits {
    /// The cleaner begins a new frame beyond this.
    pub(crate) fn cleaned_frame_bytes_max(&self) -> usize {
        let least = CLEANED_FRAME_BLOCKS_MIN * FRAME_ALIGN_BYTES;
        let part = self.commit_bytes_max / CLEANED_FRAMES_PER_COMMIT;
        part.max(least).min(self.commit_bytes_max)
    }

    /// The largest row, and change to one. With it a commit that was just short of its bound still
    /// fits a log file.
    pub fn row_bytes_max(&self) -> usize {
        self.log_file_bytes / 3
    }

    /// What a frame holds at most, its header included: of a commit that is longer, rows in front of
    /// all else are written in frames of their own.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.commit_bytes_max + self.record_bytes_max.max(self.row_bytes_max()) + FRAME_ALIGN_BYTES
    }

    /// Holds the relations that the journal builds on.
    ///
    /// # Panics
    /// When a limit contradicts another: that is an error of ours, not of a user.
    pub fn check(&self) {
        assert_eq!(
            self.log_file_bytes % FRAME_ALIGN_BYTES,
            0,
            "files hold whole blocks"
        );
        assert!(
            self.record_bytes_max <= self.commit_bytes_max,
            "a commit holds any record"
        );
        // A commit that is just short of its bound may take one more record. The file's table can
        // be as large as a frame, and the header takes a block: no frame ever spans two files.
        let frame_bytes_max = self.commit_bytes_max + self.record_bytes_max + 2 * FRAME_ALIGN_BYTES;
        let fits = LOG_FILE_HEADER_BYTES + frame_bytes_max * 2 <= self.log_file_bytes;
        assert!(fits, "a log file holds the largest frame and its table");
        // A row has no place in the table: an eighth is more than enough for what else there is.
        let largest = LOG_FILE_HEADER_BYTES + self.frame_bytes_max();
        let fits = largest <= self.log_file_bytes / 8 * 7;
        assert!(fits, "a log file holds the largest commit with a row in it");
        assert!(
            self.log_files_max > LOG_FILES_MIN,
            "one file is active, others spare"
        );
    }
}
