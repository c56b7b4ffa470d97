//! Money: who may spend how much, what was spent, and what it was spent on.

pub(crate) mod corrections;
pub(crate) mod history;
pub(crate) mod limits;
pub(crate) mod reports;
mod state;
pub(crate) mod statements;

use proto::budget::{Period, Scope, ScopeKind};
use serde::{Deserialize, Serialize};
use types::{CallContext, ErrorKind, KeyId, RunId, TeamId, UserId};

use crate::Error;
use crate::auth::Grant;

/// Periods by their names.
pub(crate) const PERIODS: [(&str, Period); 4] = [
    ("daily", Period::Daily),
    ("weekly", Period::Weekly),
    ("monthly", Period::Monthly),
    ("total", Period::Total),
];
/// What a scope may be of, by its name.
const KINDS: [(&str, ScopeKind); 5] = [
    ("tenant", ScopeKind::Tenant),
    ("team", ScopeKind::Team),
    ("user", ScopeKind::User),
    ("key", ScopeKind::Key),
    ("run", ScopeKind::Run),
];

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfPeriod {
    /// `daily`, `weekly`, `monthly` or `total`; `daily` when absent
    period: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfScope {
    /// What `id` is of: `user`, `team`, `key`, `run` or `tenant`; `user` when absent
    scope: Option<String>,
}

/// Those whose spending counts together.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// `user`, `team`, `key`, `run` or `tenant`
    scope: String,
    /// Its name, in 1 to 256 bytes; of a tenant it may be absent
    id: Option<String>,
}

impl Named {
    /// Reads a scope of the caller's tenant.
    ///
    /// # Errors
    /// If there is no such kind of scope, or none of them can have this name.
    pub(crate) fn read(self, context: &CallContext) -> Result<Scope, Error> {
        scope(context, kind(&self.scope)?, self.id)
    }

    /// Shows a scope of the caller's tenant.
    fn of(context: &CallContext, scope: &Scope) -> Self {
        let id = match scope.kind() {
            ScopeKind::Tenant => context.tenant.to_string(),
            _ => scope.name.clone(),
        };
        Self { scope: kind_word(scope.kind()).to_owned(), id: Some(id) }
    }
}

/// Returns the scope of a kind and a name; a tenant is only ever the caller's own.
fn scope(context: &CallContext, kind: ScopeKind, id: Option<String>) -> Result<Scope, Error> {
    if kind == ScopeKind::Tenant {
        return match id {
            Some(other) if other != context.tenant.as_str() => {
                let fault = format!("tenant {other:?} is not yours, {:?} is", context.tenant);
                Err(Error::new(ErrorKind::Denied, fault))
            }
            _ => Ok(Scope { kind: kind.into(), name: String::new() }),
        };
    }
    let id = id.ok_or_else(|| Error::invalid(format!("/id: of which {}", kind_word(kind))))?;
    let name = match kind {
        ScopeKind::Team => TeamId::new(id)?.to_string(),
        ScopeKind::Key => KeyId::new(id)?.to_string(),
        ScopeKind::Run => RunId::new(id)?.to_string(),
        _ => UserId::new(id)?.to_string(),
    };
    Ok(Scope { kind: kind.into(), name })
}

/// Returns the scope that a path names; members see nobody but themselves, whom the route let in as a
/// user's name.
fn seen(
    (context, grant): (&CallContext, &Grant),
    of: Option<&str>,
    id: String,
) -> Result<Scope, Error> {
    let kind = of.map_or(Ok(ScopeKind::User), kind)?;
    if kind != ScopeKind::User {
        grant.check_reports()?;
    }
    scope(context, kind, Some(id))
}

fn kind(word: &str) -> Result<ScopeKind, Error> {
    named("scope", &KINDS, word)
}

fn period(word: &str) -> Result<Period, Error> {
    named("period", &PERIODS, word)
}

fn named<T: Copy>(what: &str, known: &[(&str, T)], word: &str) -> Result<T, Error> {
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        Error::invalid(format!("{what} {word:?} is not one of {}", names.join(", ")))
    })
}

fn kind_word(kind: ScopeKind) -> &'static str {
    KINDS.iter().find(|known| known.1 == kind).map_or("", |known| known.0)
}

fn period_word(period: Period) -> &'static str {
    PERIODS.iter().find(|known| known.1 == period).map_or("", |known| known.0)
}

/// Checks how many are wanted.
fn at_most(limit: Option<u32>, usual: u32, most: u32) -> Result<u32, Error> {
    let limit = limit.unwrap_or(usual);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::invalid(format!("limit: {limit} is not 1 to {most}")))
}
