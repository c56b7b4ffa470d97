use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{KeyId, RequestId, RunId, TeamId, TenantId, UserId};

/// Whether a call's data may leave the machine. It can only be raised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Privacy {
    /// Any configured provider may see it.
    #[default]
    Public,
    /// Only this machine's models and tools may see it, and what the operator calls as good.
    Private,
}

impl Privacy {
    /// Returns the stricter of the two.
    #[must_use]
    pub fn raised_to(self, other: Self) -> Self {
        self.max(other)
    }

    /// Returns the word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

/// Whether an answer that was kept of the same call may be given again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caching {
    /// Where the operator says so.
    #[default]
    AsConfigured,
    /// Also where the operator leaves it to each call.
    Asked,
    /// Nowhere; and none is kept of this one.
    Never,
}

/// Who asks for what, until when: every call carries one, and whatever reaches outside takes it first.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Whose data and money.
    pub tenant: TenantId,
    /// The user's team, if any.
    pub team: Option<TeamId>,
    /// Who pays, within the tenant.
    pub user: UserId,
    /// The API key that was shown, if any.
    pub key: Option<KeyId>,
    /// The run that this call belongs to, if any.
    pub run: Option<RunId>,
    /// Tools that may be used, as [`allows`] reads them; all when none.
    pub tools: Option<Arc<[String]>>,
    /// Whether data may leave the machine.
    pub privacy: Privacy,
    /// Whether an answer may be one that was kept.
    pub caching: Caching,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The HTTP request that started it all.
    pub request_id: RequestId,
    /// The client's name for this attempt, the same when it tries again.
    pub idempotency_key: Option<String>,
}

impl CallContext {
    /// Returns a context for `tenant` and `user` with a new request id and nothing else set.
    #[must_use]
    pub fn new(tenant: TenantId, user: UserId) -> Self {
        Self::of_request(tenant, user, RequestId::generate())
    }

    /// Returns a context for `tenant` and `user` within a request, with nothing else set.
    #[must_use]
    pub fn of_request(tenant: TenantId, user: UserId, request_id: RequestId) -> Self {
        Self {
            tenant,
            team: None,
            user,
            key: None,
            run: None,
            tools: None,
            privacy: Privacy::Public,
            caching: Caching::AsConfigured,
            deadline: None,
            request_id,
            idempotency_key: None,
        }
    }

    /// Returns how long the caller still waits, at most `cap`; zero when it no longer does.
    #[must_use]
    pub fn time_left(&self, cap: Duration) -> Duration {
        match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()).min(cap),
            None => cap,
        }
    }
}

/// Tells whether `list` allows `name`: by itself, or as one that begins as something before a `*`. A
/// list that is none allows everything.
#[must_use]
pub fn allows(list: Option<&[String]>, name: &str) -> bool {
    list.is_none_or(|list| {
        list.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => allowed == name,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_allowed_by_itself_or_by_its_beginning() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (names, name, allowed) in [
            (&["auto"][..], "auto", true),
            (&["auto"], "automatic", false),
            (&["auto"], "Auto", false),
            (&["openai/*"], "openai/gpt-4o", true),
            (&["openai/*"], "gpt-4o", false),
            (&["*"], "anything", true),
            (&["a*b"], "axb", false),
            (&[], "auto", false),
        ] {
            assert_eq!(allows(Some(&list(names)), name), allowed, "{names:?} {name}");
        }
        assert!(allows(None, "auto"));
    }

    #[test]
    fn privacy_can_only_be_raised() {
        use Privacy::{Private, Public};
        let cases = [
            (Public, Public, Public),
            (Public, Private, Private),
            (Private, Public, Private),
            (Private, Private, Private),
        ];
        for (from, to, then) in cases {
            assert_eq!(from.raised_to(to), then);
        }
    }
}
