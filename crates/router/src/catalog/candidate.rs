//! A model at a provider.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use proto::router::{Circuit, ModelState};

use super::EXTRACTIVE;
use crate::breaker::{Breaker, Permit};
use crate::config::{Model, Price, Timeouts, is_local};
use crate::extras::Extra;
use crate::prices::Origin;
use crate::providers::Provider;
use crate::shared;
use crate::stats::Stats;
use redis_link::Link;

/// A model at a provider.
pub(crate) struct Candidate {
    pub(crate) provider_name: String,
    pub(crate) model: Model,
    pub(crate) tier: u32,
    pub(crate) price: Price,
    /// Where the price comes from, when it is not the configuration.
    pub(crate) origin: Option<Origin>,
    pub(crate) timeouts: Timeouts,
    pub(crate) provider: Arc<dyn Provider>,
    /// By how many percent its batch API is cheaper, if that is in use.
    pub(crate) discount: Option<u32>,
    pub(super) breaker: Mutex<Breaker>,
    pub(super) stats: Mutex<Stats>,
    /// Where replicas know of each other's breakers.
    pub(super) link: Option<Arc<Link>>,
}

impl Candidate {
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.provider_name, self.model.name)
    }

    /// Tells whether it is what answers when no model does.
    pub(crate) fn is_last_resort(&self) -> bool {
        self.provider_name == EXTRACTIVE
    }

    /// Tells whether it is local and costs nothing.
    pub(crate) fn is_free_here(&self) -> bool {
        is_local(self.tier) && self.price == Price::default()
    }

    /// Tells whether it may be asked for what costs more than its price says: where nothing costs
    /// anything, or its operator has said so.
    pub(crate) fn takes(&self, extra: Extra) -> bool {
        !self.is_last_resort() && (self.is_free_here() || self.model.extras.contains(&extra))
    }

    /// Returns its circuit breaker.
    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // A breaker is whole between any two of its statements.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a permit if it may be asked now. Whoever gets one tells its breaker how it went. A probe
    /// is the only one of all replicas; no other call waits for anything.
    pub(crate) async fn allows(&self) -> Option<Permit> {
        let (permit, probes) = {
            let mut breaker = self.breaker();
            let permit = breaker.allow(Instant::now())?;
            (permit, breaker.is_probe(permit))
        };
        match &self.link {
            Some(link) if probes && !shared::may_probe(link, &self.name()).await => {
                self.breaker().leave_it(permit, Instant::now());
                None
            }
            _ => Some(permit),
        }
    }

    /// Returns how it did.
    pub(crate) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how it does, and what it costs.
    pub(super) fn state(&self) -> ModelState {
        let (stats, price, origin) = (self.stats(), &self.price, self.origin.as_ref());
        ModelState {
            name: self.model.name.clone(),
            circuit: self.circuit().into(),
            calls: stats.calls,
            answered: stats.answered,
            p50_micros: stats.percentile(50),
            p95_micros: stats.percentile(95),
            embeddings: self.model.embeddings,
            price: Some(proto::router::Price {
                input_nanos: price.input.nanos(),
                cached_input_nanos: price.cached.nanos(),
                cache_write_nanos: price.stored.nanos(),
                output_nanos: price.output.nanos(),
                reasoning_nanos: price.reasoning.nanos(),
                source: origin.map(|origin| origin.source.to_string()).unwrap_or_default(),
                date: origin.map(|origin| origin.date.to_string()).unwrap_or_default(),
            }),
        }
    }

    /// Returns how its circuit breaker stands.
    pub(crate) fn circuit(&self) -> Circuit {
        self.breaker().state(Instant::now())
    }
}
