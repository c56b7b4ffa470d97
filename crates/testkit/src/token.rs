//! An identity provider's keys, and what they sign.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

/// Writes base64url without padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs tokens as an identity provider does.
#[derive(Debug)]
pub struct Signer(Pair);

#[derive(Debug)]
enum Pair {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
}

impl Signer {
    /// Makes one of Ed25519, which signs as `EdDSA`.
    ///
    /// # Panics
    /// If the system gives no random bytes.
    #[must_use]
    pub fn ed() -> Self {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Pair::Ed(Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap()))
    }

    /// Makes one of P-256, which signs as `ES256`.
    ///
    /// # Panics
    /// If the system gives no random bytes.
    #[must_use]
    pub fn ec() -> Self {
        let (random, by) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pair = EcdsaKeyPair::generate_pkcs8(by, &random).unwrap();
        Self(Pair::Ec(EcdsaKeyPair::from_pkcs8(by, pair.as_ref(), &random).unwrap()))
    }

    /// Returns its public key as a JSON Web Key with an id.
    #[must_use]
    pub fn public(&self, id: &str) -> Value {
        match &self.0 {
            Pair::Ed(pair) => {
                let x = base64(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": x })
            }
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (base64(&point[1..33]), base64(&point[33..]));
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "alg": "ES256", "x": x, "y": y })
            }
        }
    }

    /// Signs a token that says so.
    ///
    /// # Panics
    /// If the system gives no random bytes.
    #[must_use]
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| base64(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = match &self.0 {
            Pair::Ed(pair) => base64(pair.sign(signed.as_bytes()).as_ref()),
            Pair::Ec(pair) => {
                base64(pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref())
            }
        };
        format!("{signed}.{signature}")
    }
}
