//! What may be asked of a ledger.

use types::{NanoUsd, ReservationId, TenantId};

use super::kept::{AccountKey, ReservationKey};
use crate::{Period, Scope};

/// A hold that is asked for.
#[derive(Debug, Clone)]
pub struct Reservation {
    /// Chosen by the caller; the same id again is the same hold.
    pub id: ReservationId,
    /// Whose money.
    pub tenant: TenantId,
    /// Where it counts, each of them once: see [`Scope::chain`].
    pub scopes: Vec<Scope>,
    /// Zero or more.
    pub amount: NanoUsd,
    /// How long it holds, in milliseconds.
    pub ttl_ms: u32,
}

/// Money that was spent and not counted, or counted and not spent.
#[derive(Debug, Clone)]
pub struct Correction {
    /// Chosen by the caller; the same id again is the same correction.
    pub id: ReservationId,
    /// Whose money.
    pub tenant: TenantId,
    /// Where it counts.
    pub scopes: Vec<Scope>,
    /// What is added to what was spent; less than zero takes away.
    pub amount: NanoUsd,
    /// Why.
    pub reason: String,
    /// By whom.
    pub author: String,
}

/// A change of the ledger; each is a method of [`crate::Ledger`] too.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is a thing's name")]
pub enum Move {
    /// Sets money aside.
    Reserve(Reservation),
    /// Ends a reservation with what was spent.
    Settle { tenant: TenantId, id: ReservationId, amount: NanoUsd },
    /// Ends it with nothing spent.
    Release { tenant: TenantId, id: ReservationId },
    /// Ends it if its time is over.
    Expire { tenant: TenantId, id: ReservationId },
    /// Changes what was spent.
    Correct(Correction),
    /// Sets a limit, or takes it away.
    Limit { tenant: TenantId, scope: Scope, period: Period, limit: Option<NanoUsd> },
}

impl Move {
    /// Returns the reservation that it is about.
    pub(crate) fn reservation(&self) -> Option<ReservationKey> {
        let (tenant, id) = match self {
            Self::Reserve(wanted) => (&wanted.tenant, &wanted.id),
            Self::Correct(correction) => (&correction.tenant, &correction.id),
            Self::Settle { tenant, id, .. }
            | Self::Release { tenant, id }
            | Self::Expire { tenant, id } => (tenant, id),
            Self::Limit { .. } => return None,
        };
        Some((tenant.clone(), id.clone()))
    }

    /// Returns the accounts that it names itself, which may be new.
    pub(crate) fn accounts(&self) -> Vec<AccountKey> {
        let (tenant, scopes) = match self {
            Self::Reserve(wanted) => (&wanted.tenant, wanted.scopes.as_slice()),
            Self::Correct(correction) => (&correction.tenant, correction.scopes.as_slice()),
            Self::Limit { tenant, scope, .. } => (tenant, std::slice::from_ref(scope)),
            Self::Settle { .. } | Self::Release { .. } | Self::Expire { .. } => return Vec::new(),
        };
        scopes.iter().map(|scope| (tenant.clone(), scope.clone())).collect()
    }
}
