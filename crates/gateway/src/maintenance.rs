//! Maintenance: work is refused for a while, on every replica within a second.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{GetMaintenanceRequest, Maintenance};
use runtime::transport::Peer;
use types::ErrorKind;

use crate::Error;

/// How often it is asked whether there is some; and how long the answer is waited for.
const LOOK: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_millis(500);

/// Where the paths of administration begin: they are answered also during maintenance.
const ADMINISTRATION: [&str; 6] = [
    "/api/v1/maintenance",
    "/api/v1/budget/",
    "/api/v1/costs",
    "/api/v1/audit",
    "/api/v1/keys",
    "/api/v1/providers",
];

/// What the budget service said last. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<RwLock<Option<Arc<Maintenance>>>>);

impl Told {
    pub(crate) fn now(&self) -> Option<Arc<Maintenance>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, maintenance: Option<Maintenance>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = maintenance.map(Arc::new);
    }

    /// Asks the budget service until nobody listens any more. While it does not answer, what it said
    /// last holds.
    pub(crate) async fn watch(self, budget: Peer) {
        while Arc::strong_count(&self.0) > 1 {
            let mut budget = BudgetServiceClient::new(budget.clone());
            let asked = budget.get_maintenance(GetMaintenanceRequest {});
            if let Ok(Ok(reply)) = tokio::time::timeout(PATIENCE, asked).await {
                self.set(reply.into_inner().maintenance);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Refuses work while there is maintenance. What is under way goes on.
pub(crate) fn refuse(told: &Told, path: &str) -> Result<(), Error> {
    match told.now() {
        Some(maintenance) if is_work(path) => {
            let refused = Error::new(ErrorKind::Unavailable, maintenance.message.as_str());
            Err(refused.back_after(maintenance.retry_after_s))
        }
        _ => Ok(()),
    }
}

/// Tells what is work: all of the API but its administration. Probes and documents are none.
fn is_work(path: &str) -> bool {
    let api = path.starts_with("/v1/") || path.starts_with("/api/");
    api && !ADMINISTRATION.iter().any(|begin| path.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_told_from_administration() {
        for path in ["/v1/chat/completions", "/v1/models", "/api/v1/ask", "/api/search"] {
            assert!(is_work(path), "{path}");
        }
        for path in ["/health", "/openapi.json", "/api/v1/maintenance", "/api/v1/budget/user/a"] {
            assert!(!is_work(path), "{path}");
        }
    }
}
