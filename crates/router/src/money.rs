//! A call's money: reserved before, released when nothing came of it; its usage settles it.

use std::time::Duration;

use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{ReleaseRequest, ReserveRequest};
use runtime::transport::Peer;
use types::{CallContext, NanoUsd, ReservationId};

use crate::Error;

/// How long a release is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Money that is set aside. Dropped before it is handed over, it is released.
pub(crate) struct Held {
    id: ReservationId,
    context: CallContext,
    budget: Peer,
    open: bool,
}

/// Sets `amount` aside.
///
/// # Errors
/// [`Error::Budget`] if a limit does not cover it or the ledger is down.
pub(crate) async fn reserve(
    context: &CallContext,
    budget: &Peer,
    amount: NanoUsd,
) -> Result<Held, Error> {
    let id = ReservationId::generate();
    let request =
        ReserveRequest { reservation_id: id.to_string(), amount_nanos: amount.nanos(), ttl_ms: 0 };
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

impl Held {
    /// Leaves the end of the reservation to whoever gets its id.
    pub(crate) fn hand_over(mut self) -> ReservationId {
        self.open = false;
        self.id.clone()
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
