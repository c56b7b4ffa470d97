//! Keys that the budget service keeps, remembered for a moment.
//!
//! A key that was good half a second ago is asked for again before it lets anybody in, so that one that
//! is revoked is refused everywhere within a second, whatever else is down. Who cannot be asked for is not
//! let in.

use std::num::NonZeroU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{self as wire, KeyState, LookUpKeyRequest};
use runtime::transport::Peer;
use types::{Caching, ErrorKind, IdError, KeyId, Privacy, Role, TeamId, TenantId, UserId};

use super::grant::{Grant, Rates};
use super::hash;
use crate::Error;

/// How long what was found is believed, from when it was asked for.
const BELIEVED: Duration = Duration::from_millis(500);
/// How long the budget service has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many secrets are remembered.
const MOST: u64 = 10_000;
/// The form of a secret, so that nobody is asked for what cannot be one.
const PREFIX: &str = "bk-";
const LENGTH: usize = 46;

type Outcome = Result<Arc<Grant>, Error>;

/// Finds whom a secret stands for.
#[derive(Clone)]
pub(crate) struct Kept {
    budget: Peer,
    seen: Cache<[u8; 32], Arc<Entry>>,
}

#[derive(Default)]
struct Entry {
    last: RwLock<Option<Seen>>,
    /// Whoever holds it asks; the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Seen {
    /// When it was asked for: it was so at some time after.
    asked: Instant,
    /// When the answer came.
    answered: Instant,
    outcome: Outcome,
}

impl Seen {
    /// Tells whether it is good for a request that came at `came`.
    fn serves(&self, came: Instant) -> bool {
        match &self.outcome {
            // Whoever waited meanwhile does not wait as long again.
            Err(error) if error.is_unavailable() => self.answered >= came,
            _ => self.asked.elapsed() < BELIEVED,
        }
    }
}

impl Entry {
    fn last(&self, came: Instant) -> Option<Outcome> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|seen| seen.serves(came)).map(|seen| seen.outcome.clone())
    }
}

impl Kept {
    pub(crate) fn new(budget: Peer) -> Self {
        Self { budget, seen: Cache::new(MOST) }
    }

    /// Tells whether it may be a secret of ours.
    pub(crate) fn is_one(secret: &str) -> bool {
        let random = secret.strip_prefix(PREFIX);
        secret.len() == LENGTH
            && random.is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    }

    /// Returns whom a secret stands for.
    ///
    /// # Errors
    /// If it is nobody's, is good no more, or cannot be asked for.
    pub(crate) async fn find(&self, secret: &str) -> Outcome {
        let (hash, came) = (hash(secret), Instant::now());
        let entry = self.seen.get_with(hash, Arc::default);
        if let Some(outcome) = entry.last(came) {
            return outcome;
        }
        let _asking = entry.asking.lock().await;
        if let Some(outcome) = entry.last(came) {
            return outcome;
        }
        let asked = Instant::now();
        let outcome = self.ask(hash).await;
        let seen = Seen { asked, answered: Instant::now(), outcome: outcome.clone() };
        *entry.last.write().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        outcome
    }

    async fn ask(&self, hash: [u8; 32]) -> Outcome {
        let request = LookUpKeyRequest { hash: hash.to_vec().into() };
        let mut budget = BudgetServiceClient::new(self.budget.clone());
        let reply = tokio::time::timeout(PATIENCE, budget.look_up_key(request)).await;
        let away = || Error::new(ErrorKind::Unavailable, "the key cannot be verified now");
        let reply = reply.map_err(|_| away())?.map_err(|status| {
            tracing::warn!(fault = status.message(), "a key cannot be verified");
            away()
        })?;
        let reply = reply.into_inner();
        let unknown = |fault| Error::new(ErrorKind::Unauthenticated, fault);
        let fault = match (reply.state(), reply.key) {
            (KeyState::Good, Some(key)) => return grant(key).map(Arc::new),
            (KeyState::Revoked, _) => "the key was revoked",
            (KeyState::Expired, _) => "the key has expired",
            (KeyState::Replaced, _) => "the key has another secret since it was rotated",
            (KeyState::Good | KeyState::Unspecified, _) => "the key is unknown",
        };
        Err(unknown(fault))
    }
}

/// Reads what a key may do. What it does not say, or says in words that are not known here, it may not.
fn grant(key: wire::Key) -> Result<Grant, Error> {
    let garbled = |fault: IdError| Error::new(ErrorKind::Internal, fault.to_string());
    let terms = key.terms.unwrap_or_default();
    let role = match terms.role() {
        wire::Role::Admin => Role::Admin,
        wire::Role::Operator => Role::Operator,
        wire::Role::Member => Role::Member,
        wire::Role::ReadOnly | wire::Role::Unspecified => Role::ReadOnly,
    };
    let (rates, count) = (terms.rate_limits.unwrap_or_default(), |count: Option<u64>| {
        count.and_then(NonZeroU64::new)
    });
    let team = Some(terms.team).filter(|team| !team.is_empty());
    Ok(Grant {
        tenant: TenantId::new(key.tenant).map_err(garbled)?,
        team: team.map(TeamId::new).transpose().map_err(garbled)?,
        user: UserId::new(terms.user).map_err(garbled)?,
        key: Some(KeyId::new(key.id).map_err(garbled)?),
        role,
        runs_it: false,
        models: terms.models.map(|allowed| allowed.names),
        tools: terms.tools.map(|allowed| allowed.names),
        collections: terms.collections.map(|allowed| allowed.names),
        privacy: if terms.private { Privacy::Private } else { Privacy::Public },
        caching: if terms.uncached { Caching::Never } else { Caching::AsConfigured },
        rates: Rates {
            requests: count(rates.requests),
            window_ms: count(rates.window_ms),
            tokens_per_minute: count(rates.tokens_per_minute),
            concurrency: count(rates.concurrency),
        },
    })
}
