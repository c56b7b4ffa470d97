//! Routes, models, and who may serve a call. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use proto::router::{Circuit, ModelState, ProbeProviderResponse, ProviderState};
use types::{CallContext, Privacy};

use crate::Error;
use crate::breaker::Breaker;
use crate::call::Policy;
use crate::complexity::Need;
use crate::config::{Config, Model, Price, Timeouts, is_local};
use crate::extras::Extra;
use crate::live::Found;
use crate::prices::{Origin, Prices};
use crate::providers::Provider;
use crate::providers::extractive::Extractive;
use crate::shared::{self, Link};
use crate::site::Site;
use crate::split::Split;
use crate::stats::Stats;

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
    breaker: Mutex<Breaker>,
    stats: Mutex<Stats>,
    /// Where replicas know of each other's breakers.
    link: Option<Arc<Link>>,
}

impl Candidate {
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.provider_name, self.model.name)
    }

    /// Tells whether it is what answers when no model does.
    pub(crate) fn is_last_resort(&self) -> bool {
        self.provider_name == EXTRACTIVE
    }

    /// Tells whether it may be asked for what costs more than its price says: where nothing costs
    /// anything, or its operator has said so.
    pub(crate) fn takes(&self, extra: Extra) -> bool {
        let is_free = is_local(self.tier) && self.price == Price::default();
        !self.is_last_resort() && (is_free || self.model.extras.contains(&extra))
    }

    /// Returns its circuit breaker.
    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // A breaker is whole between any two of its statements.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether it may be asked now. Whoever gets a yes tells its breaker how it went. A probe
    /// is the only one of all replicas; no other call waits for anything.
    pub(crate) async fn allows(&self) -> bool {
        let (allowed, probes) = {
            let mut breaker = self.breaker();
            (breaker.allow(Instant::now()), breaker.is_probing())
        };
        match &self.link {
            Some(link) if allowed && probes => {
                let granted = shared::may_probe(link, &self.name()).await;
                if !granted {
                    self.breaker().leave_it(Instant::now());
                }
                granted
            }
            _ => allowed,
        }
    }

    /// Returns how it did.
    pub(crate) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how it does, and what it costs.
    fn state(&self) -> ModelState {
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

/// A place in a route's order.
#[derive(Clone)]
enum Place {
    One(Arc<Candidate>),
    Split(Arc<Split>),
}

/// Who may serve a call.
#[derive(Default)]
pub(crate) struct Chosen {
    /// In the order of trying; never nobody.
    pub(crate) candidates: Vec<Arc<Candidate>>,
    /// Why in this order.
    pub(crate) reason: String,
    /// A second may be asked while the first is late.
    pub(crate) hedges: bool,
}

/// Everything that `model` in a request may name.
pub(crate) struct Catalog {
    candidates: Vec<Arc<Candidate>>,
    routes: BTreeMap<String, Vec<Place>>,
    hedged: BTreeSet<String>,
    /// `auto` is ours: each call's need decides its order.
    decides: bool,
    /// Configured providers by name.
    sites: BTreeMap<String, Arc<Site>>,
    /// What the operator decides for every call.
    pub(crate) policy: Policy,
}

impl Catalog {
    /// Makes it from a configuration. What is as it was in the catalog `before` is the same still: its
    /// connections, its circuit breaker, its statistics.
    ///
    /// # Errors
    /// If a name, tier, address, price or route is wrong.
    pub(crate) fn new(
        config: &Config,
        prices: &Prices,
        before: Option<&Self>,
        link: Option<&Arc<Link>>,
    ) -> anyhow::Result<Self> {
        let (mut candidates, mut sites) = (Vec::new(), BTreeMap::new());
        let networks: Arc<[IpNet]> = config.local_networks.clone().into();
        if let Some(tier) =
            config.timeouts.tiers.keys().find(|tier| !TIERS.contains(&tier.as_str()))
        {
            bail!("router.timeouts.tiers.{tier}: tiers are 0 to 4");
        }
        for (name, provider) in &config.providers {
            if provider.tier > 4 || name.contains('/') || name == EXTRACTIVE {
                bail!(
                    "router.providers.{name}: the tier must be 0 to 4, the name free of '/' and not \"extractive\""
                );
            }
            let timeouts = config.timeouts.of_tier(provider.tier);
            let known = before.and_then(|before| before.sites.get(name));
            let known = known.filter(|known| known.leads_to(provider, &timeouts, &networks));
            let site = match known {
                Some(known) => Arc::clone(known),
                None => Arc::new(Site::open(name, provider, timeouts, Arc::clone(&networks))?),
            };
            let discount =
                provider.batch_discount().with_context(|| format!("router.providers.{name}"))?;
            let new = |model: &Model| {
                let (model, origin) = prices.complete(provider, model);
                Ok(Candidate {
                    provider_name: name.clone(),
                    tier: provider.tier,
                    price: model
                        .price(provider.tier)
                        .with_context(|| format!("router.providers.{name}"))?,
                    model,
                    origin,
                    timeouts: site.timeouts.clone(),
                    provider: Arc::clone(&site.provider),
                    discount,
                    breaker: Mutex::default(),
                    stats: Mutex::default(),
                    link: link.cloned(),
                })
            };
            let said = provider.models.iter().map(new).collect::<anyhow::Result<Vec<_>>>()?;
            // A listed model whose price nobody knows is not offered.
            let listed = site.listed_models(provider).into_iter();
            let listed = listed.filter_map(|model| new(&model).ok());
            candidates.extend(said.into_iter().chain(listed).map(|one| kept(one, before)));
            sites.insert(name.clone(), site);
        }
        let extractive = Candidate {
            provider_name: EXTRACTIVE.to_owned(),
            model: Model { vision: false, ..Model::free("extractive".to_owned()) },
            tier: 0,
            price: Price::default(),
            origin: None,
            timeouts: config.timeouts.of_tier(0),
            provider: before.map_or_else(
                || Arc::new(Extractive) as Arc<dyn Provider>,
                |before| {
                    let known = before.candidates.iter().find(|known| known.is_last_resort());
                    known.map_or_else(
                        || Arc::new(Extractive) as _,
                        |known| Arc::clone(&known.provider),
                    )
                },
            ),
            discount: None,
            breaker: Mutex::default(),
            stats: Mutex::default(),
            link: None,
        };
        let extractive = kept(extractive, before);
        let find = |place: String, name: &String| {
            let found = candidates.iter().find(|known| known.name() == *name);
            // It may be listed later.
            let site = name.split_once('/').and_then(|(site, _)| sites.get(site));
            if found.is_none() && site.is_some_and(|site: &Arc<Site>| site.lists()) {
                return Ok(None);
            }
            found
                .cloned()
                .map(Some)
                .with_context(|| format!("{place}: {name:?} is no configured provider/model"))
        };
        let mut splits = BTreeMap::new();
        for (name, weights) in &config.splits {
            let at = || format!("router.splits.{name}");
            if name.contains('/') || weights.is_empty() || weights.values().any(|w| *w == 0) {
                bail!("{}: its name must be free of '/', its weights above 0", at());
            }
            let member = |(one, weight): (&String, &u32)| {
                Ok(find(at(), one)?.map(|candidate| (candidate, *weight)))
            };
            let members: anyhow::Result<Vec<_>> = weights.iter().map(member).collect();
            let members = members?.into_iter().flatten().collect();
            splits.insert(name, Arc::new(Split { name: name.clone(), members }));
        }
        let mut routes = BTreeMap::new();
        for (name, wanted) in &config.routes {
            let place = |place: &String| match splits.get(place) {
                Some(split) => Ok(Some(Place::Split(Arc::clone(split)))),
                None => Ok(find(format!("router.routes.{name}"), place)?.map(Place::One)),
            };
            let route: anyhow::Result<Vec<_>> = wanted.iter().map(place).collect();
            routes.insert(name.clone(), route?.into_iter().flatten().collect::<Vec<_>>());
        }
        let decides = routes.is_empty();
        if decides {
            let of_tiers = |tiers: &[u32]| -> Vec<_> {
                let mut chosen: Vec<_> =
                    candidates.iter().filter(|c| tiers.contains(&c.tier)).cloned().collect();
                chosen.sort_by_key(|c| tiers.iter().position(|tier| *tier == c.tier));
                chosen.into_iter().map(Place::One).collect()
            };
            routes.insert("auto".to_owned(), of_tiers(&preferred(0)));
            routes.insert("fast".to_owned(), of_tiers(&[0, 1]));
            routes.insert("smart".to_owned(), of_tiers(&preferred(3)));
            routes.insert("vision".to_owned(), of_tiers(&preferred(2)));
            routes.insert("batch".to_owned(), of_tiers(&preferred(4)));
        }
        for route in routes.values_mut() {
            // Always the last resort, so that a machine with no model answers too.
            route.push(Place::One(Arc::clone(&extractive)));
        }
        if let Some(name) = config.hedged_routes.iter().find(|name| !routes.contains_key(*name)) {
            bail!("router.hedged_routes: {name:?} is no route");
        }
        candidates.push(extractive);
        let hedged = config.hedged_routes.clone();
        let policy = Policy { on_disconnect: config.on_disconnect, retries: config.retries };
        Ok(Self { candidates, routes, hedged, decides, sites, policy })
    }

    /// Returns who may serve `model`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name, [`Error::NothingLocal`] if privacy leaves nobody.
    pub(crate) fn select(
        &self,
        model: &str,
        context: &CallContext,
        need: impl FnOnce() -> Need,
    ) -> Result<Chosen, Error> {
        let (mut candidates, reason) = match self.routes.get(model) {
            Some(route) => {
                let (mut candidates, shares) = in_order(route, context);
                let reason = match self.decides && model == "auto" {
                    true => sort(&mut candidates, &need()),
                    false => format!("the route's order{shares}"),
                };
                (candidates, reason)
            }
            None => {
                let named = |c: &&Arc<Candidate>| c.model.name == model || c.name() == model;
                let candidates: Vec<_> = self.candidates.iter().filter(named).cloned().collect();
                (candidates, "named by the client".to_owned())
            }
        };
        if candidates.is_empty() {
            let names = self.names().map(|name| name.0).collect();
            let near = nearest(names, model).join(", ");
            return Err(Error::Invalid(format!("/model: {model:?} is unknown; near are {near}")));
        }
        candidates.retain(|c| context.privacy == Privacy::Public || is_local(c.tier));
        match candidates.is_empty() {
            true => Err(Error::NothingLocal(model.to_owned())),
            false => Ok(Chosen { candidates, reason, hedges: self.hedged.contains(model) }),
        }
    }

    /// Returns those whose breakers replicas share: all but the last resort.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Arc<Candidate>> {
        self.candidates.iter().filter(|candidate| candidate.link.is_some())
    }

    /// Tells whether a request may call its `model` so.
    pub(crate) fn knows(&self, model: &str) -> bool {
        let named = |c: &Arc<Candidate>| c.model.name == model || c.name() == model;
        self.routes.contains_key(model) || self.candidates.iter().any(named)
    }

    /// Tells whether a request for embeddings may call its `model` so.
    pub(crate) fn embeds(&self, model: &str) -> bool {
        let named = |c: &&Arc<Candidate>| c.model.name == model || c.name() == model;
        let embeds = |c: &Arc<Candidate>| c.model.embeddings;
        match self.routes.get(model) {
            Some(route) => route.iter().any(|place| match place {
                Place::One(candidate) => embeds(candidate),
                Place::Split(split) => split.members.iter().any(|(member, _)| embeds(member)),
            }),
            None => self.candidates.iter().filter(named).any(embeds),
        }
    }

    /// Returns who is called `name` and has a batch API in use.
    pub(crate) fn with_batches(&self, name: &str) -> Option<&Arc<Candidate>> {
        self.candidates.iter().find(|c| c.discount.is_some() && c.name() == name)
    }

    /// Tells whether anybody's batch API is in use.
    pub(crate) fn has_batches(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.discount.is_some())
    }

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

    /// Returns the configured providers.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.sites.values()
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

    fn has(&self, candidate: &Arc<Candidate>) -> bool {
        self.candidates.iter().any(|one| Arc::ptr_eq(one, candidate))
    }

    /// Returns every name with its owner and tier, routes first.
    pub(crate) fn names(&self) -> impl Iterator<Item = (String, String, u32)> {
        let tier = |route: &[Place]| match route.first() {
            Some(Place::One(first)) => first.tier,
            Some(Place::Split(split)) => split.members.first().map_or(0, |(first, _)| first.tier),
            None => 0,
        };
        let routes = self.routes.iter();
        let routes =
            routes.map(move |(name, route)| (name.clone(), "baton".to_owned(), tier(route)));
        let models = self.candidates.iter();
        routes.chain(models.map(|c| (c.name(), c.provider_name.clone(), c.tier)))
    }
}

/// Returns a route's candidates for a caller, and what it says of its splits.
fn in_order(route: &[Place], context: &CallContext) -> (Vec<Arc<Candidate>>, String) {
    let (mut candidates, mut shares) = (Vec::new(), String::new());
    for place in route {
        match place {
            Place::One(candidate) => candidates.push(Arc::clone(candidate)),
            Place::Split(split) => {
                let members = split.of(&format!("{}/{}", context.tenant, context.user));
                if let Some(first) = members.first() {
                    let (name, share) = (&split.name, split.share(first));
                    shares.push_str(&format!("; {name}: {} ({share})", first.name()));
                }
                candidates.extend(members);
            }
        }
    }
    (candidates, shares)
}

/// Puts those first that do for what a call needs, and says why.
fn sort(candidates: &mut [Arc<Candidate>], need: &Need) -> String {
    let tiers = preferred(need.tier);
    candidates.sort_by_key(|candidate| {
        let tier = tiers.iter().position(|tier| *tier == candidate.tier);
        (candidate.is_last_resort(), tier)
    });
    format!("{}: tier {}", need.reason, need.tier)
}

/// Returns the candidate of the catalog `before` when it is the same as this new one.
fn kept(new: Candidate, before: Option<&Catalog>) -> Arc<Candidate> {
    let known = before.into_iter().flat_map(|before| &before.candidates);
    let same = |known: &&Arc<Candidate>| {
        Arc::ptr_eq(&known.provider, &new.provider)
            && known.provider_name == new.provider_name
            && known.model == new.model
            && (known.price, &known.origin) == (new.price, &new.origin)
            && known.discount == new.discount
            && known.timeouts == new.timeouts
    };
    known.into_iter().find(same).map_or_else(|| Arc::new(new), Arc::clone)
}

/// Returns the three of `names` that are most like `wanted`.
fn nearest(mut names: Vec<String>, wanted: &str) -> Vec<String> {
    let like = |name: &String| {
        let own = name.rsplit('/').next().unwrap_or_default();
        strsim::jaro_winkler(name, wanted).max(strsim::jaro_winkler(own, wanted))
    };
    names.sort_by(|a, b| like(b).total_cmp(&like(a)));
    names.truncate(3);
    names
}

/// The provider that needs no model; always the last resort.
const EXTRACTIVE: &str = "extractive";

/// The tiers, as they are written.
const TIERS: [&str; 5] = ["0", "1", "2", "3", "4"];

/// Returns the tiers in the order in which they do for a call that needs `tier`: it, abler ones,
/// lesser ones. The batch tier is for those that ask for it.
fn preferred(tier: u32) -> [u32; 5] {
    match tier {
        0 => [0, 2, 1, 3, 4],
        1 => [1, 3, 0, 2, 4],
        2 => [2, 3, 1, 0, 4],
        3 => [3, 1, 0, 2, 4],
        _ => [4, 1, 3, 0, 2],
    }
}

#[cfg(test)]
mod tests {
    use types::{TenantId, UserId};

    use super::*;

    fn catalog(toml: &str) -> anyhow::Result<Catalog> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let config = runtime::config::load(Some(file.path())).unwrap();
        Catalog::new(&config, &Prices::default(), None, None)
    }

    const TWO: &str = "[providers.cloud]\nkind='openai'\nbase_url='http://127.0.0.1:1/v1'\ntier=1\n\
        models=[{name='big', input_usd_per_million='1', output_usd_per_million='2'}]\n\
        [providers.here]\nkind='openai'\nbase_url='http://127.0.0.1:1/v1'\ntier=0\nmodels=[{name='small'}]\n";

    fn names(catalog: &Catalog, model: &str, privacy: Privacy) -> Vec<String> {
        let chosen = catalog.select(model, &caller("ada", privacy), need(0)).unwrap();
        chosen.candidates.iter().map(|c| c.name()).collect()
    }

    fn caller(user: &str, privacy: Privacy) -> CallContext {
        let (tenant, user) = (TenantId::new("acme").unwrap(), UserId::new(user).unwrap());
        CallContext { privacy, ..CallContext::new(tenant, user) }
    }

    fn need(tier: u32) -> impl FnOnce() -> Need {
        move || Need { tier, reason: "a test".to_owned() }
    }

    #[test]
    fn a_route_tries_in_order_and_the_extractive_provider_last() {
        let catalog = catalog(TWO).unwrap();
        let auto = names(&catalog, "auto", Privacy::Public);
        assert_eq!(auto, ["here/small", "cloud/big", "extractive/extractive"]);
        assert_eq!(names(&catalog, "big", Privacy::Public), ["cloud/big"]);
        assert_eq!(names(&catalog, "cloud/big", Privacy::Public), ["cloud/big"]);
        let unknown = catalog.select("none", &caller("ada", Privacy::Public), need(0));
        assert!(matches!(unknown, Err(Error::Invalid(_))));
    }

    #[test]
    fn auto_begins_where_the_call_needs_it() {
        let catalog = catalog(TWO).unwrap();
        let chosen = catalog.select("auto", &caller("ada", Privacy::Public), need(3)).unwrap();
        let names: Vec<_> = chosen.candidates.iter().map(|c| c.name()).collect();
        assert_eq!(names, ["cloud/big", "here/small", "extractive/extractive"]);
        assert_eq!(chosen.reason, "a test: tier 3");
    }

    #[test]
    fn a_private_call_stays_here_or_is_refused() {
        let catalog = catalog(TWO).unwrap();
        let auto = names(&catalog, "auto", Privacy::Private);
        assert_eq!(auto, ["here/small", "extractive/extractive"]);
        assert!(matches!(
            catalog.select("big", &caller("ada", Privacy::Private), need(0)),
            Err(Error::NothingLocal(_))
        ));
    }

    #[test]
    fn a_local_tier_at_a_foreign_address_is_refused_at_start() {
        let provider = |url: &str, more: &str| {
            catalog(&format!(
                "{more}\n[providers.here]\nkind='openai'\nbase_url='{url}'\ntier=0\nmodels=[]\n"
            ))
        };
        let fault = provider("http://203.0.113.7/v1", "").err().unwrap();
        assert!(format!("{fault:#}").contains("tier 0 is for local addresses"), "{fault:#}");
        assert!(provider("http://10.1.2.3/v1", "local_networks=['10.1.0.0/16']").is_ok());
    }

    #[test]
    fn a_split_gives_a_user_the_same_model_each_time_and_says_so() {
        let catalog = catalog(&format!(
            "{TWO}[routes]\nr = ['new', 'here/small']\n[splits.new]\n'cloud/big' = 9\n'here/small' = 1\n"
        ));
        let catalog = catalog.unwrap();
        let mut firsts = BTreeMap::<String, u32>::new();
        for user in 0..200 {
            let caller = caller(&user.to_string(), Privacy::Public);
            let chosen = || catalog.select("r", &caller, need(0)).unwrap();
            let (first, reason) = (chosen().candidates[0].name(), chosen().reason);
            assert_eq!(chosen().candidates[0].name(), first);
            let share = if first == "cloud/big" { 9 } else { 1 };
            assert_eq!(reason, format!("the route's order; new: {first} ({share} of 10)"));
            *firsts.entry(first).or_default() += 1;
        }
        assert!((10..40).contains(&firsts["here/small"]), "{firsts:?}");
        for fault in ["[splits.a]", "[splits.a]\n'x/y' = 1", "[splits.'a/b']\n'here/small' = 1"] {
            assert!(super::tests::catalog(&format!("{TWO}{fault}")).is_err(), "{fault}");
        }
    }

    #[test]
    fn what_did_not_change_is_the_same_in_the_next_catalog() {
        let config = |toml: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), toml).unwrap();
            runtime::config::load::<Config>(Some(file.path())).unwrap()
        };
        let prices = Prices::default();
        let before = Catalog::new(&config(TWO), &prices, None, None).unwrap();
        for (toml, same) in [
            (TWO.to_owned(), ["cloud/big", "here/small", "extractive/extractive"].as_slice()),
            (TWO.replace("'1'", "'3'"), &["here/small", "extractive/extractive"]),
            (
                TWO.replacen("127.0.0.1:1", "127.0.0.1:2", 1),
                &["here/small", "extractive/extractive"],
            ),
            (format!("timeouts={{idle_ms=7}}\n{TWO}"), &[]),
            (
                TWO.replace("tier=0", "tier=0\nlist_models=true"),
                &["cloud/big", "extractive/extractive"],
            ),
        ] {
            let after = Catalog::new(&config(&toml), &prices, Some(&before), None).unwrap();
            let kept = after.candidates.iter().filter(|candidate| before.has(candidate));
            let kept: Vec<String> = kept.map(|candidate| candidate.name()).collect();
            assert_eq!(kept, same, "{toml}");
        }
    }

    #[test]
    fn a_route_to_nowhere_is_refused_at_start() {
        let fault = catalog("[routes]\nauto = ['a/b']").err().unwrap().to_string();
        assert_eq!(fault, "router.routes.auto: \"a/b\" is no configured provider/model");
    }
}
