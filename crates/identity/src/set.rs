//! An issuer's public keys, by their names.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use egress::Reach;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::Error;

/// After this keys are looked for again, so that one that was taken out is good no more.
const FRESH: Duration = Duration::from_secs(600);
/// After this they are good no more while nobody can say whether they are.
const STALE: Duration = Duration::from_secs(3600);
/// How long whoever has them has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 1 << 20;
const MOST_KEYS: usize = 200;

/// Keys that are looked for when a token asks for one.
#[derive(Debug)]
pub(crate) struct Set {
    place: Place,
    /// How long to wait between two looks, whatever tokens say.
    floor: Duration,
    seen: RwLock<Seen>,
    /// Whoever holds it looks; the others wait for what is seen.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Address(Url, Client),
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// When was looked last.
    looked: Option<Instant>,
    /// When was looked last with success, and what was there.
    found: Option<(Instant, Arc<[Named]>)>,
}

#[derive(Debug)]
struct Named {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Set {
    /// Returns the keys at `place`, an address or a file, of which nothing is read yet.
    ///
    /// # Errors
    /// If keys could be changed by whoever is on the way to the address.
    pub(crate) fn new(place: &str, floor: Duration) -> anyhow::Result<Self> {
        let place = match Url::parse(place) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                let host = url.host_str().unwrap_or_default();
                let safe = url.scheme() == "https" || is_loopback(host);
                ensure!(safe, "{place}: only https is taken from beyond this machine");
                let client = egress::client(Reach::Anywhere).timeout(PATIENCE).build()?;
                Place::Address(url, client)
            }
            Ok(url) if place.contains("://") => bail!("{}: neither https nor a file", url.scheme()),
            _ => Place::File(place.into()),
        };
        let (seen, looking) = (RwLock::default(), tokio::sync::Mutex::default());
        Ok(Self { place, floor, seen, looking })
    }

    /// Returns the key of a token: the one that it names; the only one, when it names none.
    ///
    /// # Errors
    /// If there is none, or the keys cannot be had.
    pub(crate) async fn find(&self, id: Option<&str>, by: Algorithm) -> Result<DecodingKey, Error> {
        let fresh = self.keys(FRESH);
        if let Some(key) = fresh.as_deref().and_then(|keys| pick(keys, id, by)) {
            return Ok(key);
        }
        // Unknown, or too long ago: there may be others by now.
        self.look(fresh.is_some()).await;
        let keys = self.keys(STALE).ok_or(Error::NoKeys)?;
        pick(&keys, id, by).ok_or_else(|| match id {
            Some(id) => {
                Error::refused(format!("is signed with key {id:?}, which its issuer has not"))
            }
            None => Error::refused("does not say which of its issuer's keys it is signed with"),
        })
    }

    /// Looks for keys, unless it was done within the floor. While they are `fresh`, only a name that is
    /// unknown asks for more.
    async fn look(&self, fresh: bool) {
        let _looking = self.looking.lock().await;
        let due = |seen: &Seen| seen.looked.is_none_or(|looked| looked.elapsed() >= self.floor);
        if !due(&self.seen()) || (!fresh && self.keys(FRESH).is_some()) {
            return;
        }
        let read = self.read().await;
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        seen.looked = Some(Instant::now());
        match read {
            Ok(keys) => seen.found = Some((Instant::now(), keys.into())),
            Err(fault) => {
                let fault = format!("{fault:#}");
                tracing::warn!(fault, "an issuer's keys cannot be read");
            }
        }
    }

    fn seen(&self) -> Seen {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the keys that were found within the time `within`.
    fn keys(&self, within: Duration) -> Option<Arc<[Named]>> {
        self.seen().found.filter(|(at, _)| at.elapsed() < within).map(|(_, keys)| keys)
    }

    async fn read(&self) -> anyhow::Result<Vec<Named>> {
        match &self.place {
            Place::File(path) => {
                let shown = || path.display().to_string();
                let text = tokio::fs::read(path).await.with_context(shown)?;
                parse(&text).with_context(shown)
            }
            Place::Address(url, client) => {
                let fetched = fetch(client, url).await.with_context(|| url.to_string())?;
                parse(&fetched).with_context(|| url.to_string())
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

async fn fetch(client: &Client, url: &Url) -> anyhow::Result<Vec<u8>> {
    let reply = client.get(url.clone()).send().await?.error_for_status()?;
    Ok(egress::body::read(reply, MOST_BYTES).await?)
}

/// Reads the keys of a JSON Web Key Set that check signatures taken here; others are left alone.
fn parse(text: &[u8]) -> anyhow::Result<Vec<Named>> {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<Value>,
    }
    let Keys { keys } = serde_json::from_slice(text).context("not a JSON Web Key Set")?;
    ensure!(keys.len() <= MOST_KEYS, "{} keys, at most {MOST_KEYS} are taken", keys.len());
    let keys: Vec<Named> = keys.into_iter().filter_map(named).collect();
    ensure!(!keys.is_empty(), "no key for RS256, ES256 or EdDSA");
    Ok(keys)
}

fn named(key: Value) -> Option<Named> {
    let key: Jwk = serde_json::from_value(key).ok()?;
    let (algorithm, said) = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(one) if one.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(one) if one.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let signs =
        key.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let fits = key.common.key_algorithm.is_none_or(|named| named == said);
    let (id, read) = (key.common.key_id.clone(), DecodingKey::from_jwk(&key).ok()?);
    (signs && fits).then_some(Named { id, algorithm, key: read })
}

fn pick(keys: &[Named], id: Option<&str>, by: Algorithm) -> Option<DecodingKey> {
    let mut fit = keys.iter().filter(|key| key.algorithm == by);
    let found = match id {
        Some(id) => fit.find(|key| key.id.as_deref() == Some(id)),
        None => fit.next().filter(|_| fit.next().is_none()),
    };
    found.map(|key| key.key.clone())
}
