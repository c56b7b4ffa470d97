//! A configured provider: the way to it, which models it lists, what a probe finds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use egress::Reach;
use ipnet::IpNet;
use proto::router::ProbeProviderResponse;
use secrecy::ExposeSecret as _;

use crate::config::{self, Kind, Model, Timeouts, is_local, is_passed_on};
use crate::providers::anthropic::Anthropic;
use crate::providers::gemini::Gemini;
use crate::providers::openai::OpenAi;
use crate::providers::{Fault, Provider};

/// How long a provider may take to name its models.
const WAIT: Duration = Duration::from_secs(2);

/// How soon a provider that did not name its models is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long what a probe found is told to whoever asks next.
const FRESH: Duration = Duration::from_secs(1);

/// A provider as the configuration has it. Lives as long as nothing in it changes.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) timeouts: Timeouts,
    given: config::Provider,
    networks: Arc<[IpNet]>,
    listed: Mutex<Listed>,
    /// One probe at a time, and what it found.
    probed: tokio::sync::Mutex<Option<(Instant, ProbeProviderResponse)>>,
}

/// What a provider said last about its models.
#[derive(Default)]
struct Listed {
    names: Vec<String>,
    /// Why it did not say the last time.
    fault: Option<String>,
    /// When to ask again.
    due: Option<Instant>,
}

impl Site {
    /// Prepares the way to a provider.
    ///
    /// # Errors
    /// If its name, tier, address, key or one of its models cannot be.
    pub(crate) fn open(
        name: &str,
        given: &config::Provider,
        timeouts: Timeouts,
        networks: Arc<[IpNet]>,
    ) -> anyhow::Result<Self> {
        let local = is_local(given.tier);
        let passed_on = given.models.iter().find(|model| local && is_passed_on(&model.name));
        if let Some(model) = passed_on {
            bail!(
                "router.providers.{name}: model {:?} is passed on to a cloud: not of tier {}",
                model.name,
                given.tier
            );
        }
        let reach = match local {
            true => Reach::Local(Arc::clone(&networks)),
            false => Reach::Anywhere,
        };
        let provider: Arc<dyn Provider> = match given.kind {
            Kind::Openai => Arc::new(OpenAi::new(name, given, &timeouts, reach)?),
            Kind::Gemini => Arc::new(Gemini::new(name, given, &timeouts, reach)?),
            Kind::Anthropic => Arc::new(Anthropic::new(name, given, &timeouts, reach)?),
        };
        Ok(Self {
            name: name.to_owned(),
            provider,
            timeouts,
            given: given.clone(),
            networks,
            listed: Mutex::default(),
            probed: tokio::sync::Mutex::default(),
        })
    }

    /// Tells whether the way to it is what a configuration says; its models may be others.
    pub(crate) fn leads_to(
        &self,
        given: &config::Provider,
        timeouts: &Timeouts,
        networks: &[IpNet],
    ) -> bool {
        let key = |provider: &config::Provider| {
            provider.api_key.as_ref().map(|key| key.expose_secret().to_owned())
        };
        let of = |one: &config::Provider| (one.kind, one.tier, one.list_models);
        of(&self.given) == of(given)
            && self.given.base_url == given.base_url
            && key(&self.given) == key(given)
            && self.timeouts == *timeouts
            && *self.networks == *networks
    }

    pub(crate) fn tier(&self) -> u32 {
        self.given.tier
    }

    /// Tells whether it is asked which models it has.
    pub(crate) fn lists(&self) -> bool {
        self.given.list_models
    }

    /// Returns why it did not name its models the last time.
    pub(crate) fn fault(&self) -> Option<String> {
        self.listed().fault.clone()
    }

    /// Returns the models that it listed and may be used, beside those that `given` names.
    pub(crate) fn listed_models(&self, given: &config::Provider) -> Vec<Model> {
        let local = is_local(self.given.tier);
        let listed = self.listed();
        let names = listed.names.iter().filter(|name| {
            let named = given.models.iter().any(|model| model.name == **name);
            !(named || local && is_passed_on(name))
        });
        // Embedding models do not converse; nothing but their names tells them apart here.
        names
            .map(|name| Model { embeddings: name.contains("embed"), ..Model::free(name.clone()) })
            .collect()
    }

    /// Asks it for its models if that is due; those of before stay when it does not answer. Tells
    /// whether they are others now.
    pub(crate) async fn refresh(&self, every: Duration) -> bool {
        if !self.lists() || self.listed().due.is_some_and(|due| Instant::now() < due) {
            return false;
        }
        let told = self.list().await;
        let mut listed = self.listed();
        match told {
            Ok(names) => {
                let changed = listed.names != names;
                *listed = Listed { names, fault: None, due: Some(Instant::now() + every) };
                changed
            }
            Err(fault) => {
                listed.fault = Some(fault.to_string());
                listed.due = Some(Instant::now() + every.min(AGAIN));
                false
            }
        }
    }

    /// Returns when it is to be asked for its models next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.lists().then(|| self.listed().due.unwrap_or_else(Instant::now))
    }

    /// Asks it for its models, which costs nothing; whoever asks within a second is told the same.
    pub(crate) async fn probe(&self, wanted: &[String]) -> ProbeProviderResponse {
        let mut probed = self.probed.lock().await;
        if let Some((at, found)) = &*probed
            && at.elapsed() < FRESH
        {
            return found.clone();
        }
        let begun = Instant::now();
        let told = self.list().await;
        let latency_micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let found = match told {
            Ok(names) => {
                let (found, missing) =
                    wanted.iter().cloned().partition(|wanted| names.contains(wanted));
                let listed = names.len().try_into().unwrap_or(u32::MAX);
                let fault = String::new();
                ProbeProviderResponse {
                    reachable: true,
                    latency_micros,
                    found,
                    missing,
                    listed,
                    fault,
                }
            }
            Err(fault) => ProbeProviderResponse {
                latency_micros,
                missing: wanted.to_vec(),
                fault: fault.to_string(),
                ..ProbeProviderResponse::default()
            },
        };
        *probed = Some((Instant::now(), found.clone()));
        found
    }

    async fn list(&self) -> Result<Vec<String>, Fault> {
        let late = |_| Fault::Provider(format!("no list of models within {} ms", WAIT.as_millis()));
        tokio::time::timeout(WAIT, self.provider.list()).await.map_err(late)?
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        // It is replaced whole.
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
