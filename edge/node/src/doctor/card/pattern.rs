//! The file of a test, block by block: a header, a ring of promises, a ring of blocks. Nothing in it is ever moved, and
//! no two blocks are alike, so that neither a file system nor a controller has less to write than it seems.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::cost::Cost;
use super::wear::Measured;

/// As the journal aligns its frames.
pub(super) const BLOCK_BYTES: usize = 4_096;

/// Blocks that are there at the same time. Older ones are written over.
pub(super) const BLOCKS: u64 = 4_096;
pub(super) const PROMISES: u64 = 64;

/// Header, promises, blocks.
pub(super) const FILE_BYTES: u64 = (1 + PROMISES + BLOCKS) * BLOCK_BYTES as u64;

const MAGIC: [u8; 8] = *b"TGPLUG1\n";
const CHECKSUM_AT: usize = BLOCK_BYTES - 8;
const MEASURED_AT: usize = 72;
const FILLER_AT: usize = 112;

/// What a block is. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Kind {
    Header = 1,
    Block = 2,
    Promise = 3,
}

/// What the first block says of the test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Random: blocks of another test are none of this one's.
    pub run: u64,
    /// The plug is to be pulled from this block on.
    pub pull_from: u64,
    pub life: Life,
    pub measured: Measured,
}

/// Which life of the machine, and of its file system, it is. What both ends of a test have seen of the same one shows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Life {
    /// Of the kernel: another one after each start of the machine; 0 where it is hidden from a service.
    pub boot: u128,
    /// Of the file system's mount; 0 where the kernel does not tell.
    pub mount: u64,
    /// When this process was started, after the machine was.
    pub started_ms: u64,
}

impl Life {
    /// Whether who looks now may be in the life in which it was written. Without the kernel's word, whoever was started
    /// sooner after the machine's start than the test is in another one.
    pub(super) fn may_be(self, now: Self) -> bool {
        match self.boot != 0 && now.boot != 0 {
            true => (self.boot, self.mount) == (now.boot, now.mount),
            false => now.started_ms >= self.started_ms,
        }
    }
}

/// Where a number's block, or its promise, lies. Numbers begin at 1.
pub(super) fn offset(kind: Kind, number: u64) -> u64 {
    let slot = match kind {
        Kind::Header => 0,
        Kind::Promise => 1 + (number - 1) % PROMISES,
        Kind::Block => 1 + PROMISES + (number - 1) % BLOCKS,
    };
    slot * BLOCK_BYTES as u64
}

/// Magic, kind, run, number, room for the header's own, filler, checksum.
pub(super) fn encode(kind: Kind, run: u64, number: u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    block.extend(MAGIC);
    for word in [kind as u64, run, number] {
        block.extend(word.to_le_bytes());
    }
    block.resize(FILLER_AT, 0);
    let seed = run ^ number.rotate_left(32) ^ kind as u64;
    for word in (FILLER_AT..CHECKSUM_AT).step_by(8) {
        block.extend(xxh3_64_with_seed(&(word as u64).to_le_bytes(), seed).to_le_bytes());
    }
    seal(&mut block);
    block
}

fn seal(block: &mut Vec<u8>) {
    block.truncate(CHECKSUM_AT);
    let checksum = xxh3_64_with_seed(block, 0);
    block.extend(checksum.to_le_bytes());
}

/// Which number's block it is; `None`: torn, of another test, or never written.
pub(super) fn decode(block: &[u8], kind: Kind, run: u64) -> Option<u64> {
    let is_ours = is_whole(block) && word(block, 8)? == kind as u64 && word(block, 16)? == run;
    word(block, 24).filter(|_| is_ours)
}

fn is_whole(block: &[u8]) -> bool {
    block.len() == BLOCK_BYTES
        && block.starts_with(&MAGIC)
        && word(block, CHECKSUM_AT) == Some(xxh3_64_with_seed(&block[..CHECKSUM_AT], 0))
}

fn word(block: &[u8], at: usize) -> Option<u64> {
    let bytes = block.get(at..at + 8)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = encode(Kind::Header, self.run, 0);
        block[32..40].copy_from_slice(&self.pull_from.to_le_bytes());
        block[40..56].copy_from_slice(&self.life.boot.to_le_bytes());
        block[56..64].copy_from_slice(&self.life.mount.to_le_bytes());
        block[64..72].copy_from_slice(&self.life.started_ms.to_le_bytes());
        let Measured {
            cost,
            load_bytes_per_second,
            rated_bytes,
        } = self.measured;
        let words = [
            cost.median_us,
            cost.p99_us,
            cost.max_us,
            load_bytes_per_second,
            rated_bytes,
        ];
        for (word, at) in words.into_iter().zip((MEASURED_AT..).step_by(8)) {
            block[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        seal(&mut block);
        block
    }

    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        let run = word(block, 16)?;
        decode(block, Kind::Header, run)?;
        let measured = |index: usize| word(block, MEASURED_AT + 8 * index);
        Some(Self {
            run,
            pull_from: word(block, 32)?,
            life: Life {
                boot: u128::from_le_bytes(block.get(40..56)?.try_into().ok()?),
                mount: word(block, 56)?,
                started_ms: word(block, 64)?,
            },
            measured: Measured {
                cost: Cost {
                    median_us: measured(0)?,
                    p99_us: measured(1)?,
                    max_us: measured(2)?,
                    ..Cost::default()
                },
                load_bytes_per_second: measured(3)?,
                rated_bytes: measured(4)?,
            },
        })
    }
}

const _: () = {
    assert!(FILLER_AT.is_multiple_of(8) && CHECKSUM_AT.is_multiple_of(8));
    assert!(PROMISES < BLOCKS);
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_is_known_again_and_a_torn_one_is_not(
            run: u64,
            number in 1_u64..1 << 48,
            torn_at in 0..BLOCK_BYTES,
            flip in 1_u8..,
        ) {
            let mut block = encode(Kind::Block, run, number);
            prop_assert_eq!(block.len(), BLOCK_BYTES);
            prop_assert_eq!(decode(&block, Kind::Block, run), Some(number));
            prop_assert_eq!(decode(&block, Kind::Promise, run), None);
            prop_assert_eq!(decode(&block, Kind::Block, run ^ 1), None);
            block[torn_at] ^= flip;
            prop_assert_eq!(decode(&block, Kind::Block, run), None);
        }

        #[test]
        fn a_header_is_known_again(
            run: u64,
            pull_from: u64,
            boot: u128,
            [mount, started_ms, median_us, load_bytes_per_second]: [u64; 4],
        ) {
            let life = Life { boot, mount, started_ms };
            let cost = Cost { median_us, ..Cost::default() };
            let measured = Measured { cost, load_bytes_per_second, rated_bytes: 7 };
            let header = Header { run, pull_from, life, measured };
            prop_assert_eq!(Header::decode(&header.encode()), Some(header));
            prop_assert_eq!(Header::decode(&encode(Kind::Block, run, 1)), None);
        }
    }

    #[test]
    fn one_life_is_told_from_another() {
        let life = |boot, mount, started_ms| Life {
            boot,
            mount,
            started_ms,
        };
        assert!(life(1, 7, 500).may_be(life(1, 7, 100)));
        assert!(!life(1, 7, 500).may_be(life(1, 8, 600)), "mounted anew");
        assert!(!life(1, 7, 500).may_be(life(2, 7, 600)), "started anew");
        // A service that is shown no boot id.
        assert!(!life(1, 7, 500).may_be(life(0, 7, 499)));
        assert!(life(1, 7, 500).may_be(life(0, 7, 500)));
    }

    #[test]
    fn each_has_its_place() {
        assert_eq!(offset(Kind::Promise, 1), 4_096);
        assert_eq!(offset(Kind::Promise, PROMISES + 1), 4_096);
        assert_eq!(offset(Kind::Block, BLOCKS) + BLOCK_BYTES as u64, FILE_BYTES);
        // Half of one block and half of the next, as a card may have it after a cut.
        let (old, new) = (
            encode(Kind::Block, 7, 1),
            encode(Kind::Block, 7, 1 + BLOCKS),
        );
        let torn = [&new[..2_048], &old[2_048..]].concat();
        assert_eq!(decode(&torn, Kind::Block, 7), None);
    }
}
