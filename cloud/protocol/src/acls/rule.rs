//! One rule, and the resources that rules are about.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use super::{CLUSTER_NAME, Operation, PatternKind, Permission, ResourceKind};

/// The longest name of a resource in a rule. Longer than any topic's or group's.
pub const RESOURCE_NAME_BYTES_MAX: usize = 1_024;

/// The longest principal: a certificate's subject can be long.
pub const PRINCIPAL_BYTES_MAX: usize = 1_024;

/// The longest host.
pub const HOST_BYTES_MAX: usize = 255;

/// What somebody wants to do something with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    Cluster,
    TransactionalId(&'a str),
    DelegationToken(&'a str),
    User(&'a str),
}

impl<'a> Resource<'a> {
    pub fn kind(self) -> ResourceKind {
        match self {
            Self::Topic(_) => ResourceKind::Topic,
            Self::Group(_) => ResourceKind::Group,
            Self::Cluster => ResourceKind::Cluster,
            Self::TransactionalId(_) => ResourceKind::TransactionalId,
            Self::DelegationToken(_) => ResourceKind::DelegationToken,
            Self::User(_) => ResourceKind::User,
        }
    }

    pub fn name(self) -> &'a str {
        match self {
            Self::Cluster => CLUSTER_NAME,
            Self::Topic(name)
            | Self::Group(name)
            | Self::TransactionalId(name)
            | Self::DelegationToken(name)
            | Self::User(name) => name,
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind().name(), self.name())
    }
}

/// Somebody, from somewhere, may or may not do something with all that a pattern is of (Kafka: an ACL binding).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub resource: ResourceKind,
    pub pattern: PatternKind,
    /// Of the resource, as `pattern` says.
    pub name: String,
    /// `User:ada`; `User:*` is everybody.
    pub principal: String,
    /// An address as [`canonical_host`] writes it, or `*`.
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
}

/// Why a rule is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    #[error("the resource has no name: give one, or * for every {0}")]
    NoName(&'static str),
    #[error("{0:?} is not a principal: write a kind and a name, such as User:ada")]
    Principal(String),
    #[error("the rule has no host: give an address, or * for every one")]
    NoHost,
    #[error("the only cluster is {CLUSTER_NAME}, not {0:?}")]
    Cluster(String),
    #[error("the {what} has {bytes} bytes, at most {bytes_max} are taken")]
    TooLong {
        what: &'static str,
        bytes: usize,
        bytes_max: usize,
    },
}

impl Rule {
    /// Refuses what could never be meant.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self) -> Result<(), RuleError> {
        let lengths = [
            ("resource's name", &self.name, RESOURCE_NAME_BYTES_MAX),
            ("principal", &self.principal, PRINCIPAL_BYTES_MAX),
            ("host", &self.host, HOST_BYTES_MAX),
        ];
        for (what, text, bytes_max) in lengths {
            check_length(what, Some(text), bytes_max)?;
        }
        if self.resource == ResourceKind::Cluster && self.name != CLUSTER_NAME {
            return Err(RuleError::Cluster(self.name.clone()));
        }
        if self.name.is_empty() {
            return Err(RuleError::NoName(self.resource.name()));
        }
        if self.host.is_empty() {
            return Err(RuleError::NoHost);
        }
        check_principal(&self.principal)
    }
}

pub(super) fn check_length(
    what: &'static str,
    text: Option<&str>,
    bytes_max: usize,
) -> Result<(), RuleError> {
    match text.map_or(0, str::len) {
        bytes if bytes > bytes_max => Err(RuleError::TooLong {
            what,
            bytes,
            bytes_max,
        }),
        _ => Ok(()),
    }
}

/// A kind, a colon and a name, none of them empty. Source: Kafka's `SecurityUtils.parseKafkaPrincipal`.
///
/// # Errors
/// It is something else.
pub fn check_principal(principal: &str) -> Result<(), RuleError> {
    match principal.split_once(':') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(()),
        _ => Err(RuleError::Principal(principal.to_owned())),
    }
}

/// An address as a connection's is written: `0:0:0:0:0:0:0:1` is `::1`, and an IPv4 address in an IPv6 one is the
/// IPv4 address. What is no address stays as it is.
pub fn canonical_host(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host.to_owned(),
    }
}
