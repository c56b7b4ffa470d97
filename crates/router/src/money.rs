//! A call's money: reserved before, released when nothing came of it; its usage settles it.

use std::time::Duration;

use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{ReleaseRequest, ReserveRequest, SettleRequest};
use runtime::transport::Peer;
use types::{CallContext, NanoUsd, ReservationId};

use crate::Error;

/// How much longer than its call a reservation lasts.
const MARGIN: Duration = Duration::from_secs(300);

/// How long a release is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Money that is set aside. Dropped before it is handed over, it is released.
pub(crate) struct Held {
    id: ReservationId,
    context: CallContext,
    budget: Peer,
    open: bool,
}

/// Sets `amount` aside for a call that takes `at_most`.
///
/// # Errors
/// [`Error::Budget`] if a limit does not cover it or the ledger is down.
pub(crate) async fn reserve(
    context: &CallContext,
    budget: &Peer,
    amount: NanoUsd,
    at_most: Duration,
) -> Result<Held, Error> {
    let id = ReservationId::generate();
    // Its row may have to wait until the ledger is there again.
    let ttl = at_most.saturating_add(MARGIN);
    let request = ReserveRequest {
        reservation_id: id.to_string(),
        amount_nanos: amount.nanos(),
        ttl_ms: u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX),
    };
    // The guard is there first: a reserve whose answer is lost may hold all the same.
    let held = Held { id, context: context.clone(), budget: budget.clone(), open: true };
    let request = runtime::context::request(context, request);
    match BudgetServiceClient::new(budget.clone()).reserve(request).await {
        Ok(_) => Ok(held),
        Err(status) => {
            let mut held = held;
            held.open = runtime::error::kind_of(&status) == types::ErrorKind::Unavailable;
            Err(status.into())
        }
    }
}

/// How long a part of a batch is reserved for without a word of it: a provider takes a day at most,
/// and what it has not begun by then it never does.
const LASTING: Duration = Duration::from_secs(26 * 3600);

/// Sets aside what a part of a batch can cost at most, or goes on to; returns when that ends, in
/// milliseconds since 1970. Nothing is released by itself: whoever keeps the part does.
pub(crate) async fn keep(
    context: &CallContext,
    budget: &Peer,
    id: &ReservationId,
    amount: NanoUsd,
) -> Result<i64, Error> {
    let ttl_ms = u32::try_from(LASTING.as_millis()).unwrap_or(u32::MAX);
    let (reservation_id, amount_nanos) = (id.to_string(), amount.nanos());
    let request = ReserveRequest { reservation_id, amount_nanos, ttl_ms };
    let request = runtime::context::request(context, request);
    let kept = BudgetServiceClient::new(budget.clone()).reserve(request).await?;
    Ok(kept.into_inner().expires_at_ms)
}

/// Pays a part of a batch, again if need be.
pub(crate) async fn settle(
    context: &CallContext,
    budget: &Peer,
    id: &ReservationId,
    amount: NanoUsd,
) -> Result<(), Error> {
    let request = SettleRequest { reservation_id: id.to_string(), amount_nanos: amount.nanos() };
    let request = runtime::context::request(context, request);
    let settled = BudgetServiceClient::new(budget.clone()).settle(request).await;
    unless_it_has_ended(settled.map(drop), "settled")
}

/// Frees what a part of a batch holds that nobody got.
pub(crate) async fn free(
    context: &CallContext,
    budget: &Peer,
    id: &ReservationId,
) -> Result<(), Error> {
    let request = ReleaseRequest { reservation_id: id.to_string() };
    let request = runtime::context::request(context, request);
    let freed = BudgetServiceClient::new(budget.clone()).release(request).await;
    unless_it_has_ended(freed.map(drop), "released")
}

/// A reservation that ended otherwise cannot be changed by asking again.
fn unless_it_has_ended(done: tonic::Result<()>, what: &str) -> Result<(), Error> {
    match done {
        Err(status)
            if matches!(
                runtime::error::kind_of(&status),
                types::ErrorKind::Conflict | types::ErrorKind::NotFound
            ) =>
        {
            tracing::error!(%status, "a part of a batch could not be {what}");
            Ok(())
        }
        done => Ok(done?),
    }
}

impl Held {
    /// Returns what holds nothing, for a call that costs nothing. Its row is kept all the same.
    pub(crate) fn nothing(context: &CallContext, budget: &Peer) -> Self {
        let id = ReservationId::generate();
        Self { id, context: context.clone(), budget: budget.clone(), open: false }
    }

    /// Leaves the end of the reservation to whoever gets its id.
    pub(crate) fn hand_over(mut self) -> ReservationId {
        self.open = false;
        self.id.clone()
    }

    /// Ends it with what was spent, before the next candidate needs the rest; waits, but not for long.
    /// Whoever has its id settles it with the same, so that it does not matter whether this arrives.
    pub(crate) fn settle(&self, amount: NanoUsd) -> impl Future<Output = ()> + Send + use<> {
        let message =
            SettleRequest { reservation_id: self.id.to_string(), amount_nanos: amount.nanos() };
        let request = runtime::context::request(&patient(&self.context), message);
        let mut client = BudgetServiceClient::new(self.budget.clone());
        let wait = self.context.time_left(PATIENCE);
        async move {
            let _ = tokio::time::timeout(wait, client.settle(request)).await;
        }
    }

    /// Gives the money back before the next candidate needs it; waits, but not for long.
    pub(crate) async fn release(mut self) {
        let wait = self.context.time_left(PATIENCE);
        if tokio::time::timeout(wait, self.let_go()).await.is_ok_and(|done| done.is_ok()) {
            self.open = false;
        }
    }

    /// Releases in a call of its own, which nobody has to wait for.
    fn let_go(&self) -> impl Future<Output = tonic::Result<()>> + Send + use<> {
        let request = ReleaseRequest { reservation_id: self.id.to_string() };
        let request = runtime::context::request(&patient(&self.context), request);
        let mut client = BudgetServiceClient::new(self.budget.clone());
        async move { client.release(request).await.map(drop) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // If this fails the lease ends by itself.
        tokio::spawn(self.let_go());
    }
}

/// Returns the context without its deadline: money is settled also when nobody waits any more.
fn patient(context: &CallContext) -> CallContext {
    CallContext { deadline: None, ..context.clone() }
}
