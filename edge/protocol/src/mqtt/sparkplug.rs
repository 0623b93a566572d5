//! What a Sparkplug 3.0 *Aware* server does: it keeps the birth certificates that pass through it, and gives deaths the time at which
//! they are told.
//!
//! Sources: Sparkplug 3.0.0, chapter 10 (`tck-id-conformance-mqtt-aware-store`, `-nbirth-mqtt-topic`, `-nbirth-mqtt-retain`,
//! `-dbirth-mqtt-topic`, `-dbirth-mqtt-retain`, `-ndeath-timestamp`) and section 6.4 (the payload, protobuf).

use bytes::{BufMut, Bytes, BytesMut};

/// The namespace of Sparkplug B.
const NAMESPACE: &str = "spBv1.0";

/// Where births are kept; only the server publishes there.
const CERTIFICATES: &str = "$sparkplug/certificates/";

/// A message of Sparkplug that the server does something with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sparkplug {
    /// NBIRTH of an edge node, or DBIRTH of a device.
    Birth,
    /// NDEATH of an edge node.
    NodeDeath,
}

impl Sparkplug {
    /// What a topic says of its message; `None`: nothing to be done.
    pub fn of(topic: &str) -> Option<Self> {
        let rest = topic.strip_prefix(NAMESPACE)?.strip_prefix('/')?;
        let mut levels = rest.split('/');
        let (group, kind) = (levels.next()?, levels.next()?);
        let node = levels.next()?;
        let (device, behind) = (levels.next(), levels.next());
        let are_named = !group.is_empty() && !node.is_empty() && device != Some("");
        if !are_named || behind.is_some() {
            return None;
        }
        match (kind, device) {
            ("NBIRTH", None) | ("DBIRTH", Some(_)) => Some(Self::Birth),
            ("NDEATH", None) => Some(Self::NodeDeath),
            _ => None,
        }
    }
}

/// The topic that a birth is kept under.
pub fn certificate_topic(topic: &str) -> String {
    format!("{CERTIFICATES}{topic}")
}

/// Whether a topic is one that only the server publishes to.
pub fn is_certificate(topic: &str) -> bool {
    topic.starts_with(CERTIFICATES)
}

/// Of the payload's message: `uint64 timestamp = 1`.
const TIMESTAMP_KEY: u64 = 1 << 3;

/// A payload with this time, in milliseconds since 1970; `None` where it is no protobuf message.
pub fn with_timestamp(payload: &[u8], time_ms: u64) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(payload.len() + 11);
    put_varint(&mut out, TIMESTAMP_KEY);
    put_varint(&mut out, time_ms);
    let mut rest = payload;
    while !rest.is_empty() {
        let field = rest;
        let (key, behind) = varint(rest)?;
        rest = match key & 7 {
            0 => varint(behind)?.1,
            1 => behind.get(8..)?,
            2 => {
                let (length, behind) = varint(behind)?;
                behind.get(usize::try_from(length).ok()?..)?
            }
            5 => behind.get(4..)?,
            // Groups are older than Sparkplug, and there are no others.
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        if key != TIMESTAMP_KEY {
            out.put_slice(&field[..field.len() - rest.len()]);
        }
    }
    Some(out.freeze())
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn topics_are_told_apart() {
        for (topic, kind) in [
            ("spBv1.0/plant/NBIRTH/line", Some(Sparkplug::Birth)),
            ("spBv1.0/plant/DBIRTH/line/pump", Some(Sparkplug::Birth)),
            ("spBv1.0/plant/NDEATH/line", Some(Sparkplug::NodeDeath)),
            ("spBv1.0/plant/DDEATH/line/pump", None),
            ("spBv1.0/plant/NDATA/line", None),
            ("spBv1.0/plant/NBIRTH/line/pump", None),
            ("spBv1.0/plant/DBIRTH/line", None),
            ("spBv1.0/plant/DBIRTH/line/pump/x", None),
            ("spBv1.0//NBIRTH/line", None),
            ("spBv1.0/plant/NBIRTH/", None),
            ("spBv1.0/STATE/host", None),
            ("spAv1.0/plant/NBIRTH/line", None),
            ("x/spBv1.0/plant/NBIRTH/line", None),
        ] {
            assert_eq!(Sparkplug::of(topic), kind, "{topic}");
        }
        let kept = certificate_topic("spBv1.0/plant/NBIRTH/line");
        assert_eq!(kept, "$sparkplug/certificates/spBv1.0/plant/NBIRTH/line");
        assert!(is_certificate(&kept) && Sparkplug::of(&kept).is_none());
    }

    #[test]
    fn the_time_is_replaced_and_all_else_stays() {
        // timestamp 300, seq 1 (field 3), a metric of 3 bytes (field 2).
        let payload = [0x08, 0xac, 0x02, 0x12, 3, 1, 2, 3, 0x18, 1];
        let told = with_timestamp(&payload, 1).unwrap();
        assert_eq!(told[..], [0x08, 1, 0x12, 3, 1, 2, 3, 0x18, 1]);
        assert_eq!(with_timestamp(&[], 300).unwrap()[..], [0x08, 0xac, 0x02]);
        for broken in [
            &[0x12_u8, 9, 1][..],
            &[0x08],
            &[0x0b],
            &[0x00, 1],
            &[0xff; 11],
        ] {
            assert_eq!(with_timestamp(broken, 1), None, "{broken:x?}");
        }
    }

    proptest! {
        /// Any bytes: it says no, or what it gives says the time and can be read again.
        #[test]
        fn any_payload_is_taken(payload in proptest::collection::vec(any::<u8>(), 0..40), time_ms: u64) {
            if let Some(told) = with_timestamp(&payload, time_ms) {
                prop_assert_eq!(with_timestamp(&told, time_ms).unwrap(), told);
            }
        }
    }
}
