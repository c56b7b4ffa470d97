//! A row a model call, and the audit log of private ones.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use types::{IdError, NanoUsd, ReservationId, TenantId, UserId};

use crate::ledger::Move;
use crate::{Error, Kind, Scope};

/// One model call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Of the call; the same again is the same row.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// The user's team; empty without one, as every text here.
    pub team: String,
    /// Who pays.
    pub payer: String,
    /// The API key's name.
    pub key: String,
    /// The run.
    pub run: String,
    /// What was asked for.
    pub route: String,
    /// Who answered, or failed last.
    pub provider: String,
    /// As its provider calls it.
    pub model: String,
    /// 0 to 4.
    pub tier: u32,
    /// Read.
    pub input_tokens: i64,
    /// Of these, from the provider's cache.
    pub cached_tokens: i64,
    /// Of these, into it.
    pub cache_write_tokens: i64,
    /// Written.
    pub output_tokens: i64,
    /// Of these, thoughts.
    pub reasoning_tokens: i64,
    /// The provider did not count.
    pub estimated: bool,
    /// In nano-USD.
    pub cost: i64,
    /// In milliseconds since 1970.
    pub started_at: i64,
    /// How long it took.
    pub latency_micros: i64,
    /// How long until the first token; 0 when it came whole.
    pub first_token_micros: i64,
    /// answered, broken, failed, refused, …
    pub outcome: String,
    /// public or private.
    pub privacy: String,
    /// The client's name for the prompt.
    pub prompt_version: String,
    /// Why the candidates stood in their order.
    pub reason: String,
    /// The HTTP request.
    pub request_id: String,
    /// The reservation that the cost settles.
    pub reservation: String,
}

impl Usage {
    /// Reads a row as it travels.
    ///
    /// # Errors
    /// [`Error::Invalid`] if an id is malformed or the cost negative.
    pub(crate) fn read(wire: proto::budget::Usage) -> Result<Self, Error> {
        let (tenant, user) = (TenantId::new(&wire.tenant), UserId::new(&wire.user));
        let reservation: Result<_, IdError> = match wire.reservation_id.as_str() {
            "" => Ok(()),
            id => ReservationId::new(id).map(drop),
        };
        tenant.map(drop).and(user.map(drop)).and(reservation)?;
        if wire.id.is_empty() || wire.cost_nanos < 0 {
            return Err(Error::Invalid(format!("usage {:?}: no id, or a negative cost", wire.id)));
        }
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        Ok(Self {
            id: clean(wire.id),
            tenant: wire.tenant,
            team: clean(wire.team),
            payer: wire.user,
            key: clean(wire.key),
            run: clean(wire.run),
            route: clean(wire.route),
            provider: clean(wire.provider),
            model: clean(wire.model),
            tier: wire.tier,
            input_tokens: count(wire.input_tokens),
            cached_tokens: count(wire.cached_tokens),
            cache_write_tokens: count(wire.cache_write_tokens),
            output_tokens: count(wire.output_tokens),
            reasoning_tokens: count(wire.reasoning_tokens),
            estimated: wire.estimated,
            cost: wire.cost_nanos,
            started_at: wire.started_at_ms,
            latency_micros: count(wire.latency_micros),
            first_token_micros: count(wire.first_token_micros),
            outcome: clean(wire.outcome),
            privacy: clean(wire.privacy),
            prompt_version: clean(wire.prompt_version),
            reason: clean(wire.reason),
            request_id: clean(wire.request_id),
            reservation: wire.reservation_id,
        })
    }

    /// Returns the move that settles its reservation, if it has one.
    pub(crate) fn settles(&self) -> Result<Option<Move>, Error> {
        if self.reservation.is_empty() {
            return Ok(None);
        }
        let (tenant, id) = (TenantId::new(&self.tenant)?, ReservationId::new(&self.reservation)?);
        Ok(Some(Move::Settle { tenant, id, amount: NanoUsd::new(self.cost) }))
    }

    fn is_private(&self) -> bool {
        self.privacy == "private"
    }

    /// Returns what the audit log keeps of it: who asked for what, where it went, when.
    fn audited(&self) -> String {
        let record = serde_json::json!({
            "id": self.id, "user": self.payer, "key": self.key, "run": self.run,
            "request_id": self.request_id, "route": self.route, "provider": self.provider,
            "model": self.model, "tier": self.tier, "outcome": self.outcome,
            "started_at_ms": self.started_at,
        });
        record.to_string()
    }
}

/// Takes out what no database of text keeps; a client may name a model as it likes.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

/// A private call in the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// 1, 2, 3, … without a gap, of each tenant.
    pub number: i64,
    /// The call, in JSON.
    pub record: String,
    /// [`chained`] to the record before.
    pub hash: Vec<u8>,
}

/// Returns the hash of a record behind the one with hash `before`, of 32 zeros for the first.
#[must_use]
pub fn chained(before: &[u8], record: &str) -> Vec<u8> {
    Sha256::new().chain_update(before).chain_update(record.as_bytes()).finalize().to_vec()
}

/// What calls may have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is a column's name")]
pub enum Group {
    Model,
    Provider,
    Tier,
    User,
    Team,
    Route,
    Day,
    Key,
    PromptVersion,
}

impl Group {
    /// Returns the column of it; `day` is how the store says it.
    fn column(self, day: &'static str) -> &'static str {
        match self {
            Self::Model => "provider || '/' || model",
            Self::Provider => "provider",
            Self::Tier => "CAST(tier AS TEXT)",
            Self::User => "payer",
            Self::Team => "team",
            Self::Route => "route",
            Self::Day => day,
            Self::Key => "key",
            Self::PromptVersion => "prompt_version",
        }
    }
}

/// What the calls of one group cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// In the order of what was grouped by.
    pub group: Vec<String>,
    /// How many calls.
    pub calls: i64,
    /// How many of them were not answered whole.
    pub failed: i64,
    /// Tokens read.
    pub input_tokens: i64,
    /// Tokens written.
    pub output_tokens: i64,
    /// In nano-USD.
    pub cost: i64,
    /// How long those that were answered took on average; 0 without any.
    pub mean_latency_micros: i64,
    /// How long until their first token on average, of those that came in pieces; 0 without any.
    pub mean_first_token_micros: i64,
}

/// Which calls are summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    /// Whose.
    pub tenant: TenantId,
    /// In which of its scopes they counted.
    pub scope: Scope,
    /// They began at this time or later, in milliseconds since 1970.
    pub from_ms: i64,
    /// They began before this time.
    pub to_ms: i64,
}

/// Returns what is true of the rows that counted in a scope; `$4` is its name.
fn counted(kind: Kind) -> &'static str {
    match kind {
        // The name is none.
        Kind::Tenant => "$4 = ''",
        Kind::Team => "team = $4",
        Kind::User => "payer = $4",
        Kind::Key => "key = $4",
        Kind::Run => "(run = $4 OR substr(run, 1, length($4) + 1) = $4 || '/')",
    }
}

/// Returns the query for what calls cost, most expensive first; its parameters are the tenant, the
/// first moment, the first moment after, and the scope's name.
fn costs(calls: &Calls, groups: &[Group], day: &'static str, cast: &'static str) -> String {
    let counted = counted(calls.scope.kind());
    let columns: Vec<&str> = groups.iter().map(|group| group.column(day)).collect();
    let columns = columns.join(", ");
    let places: Vec<String> = (1..=groups.len()).map(|place| place.to_string()).collect();
    let places = places.join(", ");
    format!(
        "SELECT {columns}, count(*), count(*) FILTER (WHERE outcome NOT IN ('answered', 'cached')),
           sum(input_tokens){cast}, sum(output_tokens){cast}, sum(cost){cast},
           CAST(coalesce(avg(latency_micros) FILTER (WHERE outcome = 'answered'), 0) AS BIGINT),
           CAST(coalesce(avg(first_token_micros) FILTER (WHERE first_token_micros > 0), 0) AS BIGINT)
         FROM usage WHERE tenant = $1 AND started_at >= $2 AND started_at < $3 AND {counted}
         GROUP BY {places} ORDER BY sum(cost) DESC, {places} LIMIT 10000"
    )
}
