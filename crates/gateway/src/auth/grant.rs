//! Whom a credential stands for, and what it may do.

use std::num::NonZeroU64;
use std::sync::Arc;

use identity::Identity;
use types::{
    Caching, CallContext, ErrorKind, KeyId, Privacy, RequestId, Role, TeamId, TenantId, UserId,
    allows,
};

use crate::Error;

/// Whom a credential stands for, and what it may do; every request has one among its extensions. A list
/// that is none allows everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Whose data and money.
    pub(crate) tenant: TenantId,
    /// The user's team.
    pub(crate) team: Option<TeamId>,
    /// Who pays.
    pub(crate) user: UserId,
    /// The key that was shown, by its name in the ledger.
    pub(crate) key: Option<KeyId>,
    /// Which routes it may call.
    pub(crate) role: Role,
    /// It is of whoever runs the system, and not only of a tenant: it stands in the configuration, or
    /// nobody needs one.
    pub(crate) runs_it: bool,
    /// Routes and models that it may ask.
    pub(crate) models: Option<Vec<String>>,
    /// Tools that it may call; the bridge sees to it.
    pub(crate) tools: Option<Vec<String>>,
    /// Collections of documents that it may use.
    pub(crate) collections: Option<Vec<String>>,
    /// How private its calls are at least.
    pub(crate) privacy: Privacy,
    /// Whether its calls may be answered from what was kept, and kept.
    pub(crate) caching: Caching,
    /// How much it may ask for.
    pub(crate) rates: Rates,
}

/// How much a key may ask for; what is none is not limited by the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Requests in a window.
    pub(crate) requests: Option<NonZeroU64>,
    /// How long the window is, in milliseconds.
    pub(crate) window_ms: Option<NonZeroU64>,
    /// Tokens in a minute.
    pub(crate) tokens_per_minute: Option<NonZeroU64>,
    /// Requests at once.
    pub(crate) concurrency: Option<NonZeroU64>,
}

impl Rates {
    /// Returns these, and of what they do not limit the `other` ones.
    pub(crate) fn or(self, other: Self) -> Self {
        let (requests, window_ms) = match self.requests {
            Some(_) => (self.requests, self.window_ms),
            None => (other.requests, other.window_ms),
        };
        Self {
            requests,
            window_ms,
            tokens_per_minute: self.tokens_per_minute.or(other.tokens_per_minute),
            concurrency: self.concurrency.or(other.concurrency),
        }
    }
}

impl From<Identity> for Grant {
    fn from(Identity { tenant, team, user, role }: Identity) -> Self {
        Self { team, ..Self::new(tenant, user, role) }
    }
}

impl Grant {
    /// Returns one that may do everything of its role.
    pub(crate) fn new(tenant: TenantId, user: UserId, role: Role) -> Self {
        Self {
            tenant,
            team: None,
            user,
            key: None,
            role,
            runs_it: false,
            models: None,
            tools: None,
            collections: None,
            privacy: Privacy::Public,
            caching: Caching::AsConfigured,
            rates: Rates::default(),
        }
    }

    /// Checks that its role sees what others spend.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn check_reports(&self) -> Result<(), Error> {
        super::roles::check(self, super::roles::Right::Report, None)
    }

    /// Returns the context of a call by its owner.
    pub(crate) fn context(&self, request: RequestId) -> CallContext {
        let (tenant, user) = (self.tenant.clone(), self.user.clone());
        let mut context = CallContext::of_request(tenant, user, request);
        context.team.clone_from(&self.team);
        context.key.clone_from(&self.key);
        context.tools = self.tools.as_deref().map(Arc::from);
        (context.privacy, context.caching) = (self.privacy, self.caching);
        context
    }

    /// Checks that a route or model may be asked.
    ///
    /// # Errors
    /// If it is not among those that are allowed; so is the next one.
    pub(crate) fn check_model(&self, name: &str) -> Result<(), Error> {
        check("model", self.models.as_deref(), name)
    }

    /// Returns the collection that a request is for: the one it names, or else the default one.
    pub(crate) fn collection(&self, named: Option<String>) -> Result<String, Error> {
        let name = named.unwrap_or_else(|| "default".to_owned());
        check("collection", self.collections.as_deref(), &name)?;
        Ok(name)
    }
}

fn check(what: &str, list: Option<&[String]>, name: &str) -> Result<(), Error> {
    if allows(list, name) {
        return Ok(());
    }
    let allowed = match list.unwrap_or_default() {
        [] => "none".to_owned(),
        list => list.join(", "),
    };
    let fault = format!("the key may not use {what} {name:?}; it may use {allowed}");
    Err(Error::new(ErrorKind::Denied, fault))
}
