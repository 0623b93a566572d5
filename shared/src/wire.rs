//! Reading and writing fields of our own frames and rows: little-endian integers, and byte strings
//! with a length before them. Every frame and file of ours is built from these, so that a short or
//! hostile input is answered in one place.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// The bytes do not hold the field that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    #[error("the input ends within {field}")]
    Short { field: &'static str },
    #[error("{field} says {length} bytes, at most {length_max} are allowed")]
    TooLong {
        field: &'static str,
        length: u64,
        length_max: u64,
    },
    #[error("{field} is not valid")]
    Invalid { field: &'static str },
}

/// Takes fields from the front of a byte string, without copying what it hands out.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
}

macro_rules! integer {
    ($name:ident, $type:ty, $get:ident) => {
        pub fn $name(&mut self, field: &'static str) -> Result<$type, WireError> {
            if self.rest.len() < size_of::<$type>() {
                return Err(WireError::Short { field });
            }
            Ok(self.rest.$get())
        }
    };
}

impl Reader {
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    integer!(u8, u8, get_u8);
    integer!(u16, u16, get_u16_le);
    integer!(u32, u32, get_u32_le);
    integer!(u64, u64, get_u64_le);
    integer!(u128, u128, get_u128_le);
    integer!(i16, i16, get_i16_le);
    integer!(i32, i32, get_i32_le);
    integer!(i64, i64, get_i64_le);

    /// Exactly `length` bytes.
    pub fn take(&mut self, field: &'static str, length: usize) -> Result<Bytes, WireError> {
        if self.rest.len() < length {
            return Err(WireError::Short { field });
        }
        Ok(self.rest.split_to(length))
    }

    /// A byte string: its length as u32, then the bytes. A length over `length_max` is refused
    /// before anything is reserved for it.
    pub fn bytes(&mut self, field: &'static str, length_max: usize) -> Result<Bytes, WireError> {
        let length = self.u32(field)? as usize;
        if length > length_max {
            let (length, length_max) = (length as u64, length_max as u64);
            return Err(WireError::TooLong {
                field,
                length,
                length_max,
            });
        }
        self.take(field, length)
    }

    /// A byte string that holds UTF-8.
    pub fn string(&mut self, field: &'static str, length_max: usize) -> Result<String, WireError> {
        let bytes = self.bytes(field, length_max)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Invalid { field })
    }

    /// A count of things that each take at least `each_min` bytes: a count that the rest of the
    /// input cannot hold is refused before anything is reserved for it.
    pub fn count(&mut self, field: &'static str, each_min: usize) -> Result<usize, WireError> {
        let count = self.u32(field)? as usize;
        if count.saturating_mul(each_min) > self.rest.len() {
            return Err(WireError::Short { field });
        }
        Ok(count)
    }

    /// What has not been taken yet.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Writes a byte string as [`Reader::bytes`] reads it.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a field of a frame is far below 4 GiB");
    out.put_u32_le(length);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_length_is_refused_before_it_is_reserved() {
        let mut out = BytesMut::new();
        out.put_u32_le(u32::MAX);
        let mut reader = Reader::new(out.freeze());
        let refused = reader.clone().bytes("name", 16);
        assert!(matches!(
            refused,
            Err(WireError::TooLong {
                length: 0xffff_ffff,
                ..
            })
        ));
        assert_eq!(
            reader.count("streams", 8),
            Err(WireError::Short { field: "streams" })
        );
    }

    #[test]
    fn strings_round_trip() {
        let mut out = BytesMut::new();
        put_bytes(&mut out, "tide".as_bytes());
        let mut reader = Reader::new(out.freeze());
        assert_eq!(reader.string("word", 16).as_deref(), Ok("tide"));
        assert!(reader.is_empty());
    }
}
