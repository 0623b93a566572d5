//! Entry 17 of a tick: forgets what a consumer group has committed.

use bytes::{BufMut, BytesMut};
use tidegate_shared::id::GroupName;
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::{DecodeError, Row, put_target, take_name, take_target};
use crate::ledger::Target;

/// A group's offsets go. Whoever proposes has seen that nobody in the group needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetOffsets {
    pub group: GroupName,
    /// Of these partitions; `None`: all, and with them the group.
    pub targets: Option<Vec<Target>>,
}

const ALL: u8 = 0;
const SOME: u8 = 1;

const TARGET_BYTES: usize = 16 + 4;

impl Row for ForgetOffsets {
    const WHAT: &'static str = "entry forget offsets";
    const NUMBER: u8 = 17;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.group.as_str().as_bytes());
        let Some(targets) = &self.targets else {
            out.put_u8(ALL);
            return;
        };
        out.put_u8(SOME);
        out.put_u32_le(u32::try_from(targets.len()).expect("a request is bounded"));
        for target in targets {
            put_target(out, target);
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let group = take_name(reader, "group id", GroupName::LENGTH_MAX, |value| {
            GroupName::new(value)
        })?;
        let field = "whose offsets";
        let targets = match reader.u8(field)? {
            ALL => None,
            SOME => {
                let count = reader.count("partitions", TARGET_BYTES)?;
                let targets = (0..count).map(|_| take_target(reader));
                Some(targets.collect::<Result<_, _>>()?)
            }
            _ => return Err(WireError::Invalid { field }.into()),
        };
        Ok(Self { group, targets })
    }
}
