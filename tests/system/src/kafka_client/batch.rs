//! Record batches by hand: format 2, of one record, not compressed. See Kafka's `DefaultRecordBatch` and `DefaultRecord`.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Bytes of the header, up to and with the number of records.
const HEADER_BYTES: usize = 61;

/// What of it lies before the length counts.
const BEFORE_LENGTH_BYTES: usize = 12;

/// What of it lies before the checksum counts.
const BEFORE_CHECKSUM_BYTES: usize = 21;

/// Which batch of which idempotent producer one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub producer_id: i64,
    pub number: i32,
}

/// A batch with one record; of no idempotent producer where there is no sequence.
pub fn seal(value: &[u8], timestamp_ms: i64, sequence: Option<Sequence>) -> Bytes {
    let mut record = BytesMut::new();
    record.put_u8(0);
    // Its timestamp and offset are the batch's, and it has no key.
    for number in [0, 0, -1, value.len() as i64] {
        put_varint(&mut record, number);
    }
    record.put_slice(value);
    put_varint(&mut record, 0);
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_i32(0);
    body.put_i64(timestamp_ms);
    body.put_i64(timestamp_ms);
    body.put_i64(sequence.map_or(-1, |sequence| sequence.producer_id));
    body.put_i16(sequence.map_or(-1, |_| 0));
    body.put_i32(sequence.map_or(-1, |sequence| sequence.number));
    body.put_i32(1);
    put_varint(&mut body, record.len() as i64);
    body.put_slice(&record);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    let length = body.len() + BEFORE_CHECKSUM_BYTES - BEFORE_LENGTH_BYTES;
    batch.put_i32(length as i32);
    batch.put_i32(-1);
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&body));
    batch.put_slice(&body);
    batch.freeze()
}

/// Offset and value of all records in a Fetch answer's batches; `None` where they are not well formed. A last batch that
/// is not whole is left out, as consumers do.
pub fn records(set: &Bytes) -> Option<Vec<(i64, Bytes)>> {
    let (mut set, mut found) = (set.clone(), Vec::new());
    while set.len() >= BEFORE_LENGTH_BYTES {
        let length = i32::from_be_bytes(set[8..12].try_into().ok()?);
        let whole = BEFORE_LENGTH_BYTES + usize::try_from(length).ok()?;
        if set.len() < whole {
            break;
        }
        take_batch(set.split_to(whole), &mut found)?;
    }
    Some(found)
}

fn take_batch(mut batch: Bytes, found: &mut Vec<(i64, Bytes)>) -> Option<()> {
    if batch.len() < HEADER_BYTES {
        return None;
    }
    let base = batch.get_i64();
    // The length, the leader's epoch and the format.
    batch.advance(9);
    if batch.get_u32() != crc32c::crc32c(&batch) {
        return None;
    }
    let attributes = batch.get_i16();
    if attributes & 7 != 0 {
        return None;
    }
    batch.advance(4 + 8 + 8 + 8 + 2 + 4);
    for _ in 0..batch.get_i32() {
        let length = get_varint(&mut batch)?;
        let length = usize::try_from(length).ok().filter(|l| *l <= batch.len())?;
        let mut record = batch.split_to(length);
        record.advance(1);
        let _timestamp_delta = get_varint(&mut record)?;
        let offset = base + get_varint(&mut record)?;
        let _key = get_bytes(&mut record)?;
        found.push((offset, get_bytes(&mut record)?));
    }
    Some(())
}

fn get_bytes(from: &mut Bytes) -> Option<Bytes> {
    let length = get_varint(from)?.max(0);
    let length = usize::try_from(length).ok().filter(|l| *l <= from.len())?;
    Some(from.split_to(length))
}

/// Zigzag, seven bits a byte.
fn put_varint(out: &mut BytesMut, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

fn get_varint(from: &mut Bytes) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        if from.is_empty() {
            return None;
        }
        let byte = from.get_u8();
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_again() {
        let sequence = Sequence {
            producer_id: 7,
            number: 3,
        };
        let mut set = BytesMut::new();
        let long = vec![b'x'; 300];
        for (offset, value) in [(5_i64, b"one".as_slice()), (6, &long)] {
            let batch = seal(value, 1_700_000_000_000, Some(sequence));
            set.put_i64(offset);
            set.put_slice(&batch[8..]);
        }
        let expected = vec![(5, Bytes::from_static(b"one")), (6, Bytes::from(long))];
        assert_eq!(records(&set.clone().freeze()), Some(expected.clone()));
        // Half of the last one.
        set.truncate(set.len() - 20);
        assert_eq!(records(&set.clone().freeze()), Some(expected[..1].to_vec()));
        // A flipped bit.
        let last = set.len() - 300;
        set[last] ^= 1;
        set[BEFORE_CHECKSUM_BYTES + 45] ^= 1;
        assert_eq!(records(&set.freeze()), None);
    }
}
