//! Entry 19 of a tick: keeps what a consumer group's leader has assigned.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::GroupName;
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::{DecodeError, Row, take_name};
use crate::groups::{Client, Generation, GenerationMember, Protocol};

/// A group's newest generation; one without members says that the group is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepGeneration {
    pub group: GroupName,
    pub generation: Generation,
}

impl KeepGeneration {
    /// Of a generation, as [`Generation::bytes`] counts them. Whoever proposes refuses more. Never to be lowered: what is on
    /// disks has to be read.
    pub const BYTES_MAX: usize = 8 << 20;
}

/// No text or byte string is longer than all of them together.
const TEXT_BYTES_MAX: usize = KeepGeneration::BYTES_MAX;
const PROTOCOL_BYTES_MIN: usize = 8;
const MEMBER_BYTES_MIN: usize = 4 + 1 + 4 + 4 + 8 + 8 + 4 + 4;

impl Row for KeepGeneration {
    const WHAT: &'static str = "entry keep generation";
    const NUMBER: u8 = 19;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.group.as_str().as_bytes());
        put_generation(out, &self.generation);
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            group: take_name(reader, "group id", GroupName::LENGTH_MAX, |value| {
                GroupName::new(value)
            })?,
            generation: take_generation(reader)?,
        })
    }
}

pub(in crate::ledger) fn put_generation(out: &mut BytesMut, generation: &Generation) {
    out.put_i32_le(generation.number);
    put_bytes(out, generation.protocol_type.as_bytes());
    put_bytes(out, generation.protocol.as_bytes());
    put_bytes(out, generation.leader.as_bytes());
    out.put_u32_le(u32::try_from(generation.members.len()).expect("a group has few members"));
    for (id, member) in &generation.members {
        put_bytes(out, id.as_bytes());
        put_member(out, member);
    }
}

fn put_member(out: &mut BytesMut, member: &GenerationMember) {
    out.put_u8(u8::from(member.instance.is_some()));
    if let Some(instance) = &member.instance {
        put_bytes(out, instance.as_bytes());
    }
    put_bytes(out, member.client.id.as_bytes());
    put_bytes(out, member.client.host.as_bytes());
    out.put_u64_le(member.session_timeout_ms);
    out.put_u64_le(member.rebalance_timeout_ms);
    out.put_u32_le(u32::try_from(member.protocols.len()).expect("a request is bounded"));
    for (name, metadata) in &member.protocols {
        put_bytes(out, name.as_bytes());
        put_bytes(out, metadata);
    }
    put_bytes(out, &member.assignment);
}

pub(in crate::ledger) fn take_generation(reader: &mut Reader) -> Result<Generation, DecodeError> {
    let number = reader.i32("generation")?;
    let protocol_type = reader.string("protocol type", TEXT_BYTES_MAX)?;
    let protocol = reader.string("protocol", TEXT_BYTES_MAX)?;
    let leader = reader.string("leader", TEXT_BYTES_MAX)?;
    let mut members = BTreeMap::new();
    for _ in 0..reader.count("members", MEMBER_BYTES_MIN)? {
        let id = reader.string("member id", TEXT_BYTES_MAX)?;
        if members.insert(id, take_member(reader)?).is_some() {
            let field = "members";
            return Err(WireError::Invalid { field }.into());
        }
    }
    Ok(Generation {
        number,
        protocol_type,
        protocol,
        leader,
        members,
    })
}

fn take_member(reader: &mut Reader) -> Result<GenerationMember, DecodeError> {
    let instance = match reader.u8("has an instance id")? {
        0 => None,
        _ => Some(reader.string("instance id", TEXT_BYTES_MAX)?),
    };
    let client = Client {
        id: reader.string("client id", TEXT_BYTES_MAX)?,
        host: reader.string("client's host", TEXT_BYTES_MAX)?,
    };
    let session_timeout_ms = reader.u64("session timeout")?;
    let rebalance_timeout_ms = reader.u64("rebalance timeout")?;
    let count = reader.count("protocols", PROTOCOL_BYTES_MIN)?;
    let protocols = (0..count).map(|_| take_protocol(reader));
    let protocols = protocols.collect::<Result<_, _>>()?;
    Ok(GenerationMember {
        instance,
        client,
        session_timeout_ms,
        rebalance_timeout_ms,
        protocols,
        assignment: take_apart(reader, "assignment")?,
    })
}

fn take_protocol(reader: &mut Reader) -> Result<Protocol, DecodeError> {
    let name = reader.string("protocol's name", TEXT_BYTES_MAX)?;
    Ok((name, take_apart(reader, "metadata")?))
}

/// Without a share in what it is read from, which may be a whole snapshot.
fn take_apart(reader: &mut Reader, field: &'static str) -> Result<Bytes, DecodeError> {
    let bytes = reader.bytes(field, TEXT_BYTES_MAX)?;
    Ok(Bytes::copy_from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(bytes: usize) -> GenerationMember {
        let long = |letter: &str| letter.repeat(bytes);
        GenerationMember {
            instance: Some(long("i")),
            client: Client {
                id: long("c"),
                host: long("h"),
            },
            session_timeout_ms: u64::MAX,
            rebalance_timeout_ms: u64::MAX,
            protocols: vec![
                (long("p"), long("m").into()),
                (String::new(), long("n").into()),
            ],
            assignment: long("a").into(),
        }
    }

    /// What is as large as may be proposed, whatever makes it so, is read back: else the next start would stop at it.
    #[test]
    fn the_largest_that_may_be_proposed_is_read_back() {
        for (members, bytes) in [(0, 0), (1, 116_000), (1_000, 95), (10_000, 0)] {
            let members = (0..members).map(|nth| (nth.to_string(), member(bytes)));
            let mut generation = Generation {
                number: i32::MAX,
                members: members.collect(),
                ..Generation::default()
            };
            let left = KeepGeneration::BYTES_MAX - generation.bytes();
            generation.leader = "l".repeat(left);
            assert_eq!(generation.bytes(), KeepGeneration::BYTES_MAX);
            let keep = KeepGeneration {
                group: GroupName::new("g").unwrap(),
                generation,
            };
            let mut out = BytesMut::new();
            keep.put(&mut out);
            let most = KeepGeneration::BYTES_MAX + 5;
            assert!(
                out.len() <= most,
                "{} is more than it was said to be",
                out.len()
            );
            let read = KeepGeneration::take(&mut Reader::new(out.freeze()), 1);
            assert_eq!(read, Ok(keep));
        }
    }
}
