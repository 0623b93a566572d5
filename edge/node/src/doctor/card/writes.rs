//! Amounts as data sheets of cards and disks write them: powers of ten (`30TB`), or of two (`20KiB`).

use std::str::FromStr;

use thiserror::Error;

/// Bytes, with the unit that was given. A rate may end in `/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an amount such as 20KiB, 512kB, 30TB or 1.5TB")]
pub struct AmountError(String);

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let parse = || {
            let amount = text.strip_suffix("/s").unwrap_or(text);
            let unit_at = amount.find(|letter: char| letter.is_ascii_alphabetic())?;
            let (number, unit) = amount.split_at(unit_at);
            let number: f64 = number.trim().parse().ok()?;
            let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
            let bytes = number * *bytes as f64;
            (bytes >= 1.0 && bytes < u64::MAX as f64).then_some(Self(bytes as u64))
        };
        parse().ok_or_else(|| AmountError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_carry_their_unit() {
        for (text, bytes) in [
            ("30TB", Some(30_000_000_000_000)),
            ("1.5TB", Some(1_500_000_000_000)),
            ("20KiB/s", Some(20_480)),
            ("512 kB", Some(512_000)),
            ("0B", None),
            ("-1TB", None),
            ("30", None),
            ("30tb", None),
            ("TB", None),
            ("1e300TB", None),
        ] {
            assert_eq!(
                text.parse::<Amount>().ok().map(|amount| amount.0),
                bytes,
                "{text}"
            );
        }
    }
}
