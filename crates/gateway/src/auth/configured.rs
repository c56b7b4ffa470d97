//! Keys of the configuration: whoever has one can make others.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use types::{Caching, KeyId, Role, TeamId, TenantId, UserId};

use super::grant::Grant;
use super::hash;
use crate::config::Key;

/// The configured keys by the hash of their secrets; others may take their place.
#[derive(Debug, Default)]
pub struct Keys(RwLock<Arc<ByHash>>);

type ByHash = BTreeMap<[u8; 32], Arc<Grant>>;

impl Keys {
    pub(crate) fn new(keys: &BTreeMap<String, Key>) -> anyhow::Result<Self> {
        let mut by_hash = BTreeMap::new();
        for (name, key) in keys {
            let place = || format!("gateway.keys.{name}");
            let secret = key.secret.expose_secret();
            if secret.len() < 20 {
                bail!("{}.secret has {} characters, at least 20 are needed", place(), secret.len());
            }
            let grant = grant(name, key).with_context(place)?;
            if by_hash.insert(hash(secret), Arc::new(grant)).is_some() {
                bail!("{}.secret is another key's too", place());
            }
        }
        Ok(Self(RwLock::new(Arc::new(by_hash))))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.now().is_empty()
    }

    /// Checks that `other` keys may take the place of these.
    ///
    /// # Errors
    /// If there are none where there were some: half a file must not let everybody in.
    pub fn allow(&self, other: &Self) -> anyhow::Result<()> {
        if other.is_empty() && !self.is_empty() {
            anyhow::bail!("gateway.keys: that the last key goes takes a restart");
        }
        Ok(())
    }

    /// Takes `other` keys for the requests that come from now on, which [`Keys::allow`] has checked.
    pub fn replace(&self, other: &Self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other.now();
    }

    /// Returns whom a secret stands for.
    pub(crate) fn find(&self, secret: &str) -> Option<Arc<Grant>> {
        self.now().get(&hash(secret)).map(Arc::clone)
    }

    fn now(&self) -> Arc<ByHash> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn grant(name: &str, key: &Key) -> anyhow::Result<Grant> {
    let (tenant, user) = (TenantId::new(&key.tenant)?, UserId::new(&key.user)?);
    let role = key.role.as_deref().map_or(Ok(Role::Admin), str::parse)?;
    Ok(Grant {
        team: key.team.as_ref().map(TeamId::new).transpose()?,
        key: Some(KeyId::new(name)?),
        runs_it: true,
        rates: key.rate_limits.into(),
        caching: if key.cache { Caching::AsConfigured } else { Caching::Never },
        ..Grant::new(tenant, user, role)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::Scope;

    fn key(secret: &str, role: Option<&str>) -> anyhow::Result<Keys> {
        let (tenant, user, team) = ("t".to_owned(), "u".to_owned(), Some("x".to_owned()));
        let role = role.map(str::to_owned);
        let key = Key {
            secret: secret.into(),
            tenant,
            user,
            team,
            role,
            cache: true,
            rate_limits: Scope::default(),
        };
        Keys::new(&BTreeMap::from([("k".to_owned(), key)]))
    }

    #[test]
    fn a_short_key_is_refused_and_so_is_an_unknown_role() {
        assert!(key("sk-1234", None).is_err());
        let fault = key(&"a1".repeat(16), Some("owner")).unwrap_err();
        assert!(format!("{fault:#}").starts_with("gateway.keys.k: role \"owner\" is not"));
    }

    #[test]
    fn a_key_is_an_admins_unless_it_says_otherwise() {
        let secret = "a1".repeat(16);
        let role = |role| key(&secret, role).unwrap().find(&secret).unwrap().role;
        assert_eq!(role(None), Role::Admin);
        assert_eq!(role(Some("read_only")), Role::ReadOnly);
        assert!(key(&secret, None).unwrap().find("a1").is_none());
    }

    #[test]
    fn the_last_key_does_not_go_by_a_reload() {
        let one = |secret: &str| key(&secret.repeat(16), None).unwrap();
        let (one, other) = (one("a1"), one("b2"));
        let none = Keys::new(&BTreeMap::new()).unwrap();
        assert!(one.allow(&other).is_ok() && none.allow(&one).is_ok() && none.allow(&none).is_ok());
        assert!(one.allow(&none).is_err());
    }
}
