//! Where pins and the audit of calls lie: in one SQLite file, or in PostgreSQL for any number of replicas.

mod postgres;
mod sqlite;

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use types::TenantId;

pub use postgres::Postgres;
pub use sqlite::Sqlite;

use crate::{Config, Digest, Error};

/// How many definitions of one tool wait for a decision at most; the oldest makes room.
pub const WAITING: i64 = 8;

/// What was decided about a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody has decided yet.
    Waiting,
    /// It is the one that may be used.
    Approved,
    /// It may not be used.
    Rejected,
    /// It was approved until another one was.
    Replaced,
}

impl State {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Replaced => "replaced",
        }
    }

    fn to_number(self) -> i16 {
        match self {
            Self::Waiting => 0,
            Self::Approved => 1,
            Self::Rejected => 2,
            Self::Replaced => 3,
        }
    }

    fn from_number(number: i16) -> Self {
        match number {
            0 => Self::Waiting,
            1 => Self::Approved,
            3 => Self::Replaced,
            // What is not known is not used.
            _ => Self::Rejected,
        }
    }
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decider {
    /// Of which tenant.
    pub tenant: String,
    /// Which user.
    pub user: String,
    /// By which key, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A definition as a server gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The server's name for the tool, or `prompt:` and that for a prompt.
    pub tool: String,
    /// The hash of `definition`.
    pub digest: Digest,
    /// Canonical JSON.
    pub definition: String,
    /// What was found in it, in words.
    pub findings: Vec<String>,
    /// Whether it is approved when none of this tool was seen before.
    pub trusted: bool,
}

/// What is known of a definition, without itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which server's.
    pub server: String,
    /// The server's name for the tool, or `prompt:` and that for a prompt.
    pub tool: String,
    /// The definition's hash.
    pub digest: Digest,
    /// What was decided.
    pub state: State,
}

/// A definition that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Whose, which and how it is.
    pub known: Known,
    /// Canonical JSON.
    pub definition: String,
    /// What was found in it, in words.
    pub findings: Vec<String>,
    /// When it was seen first, in milliseconds since 1970.
    pub seen_at: i64,
    /// When it was decided, in milliseconds since 1970.
    pub decided_at: Option<i64>,
    /// Who decided; none where the policy did.
    pub decided_by: Option<Decider>,
}

/// A call, as the audit has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When it ended, in milliseconds since 1970.
    pub at: i64,
    /// Whose.
    pub tenant: String,
    /// The user's team.
    pub team: Option<String>,
    /// Who called.
    pub user: String,
    /// With which key.
    pub key: Option<String>,
    /// For which run.
    pub run: Option<String>,
    /// `public` or `private`.
    pub privacy: String,
    /// Which server.
    pub server: String,
    /// The server's name for the tool, or `prompt:` and that for a prompt, or `resource:` and an address.
    pub tool: String,
    /// The hash of its definition, where it has one.
    pub pin: Option<Digest>,
    /// The keyed hash of the arguments.
    pub arguments: Digest,
    /// `allowed`, `denied`, or `undecided` where the caller left before.
    pub decision: String,
    /// What decided.
    pub rule: String,
    /// `ok`, `tool_error`, `protocol_error`, `denied` or `timeout`.
    pub outcome: String,
    /// How long it took, in microseconds.
    pub micros: i64,
    /// The trace's id.
    pub trace: String,
    /// The HTTP request's id.
    pub request: String,
}

/// Pins and calls; every implementation passes `tests/suite/contract.rs`.
#[async_trait]
pub trait Store: Send + Sync {
    /// Returns a number that goes up whenever the pins change.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails, here and below.
    async fn revision(&self) -> Result<i64, Error>;

    /// Returns what is known of every definition, in any order.
    ///
    /// # Errors
    /// As above.
    async fn known(&self) -> Result<Vec<Known>, Error>;

    /// Remembers definitions of a server's tools that were not seen before. The first one of a tool is
    /// approved if it is trusted; every other one waits, and at most [`WAITING`] of a tool do.
    ///
    /// Atomic and idempotent; of two replicas that see a tool first, one is first.
    ///
    /// # Errors
    /// As above.
    async fn see(&self, now_ms: i64, server: &str, seen: &[Seen]) -> Result<(), Error>;

    /// Returns the definitions of a server, of all of them, or of one tool; the newest first.
    ///
    /// # Errors
    /// As above.
    async fn pins(&self, server: Option<&str>, tool: Option<&str>) -> Result<Vec<Pin>, Error>;

    /// Approves a definition, which takes the place of the one that was approved, or rejects it; tells
    /// whether it is known. Who decided and when is kept for good.
    ///
    /// # Errors
    /// As above.
    async fn decide(&self, now_ms: i64, pin: &Known, by: &Decider) -> Result<bool, Error>;

    /// Keeps calls: all of them, or none.
    ///
    /// # Errors
    /// As above.
    async fn record(&self, calls: &[Call]) -> Result<(), Error>;

    /// Returns a tenant's calls with their numbers, the newest first, those before number `before`, at
    /// most `most`.
    ///
    /// # Errors
    /// As above.
    async fn calls(
        &self,
        tenant: &TenantId,
        before: Option<i64>,
        most: u32,
    ) -> Result<Vec<(i64, Call)>, Error>;

    /// Removes calls that ended before `until_ms`, at most some thousands, and returns how many.
    ///
    /// # Errors
    /// As above.
    async fn forget(&self, until_ms: i64) -> Result<u64, Error>;

    /// Returns the secret of a name, which is `fresh` where there is none yet.
    ///
    /// # Errors
    /// As above.
    async fn secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, Error>;
}

/// Opens the store that the configuration names.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    anyhow::ensure!(config.connections > 0, "mcp_bridge.connections: 0 is too few");
    let address = config.store.expose_secret();
    let opened: anyhow::Result<Arc<dyn Store>> = match address.split_once(':') {
        Some(("sqlite", path)) => Sqlite::open(path).await.map(|store| Arc::new(store) as _),
        Some(("postgres" | "postgresql", _)) => {
            let store = Postgres::open(address, config.connections).await;
            store.map(|store| Arc::new(store) as _)
        }
        _ => Err(anyhow::anyhow!("neither sqlite:PATH nor postgres://USER:PASSWORD@HOST/DATABASE")),
    };
    opened.with_context(|| format!("mcp_bridge.store: {}", runtime::address::shown(address)))
}
