//! Who shares a budget. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use types::{CallContext, IdError, KeyId, RunId, TeamId, UserId};

use crate::Error;

/// How deep runs within runs are counted apart; those below count for the last.
const DEEPEST: usize = 8;

/// What a scope is of, widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// All of a tenant.
    Tenant,
    /// A group of its users.
    Team,
    /// A person or program.
    User,
    /// An API key.
    Key,
    /// A run, or one within another: `a/b` is a part of `a`.
    Run,
}

impl Kind {
    /// Every kind, widest first.
    pub const ALL: [Self; 5] = [Self::Tenant, Self::Team, Self::User, Self::Key, Self::Run];

    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Team => "team",
            Self::User => "user",
            Self::Key => "key",
            Self::Run => "run",
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        known.ok_or_else(|| {
            Error::Invalid(format!("scope {word:?} is not tenant, team, user, key or run"))
        })
    }
}

/// Those within a tenant whose spending counts together. Clones share the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    kind: Kind,
    name: Arc<str>,
}

impl Scope {
    /// Returns the scope of this kind and name; the tenant's own has none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the name is no id.
    pub fn new(kind: Kind, name: impl Into<Arc<str>>) -> Result<Self, Error> {
        let name = name.into();
        let good: Result<(), IdError> = match kind {
            Kind::Tenant if name.is_empty() => Ok(()),
            Kind::Tenant => {
                return Err(Error::Invalid(format!("scope tenant has no name such as {name:?}")));
            }
            Kind::Team => TeamId::new(&name).map(drop),
            Kind::User => UserId::new(&name).map(drop),
            Kind::Key => KeyId::new(&name).map(drop),
            Kind::Run => RunId::new(&name).map(drop),
        };
        good?;
        Ok(Self { kind, name })
    }

    /// Returns the scope of a whole tenant.
    #[must_use]
    pub fn tenant() -> Self {
        Self { kind: Kind::Tenant, name: "".into() }
    }

    /// Returns the scope of a user.
    #[must_use]
    pub fn user(user: &UserId) -> Self {
        Self { kind: Kind::User, name: user.as_str().into() }
    }

    /// Returns what it is of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns its name; empty for the tenant's own.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns every scope that a call counts in, widest first.
    #[must_use]
    pub fn chain(context: &CallContext) -> Vec<Self> {
        let scope = |kind, name: &str| Self { kind, name: name.into() };
        let mut chain = vec![Self::tenant()];
        chain.extend(context.team.as_ref().map(|team| scope(Kind::Team, team.as_str())));
        chain.push(Self::user(&context.user));
        chain.extend(context.key.as_ref().map(|key| scope(Kind::Key, key.as_str())));
        if let Some(run) = &context.run {
            let run = run.as_str();
            let parents = run.match_indices('/').map(|(at, _)| &run[..at]);
            let runs = parents.filter(|run| !run.is_empty()).take(DEEPEST - 1).chain([run]);
            chain.extend(runs.map(|run| scope(Kind::Run, run)));
        }
        chain
    }
}

/// Writes `user:NAME`, or `tenant`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Tenant => f.write_str("tenant"),
            kind => write!(f, "{}:{}", kind.as_str(), self.name),
        }
    }
}

/// As it is displayed.
impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        Self::new(kind.parse()?, name)
    }
}

#[cfg(test)]
mod tests {
    use types::TenantId;

    use super::*;

    #[test]
    fn a_call_counts_in_every_scope_that_it_belongs_to() {
        let mut context =
            CallContext::new(TenantId::new("t").unwrap(), UserId::new("a:b").unwrap());
        let chain = |context: &CallContext| -> Vec<String> {
            Scope::chain(context).iter().map(Scope::to_string).collect()
        };
        assert_eq!(chain(&context), ["tenant", "user:a:b"]);
        context.team = Some(TeamId::new("x").unwrap());
        context.key = Some(KeyId::new("k").unwrap());
        context.run = Some(RunId::new("r/s/t").unwrap());
        let all = ["tenant", "team:x", "user:a:b", "key:k", "run:r", "run:r/s", "run:r/s/t"];
        assert_eq!(chain(&context), all);
        for text in all {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        context.run = Some(RunId::new("/".repeat(256)).unwrap());
        assert!(Scope::chain(&context).len() <= 4 + DEEPEST);
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in ["", "user", "user:", "tenant:t", "people:a", "user:a\nb"] {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
    }
}
