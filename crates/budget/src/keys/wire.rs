//! Keys as they are told to other services.

use std::num::NonZeroU64;

use proto::budget as wire;
use types::{Privacy, Role, TeamId, UserId};

use super::{Found, Key, Rates, State, Terms};
use crate::Error;

pub(super) fn told(key: Key) -> wire::Key {
    wire::Key {
        id: key.id.to_string(),
        tenant: key.tenant.to_string(),
        terms: Some(terms_told(key.terms)),
        begins: key.begins,
        created_at_ms: key.created_at,
        rotated_at_ms: key.rotated_at.unwrap_or_default(),
        old_secret_until_ms: key.old_until.unwrap_or_default(),
        revoked_at_ms: key.revoked_at.unwrap_or_default(),
    }
}

pub(super) fn found(found: Option<Found>, now: i64) -> wire::LookUpKeyResponse {
    let Some(found) = found else { return wire::LookUpKeyResponse::default() };
    let state = match found.state(now) {
        State::Good => wire::KeyState::Good,
        State::Revoked => wire::KeyState::Revoked,
        State::Expired => wire::KeyState::Expired,
        State::Replaced => wire::KeyState::Replaced,
    };
    wire::LookUpKeyResponse { state: state.into(), key: Some(told(found.key)) }
}

fn terms_told(terms: Terms) -> wire::KeyTerms {
    let allowed = |names: Option<Vec<String>>| names.map(|names| wire::Allowed { names });
    let count = |count: Option<NonZeroU64>| count.map(NonZeroU64::get);
    let role = match terms.role {
        Role::Admin => wire::Role::Admin,
        Role::Operator => wire::Role::Operator,
        Role::Member => wire::Role::Member,
        Role::ReadOnly => wire::Role::ReadOnly,
    };
    wire::KeyTerms {
        name: terms.name,
        user: terms.user.to_string(),
        team: terms.team.map(|team| team.to_string()).unwrap_or_default(),
        role: role.into(),
        models: allowed(terms.models),
        tools: allowed(terms.tools),
        collections: allowed(terms.collections),
        private: terms.privacy == Privacy::Private,
        uncached: !terms.cache,
        rate_limits: Some(wire::RateLimits {
            requests: count(terms.rates.requests),
            window_ms: count(terms.rates.window_ms),
            tokens_per_minute: count(terms.rates.tokens_per_minute),
            concurrency: count(terms.rates.concurrency),
        }),
        expires_at_ms: terms.expires_at.unwrap_or_default(),
    }
}

/// Reads terms that are asked for.
///
/// # Errors
/// [`Error::Invalid`] with the field that is wrong.
pub(super) fn terms(terms: wire::KeyTerms) -> Result<Terms, Error> {
    let role = match terms.role() {
        wire::Role::Admin => Role::Admin,
        wire::Role::Operator => Role::Operator,
        wire::Role::Member => Role::Member,
        wire::Role::ReadOnly => Role::ReadOnly,
        wire::Role::Unspecified => return Err(Error::Invalid("role is missing".to_owned())),
    };
    let allowed = |allowed: Option<wire::Allowed>| allowed.map(|allowed| allowed.names);
    let rates = terms.rate_limits.unwrap_or_default();
    let read = Terms {
        name: terms.name,
        user: UserId::new(terms.user)?,
        team: Some(terms.team).filter(|team| !team.is_empty()).map(TeamId::new).transpose()?,
        role,
        models: allowed(terms.models),
        tools: allowed(terms.tools),
        collections: allowed(terms.collections),
        privacy: if terms.private { Privacy::Private } else { Privacy::Public },
        cache: !terms.uncached,
        rates: Rates {
            requests: count("requests", rates.requests)?,
            window_ms: count("window_ms", rates.window_ms)?,
            tokens_per_minute: count("tokens_per_minute", rates.tokens_per_minute)?,
            concurrency: count("concurrency", rates.concurrency)?,
        },
        expires_at: (terms.expires_at_ms != 0).then_some(terms.expires_at_ms),
    };
    read.check()?;
    Ok(read)
}

fn count(field: &str, count: Option<u64>) -> Result<Option<NonZeroU64>, Error> {
    let zero = || Error::Invalid(format!("rate_limits: {field} is 0"));
    // A store of rows and scripts counts with a sign.
    match count {
        Some(count) if i64::try_from(count).is_err() => {
            Err(Error::Invalid(format!("rate_limits: {field} is {count}")))
        }
        count => count.map(|count| NonZeroU64::new(count).ok_or_else(zero)).transpose(),
    }
}

/// Takes the named fields of `new`, and keeps the others.
///
/// # Errors
/// [`Error::Invalid`] if there is no such field, or what comes of it is wrong.
pub(super) fn changed(
    terms_now: Terms,
    new: &wire::KeyTerms,
    fields: &[String],
) -> Result<Terms, Error> {
    let (mut now, new) = (terms_told(terms_now), new.clone());
    for field in fields {
        match field.as_str() {
            "name" => now.name.clone_from(&new.name),
            "user" => now.user.clone_from(&new.user),
            "team" => now.team.clone_from(&new.team),
            "role" => now.role = new.role,
            "models" => now.models.clone_from(&new.models),
            "tools" => now.tools.clone_from(&new.tools),
            "collections" => now.collections.clone_from(&new.collections),
            "private" => now.private = new.private,
            "uncached" => now.uncached = new.uncached,
            "rate_limits" => now.rate_limits = new.rate_limits,
            "expires_at_ms" => now.expires_at_ms = new.expires_at_ms,
            _ => return Err(Error::Invalid(format!("a key has no field {field:?}"))),
        }
    }
    terms(now)
}
