//! The data types of MQTT section 1.5, read from and written to bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    error::{DecodeErrorKind, EncodeError},
    text::Text,
};
use crate::mqtt::limits::{FIELD_BYTES_MAX, VARIABLE_INTEGER_MAX};

/// What is left of one packet's body. Fields are slices of it, not copies.
#[derive(Debug)]
pub(super) struct Reader(Bytes);

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<Bytes, DecodeErrorKind> {
        if count > self.0.len() {
            return Err(DecodeErrorKind::Truncated);
        }
        Ok(self.0.split_to(count))
    }

    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeErrorKind> {
        let array = *self
            .0
            .first_chunk::<N>()
            .ok_or(DecodeErrorKind::Truncated)?;
        self.0.advance(N);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeErrorKind> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeErrorKind> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeErrorKind> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn variable(&mut self) -> Result<u32, DecodeErrorKind> {
        let (value, count) = read_variable(&self.0)?.ok_or(DecodeErrorKind::Truncated)?;
        self.0.advance(count);
        Ok(value)
    }

    pub(super) fn binary(&mut self) -> Result<Bytes, DecodeErrorKind> {
        let count = usize::from(self.u16()?);
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Result<Text, DecodeErrorKind> {
        Ok(Text::new(self.binary()?)?)
    }

    /// Nothing may follow a packet's last field.
    pub(super) fn finish(&self) -> Result<(), DecodeErrorKind> {
        match self.0.len() {
            0 => Ok(()),
            count => Err(DecodeErrorKind::TrailingBytes(count)),
        }
    }
}

/// A variable byte integer at the start of `bytes`, and how many bytes it takes; `None` where
/// more are needed. It must be the shortest form `[MQTT-1.5.5-1]`.
pub(super) fn read_variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeErrorKind> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if *byte == 0 && index > 0 {
                return Err(DecodeErrorKind::VariableInteger);
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(DecodeErrorKind::VariableInteger);
    }
    Ok(None)
}

/// Where a packet is written: into a buffer, or only measured, so that lengths are known before
/// what they measure is written.
pub(super) trait Sink {
    fn slice(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.slice(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.slice(&value.to_be_bytes());
    }

    fn variable(&mut self, value: u32) {
        debug_assert!(value <= VARIABLE_INTEGER_MAX);
        let mut left = value;
        while left >= 0x80 {
            self.u8((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        self.u8(left as u8);
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let length =
            u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong(bytes.len()))?;
        debug_assert!(bytes.len() <= FIELD_BYTES_MAX);
        self.u16(length);
        self.slice(bytes);
        Ok(())
    }

    fn text(&mut self, text: &Text) -> Result<(), EncodeError> {
        self.binary(text.as_bytes())
    }
}

impl Sink for BytesMut {
    fn slice(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn u8(&mut self, value: u8) {
        self.put_u8(value);
    }
}

/// Counts what would be written.
#[derive(Debug, Default)]
pub(super) struct Measure(pub(super) usize);

impl Sink for Measure {
    fn slice(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// A length as a variable byte integer carries it.
pub(super) fn variable_length(length: usize) -> Result<u32, EncodeError> {
    u32::try_from(length)
        .ok()
        .filter(|length| *length <= VARIABLE_INTEGER_MAX)
        .ok_or(EncodeError::PacketTooLong(length))
}
