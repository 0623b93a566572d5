//! Keys that sign tokens: a secret, a public key, or a set of them as JSON (JWKS, RFC 7517).

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use thiserror::Error;

use super::signature::Material;

/// RFC 7518, 3.2: as long as the hash, at least. The shortest hash has so many.
pub const SECRET_BYTES_MIN: usize = 32;

/// The smallest that is taken, in bytes.
const RSA_MODULUS_BYTES_MIN: usize = 256;

/// Keys of one set.
pub const KEYS_MAX: usize = 1_000;

/// A key that nothing can be checked by.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("a secret of {0} bytes is too short: it takes {SECRET_BYTES_MIN}, at random")]
    Secret(usize),
    #[error("an RSA key of less than 2048 bits is too short")]
    RsaShort,
    #[error("the key has no {0}, or one that is no base64url")]
    Member(&'static str),
    #[error("the curve {0} is none of P-256, P-384, Ed25519")]
    Curve(String),
    #[error("the public point has another length than its curve's")]
    Point,
    #[error("it is no set of keys: {0}")]
    Json(String),
    #[error("there is no key in it that can check a signature")]
    Empty,
    #[error("there are more than {KEYS_MAX} keys in it")]
    TooMany,
}

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    pub(super) id: Option<String>,
    /// The only algorithm that it is for, where the set says so.
    algorithm: Option<String>,
    material: Material,
}

impl TokenKey {
    fn of(material: Material) -> Self {
        Self {
            id: None,
            algorithm: None,
            material,
        }
    }

    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        match secret.len() {
            short if short < SECRET_BYTES_MIN => Err(KeyError::Secret(short)),
            _ => Ok(Self::of(Material::Secret(secret.to_vec()))),
        }
    }

    /// Modulus and exponent, big-endian.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let cut = |bytes: &[u8]| {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes[zeros..].to_vec()
        };
        let (n, e) = (cut(n), cut(e));
        if n.len() < RSA_MODULUS_BYTES_MIN {
            return Err(KeyError::RsaShort);
        }
        Ok(Self::of(Material::Rsa { n, e }))
    }

    /// An uncompressed point: 4, x, y.
    pub fn p256(point: &[u8]) -> Result<Self, KeyError> {
        let is_point = point.len() == 65 && point[0] == 4;
        let key = is_point.then(|| Self::of(Material::P256(point.to_vec())));
        key.ok_or(KeyError::Point)
    }

    pub fn p384(point: &[u8]) -> Result<Self, KeyError> {
        let is_point = point.len() == 97 && point[0] == 4;
        let key = is_point.then(|| Self::of(Material::P384(point.to_vec())));
        key.ok_or(KeyError::Point)
    }

    pub fn ed25519(point: &[u8]) -> Result<Self, KeyError> {
        let key = (point.len() == 32).then(|| Self::of(Material::Ed25519(point.to_vec())));
        key.ok_or(KeyError::Point)
    }

    pub(super) fn takes(&self, algorithm: &str) -> bool {
        let is_its_own = self.algorithm.as_ref().is_none_or(|own| own == algorithm);
        is_its_own && self.material.takes(algorithm)
    }

    pub(super) fn has_signed(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        self.takes(algorithm) && self.material.has_signed(algorithm, signed, signature)
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.material.hash(&mut hasher);
        hasher.finish()
    }
}

/// Without the key, which may be a secret.
impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("TokenKey");
        shown.field("id", &self.id).finish_non_exhaustive()
    }
}

/// A set of keys. Those of other kinds, curves and sizes, and those that are for something else, are passed over.
#[derive(Debug, Deserialize)]
pub struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    k: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl Jwks {
    /// # Errors
    /// It is no set, or a key of a known kind in it is wrong.
    pub fn parse(text: &str) -> Result<Vec<TokenKey>, KeyError> {
        let set: Self =
            serde_json::from_str(text).map_err(|error| KeyError::Json(error.to_string()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let signing = set
            .keys
            .iter()
            .filter(|key| key.usage.as_deref().is_none_or(|usage| usage == "sig"));
        let keys = signing.filter_map(|key| match key.key() {
            // Others are known here than those that a login gives out for others.
            Err(KeyError::Curve(_) | KeyError::RsaShort) => None,
            key => key.transpose(),
        });
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        match keys.is_empty() {
            true => Err(KeyError::Empty),
            false => Ok(keys),
        }
    }
}

impl Jwk {
    fn key(&self) -> Result<Option<TokenKey>, KeyError> {
        let key = match self.kty.as_str() {
            "oct" => TokenKey::secret(&member("k", &self.k)?)?,
            "RSA" => TokenKey::rsa(&member("n", &self.n)?, &member("e", &self.e)?)?,
            "EC" => self.elliptic()?,
            "OKP" => match self.crv.as_deref() {
                Some("Ed25519") => TokenKey::ed25519(&member("x", &self.x)?)?,
                other => return Err(KeyError::Curve(other.unwrap_or_default().to_owned())),
            },
            _ => return Ok(None),
        };
        Ok(Some(TokenKey {
            id: self.kid.clone(),
            algorithm: self.alg.clone(),
            ..key
        }))
    }

    fn elliptic(&self) -> Result<TokenKey, KeyError> {
        let point = [vec![4], member("x", &self.x)?, member("y", &self.y)?].concat();
        match self.crv.as_deref() {
            Some("P-256") => TokenKey::p256(&point),
            Some("P-384") => TokenKey::p384(&point),
            other => Err(KeyError::Curve(other.unwrap_or_default().to_owned())),
        }
    }
}

fn member(name: &'static str, value: &Option<String>) -> Result<Vec<u8>, KeyError> {
    let value = value.as_deref().ok_or(KeyError::Member(name))?;
    URL_SAFE_NO_PAD
        .decode(value)
        .map_err(|_| KeyError::Member(name))
}
