//! What is asked about keys: read, done, told.

use proto::budget as wire;
use types::{CallContext, KeyId, NanoUsd};

use super::wire as told;
use super::{Hash, Key, Keys, Secret};
use crate::ledger::Ledger;
use crate::service::{amount, at_most, from_wire};
use crate::{Error, Kind, Period, Scope};

/// How long a secret that is replaced is good yet, unless somebody says otherwise.
const OVERLAP_MS: u64 = 24 * 3_600_000;
const LONGEST_OVERLAP_MS: u64 = 30 * OVERLAP_MS;
/// How often a change begins again, because somebody else changed the same key.
const ATTEMPTS: usize = 8;

/// Keys, and the ledger that counts what they spend.
#[derive(Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub(crate) keys: &'a dyn Keys,
    pub(crate) ledger: &'a dyn Ledger,
}

impl Desk<'_> {
    pub(crate) async fn create(
        self,
        context: &CallContext,
        request: wire::CreateKeyRequest,
    ) -> Result<wire::CreateKeyResponse, Error> {
        let now = self.ledger.now_ms();
        let terms = told::terms(request.terms.unwrap_or_default())?;
        if terms.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::Invalid("expires_at_ms is over".to_owned()));
        }
        let limits = limits(&request.limits)?;
        let secret = Secret::generate()?;
        let key = Key {
            id: KeyId::generate(),
            tenant: context.tenant.clone(),
            terms,
            begins: secret.begins().to_owned(),
            created_at: now,
            rotated_at: None,
            old_until: None,
            revoked_at: None,
        };
        // First what it may spend: a key never works without its limits.
        self.limit(context, &key.id, &limits).await?;
        self.keys.add(&key, &secret.hash()).await?;
        tracing::info!(key = %key.id, by = %context.user, "a key was made");
        let secret = secret.told().to_owned();
        Ok(wire::CreateKeyResponse { key: Some(told::told(key)), secret })
    }

    pub(crate) async fn list(
        self,
        context: &CallContext,
        request: wire::ListKeysRequest,
    ) -> Result<wire::ListKeysResponse, Error> {
        let limit = at_most(request.limit, 100, 1000)?;
        let after = request.after.replace('\0', "");
        let keys = self.keys.list(&context.tenant, &after, limit).await?;
        Ok(wire::ListKeysResponse { keys: keys.into_iter().map(told::told).collect() })
    }

    pub(crate) async fn read(
        self,
        context: &CallContext,
        request: wire::GetKeyRequest,
    ) -> Result<wire::GetKeyResponse, Error> {
        let key = self.keys.read(&context.tenant, &KeyId::new(request.id)?).await?;
        Ok(wire::GetKeyResponse { key: Some(told::told(key)) })
    }

    pub(crate) async fn change(
        self,
        context: &CallContext,
        request: wire::ChangeKeyRequest,
    ) -> Result<wire::ChangeKeyResponse, Error> {
        let (tenant, id) = (&context.tenant, KeyId::new(request.id)?);
        let (new, limits) = (request.terms.unwrap_or_default(), limits(&request.limits)?);
        for _ in 0..ATTEMPTS {
            let mut key = self.keys.read(tenant, &id).await?;
            if key.revoked_at.is_some() {
                return Err(Error::Revoked(id));
            }
            let terms = told::changed(key.terms.clone(), &new, &request.fields)?;
            if !self.keys.change(tenant, &id, &key.terms, &terms).await? {
                continue;
            }
            self.limit(context, &id, &limits).await?;
            tracing::info!(key = %id, by = %context.user, fields = ?request.fields, "a key was changed");
            key.terms = terms;
            return Ok(wire::ChangeKeyResponse { key: Some(told::told(key)) });
        }
        Err(Error::Busy)
    }

    pub(crate) async fn rotate(
        self,
        context: &CallContext,
        request: wire::RotateKeyRequest,
    ) -> Result<wire::RotateKeyResponse, Error> {
        let (tenant, id) = (&context.tenant, KeyId::new(request.id)?);
        let overlap = request.overlap_ms.unwrap_or(OVERLAP_MS);
        if overlap > LONGEST_OVERLAP_MS {
            let fault = format!("overlap_ms: {overlap} is not 0 to {LONGEST_OVERLAP_MS}");
            return Err(Error::Invalid(fault));
        }
        let (now, secret) = (self.ledger.now_ms(), Secret::generate()?);
        let until = now.saturating_add(i64::try_from(overlap).unwrap_or(i64::MAX));
        let done = self.keys.rotate(tenant, &id, &secret, now, until).await?;
        let key = self.keys.read(tenant, &id).await?;
        if !done {
            return Err(Error::Revoked(id));
        }
        tracing::info!(key = %id, by = %context.user, "a key has another secret");
        let secret = secret.told().to_owned();
        Ok(wire::RotateKeyResponse { key: Some(told::told(key)), secret })
    }

    pub(crate) async fn revoke(
        self,
        context: &CallContext,
        request: wire::RevokeKeyRequest,
    ) -> Result<wire::RevokeKeyResponse, Error> {
        let id = KeyId::new(request.id)?;
        if !self.keys.revoke(&context.tenant, &id, self.ledger.now_ms()).await? {
            return Err(Error::NoKey(id));
        }
        tracing::info!(key = %id, by = %context.user, "a key was revoked");
        Ok(wire::RevokeKeyResponse {})
    }

    pub(crate) async fn look_up(
        self,
        request: wire::LookUpKeyRequest,
    ) -> Result<wire::LookUpKeyResponse, Error> {
        let bytes = request.hash.len();
        let hash: Result<Hash, _> = request.hash[..].try_into();
        let hash = hash.map_err(|_| Error::Invalid(format!("hash: {bytes} bytes are not 32")))?;
        let found = self.keys.look_up(&hash).await?;
        Ok(told::found(found, self.ledger.now_ms()))
    }

    async fn limit(
        self,
        context: &CallContext,
        id: &KeyId,
        limits: &[(Period, Option<NanoUsd>)],
    ) -> Result<(), Error> {
        let scope = Scope::new(Kind::Key, id.as_str())?;
        for (period, limit) in limits {
            self.ledger.set_limit(&context.tenant, &scope, *period, *limit).await?;
        }
        Ok(())
    }
}

fn limits(limits: &[wire::KeyLimit]) -> Result<Vec<(Period, Option<NanoUsd>)>, Error> {
    if limits.len() > Period::ALL.len() {
        return Err(Error::Invalid("limits: a period stands there twice".to_owned()));
    }
    let read = |limit: &wire::KeyLimit| {
        let period = from_wire(limit.period())?;
        Ok((period, limit.limit_nanos.map(|nanos| amount("limit_nanos", nanos)).transpose()?))
    };
    limits.iter().map(read).collect()
}
