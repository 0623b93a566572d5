//! The client's two messages, taken apart (RFC 5802, section 7).

use super::{Key, Mechanism, SCRAM_MESSAGE_BYTES_MAX, exchange::ScramError};

/// `n,,n=user,r=nonce`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    /// With its comma: what the client must repeat.
    pub gs2_header: &'a str,
    /// What the signature covers.
    pub bare: &'a str,
    /// Who it wants to act as, where it says so.
    pub acts_as: Option<String>,
    pub name: String,
    pub nonce: &'a str,
}

/// `c=biws,r=nonce,p=proof`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    /// Still in base64.
    pub channel_binding: &'a str,
    pub nonce: &'a str,
    /// What the signature covers.
    pub without_proof: &'a str,
    pub proof: Key,
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > SCRAM_MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed("it is too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("it is not UTF-8"))
}

fn attribute<'a>(part: Option<&'a str>, name: &'static str) -> Result<&'a str, ScramError> {
    let value = part.and_then(|part| part.strip_prefix(name));
    value.ok_or(ScramError::Missing(name))
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (flag, acts_as, bare) = (parts.next(), parts.next(), parts.next());
        match flag {
            Some("n" | "y") => {}
            Some(flag) if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => {
                return Err(ScramError::Malformed(
                    "it begins with no channel binding flag",
                ));
            }
        }
        let acts_as = match acts_as {
            Some("") => None,
            acts_as => Some(unescaped(attribute(acts_as, "a=")?)?),
        };
        let bare = bare.ok_or(ScramError::Missing("n="))?;
        if bare.starts_with("m=") {
            return Err(ScramError::Extension);
        }
        let mut attributes = bare.split(',');
        let name = unescaped(attribute(attributes.next(), "n=")?)?;
        let nonce = attribute(attributes.next(), "r=")?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Malformed("its nonce is empty or not printable"));
        }
        Ok(Self {
            gs2_header: &message[..message.len() - bare.len()],
            bare,
            acts_as,
            name,
            nonce,
        })
    }
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8], mechanism: Mechanism) -> Result<Self, ScramError> {
        let message = text(message)?;
        let (without_proof, proof) = message
            .rsplit_once(",p=")
            .ok_or(ScramError::Missing("p="))?;
        let proof = super::decode(proof).filter(|proof| proof.len() == mechanism.key_bytes());
        let mut attributes = without_proof.split(',');
        Ok(Self {
            channel_binding: attribute(attributes.next(), "c=")?,
            nonce: attribute(attributes.next(), "r=")?,
            without_proof,
            proof: proof.ok_or(ScramError::Malformed("its proof is not a key in base64"))?,
        })
    }
}

/// `=2C` is a comma, and `=3D` is `=`, which stands for nothing else.
fn unescaped(name: &str) -> Result<String, ScramError> {
    let mut parts = name.split('=');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (letter, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return Err(ScramError::Malformed("= in a name stands alone")),
        };
        out.push(letter);
        out.push_str(rest);
    }
    Ok(out)
}
