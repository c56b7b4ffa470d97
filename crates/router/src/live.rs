//! What the router goes by now, and how that is replaced while calls are in flight.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::ending::Ending;
use crate::prices::Prices;
use crate::shared;
use crate::site::Site;
use redis_link::Link;

/// How long a start waits for providers to name their models.
const AT_START: Duration = Duration::from_secs(1);

/// What of `[router]` holds without a restart.
pub const RELOADED: [&str; 11] = [
    "router.providers",
    "router.routes",
    "router.splits",
    "router.hedged_routes",
    "router.timeouts",
    "router.on_disconnect",
    "router.free_when_down",
    "router.retries",
    "router.local_networks",
    "router.prices",
    "router.list_models_ms",
];

/// Replaces what a running router goes by, and ends it.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a configuration has secrets")]
pub struct Control {
    pub(crate) live: Arc<Live>,
    pub(crate) ending: Ending,
}

/// A provider that was asked for its models, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The provider.
    pub provider: String,
    /// Its models, configured or listed.
    pub models: Vec<String>,
    /// Why it did not say.
    pub fault: Option<String>,
}

impl Control {
    /// Takes a configuration for the calls that begin from now on; those in flight end as they began.
    /// What did not change of a candidate keeps its circuit breaker and its statistics.
    ///
    /// # Errors
    /// If it is not good; the old one stays.
    pub fn apply(&self, config: Config) -> anyhow::Result<()> {
        self.live.apply(config)
    }

    /// Returns the files that were read beside the configuration.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.live.rules().config.prices.iter().cloned().collect()
    }

    /// Waits, for at most `router.shutdown_ms`, until what was asked is paid, also where nobody waits
    /// for it any more. To be called when no more calls come.
    pub async fn finish(&self) {
        self.ending.come().await;
    }

    /// Returns every provider with its models.
    #[must_use]
    pub fn found(&self) -> Vec<Found> {
        self.live.now().found()
    }
}

/// The catalog that calls are planned with.
pub(crate) struct Live {
    now: RwLock<Arc<Catalog>>,
    rules: Mutex<Rules>,
    /// Providers may have to be asked for their models.
    changed: Arc<Notify>,
}

/// What a catalog is made from.
struct Rules {
    config: Config,
    prices: Prices,
    /// Where replicas know of each other's breakers; it needs a restart.
    link: Option<Arc<Link>>,
}

impl Live {
    /// Checks a configuration and asks for models what lists them.
    ///
    /// # Errors
    /// As [`Catalog::new`].
    pub(crate) async fn start(
        config: Config,
        link: Option<Arc<Link>>,
    ) -> anyhow::Result<Arc<Self>> {
        let prices = Prices::load(config.prices.as_deref())?;
        let catalog = Catalog::new(&config, &prices, None, link.as_ref())?;
        let live = Arc::new(Self {
            now: RwLock::new(Arc::new(catalog)),
            rules: Mutex::new(Rules { config, prices, link }),
            changed: Arc::default(),
        });
        // Who is late is waited for behind the start.
        let _ = tokio::time::timeout(AT_START, live.refresh()).await;
        live.rebuild();
        live.now().log_prices(None);
        if let Some(link) = &live.rules().link {
            let live = Arc::downgrade(&live);
            shared::share(move || live.upgrade().map(|live| live.now()), link);
        }
        tokio::spawn(keep_listed(Arc::downgrade(&live), Arc::clone(&live.changed)));
        Ok(live)
    }

    /// Returns what holds now.
    pub(crate) fn now(&self) -> Arc<Catalog> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply(&self, config: Config) -> anyhow::Result<()> {
        let mut rules = self.rules();
        let prices = Prices::load(config.prices.as_deref())?;
        let before = self.now();
        let catalog = Arc::new(Catalog::new(&config, &prices, Some(&before), rules.link.as_ref())?);
        catalog.log_prices(Some(&before));
        (rules.config, rules.prices) = (config, prices);
        self.replace(catalog);
        drop(rules);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes in what providers have listed since.
    fn rebuild(&self) {
        let rules = self.rules();
        let before = self.now();
        match Catalog::new(&rules.config, &rules.prices, Some(&before), rules.link.as_ref()) {
            Ok(catalog) => {
                catalog.log_prices(Some(&before));
                self.replace(Arc::new(catalog));
            }
            Err(fault) => tracing::error!(%fault, "listed models are not taken"),
        }
    }

    fn replace(&self, catalog: Arc<Catalog>) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = catalog;
    }

    /// Asks all providers at once that are due; tells whether one has other models now.
    async fn refresh(&self) -> bool {
        let every = Duration::from_millis(self.rules().config.list_models_ms.max(100));
        let catalog = self.now();
        let asked = catalog.sites().map(|site: &Arc<Site>| site.refresh(every));
        futures::future::join_all(asked).await.contains(&true)
    }

    fn due(&self) -> Option<Instant> {
        self.now().sites().filter_map(|site| site.due()).min()
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        // It is replaced whole.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks providers for their models when that is due, for as long as anybody serves.
async fn keep_listed(live: Weak<Live>, changed: Arc<Notify>) {
    loop {
        let Some(due) = live.upgrade().map(|live| live.due()) else { return };
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        // Without a provider that lists, it looks now and then whether it is over.
        let wait = wait.unwrap_or(Duration::from_secs(60));
        let _ = tokio::time::timeout(wait, changed.notified()).await;
        let Some(live) = live.upgrade() else { return };
        if live.refresh().await {
            live.rebuild();
        }
    }
}
