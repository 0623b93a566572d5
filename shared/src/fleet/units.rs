//! Values that carry their unit: `10ms`, `8MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// A value whose unit is missing or unknown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{value:?} is not {expected}")]
pub struct UnitError {
    value: String,
    expected: &'static str,
}

/// A length of time, as `10ms`, `5s`, `2m`, `12h`, `7d`, or `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes, as `512B`, `64KiB`, `8MiB`, `10GiB`, or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

fn split(value: &str) -> Option<(u64, &str)> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    Some((value[..digits].parse().ok()?, value[digits..].trim()))
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(value: &str) -> Result<Self, UnitError> {
        let parsed = split(value).and_then(|(number, unit)| {
            let factor_ms = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "" if number == 0 => 0,
                _ => return None,
            };
            Some(Self(Duration::from_millis(number.checked_mul(factor_ms)?)))
        });
        let expected = "a time such as 10ms, 5s, 2m, 12h or 7d";
        parsed.ok_or_else(|| UnitError {
            value: value.to_owned(),
            expected,
        })
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(value: &str) -> Result<Self, UnitError> {
        let parsed = split(value).and_then(|(number, unit)| {
            let shift = match unit {
                "B" => 0,
                "KiB" => 10,
                "MiB" => 20,
                "GiB" => 30,
                "TiB" => 40,
                "" if number == 0 => 0,
                _ => return None,
            };
            Some(Self(number.checked_mul(1 << shift)?))
        });
        let expected = "a size such as 512B, 64KiB, 8MiB or 10GiB";
        parsed.ok_or_else(|| UnitError {
            value: value.to_owned(),
            expected,
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(formatter, "{}{unit}", self.0 >> shift);
            }
        }
        write!(formatter, "{}B", self.0)
    }
}

/// YAML may give `0` as a number; everything else comes as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

macro_rules! deserialize {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = match Scalar::deserialize(deserializer)? {
                    Scalar::Number(number) => number.to_string(),
                    Scalar::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

deserialize!(Span);
deserialize!(ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_carry_their_unit() {
        assert_eq!("10ms".parse(), Ok(Span(Duration::from_millis(10))));
        assert_eq!("2m".parse(), Ok(Span(Duration::from_secs(120))));
        assert_eq!("0".parse(), Ok(Span(Duration::ZERO)));
        assert_eq!("8MiB".parse(), Ok(ByteSize(8 << 20)));
        assert_eq!("64 KiB".parse(), Ok(ByteSize(64 << 10)));
        for bad in ["10", "ms", "", "-1s", "1.5s", "99999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        assert!("8MB".parse::<ByteSize>().is_err());
        assert_eq!(ByteSize(10 << 30).to_string(), "10GiB");
    }
}
