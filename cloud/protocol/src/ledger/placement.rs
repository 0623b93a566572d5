//! Which partition an edge's streams go to: a lane to that of its number; any other to one that a hash
//! of the edge's id gives, so that all of an edge is in one order and its batches are fat.
//!
//! The function is part of the log's meaning (replay must place a stream where it was placed), so it
//! never changes: FNV-1a, 64 bits, over the id's bytes, modulo the partitions. A stream's partition
//! is kept in the ledger once chosen.

use tidegate_shared::id::{EdgeId, PartitionId, StreamName};

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A lane goes to the partition of its number, modulo the partitions that there are when it is first
/// seen. All else of an edge goes to one partition.
///
/// # Panics
/// When there are no partitions: a topic has at least one.
pub(super) fn place(edge: &EdgeId, stream: &StreamName, partitions: usize) -> PartitionId {
    match stream.lane() {
        Some(lane) => at(u64::from(lane), partitions),
        None => at(hash(edge), partitions),
    }
}

fn at(number: u64, partitions: usize) -> PartitionId {
    let index = number % partitions as u64;
    PartitionId(i32::try_from(index).expect("a topic has fewer than 2^31 partitions"))
}

fn hash(edge: &EdgeId) -> u64 {
    edge.as_str().bytes().fold(FNV_OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placement_never_changes() {
        let stream = |name| StreamName::new(name).unwrap();
        let place_of = |edge, name| place(&EdgeId::new(edge).unwrap(), &stream(name), 12).0;
        let place = |edge| place_of(edge, "telemetry");
        // Published FNV-1a of "a" is af63dc4c8601ec8c, of "foobar" 85944171f73967e8.
        assert_eq!(place("a"), (0xaf63_dc4c_8601_ec8c_u64 % 12) as i32);
        assert_eq!(place("foobar"), (0x8594_4171_f739_67e8_u64 % 12) as i32);
        assert_eq!(
            (place_of("a", "keyed#3"), place_of("a", "keyed#14")),
            (3, 2)
        );
    }
}
