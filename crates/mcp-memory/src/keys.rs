//! How contents lie in a store: as they are, or sealed.
//!
//! Sealed is AES-256-GCM with a random nonce, bound to the tenant and the entity. What is the same is
//! found by a digest, keyed where there is a key: a store tells nobody what it has.

use std::path::Path;

use anyhow::Context as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::Error;

/// What stands before a content as it is, and before a sealed one.
const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// How many bytes of its digest name a key.
const NAME_LEN: usize = 8;

/// Keys: the first seals, all open. Without any, contents lie as they are.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    keys: Vec<Key>,
}

struct Key {
    name: [u8; NAME_LEN],
    seal: LessSafeKey,
    digest: hmac::Key,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads keys, a line of 64 hexadecimal digits each; empty lines and those after `#` are skipped.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let place = || format!("mcp_memory.key_file: {}", file.display());
        let text = std::fs::read_to_string(file).with_context(place)?;
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let key = |(number, line): (usize, &str)| {
            let what = || format!("line {}: not 64 hexadecimal digits", number + 1);
            Key::new(&bytes(line).with_context(what)?).context("no key")
        };
        let keys = lines.map(key).collect::<anyhow::Result<Vec<_>>>().with_context(place)?;
        anyhow::ensure!(!keys.is_empty(), "mcp_memory.key_file: {} is empty", file.display());
        Ok(Self { keys })
    }

    /// Returns a content as it is stored.
    pub(crate) fn seal(&self, tenant: &str, entity: i64, content: &str) -> Result<Vec<u8>, Error> {
        let Some(key) = self.keys.first() else {
            return Ok([&[PLAIN], content.as_bytes()].concat());
        };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Error::Sealed)?;
        let mut sealed = content.as_bytes().to_vec();
        let with = Nonce::assume_unique_for_key(nonce);
        key.seal
            .seal_in_place_append_tag(with, bound(tenant, entity), &mut sealed)
            .map_err(|_| Error::Sealed)?;
        Ok([&[SEALED], &key.name[..], &nonce, &sealed].concat())
    }

    /// Returns a stored content as it was.
    pub(crate) fn open(&self, tenant: &str, entity: i64, stored: &[u8]) -> Result<String, Error> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Error::Sealed);
        let (kind, rest) = stored.split_first().ok_or(Error::Sealed)?;
        if *kind == PLAIN {
            return text(rest);
        }
        let (name, rest) = rest.split_at_checked(NAME_LEN).ok_or(Error::Sealed)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(Error::Sealed)?;
        let key = self.keys.iter().find(|key| key.name == name).ok_or(Error::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Sealed)?;
        let mut sealed = sealed.to_vec();
        let opened = key.seal.open_in_place(nonce, bound(tenant, entity), &mut sealed);
        text(opened.map_err(|_| Error::Sealed)?)
    }

    /// Tells whether a content is stored as a new one would be.
    pub(crate) fn is_current(&self, stored: &[u8]) -> bool {
        match self.keys.first() {
            Some(key) => stored.first() == Some(&SEALED) && stored[1..].starts_with(&key.name),
            None => stored.first() == Some(&PLAIN),
        }
    }

    /// Returns that by which the same content of an entity is known.
    pub(crate) fn digest(&self, content: &str) -> Vec<u8> {
        match self.keys.first() {
            Some(key) => hmac::sign(&key.digest, content.as_bytes()).as_ref().to_vec(),
            None => digest(&SHA256, content.as_bytes()).as_ref().to_vec(),
        }
    }
}

impl Key {
    fn new(secret: &[u8]) -> Option<Self> {
        let derive = |what: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), what);
        let name = derive(b"name").as_ref().first_chunk().copied()?;
        let seal = UnboundKey::new(&AES_256_GCM, derive(b"seal").as_ref()).ok()?;
        let digest = hmac::Key::new(hmac::HMAC_SHA256, derive(b"digest").as_ref());
        Some(Self { name, seal: LessSafeKey::new(seal), digest })
    }
}

/// What a sealed content belongs to: moved elsewhere, it does not open.
fn bound(tenant: &str, entity: i64) -> Aad<Vec<u8>> {
    Aad::from([tenant.as_bytes(), &[0], &entity.to_be_bytes()].concat())
}

fn bytes(line: &str) -> Option<Vec<u8>> {
    if line.len() != 64 || !line.is_ascii() {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lines: &str) -> anyhow::Result<Keys> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        Keys::read(file.path())
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_for_its_entity_alone() {
        let (old, new) = ("0a".repeat(32), "0b".repeat(32));
        let first = keys(&format!("# ours\n{old}\n")).unwrap();
        let sealed = first.seal("a", 1, "a secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_ne!(first.seal("a", 1, "a secret").unwrap(), sealed, "a nonce is used once");
        assert_eq!(first.open("a", 1, &sealed).unwrap(), "a secret");
        assert!(first.is_current(&sealed));

        let rotated = keys(&format!("{new}\n\n{old}\n")).unwrap();
        assert_eq!(rotated.open("a", 1, &sealed).unwrap(), "a secret");
        assert!(!rotated.is_current(&sealed));
        assert_ne!(rotated.digest("x"), first.digest("x"));
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        for (keys, tenant, entity, stored) in [
            (&rotated, "b", 1, &sealed),
            (&rotated, "a", 2, &sealed),
            (&rotated, "a", 1, &changed),
            (&rotated, "a", 1, &sealed[..5].to_vec()),
            (&rotated, "a", 1, &Vec::new()),
            (&keys(&new).unwrap(), "a", 1, &sealed),
            (&Keys::default(), "a", 1, &sealed),
        ] {
            assert!(matches!(keys.open(tenant, entity, stored), Err(Error::Sealed)));
        }
        let plain = Keys::default().seal("a", 1, "x").unwrap();
        assert_eq!(rotated.open("a", 7, &plain).unwrap(), "x", "from before there was a key");
    }

    #[test]
    fn a_file_of_keys_is_refused_with_its_fault() {
        let line = "0a".repeat(32);
        for (text, wanted) in [
            ("", "is empty"),
            ("# nothing\n", "is empty"),
            ("0a", "line 1: not 64 hexadecimal digits"),
            (&format!("{line}\n{}", "zz".repeat(32)), "line 2: not 64 hexadecimal digits"),
            (&"ü".repeat(32), "line 1"),
        ] {
            let told = format!("{:#}", keys(text).unwrap_err());
            assert!(told.contains(wanted), "{told}");
        }
    }
}
