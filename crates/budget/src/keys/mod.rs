//! API keys: whom a secret stands for, and what its owner may do.
//!
//! A secret is told once and kept as its hash alone. A key that is revoked or has ended stays in the
//! list, because what it spent stays in the ledger.

pub(crate) mod calls;
mod postgres;
pub(crate) mod secret;
mod sqlite;
pub(crate) mod terms;
mod wire;

use async_trait::async_trait;
use types::{KeyId, TenantId};

use crate::Error;
pub use secret::{Hash, Secret};
pub use terms::{Rates, Terms};

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name in the ledger.
    pub id: KeyId,
    /// Whose data and money.
    pub tenant: TenantId,
    /// Whom it stands for, and what it may do.
    pub terms: Terms,
    /// How its secret begins, for people to tell one from another.
    pub begins: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at: i64,
    /// When its secret was last replaced.
    pub rotated_at: Option<i64>,
    /// Until when the secret before is good too.
    pub old_until: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

/// Whether a secret is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is.
    Good,
    /// Its key was revoked.
    Revoked,
    /// Its key has ended.
    Expired,
    /// Its key has another secret, and the time of this one is over.
    Replaced,
}

/// A key that was found by a secret's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose secret it is.
    pub key: Key,
    /// True when the key has a newer one.
    pub old: bool,
}

impl Found {
    /// Returns whether the secret is good at `now`.
    #[must_use]
    pub fn state(&self, now: i64) -> State {
        let key = &self.key;
        if key.revoked_at.is_some() {
            State::Revoked
        } else if key.terms.expires_at.is_some_and(|end| end <= now) {
            State::Expired
        } else if self.old && key.old_until.is_none_or(|end| end <= now) {
            State::Replaced
        } else {
            State::Good
        }
    }
}

/// Where keys are kept. Every implementation passes `tests/suite`.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Keeps a new key.
    ///
    /// # Errors
    /// [`Error::Ledger`] if the store fails.
    async fn add(&self, key: &Key, hash: &Hash) -> Result<(), Error>;

    /// Returns the tenant's keys behind `after`, by id; at most `limit`.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn list(&self, tenant: &TenantId, after: &str, limit: u32) -> Result<Vec<Key>, Error>;

    /// Returns one of the tenant's keys.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::Ledger`].
    async fn read(&self, tenant: &TenantId, id: &KeyId) -> Result<Key, Error>;

    /// Puts `terms` in the place of those that are `before`; false, and nothing done, if they were
    /// others meanwhile, or the key was revoked.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn change(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        before: &Terms,
        terms: &Terms,
    ) -> Result<bool, Error>;

    /// Gives a key another secret at `now`; the one before is good until `old_until`, and any before that
    /// no more. False, and nothing done, if the key was revoked or is not there.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn rotate(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        secret: &Secret,
        now: i64,
        old_until: i64,
    ) -> Result<bool, Error>;

    /// Ends a key at `now`, for good; one that has ended so stays as it was. False if it is not there.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn revoke(&self, tenant: &TenantId, id: &KeyId, now: i64) -> Result<bool, Error>;

    /// Returns the key whose secret, or secret before, has this hash.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn look_up(&self, hash: &Hash) -> Result<Option<Found>, Error>;
}

/// The columns of a key, in the order in which it is read.
macro_rules! columns {
    () => {
        "id, tenant, terms, begins, created_at, rotated_at, old_until, revoked_at"
    };
}
use columns;

/// A row as a store keeps it.
struct Row {
    id: String,
    tenant: String,
    terms: String,
    begins: String,
    created_at: i64,
    rotated_at: Option<i64>,
    old_until: Option<i64>,
    revoked_at: Option<i64>,
}

impl Row {
    fn read(self) -> Result<Key, Error> {
        Ok(Key {
            id: KeyId::new(self.id)?,
            tenant: TenantId::new(self.tenant)?,
            terms: Terms::from_text(&self.terms)?,
            begins: self.begins,
            created_at: self.created_at,
            rotated_at: self.rotated_at,
            old_until: self.old_until,
            revoked_at: self.revoked_at,
        })
    }
}
