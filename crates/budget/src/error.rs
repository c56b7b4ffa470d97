use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::Status;
use types::{Classify, ErrorKind, IdError, KeyId, NanoUsd, ReservationId};

use crate::{Period, Scope};

/// Why money was not moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// A limit does not cover it.
    #[error(
        "budget exceeded for {scope}: {} limit {limit} USD, spent {spent}, held {held}, needed {needed}; {}",
        period.as_str(), resets(*.resets_at_ms)
    )]
    Exceeded {
        /// Whose limit.
        scope: Scope,
        /// Of which period.
        period: Period,
        /// The limit.
        limit: NanoUsd,
        /// Settled in the period.
        spent: NanoUsd,
        /// Held by others at this moment.
        held: NanoUsd,
        /// What was asked for.
        needed: NanoUsd,
        /// When the period ends, in milliseconds since 1970.
        resets_at_ms: Option<i64>,
    },
    /// The id was used for something else.
    #[error("reservation {id} is {was}")]
    Conflict {
        /// Which reservation.
        id: ReservationId,
        /// What it is.
        was: String,
    },
    /// Nobody reserved under this id.
    #[error("reservation {0} does not exist")]
    Unknown(ReservationId),
    /// The tenant has no such key.
    #[error("key {0} does not exist")]
    NoKey(KeyId),
    /// The key was revoked, and stays so.
    #[error("key {0} was revoked")]
    Revoked(KeyId),
    /// Others moved the same money at every attempt; nothing was moved here.
    #[error("the ledger is busy")]
    Busy,
    /// The store failed; nothing was moved.
    #[error("the ledger is unavailable")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Says what went wrong, and what was behind it.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Ledger(fault) => fault.to_string(),
            other => other.to_string(),
        }
    }
}

fn resets(at_ms: Option<i64>) -> String {
    let at = at_ms.and_then(|ms| OffsetDateTime::from_unix_timestamp(ms / 1000).ok());
    match at.and_then(|at| at.format(&Rfc3339).ok()) {
        Some(at) => format!("resets {at}"),
        None => "never resets".to_owned(),
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Exceeded { .. } => ErrorKind::BudgetExceeded,
            Self::Conflict { .. } | Self::Revoked(_) => ErrorKind::Conflict,
            Self::Unknown(_) | Self::NoKey(_) => ErrorKind::NotFound,
            Self::Busy | Self::Ledger(_) => ErrorKind::Unavailable,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        runtime::error::to_status(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(fault: sqlx::Error) -> Self {
        Self::Ledger(fault.into())
    }
}

impl From<rusqlite::Error> for Error {
    fn from(fault: rusqlite::Error) -> Self {
        Self::Ledger(fault.into())
    }
}

impl From<IdError> for Error {
    fn from(fault: IdError) -> Self {
        Self::Invalid(fault.to_string())
    }
}
