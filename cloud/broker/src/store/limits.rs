//! Every limit of the object stores and of the cache before them, with its unit, and what happens when it
//! is reached.

use std::time::Duration;

/// An object up to this length is written by one request; a longer one in parts, some at once. Each part is a
/// request that is paid for, so a part is not smaller than it must be.
pub const PUT_SINGLE_BYTES_MAX: u64 = 16 << 20;

/// The length of a part, but of the last one (S3 wants at least 5 MiB).
pub const PART_BYTES: u64 = 16 << 20;

/// Parts of one object; a longer object is refused (S3 takes 10,000).
pub const PARTS_MAX: u64 = 10_000;

/// Parts of one object that are on their way at once.
pub const PARTS_AT_ONCE_MAX: usize = 4;

/// A connection to a store that is not there in this time is given up, and another tried.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An answer that stands still for so long is given up, and asked for again.
pub const STALL_MAX: Duration = Duration::from_secs(15);

/// A request may take this long, and its bytes as long as they take at [`TRANSFER_BYTES_PER_SECOND_MIN`].
pub const REQUEST_MAX: Duration = Duration::from_secs(30);

/// What is slower than this counts as broken, and is asked for again.
pub const TRANSFER_BYTES_PER_SECOND_MIN: u64 = 256 << 10;

/// The wait before a request is made again; it doubles with each, up to [`RETRY_WAIT_MAX`], and a random part
/// of it is left out, so that those who failed together do not come again together.
pub const RETRY_WAIT_MIN: Duration = Duration::from_millis(50);
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// No request is begun later than this after the first; then the error is told.
pub const RETRY_TOTAL_MAX: Duration = Duration::from_secs(60);

/// Of an error's text from a store so much is told.
pub const ERROR_TEXT_BYTES_MAX: usize = 500;

/// An answer to a request that failed is read up to this length.
pub const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// Names in one answer to LIST; S3 gives no more, and each answer is paid for.
pub const LIST_ANSWER_NAMES: u64 = 1_000;

/// Objects in one page of a listing, whatever is asked for; the next page is asked for with the last key.
pub const LIST_PAGE_MAX: usize = 10_000;

const _: () = {
    assert!(PART_BYTES >= 5 << 20, "S3 refuses smaller parts");
    assert!(PUT_SINGLE_BYTES_MAX <= 5 << 30, "S3 refuses a longer PUT");
    assert!(PARTS_MAX <= 10_000, "S3 refuses more parts");
    // A request that is given up once can be made again.
    assert!(REQUEST_MAX.as_secs() < RETRY_TOTAL_MAX.as_secs());
};

/// The cache keeps pieces of objects of this length; a read of less fetches this much.
pub const CACHE_BLOCK_BYTES: u64 = 1 << 20;

/// Blocks that the cache keeps in memory, and on disk; those not used for the longest go first.
pub const CACHE_MEMORY_BYTES_MAX: u64 = 32 << 20;
pub const CACHE_DISK_BYTES_MAX: u64 = 4 << 30;

/// Blocks that one request brings; a longer read makes several, one after the other.
pub const CACHE_GET_BLOCKS_MAX: u64 = 8;

/// What is fetched for a reader before it asks.
pub const READ_AHEAD_BYTES: u64 = 4 << 20;

/// So many reads one after the other make a reader for whom is fetched ahead.
pub const READ_AHEAD_AFTER: u32 = 2;

/// Fetches ahead that run at once; with more, the reader waits for its own reads.
pub const READ_AHEADS_MAX: usize = 4;

/// Readers that the cache remembers; who was forgotten begins anew.
pub const CACHE_READERS_MAX: usize = 4_096;

/// Blocks that wait to be written to the cache's disk; what is more is not kept there.
pub const CACHE_SAVES_MAX: usize = 16;

const _: () = {
    assert!(READ_AHEAD_BYTES.is_multiple_of(CACHE_BLOCK_BYTES));
    assert!(READ_AHEAD_BYTES / CACHE_BLOCK_BYTES <= CACHE_GET_BLOCKS_MAX);
    // What was fetched ahead is still there when its reader comes.
    assert!(READ_AHEADS_MAX as u64 * READ_AHEAD_BYTES <= CACHE_MEMORY_BYTES_MAX);
    assert!(
        CACHE_BLOCK_BYTES <= u32::MAX as u64,
        "a block's length has 32 bits on disk"
    );
};
