//! Each field made wrong: flags, lengths, identifiers, topics, filters, options, reason codes.

use super::super::wire::{self, Version};
use super::base::{Base, Part};
use super::{Add, EITHER, FILTER, MALFORMED, NOT_UTF8, PROTOCOL, TOPIC, WITH_NULL};

const BAD_TOPICS: [&[u8]; 7] = [
    b"#",
    b"+",
    b"a/#",
    b"a/+/b",
    b"a+",
    b"#a",
    b"hostile/\xe2\x82\xac/+",
];

const BAD_FILTERS: [&[u8]; 21] = [
    b"",
    b"a#",
    b"#/a",
    b"a/#/b",
    b"a+",
    b"+a",
    b"a/+b",
    b"##",
    b"++",
    b"/#/",
    b"a/b#",
    b"$share",
    b"$share/",
    b"$share//",
    b"$share//a",
    b"$share/a",
    b"$share/a/",
    b"$share/+/a",
    b"$share/a#/b",
    b"$share/#",
    b"$share/a/b+",
];

pub fn cases(base: &Base, add: &mut Add) {
    flags(base, add);
    ends(base, add);
    for (at, part) in base.parts.iter().enumerate() {
        match part {
            Part::PacketId(_) => {
                let name = format!("{}: packet identifier 0", base.name);
                add(name, base.with(at, &Part::PacketId(0)), EITHER);
            }
            Part::Topic(_) => texts(base, at, &BAD_TOPICS, TOPIC, add),
            Part::Filter(_) => texts(base, at, &BAD_FILTERS, FILTER, add),
            Part::Reason(_) => reasons(base, at, add),
            Part::Options(_) => options(base, at, add),
            Part::Properties(_) | Part::Payload(_) => {}
        }
    }
}

/// Flags that the table does not have for the packet. MQTT 3.1 reads few of them.
fn flags(base: &Base, add: &mut Add) {
    for flags in 0..16 {
        let reasons = match (base.kind(), base.version) {
            (wire::PUBLISH, _) if flags & 0x06 == 0x06 => MALFORMED,
            // DUP at QoS 0: no code is named.
            (wire::PUBLISH, _) if flags & 0x0e == 0x08 => EITHER,
            (wire::PUBLISH, _) => continue,
            (0x60 | 0x80 | 0xa0, Version::V3_1) if flags & 0x06 != 0x02 => MALFORMED,
            (_, Version::V3_1) => continue,
            _ if flags == base.first & 0x0f => continue,
            _ => MALFORMED,
        };
        let mut bytes = base.bytes();
        bytes[0] = base.kind() | flags;
        add(format!("{}: flags {flags:#06b}", base.name), bytes, reasons);
    }
}

/// The packet ends where no field does, or goes on where none is left.
fn ends(base: &Base, add: &mut Add) {
    let body = base.body();
    let mut allowed = Vec::new();
    for count in &base.may_end_after {
        allowed.push(
            base.parts[..*count]
                .iter()
                .map(|part| part.bytes().len())
                .sum(),
        );
    }
    let mut end = body.len();
    if let Some(Part::Payload(payload)) = base.parts.last() {
        end -= payload.len();
    } else {
        for trailing in [&b"\0"[..], b"\0\x01a\xff\xff", b"\xff\xff\xff\xff\xff"] {
            let bytes = wire::packet(base.first, &[&body[..], trailing].concat());
            let name = format!("{}: {} bytes behind it", base.name, trailing.len());
            add(name, bytes, MALFORMED);
        }
    }
    for length in (0..end).filter(|length| !allowed.contains(length)) {
        // A SUBSCRIBE or UNSUBSCRIBE that ends before its first filter has none.
        let filters = base
            .parts
            .iter()
            .position(|part| matches!(part, Part::Filter(_)));
        let before = filters.map(|at| base.parts[..at].iter().map(|part| part.bytes().len()).sum());
        let reasons = match (base.kind(), length) {
            // A success without a method (3.15.2), and a reason without the length of its properties.
            (wire::AUTH, 0) => PROTOCOL,
            (wire::AUTH, 1) => EITHER,
            _ if before == Some(length) => PROTOCOL,
            _ => MALFORMED,
        };
        let name = format!("{}: cut after {length} bytes", base.name);
        add(name, wire::packet(base.first, &body[..length]), reasons);
    }
}

/// Strings that are none, lengths that lie, and what is no topic or filter.
fn texts(base: &Base, at: usize, bad: &[&[u8]], reasons: &'static [u8], add: &mut Add) {
    let name = |what: &dyn std::fmt::Debug| format!("{}: field {at} is {what:x?}", base.name);
    for text in NOT_UTF8.iter().chain(&WITH_NULL) {
        add(
            name(text),
            base.with_bytes(at, &wire::field(text)),
            MALFORMED,
        );
    }
    for text in bad {
        add(name(text), base.with_bytes(at, &wire::field(text)), reasons);
    }
    for length in [0x0fff_u16, 0x7fff, 0xffff] {
        let mut lying = base.parts[at].bytes();
        lying[..2].copy_from_slice(&length.to_be_bytes());
        add(name(&length), base.with_bytes(at, &lying), MALFORMED);
    }
    if base.kind() == wire::PUBLISH && base.version < Version::V5 {
        add(name(&"empty"), base.with_bytes(at, &wire::field("")), TOPIC);
    }
}

/// The reason codes that a client's packet may have (tables 3-4 to 3-7, 3-10 in 3.14.2.1, 3-11).
fn allowed_reasons(kind: u8) -> &'static [u8] {
    match kind {
        wire::PUBACK | wire::PUBREC => &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        0x60 | wire::PUBCOMP => &[0x00, 0x92],
        // Out of their turn they are wrong for another reason.
        wire::AUTH => &[0x00, 0x18, 0x19],
        // A client may send fewer; what a server would say ends the connection all the same.
        _ => &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93,
            0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1,
            0xa2, 0x8c,
        ],
    }
}

fn reasons(base: &Base, at: usize, add: &mut Add) {
    let allowed = allowed_reasons(base.kind());
    for reason in (0..=255).filter(|reason| !allowed.contains(reason)) {
        let name = format!("{}: reason {reason:#04x}", base.name);
        add(name, base.with(at, &Part::Reason(reason)), EITHER);
    }
}

fn options(base: &Base, at: usize, add: &mut Add) {
    for options in 0..=255_u8 {
        let reasons = match base.version {
            Version::V5 if options & 0xc0 != 0 => EITHER,
            Version::V5 if options & 0x03 == 0x03 || options & 0x30 == 0x30 => PROTOCOL,
            Version::V3_1_1 if options > 2 => MALFORMED,
            Version::V3_1 if options & 0x03 == 0x03 => MALFORMED,
            _ => continue,
        };
        // Reserved bits alone are malformed; with others wrong, too, either is found first.
        let clean = options & 0x03 != 0x03 && options & 0x30 != 0x30;
        let reasons = if reasons == EITHER && clean {
            MALFORMED
        } else {
            reasons
        };
        let name = format!("{}: options {options:#04x}", base.name);
        add(name, base.with(at, &Part::Options(options)), reasons);
    }
}
