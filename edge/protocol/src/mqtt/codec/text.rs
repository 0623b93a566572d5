//! The UTF-8 string of MQTT as a slice of the packet that it came in.

use std::{fmt, ops::Deref};

use bytes::Bytes;
use thiserror::Error;

use crate::mqtt::limits::FIELD_BYTES_MAX;

/// Why bytes are no MQTT string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("a string holds U+0000")]
    Null,
    #[error("a string is longer than {FIELD_BYTES_MAX} bytes")]
    TooLong,
}

/// At most 65,535 bytes of UTF-8 without U+0000 `[MQTT-1.5.4-1]`, `[MQTT-1.5.4-2]`. Clones share
/// the bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, TextError> {
        let bytes = bytes.into();
        if bytes.len() > FIELD_BYTES_MAX {
            return Err(TextError::TooLong);
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Err(TextError::NotUtf8);
        }
        if bytes.contains(&0) {
            return Err(TextError::Null);
        }
        Ok(Self(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("Text::new has checked it")
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// In memory of its own: a slice keeps the whole buffer alive that it was read into.
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Without the check that `as_str` repeats.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl TryFrom<&str> for Text {
    type Error = TextError;

    fn try_from(value: &str) -> Result<Self, TextError> {
        Self::new(Bytes::copy_from_slice(value.as_bytes()))
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;

    fn try_from(value: String) -> Result<Self, TextError> {
        Self::new(value)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(formatter)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}
