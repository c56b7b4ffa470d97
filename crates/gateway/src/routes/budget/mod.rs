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

/// A calendar period in UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = Period)]
pub(crate) enum PeriodName {
    /// From midnight
    Daily,
    /// From Monday, midnight
    Weekly,
    /// From the first, midnight
    Monthly,
    /// From the beginning
    Total,
}

impl PeriodName {
    /// Every period, shortest first.
    const ALL: [Self; 4] = [Self::Daily, Self::Weekly, Self::Monthly, Self::Total];

    /// Returns the word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Total => "total",
        }
    }

    /// Returns it as the budget service knows it.
    pub(crate) fn wire(self) -> Period {
        match self {
            Self::Daily => Period::Daily,
            Self::Weekly => Period::Weekly,
            Self::Monthly => Period::Monthly,
            Self::Total => Period::Total,
        }
    }

    fn of(period: Period) -> Self {
        let known = Self::ALL.into_iter().find(|known| known.wire() == period);
        // There is no other.
        known.unwrap_or(Self::Total)
    }
}

/// What a scope is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ScopeKind)]
pub(crate) enum ScopeName {
    /// A person or program
    User,
    /// A group of users
    Team,
    /// An API key, by its id
    Key,
    /// A run; `a/b` is a part of `a`
    Run,
    /// The whole tenant
    Tenant,
}

impl ScopeName {
    fn wire(self) -> ScopeKind {
        match self {
            Self::User => ScopeKind::User,
            Self::Team => ScopeKind::Team,
            Self::Key => ScopeKind::Key,
            Self::Run => ScopeKind::Run,
            Self::Tenant => ScopeKind::Tenant,
        }
    }

    fn of(kind: ScopeKind) -> Self {
        match kind {
            ScopeKind::Team => Self::Team,
            ScopeKind::User => Self::User,
            ScopeKind::Key => Self::Key,
            ScopeKind::Run => Self::Run,
            ScopeKind::Tenant | ScopeKind::Unspecified => Self::Tenant,
        }
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfPeriod {
    /// `daily` when absent
    #[param(inline)]
    period: Option<PeriodName>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfScope {
    /// What `id` is of; `user` when absent
    #[param(inline)]
    scope: Option<ScopeName>,
}

/// Those whose spending counts together.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// What it is
    scope: ScopeName,
    /// Its name; of a tenant it may be absent
    #[schema(min_length = 1, max_length = 256)]
    id: Option<String>,
}

impl Named {
    /// Reads a scope of the caller's tenant.
    ///
    /// # Errors
    /// If there is no such kind of scope, or none of them can have this name.
    pub(crate) fn read(self, context: &CallContext) -> Result<Scope, Error> {
        scope(context, self.scope, self.id)
    }
}

/// Whose money an answer tells of.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Whose {
    /// What it is
    scope: ScopeName,
    /// Its name
    id: String,
}

impl Whose {
    /// Shows a scope of the caller's tenant.
    fn of(context: &CallContext, scope: &Scope) -> Self {
        let id = match scope.kind() {
            ScopeKind::Tenant => context.tenant.to_string(),
            _ => scope.name.clone(),
        };
        Self { scope: ScopeName::of(scope.kind()), id }
    }
}

/// Returns the scope of a kind and a name; a tenant is only ever the caller's own.
fn scope(context: &CallContext, kind: ScopeName, id: Option<String>) -> Result<Scope, Error> {
    let name = match (kind, id) {
        (ScopeName::Tenant, Some(other)) if other != context.tenant.as_str() => {
            let fault = format!("tenant {other:?} is not yours, {:?} is", context.tenant);
            return Err(Error::new(ErrorKind::Denied, fault));
        }
        (ScopeName::Tenant, _) => String::new(),
        (_, None) => return Err(Error::invalid("/id: it is missing")),
        (ScopeName::User, Some(id)) => UserId::new(id)?.to_string(),
        (ScopeName::Team, Some(id)) => TeamId::new(id)?.to_string(),
        (ScopeName::Key, Some(id)) => KeyId::new(id)?.to_string(),
        (ScopeName::Run, Some(id)) => RunId::new(id)?.to_string(),
    };
    Ok(Scope { kind: kind.wire().into(), name })
}

/// Returns the scope that a path names; members see nobody but themselves, whom the route let in as a
/// user's name.
fn seen(
    (context, grant): (&CallContext, &Grant),
    query: &OfScope,
    id: String,
) -> Result<Scope, Error> {
    let kind = query.scope.unwrap_or(ScopeName::User);
    if kind != ScopeName::User {
        grant.check_reports()?;
    }
    scope(context, kind, Some(id))
}

/// Checks how many are wanted.
fn at_most(limit: Option<u32>, usual: u32, most: u32) -> Result<u32, Error> {
    let limit = limit.unwrap_or(usual);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::invalid(format!("limit: {limit} is not 1 to {most}")))
}
