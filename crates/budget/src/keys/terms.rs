//! What a key may do.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use types::{Privacy, Role, TeamId, UserId};

use crate::Error;

/// Most names in a list of what is allowed.
const NAMES: usize = 200;

/// Whom a key stands for, and what it may do. A list that is none allows everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What people call it.
    pub name: String,
    /// Who pays.
    pub user: UserId,
    /// The user's team.
    pub team: Option<TeamId>,
    /// What it may do.
    pub role: Role,
    /// Routes and models that it may ask.
    pub models: Option<Vec<String>>,
    /// Tools that it may call.
    pub tools: Option<Vec<String>>,
    /// Collections of documents that it may use.
    pub collections: Option<Vec<String>>,
    /// How private its calls are at least.
    pub privacy: Privacy,
    /// Whether its calls may be answered from what was kept, and kept.
    pub cache: bool,
    /// How much it may ask for.
    pub rates: Rates,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// How much may be asked for; what is none is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Requests in a window.
    pub requests: Option<NonZeroU64>,
    /// How long the window is, in milliseconds.
    pub window_ms: Option<NonZeroU64>,
    /// Tokens in a minute.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// Requests at once.
    pub concurrency: Option<NonZeroU64>,
}

/// The terms as a store keeps them.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    user: String,
    team: Option<String>,
    role: String,
    models: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    collections: Option<Vec<String>>,
    private: bool,
    cache: bool,
    rates: Rates,
    expires_at: Option<i64>,
}

impl Terms {
    /// Writes what [`Terms::from_text`] reads, the same for the same terms.
    pub(super) fn to_text(&self) -> String {
        let kept = Kept {
            name: self.name.clone(),
            user: self.user.to_string(),
            team: self.team.as_ref().map(TeamId::to_string),
            role: self.role.as_str().to_owned(),
            models: self.models.clone(),
            tools: self.tools.clone(),
            collections: self.collections.clone(),
            private: self.privacy == Privacy::Private,
            cache: self.cache,
            rates: self.rates,
            expires_at: self.expires_at,
        };
        serde_json::json!(kept).to_string()
    }

    pub(super) fn from_text(text: &str) -> Result<Self, Error> {
        let kept: Kept = serde_json::from_str(text).map_err(|fault| Error::Ledger(fault.into()))?;
        Ok(Self {
            name: kept.name,
            user: UserId::new(kept.user)?,
            team: kept.team.map(TeamId::new).transpose()?,
            role: kept.role.parse().map_err(|fault| Error::Ledger(Box::new(fault)))?,
            models: kept.models,
            tools: kept.tools,
            collections: kept.collections,
            privacy: if kept.private { Privacy::Private } else { Privacy::Public },
            cache: kept.cache,
            rates: kept.rates,
            expires_at: kept.expires_at,
        })
    }

    /// Checks what no type holds.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a name is none, or there are too many.
    pub(super) fn check(&self) -> Result<(), Error> {
        name("name", &self.name)?;
        let lists =
            [("models", &self.models), ("tools", &self.tools), ("collections", &self.collections)];
        for (field, list) in lists {
            let list = list.as_deref().unwrap_or_default();
            if list.len() > NAMES {
                return Err(Error::Invalid(format!(
                    "{field}: {} names, at most {NAMES} are taken",
                    list.len()
                )));
            }
            list.iter().try_for_each(|one| name(field, one))?;
        }
        if self.rates.window_ms.is_some() && self.rates.requests.is_none() {
            return Err(Error::Invalid("rate_limits: window_ms without requests".to_owned()));
        }
        if self.rates.window_ms.is_some_and(|window| window.get() > 86_400_000) {
            return Err(Error::Invalid("rate_limits: window_ms is more than a day".to_owned()));
        }
        Ok(())
    }
}

fn name(field: &str, name: &str) -> Result<(), Error> {
    let fault = match name {
        name if name.trim().is_empty() => "is empty",
        name if name.len() > 256 => "has more than 256 bytes",
        name if name.chars().any(char::is_control) => "holds a control character",
        _ => return Ok(()),
    };
    Err(Error::Invalid(format!("{field}: {name:?} {fault}")))
}
