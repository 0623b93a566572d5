//! Which algorithm is whose, and whether a signature is right: ring's, by RFC 7518's names.

use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

/// A key's own part.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Material {
    /// HS256, HS384, HS512.
    Secret(Vec<u8>),
    /// RS256 to RS512, PS256 to PS512: modulus and exponent, big-endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// ES256, ES384, EdDSA: the public point, as ring takes it.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Material {
    /// Whether it is a key of this algorithm.
    pub(super) fn takes(&self, algorithm: &str) -> bool {
        match self {
            Self::Secret(_) => hmac_of(algorithm).is_some(),
            Self::Rsa { .. } => rsa_of(algorithm).is_some(),
            Self::P256(_) => algorithm == "ES256",
            Self::P384(_) => algorithm == "ES384",
            Self::Ed25519(_) => algorithm == "EdDSA",
        }
    }

    pub(super) fn has_signed(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &'static dyn VerificationAlgorithm, point: &[u8]| {
            let key = UnparsedPublicKey::new(algorithm, point);
            key.verify(signed, signature).is_ok()
        };
        match self {
            Self::Secret(secret) => hmac_of(algorithm).is_some_and(|algorithm| {
                let key = hmac::Key::new(algorithm, secret);
                hmac::verify(&key, signed, signature).is_ok()
            }),
            Self::Rsa { n, e } => rsa_of(algorithm).is_some_and(|algorithm| {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(algorithm, signed, signature).is_ok()
            }),
            Self::P256(point) => self.takes(algorithm) && by(&ECDSA_P256_SHA256_FIXED, point),
            Self::P384(point) => self.takes(algorithm) && by(&ECDSA_P384_SHA384_FIXED, point),
            Self::Ed25519(point) => self.takes(algorithm) && by(&ED25519, point),
        }
    }
}

fn hmac_of(algorithm: &str) -> Option<hmac::Algorithm> {
    match algorithm {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_of(algorithm: &str) -> Option<&'static RsaParameters> {
    match algorithm {
        "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Some(&RSA_PSS_2048_8192_SHA256),
        "PS384" => Some(&RSA_PSS_2048_8192_SHA384),
        "PS512" => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}
