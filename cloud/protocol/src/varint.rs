//! Numbers of one to ten bytes, for what is stored many times over and mostly small: an index, a map.
//! Signed ones are told in zigzag, so that small steps back are short, too.

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::WireError;

/// Appends `value`, 7 bits a byte, lowest first.
pub(crate) fn put(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

pub(crate) fn put_signed(out: &mut BytesMut, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// A byte string behind its length.
pub(crate) fn put_string(out: &mut BytesMut, text: &str) {
    put(out, text.len() as u64);
    out.put_slice(text.as_bytes());
}

/// Takes numbers off the front of bytes that may be anybody's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(
        &mut self,
        field: &'static str,
        length: usize,
    ) -> Result<&'a [u8], WireError> {
        let cut = self.rest.split_at_checked(length);
        let (taken, rest) = cut.ok_or(WireError::Short { field })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], WireError> {
        let cut = self.rest.split_first_chunk::<N>();
        let (taken, rest) = cut.ok_or(WireError::Short { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(WireError::Short { field })?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Invalid { field })
    }

    pub(crate) fn signed(&mut self, field: &'static str) -> Result<i64, WireError> {
        let value = self.number(field)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        u32::try_from(self.number(field)?).map_err(|_| WireError::Invalid { field })
    }

    /// A count of things that each take at least `each_min` bytes: what the rest cannot hold is
    /// refused before anything is reserved for it.
    pub(crate) fn count(
        &mut self,
        field: &'static str,
        each_min: usize,
    ) -> Result<usize, WireError> {
        let count = usize::try_from(self.number(field)?);
        let count = count.map_err(|_| WireError::Invalid { field })?;
        match self.has(count, each_min) {
            true => Ok(count),
            false => Err(WireError::Short { field }),
        }
    }

    /// Whether the rest may hold so many things of so many bytes.
    pub(crate) fn has(&self, count: usize, each_min: usize) -> bool {
        count.saturating_mul(each_min) <= self.rest.len()
    }

    pub(crate) fn string(
        &mut self,
        field: &'static str,
        length_max: usize,
    ) -> Result<String, WireError> {
        let length = self.number(field)?;
        if length > length_max as u64 {
            let length_max = length_max as u64;
            return Err(WireError::TooLong {
                field,
                length,
                length_max,
            });
        }
        let text = self.take(field, length as usize)?;
        String::from_utf8(text.to_vec()).map_err(|_| WireError::Invalid { field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(value in any::<u64>(), shift in 0..64_u32, signed in any::<i64>()) {
            let mut out = BytesMut::new();
            put(&mut out, value >> shift);
            put_signed(&mut out, signed >> shift);
            let mut input = Input::new(&out);
            prop_assert_eq!(input.number("number"), Ok(value >> shift));
            prop_assert_eq!(input.signed("number"), Ok(signed >> shift));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn bytes_of_a_stranger_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let mut input = Input::new(&bytes);
            while input.number("number").is_ok() {}
            let _ = Input::new(&bytes).string("name", 8);
            let _ = Input::new(&bytes).count("things", 4);
        }
    }

    #[test]
    fn a_number_without_an_end_is_refused() {
        let field = "number";
        let endless = [0xff; 11];
        assert_eq!(
            Input::new(&endless).number(field),
            Err(WireError::Invalid { field })
        );
        assert_eq!(
            Input::new(&endless[..9]).number(field),
            Err(WireError::Short { field })
        );
    }
}
