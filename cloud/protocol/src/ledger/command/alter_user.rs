//! Entry 18 of a tick: what proves that a client is a user is changed; users come and go by it.

use bytes::{BufMut, BytesMut};
use tidegate_shared::scram::{Mechanism, SCRAM_SALT_BYTES_MAX, Verifier};
use tidegate_shared::wire::{Reader, WireError, put_bytes};

use super::super::{TokenHash, TokenName, UserName};
use super::{DecodeError, Row};

/// Changes of one user, all of them or none.
#[derive(Clone, PartialEq, Eq)]
pub struct AlterUser {
    pub name: UserName,
    /// It is refused where there is such a user.
    pub is_new: bool,
    /// Random, from outside; that of the first user that there ever was is kept.
    pub secret: [u8; 32],
    pub changes: Vec<UserChange>,
}

/// Without the secret.
impl std::fmt::Debug for AlterUser {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("AlterUser");
        shown
            .field("name", &self.name)
            .field("is_new", &self.is_new);
        shown
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

/// One change.
#[derive(Clone, PartialEq, Eq)]
pub enum UserChange {
    /// Makes the user, where there is none.
    SetVerifier(Verifier),
    RemoveVerifier(Mechanism),
    AddToken {
        name: TokenName,
        hash: TokenHash,
    },
    RemoveToken(TokenName),
    /// There is no such user any more.
    RemoveAll,
}

/// Without hashes.
impl std::fmt::Debug for UserChange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SetVerifier(verifier) => write!(formatter, "SetVerifier({verifier:?})"),
            Self::RemoveVerifier(mechanism) => write!(formatter, "RemoveVerifier({mechanism:?})"),
            Self::AddToken { name, .. } => write!(formatter, "AddToken({name})"),
            Self::RemoveToken(name) => write!(formatter, "RemoveToken({name})"),
            Self::RemoveAll => write!(formatter, "RemoveAll"),
        }
    }
}

impl UserChange {
    /// The shortest: its number.
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::SetVerifier(verifier) => {
                out.put_u8(1);
                put_verifier(out, verifier);
            }
            Self::RemoveVerifier(mechanism) => {
                out.put_u8(2);
                out.put_u8(number_of(*mechanism));
            }
            Self::AddToken { name, hash } => {
                out.put_u8(3);
                put_bytes(out, name.as_str().as_bytes());
                out.put_slice(hash);
            }
            Self::RemoveToken(name) => {
                out.put_u8(4);
                put_bytes(out, name.as_str().as_bytes());
            }
            Self::RemoveAll => out.put_u8(5),
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("user change")? {
            1 => Self::SetVerifier(take_verifier(reader)?),
            2 => Self::RemoveVerifier(take_mechanism(reader)?),
            3 => Self::AddToken {
                name: take_token_name(reader)?,
                hash: take_32(reader, "token's hash")?,
            },
            4 => Self::RemoveToken(take_token_name(reader)?),
            5 => Self::RemoveAll,
            number => {
                let what = "user change";
                return Err(DecodeError::UnknownNumber { what, number });
            }
        })
    }
}

impl Row for AlterUser {
    const WHAT: &'static str = "entry alter user";
    const NUMBER: u8 = 18;
    const VERSION: u8 = 1;

    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.name.as_str().as_bytes());
        out.put_u8(u8::from(self.is_new));
        out.put_slice(&self.secret);
        out.put_u32_le(u32::try_from(self.changes.len()).expect("a user has few changes"));
        for change in &self.changes {
            change.put(out);
        }
    }

    fn take(reader: &mut Reader, _version: u8) -> Result<Self, DecodeError> {
        let name = take_user_name(reader)?;
        let is_new = reader.u8("new user")? != 0;
        let secret = take_32(reader, "secret")?;
        let count = reader.count("user changes", UserChange::BYTES_MIN)?;
        let changes = (0..count).map(|_| UserChange::take(reader));
        Ok(Self {
            name,
            is_new,
            secret,
            changes: changes.collect::<Result<_, _>>()?,
        })
    }
}

/// Never another one: it is on disks.
fn number_of(mechanism: Mechanism) -> u8 {
    match mechanism {
        Mechanism::Sha256 => 1,
        Mechanism::Sha512 => 2,
    }
}

fn take_mechanism(reader: &mut Reader) -> Result<Mechanism, DecodeError> {
    match reader.u8("mechanism")? {
        1 => Ok(Mechanism::Sha256),
        2 => Ok(Mechanism::Sha512),
        number => {
            let what = "SCRAM mechanism";
            Err(DecodeError::UnknownNumber { what, number })
        }
    }
}

pub(in super::super) fn put_verifier(out: &mut BytesMut, verifier: &Verifier) {
    out.put_u8(number_of(verifier.mechanism()));
    out.put_u32_le(verifier.iterations().get());
    put_bytes(out, verifier.salt());
    for key in verifier.keys() {
        out.put_slice(key);
    }
}

pub(in super::super) fn take_verifier(reader: &mut Reader) -> Result<Verifier, DecodeError> {
    let field = "verifier";
    let mechanism = take_mechanism(reader)?;
    let iterations = reader.u32("iterations")?;
    let salt = reader.bytes("salt", SCRAM_SALT_BYTES_MAX)?;
    let stored = reader.take("stored key", mechanism.key_bytes())?;
    let server = reader.take("server key", mechanism.key_bytes())?;
    let verifier = Verifier::of_parts(mechanism, iterations, &salt, [&stored, &server]);
    verifier.map_err(|_| WireError::Invalid { field }.into())
}

pub(in super::super) fn take_user_name(reader: &mut Reader) -> Result<UserName, DecodeError> {
    let field = "user name";
    let name = UserName::new(reader.string(field, UserName::BYTES_MAX)?);
    name.ok_or_else(|| WireError::Invalid { field }.into())
}

pub(in super::super) fn take_token_name(reader: &mut Reader) -> Result<TokenName, DecodeError> {
    let field = "token name";
    let name = TokenName::new(reader.string(field, TokenName::BYTES_MAX)?);
    name.ok_or_else(|| WireError::Invalid { field }.into())
}

pub(in super::super) fn take_32(
    reader: &mut Reader,
    field: &'static str,
) -> Result<[u8; 32], DecodeError> {
    let bytes = reader.take(field, 32)?;
    let bytes = <[u8; 32]>::try_from(&bytes[..]);
    bytes.map_err(|_| WireError::Invalid { field }.into())
}
