//! Entry 21 of a tick: who may do what, less of it.

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::add_rules::take_word;
use super::{DecodeError, Row};
use crate::acls::{
    HOST_BYTES_MAX, Operation, PRINCIPAL_BYTES_MAX, PatternFilter, PatternKind, Permission,
    RESOURCE_NAME_BYTES_MAX, ResourceKind, RuleFilter,
};

/// All rules that one of the filters means go. The ledger looks for them, so that none is missed that was added
/// just before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveRules {
    /// At most [`RemoveRules::FILTERS_MAX`].
    pub filters: Vec<RuleFilter>,
}

impl RemoveRules {
    /// Each is held against every rule.
    pub const FILTERS_MAX: usize = 100;
}

/// Anything, where a word or a string could be. No word has this number.
const ANYTHING: u8 = 0;
const ONLY: u8 = 1;

/// A pattern's kinds have numbers from 3 on.
const ANY_PATTERN: u8 = 1;
const MATCHING_PATTERN: u8 = 2;

/// Four words, and whether there are three strings.
const FILTER_BYTES_MIN: usize = 4 + 3;

impl Row for RemoveRules {
    const WHAT: &'static str = "entry remove rules";
    const NUMBER: u8 = 21;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(u32::try_from(self.filters.len()).expect("filters are bounded"));
        for filter in &self.filters {
            out.put_u8(filter.resource.map_or(ANYTHING, ResourceKind::code));
            out.put_u8(match filter.pattern {
                PatternFilter::Any => ANY_PATTERN,
                PatternFilter::Match => MATCHING_PATTERN,
                PatternFilter::Only(kind) => kind.code(),
            });
            out.put_u8(filter.operation.map_or(ANYTHING, Operation::code));
            out.put_u8(filter.permission.map_or(ANYTHING, Permission::code));
            put_text(out, filter.name.as_deref());
            put_text(out, filter.principal.as_deref());
            put_text(out, filter.host.as_deref());
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let field = "filters";
        let count = reader.count(field, FILTER_BYTES_MIN)?;
        if count > Self::FILTERS_MAX {
            return Err(WireError::Invalid { field }.into());
        }
        let filters = (0..count).map(|_| take_filter(reader));
        Ok(Self {
            filters: filters.collect::<Result<_, _>>()?,
        })
    }
}

fn take_filter(reader: &mut Reader) -> Result<RuleFilter, DecodeError> {
    Ok(RuleFilter {
        resource: take_word(reader, "kind of resource", some(ResourceKind::from_code))?,
        pattern: take_word(reader, "kind of pattern", |code| match code {
            ANY_PATTERN => Some(PatternFilter::Any),
            MATCHING_PATTERN => Some(PatternFilter::Match),
            code => PatternKind::from_code(code).map(PatternFilter::Only),
        })?,
        operation: take_word(reader, "operation", some(Operation::from_code))?,
        permission: take_word(reader, "permission", some(Permission::from_code))?,
        name: take_text(reader, "resource's name", RESOURCE_NAME_BYTES_MAX)?,
        principal: take_text(reader, "principal", PRINCIPAL_BYTES_MAX)?,
        host: take_text(reader, "host", HOST_BYTES_MAX)?,
    })
}

/// A word, or anything.
fn some<T>(from_code: impl Fn(u8) -> Option<T>) -> impl Fn(u8) -> Option<Option<T>> {
    move |code| match code {
        ANYTHING => Some(None),
        code => from_code(code).map(Some),
    }
}

fn put_text(out: &mut BytesMut, text: Option<&str>) {
    match text {
        None => out.put_u8(ANYTHING),
        Some(text) => {
            out.put_u8(ONLY);
            put_bytes(out, text.as_bytes());
        }
    }
}

fn take_text(
    reader: &mut Reader,
    field: &'static str,
    bytes_max: usize,
) -> Result<Option<String>, DecodeError> {
    match reader.u8(field)? {
        ANYTHING => Ok(None),
        ONLY => Ok(Some(reader.string(field, bytes_max)?)),
        _ => Err(WireError::Invalid { field }.into()),
    }
}
