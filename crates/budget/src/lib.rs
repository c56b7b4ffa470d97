//! Money: a ledger whose reservations never pass a limit.
//!
//! A reservation is a lease with an id that its caller chose; it ends exactly once, as settled,
//! released or expired. It counts in every [`Scope`] of its call, and for each of them and every period
//! settled + held ≤ limit + grace at every reservation.

mod alerts;
mod config;
mod error;
pub mod keys;
mod ledger;
mod period;
mod scope;
mod service;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proto::budget::budget_service_server::BudgetServiceServer;
use runtime::metrics::Metrics;
use secrecy::ExposeSecret as _;
use types::SystemClock;

pub use alerts::WebhookConfig;
pub use config::Config;
pub use error::Error;
pub use keys::Keys;
pub use ledger::postgres::Postgres;
pub use ledger::sqlite::Sqlite;
pub use ledger::{
    Alert, Correction, Entry, Ledger, Maintenance, Move, Order, Reservation, Rules, Statement,
};
pub use period::Period;
pub use postgres_link::Pool;
pub use scope::{Kind, Scope};
pub use service::Service;
pub use usage::{Audited, Calls, Cost, Group, Usage, chained};

/// Opens the ledger and returns the service; it sweeps expired holds and tells of nearly spent limits as
/// long as it lives.
///
/// # Errors
/// If the ledger's address is malformed or the store cannot be opened.
pub async fn server(
    config: Config,
    metrics: &Metrics,
) -> anyhow::Result<BudgetServiceServer<Service>> {
    let webhook = config.webhook.as_ref().map(alerts::Webhook::new).transpose()?;
    let (ledger, keys) =
        open(&config).await.with_context(|| format!("budget.ledger: {}", config.shown()))?;
    tokio::spawn(sweep(Arc::downgrade(&ledger), Duration::from_millis(config.sweep_ms.max(1))));
    tokio::spawn(alerts::tell(Arc::downgrade(&ledger), webhook, alerts::Told::new(metrics)));
    Ok(BudgetServiceServer::new(Service::new(ledger, keys)))
}

type Stores = (Arc<dyn Ledger>, Arc<dyn Keys>);

async fn open(config: &Config) -> anyhow::Result<Stores> {
    let (address, clock) = (config.ledger.expose_secret(), Arc::new(SystemClock));
    let rules = config.rules()?;
    Ok(match address.split_once(':') {
        Some(("sqlite", path)) => both(Sqlite::open(path, rules, clock).await?),
        Some(("postgres" | "postgresql", _)) => {
            let reports = config.reports.as_ref().map(|url| url.expose_secret());
            let acquire = Duration::from_millis(config.acquire_ms);
            let pool = Pool { connections: config.connections, acquire };
            both(Postgres::open(address, reports, pool, rules, clock).await?)
        }
        _ => anyhow::bail!("neither sqlite:PATH nor postgres://USER:PASSWORD@HOST/DATABASE"),
    })
}

fn both<S: Ledger + Keys + 'static>(store: S) -> Stores {
    let store = Arc::new(store);
    (Arc::clone(&store) as _, store)
}

/// Ends expired holds until the service is gone. Several sweepers may run at once.
async fn sweep(ledger: std::sync::Weak<dyn Ledger>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(ledger) = ledger.upgrade() else { return };
        match ledger.expire().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "held money of expired reservations was freed"),
            Err(error) => tracing::warn!(%error, "expired reservations were not swept"),
        }
    }
}
