//! JSON Web Tokens (RFC 7519) as a client's password: signed by one of the keys that the node has (RFC 7515), and judged
//! by what they say of their time. Which algorithm counts is the key's, never the token's: `none` is no key's.

mod keys;
mod signature;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

pub use keys::{Jwks, KeyError, TokenKey};

/// A token, as it comes.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Clocks differ: a token counts so much before its `nbf` and after its `exp`.
pub const TOKEN_LEEWAY_S: u64 = 60;

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("it is no JSON Web Token in its compact form")]
    Form,
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("its algorithm is none, or another that no key has")]
    Algorithm,
    #[error("it has header parameters that must be understood, and are not (crit)")]
    Critical,
    #[error("no key has signed it")]
    Signature,
    #[error("it has ended (exp)")]
    Ended,
    #[error("it has not begun (nbf)")]
    NotBegun,
    #[error("its exp or nbf is no number")]
    Time,
    #[error("it has no user name in the claim that is asked for")]
    NoUser,
    #[error("it is by another issuer (iss)")]
    Issuer,
    #[error("it is for another audience (aud)")]
    Audience,
}

/// What a token must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRules {
    /// The claim with the user's name.
    pub user_claim: String,
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

/// What a node takes.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// By the file that they come from.
    pub keys: Vec<Arc<Vec<TokenKey>>>,
    pub rules: Arc<TokenRules>,
}

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    pub user: String,
    /// Seconds since 1970, leeway included; `None`: it does not end.
    pub ends_at_s: Option<u64>,
    /// What tells the key that signed it from others.
    pub key: u64,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// Whether a password can be a token: three parts, the first of which is a JSON object.
pub fn looks_like_token(password: &[u8]) -> bool {
    password.starts_with(b"eyJ") && password.iter().filter(|byte| **byte == b'.').count() == 2
}

impl Tokens {
    /// `now_s`: seconds since 1970 by a clock that can be trusted; `None`: there is none, and nothing is refused for its time.
    pub fn check(&self, token: &[u8], now_s: Option<u64>) -> Result<Proved, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let token = std::str::from_utf8(token).map_err(|_| TokenError::Form)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Form)?;
        let header: Header = json(header)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let signature = decode(signature)?;
        let key = self.signer(&header, signed.as_bytes(), &signature)?;
        // Only now: what nobody has signed is not looked at.
        let claims: Map<String, Value> = json(claims)?;
        self.judge(&claims, now_s, key)
    }

    fn signer(
        &self,
        header: &Header,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<&TokenKey, TokenError> {
        let mut fitting = self.keys().filter(|key| key.takes(&header.alg)).peekable();
        if fitting.peek().is_none() {
            return Err(TokenError::Algorithm);
        }
        // A key that has an id is for tokens that name it, or none.
        let named = fitting.filter(|key| match (&key.id, &header.kid) {
            (Some(own), Some(kid)) => own == kid,
            _ => true,
        });
        let mut signers = named.filter(|key| key.has_signed(&header.alg, signed, signature));
        signers.next().ok_or(TokenError::Signature)
    }

    fn judge(
        &self,
        claims: &Map<String, Value>,
        now_s: Option<u64>,
        key: &TokenKey,
    ) -> Result<Proved, TokenError> {
        let ends_at_s = seconds(claims, "exp")?.map(|at_s| at_s.saturating_add(TOKEN_LEEWAY_S));
        let begins_at_s = seconds(claims, "nbf")?.map(|at_s| at_s.saturating_sub(TOKEN_LEEWAY_S));
        if let Some(now_s) = now_s {
            if ends_at_s.is_some_and(|at_s| now_s >= at_s) {
                return Err(TokenError::Ended);
            }
            if begins_at_s.is_some_and(|at_s| now_s < at_s) {
                return Err(TokenError::NotBegun);
            }
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let rules = &*self.rules;
        if rules.issuer.is_some() && rules.issuer.as_deref() != text("iss") {
            return Err(TokenError::Issuer);
        }
        if let Some(audience) = &rules.audience
            && !is_for(claims.get("aud"), audience)
        {
            return Err(TokenError::Audience);
        }
        let user = text(&rules.user_claim).filter(|user| !user.is_empty());
        Ok(Proved {
            user: user.ok_or(TokenError::NoUser)?.to_owned(),
            ends_at_s,
            key: key.fingerprint(),
        })
    }

    /// Whether a key is still there.
    pub fn has_key(&self, fingerprint: u64) -> bool {
        self.keys().any(|key| key.fingerprint() == fingerprint)
    }

    fn keys(&self) -> impl Iterator<Item = &TokenKey> {
        self.keys.iter().flat_map(|keys| keys.iter())
    }
}

/// One audience, or a list.
fn is_for(claim: Option<&Value>, audience: &str) -> bool {
    match claim {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// A NumericDate; fractions are cut off.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, TokenError> {
    let Some(claim) = claims.get(name) else {
        return Ok(None);
    };
    let whole = claim.as_u64();
    let cut = || {
        claim
            .as_f64()
            .filter(|at_s| at_s.is_finite() && *at_s >= 0.0)
            .map(|at_s| at_s as u64)
    };
    whole.or_else(cut).map(Some).ok_or(TokenError::Time)
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| TokenError::Form)
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Form)
}
