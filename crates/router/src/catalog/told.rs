//! What is told of providers: how they do, and what they list.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::router::{ProbeProviderResponse, ProviderState};
use types::Privacy;

use super::{Candidate, Catalog, EXTRACTIVE, nearest};
use crate::Error;
use crate::config::is_local;
use crate::live::Found;
use crate::prices::Origin;
use crate::providers::http::NOBODY;
use crate::site::Site;

impl Catalog {
    /// Returns every provider with how its models do, by name.
    pub(crate) fn providers(&self) -> Vec<ProviderState> {
        let new = |name: &str, tier| ProviderState {
            name: name.to_owned(),
            tier,
            ..ProviderState::default()
        };
        let mut providers: BTreeMap<String, ProviderState> = BTreeMap::new();
        for (name, site) in &self.sites {
            let fault = site.fault().unwrap_or_default();
            let state = ProviderState { lists: site.lists(), fault, ..new(name, site.tier()) };
            providers.insert(name.clone(), state);
        }
        for candidate in &self.candidates {
            let name = &candidate.provider_name;
            let provider =
                providers.entry(name.clone()).or_insert_with(|| new(name, candidate.tier));
            provider.models.push(candidate.state());
        }
        for one in providers.values_mut() {
            // Nobody has said that it has models, nor has it.
            let is_idle = is_local(one.tier) && one.lists && one.models.is_empty();
            one.absent = is_idle && one.fault == NOBODY;
            if one.absent {
                one.fault.clear();
            }
        }
        providers.into_values().collect()
    }

    /// Asks a provider which models it has; never for an answer.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`], or [`Error::NothingLocal`] for a private call to what is not local.
    pub(crate) async fn probe(
        &self,
        name: &str,
        privacy: Privacy,
    ) -> Result<ProbeProviderResponse, Error> {
        let models = self.candidates.iter().filter(|one| one.provider_name == name);
        let wanted: Vec<String> = models.map(|one| one.model.name.clone()).collect();
        let site = match self.sites.get(name) {
            Some(site) if privacy == Privacy::Private && !is_local(site.tier()) => {
                return Err(Error::NothingLocal(name.to_owned()));
            }
            Some(site) => site,
            // It is a part of this program.
            None if name == EXTRACTIVE => {
                let listed = wanted.len().try_into().unwrap_or(u32::MAX);
                let nothing = ProbeProviderResponse::default();
                return Ok(ProbeProviderResponse {
                    reachable: true,
                    found: wanted,
                    listed,
                    ..nothing
                });
            }
            None => {
                let names = self.sites.keys().map(String::as_str).chain([EXTRACTIVE]);
                let near = nearest(names.map(str::to_owned).collect(), name).join(", ");
                let fault = format!("provider {name:?} is unknown; near are {near}");
                return Err(Error::UnknownProvider(fault));
            }
        };
        Ok(site.probe(&wanted).await)
    }

    /// Returns each configured provider with its models.
    pub(crate) fn found(&self) -> Vec<Found> {
        let of = |site: &Arc<Site>| {
            let models = self.candidates.iter().filter(|one| one.provider_name == site.name);
            Found {
                provider: site.name.clone(),
                models: models.map(|one| one.model.name.clone()).collect(),
                fault: site.fault(),
            }
        };
        self.sites().map(of).collect()
    }

    /// Says which prices come from a table, a line each, but for those of the catalog `before`.
    pub(crate) fn log_prices(&self, before: Option<&Self>) {
        for candidate in &self.candidates {
            let told = before.is_some_and(|before| before.has(candidate));
            if let (Some(Origin { source, date }), false) = (&candidate.origin, told) {
                let model = candidate.name();
                tracing::info!(model, %source, %date, "its price is from the table");
            }
        }
    }

    pub(super) fn has(&self, candidate: &Arc<Candidate>) -> bool {
        self.candidates.iter().any(|one| Arc::ptr_eq(one, candidate))
    }
}
