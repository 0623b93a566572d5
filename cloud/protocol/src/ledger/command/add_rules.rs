//! Entry 20 of a tick: who may do what, more of it.

use bytes::{BufMut, BytesMut};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::{DecodeError, Row};
use crate::acls::{
    HOST_BYTES_MAX, Operation, PRINCIPAL_BYTES_MAX, PatternKind, Permission,
    RESOURCE_NAME_BYTES_MAX, ResourceKind, Rule,
};

/// These rules hold from now on. Whoever proposes has checked each ([`Rule::check`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddRules {
    pub rules: Vec<Rule>,
}

/// Four words, and three strings with their lengths.
const RULE_BYTES_MIN: usize = 4 + 3 * 4;

impl Row for AddRules {
    const WHAT: &'static str = "entry add rules";
    const NUMBER: u8 = 20;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_rules(out, self.rules.iter());
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let rules = take_rules(reader)?;
        Ok(Self { rules })
    }
}

pub(in super::super) fn put_rules<'a>(
    out: &mut BytesMut,
    rules: impl ExactSizeIterator<Item = &'a Rule>,
) {
    out.put_u32_le(u32::try_from(rules.len()).expect("rules are bounded"));
    for rule in rules {
        out.put_u8(rule.resource.code());
        out.put_u8(rule.pattern.code());
        out.put_u8(rule.operation.code());
        out.put_u8(rule.permission.code());
        put_bytes(out, rule.name.as_bytes());
        put_bytes(out, rule.principal.as_bytes());
        put_bytes(out, rule.host.as_bytes());
    }
}

pub(in super::super) fn take_rules(reader: &mut Reader) -> Result<Vec<Rule>, DecodeError> {
    let count = reader.count("rules", RULE_BYTES_MIN)?;
    (0..count).map(|_| take_rule(reader)).collect()
}

fn take_rule(reader: &mut Reader) -> Result<Rule, DecodeError> {
    Ok(Rule {
        resource: take_word(reader, "kind of resource", ResourceKind::from_code)?,
        pattern: take_word(reader, "kind of pattern", PatternKind::from_code)?,
        operation: take_word(reader, "operation", Operation::from_code)?,
        permission: take_word(reader, "permission", Permission::from_code)?,
        name: reader.string("resource's name", RESOURCE_NAME_BYTES_MAX)?,
        principal: reader.string("principal", PRINCIPAL_BYTES_MAX)?,
        host: reader.string("host", HOST_BYTES_MAX)?,
    })
}

pub(super) fn take_word<T>(
    reader: &mut Reader,
    field: &'static str,
    from_code: impl Fn(u8) -> Option<T>,
) -> Result<T, DecodeError> {
    let word = from_code(reader.u8(field)?);
    Ok(word.ok_or(WireError::Invalid { field })?)
}
