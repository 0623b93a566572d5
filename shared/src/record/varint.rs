//! Zigzag variable-length integers, as Kafka records use them.

use bytes::{Buf, BufMut};

/// Appends `value`, 7 bits a byte, lowest first, after zigzag.
pub(super) fn put(out: &mut impl BufMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Takes one integer off the front; `None` where the input ends or the number has no end.
pub(super) fn get(input: &mut impl Buf) -> Option<i64> {
    let mut rest = 0_u64;
    for shift in (0..64).step_by(7) {
        if !input.has_remaining() {
            return None;
        }
        let byte = input.get_u8();
        rest |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((rest >> 1) as i64 ^ -((rest & 1) as i64));
        }
    }
    None
}

/// How many bytes [`put`] writes for `value`.
pub(super) fn size(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}
