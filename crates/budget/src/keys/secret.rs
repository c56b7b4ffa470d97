//! Secrets: made here, told once, kept as their hash.

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// What stands before every secret, so that people and scanners know one when they see it.
const PREFIX: &str = "bk-";
/// So many of 62 letters and digits have 256 bits.
const LENGTH: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How much of a secret is shown in lists: four letters beyond the prefix.
const SHOWN: usize = PREFIX.len() + 4;

/// SHA-256 of a secret. One that is drawn from 2^256 needs no slow hash.
pub type Hash = [u8; 32];

/// The secret of an API key.
#[derive(Debug, Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Returns a new one.
    ///
    /// # Errors
    /// [`Error::Ledger`] if the system has no randomness to give.
    pub fn generate() -> Result<Self, Error> {
        let (mut text, mut bytes) = (PREFIX.to_owned(), [0_u8; 64]);
        while text.len() < PREFIX.len() + LENGTH {
            getrandom::fill(&mut bytes).map_err(|fault| Error::Ledger(fault.into()))?;
            // Every letter is as likely as any: 248 is the last multiple of 62.
            let fair = bytes.iter().filter(|byte| **byte < 248);
            let wanted = PREFIX.len() + LENGTH - text.len();
            text.extend(fair.take(wanted).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
        }
        Ok(Self(text.into()))
    }

    /// Returns its hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Sha256::digest(self.0.expose_secret().as_bytes()).into()
    }

    /// Returns how it begins.
    #[must_use]
    pub fn begins(&self) -> &str {
        &self.0.expose_secret()[..SHOWN]
    }

    /// Returns its text, to be told once.
    #[must_use]
    pub fn told(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_plain_and_never_the_same() {
        let (one, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one.hash(), other.hash());
        let text = one.told();
        assert_eq!((text.len(), one.begins().len()), (46, 7));
        assert!(text.strip_prefix("bk-").unwrap().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(!format!("{one:?}").contains(text), "it is in no log");
    }
}
