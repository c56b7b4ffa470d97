//! Routes, models, and who may serve a call. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, bail};
use egress::Reach;
use ipnet::IpNet;
use proto::router::{Circuit, ModelState, ProviderState};
use types::{CallContext, Privacy};

use crate::Error;
use crate::breaker::Breaker;
use crate::complexity::Need;
use crate::config::{Config, Kind, Model, Price, Timeouts, is_local, is_passed_on};
use crate::providers::Provider;
use crate::providers::anthropic::Anthropic;
use crate::providers::extractive::Extractive;
use crate::providers::gemini::Gemini;
use crate::providers::openai::OpenAi;
use crate::split::Split;
use crate::stats::Stats;

/// A model at a provider.
pub(crate) struct Candidate {
    pub(crate) provider_name: String,
    pub(crate) model: Model,
    pub(crate) tier: u32,
    pub(crate) price: Price,
    pub(crate) timeouts: Timeouts,
    pub(crate) provider: Arc<dyn Provider>,
    breaker: Mutex<Breaker>,
    stats: Mutex<Stats>,
}

impl Candidate {
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.provider_name, self.model.name)
    }

    /// Tells whether it is what answers when no model does.
    pub(crate) fn is_last_resort(&self) -> bool {
        self.provider_name == EXTRACTIVE
    }

    /// Returns its circuit breaker.
    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // A breaker is whole between any two of its statements.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how it did.
    pub(crate) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl Catalog {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let mut candidates = Vec::new();
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
            let reach = match is_local(provider.tier) {
                true => Reach::Local(Arc::clone(&networks)),
                false => Reach::Anywhere,
            };
            let timeouts = config.timeouts.of_tier(provider.tier);
            let client: Arc<dyn Provider> = match provider.kind {
                Kind::Openai => Arc::new(OpenAi::new(name, provider, &timeouts, reach)?),
                Kind::Gemini => Arc::new(Gemini::new(name, provider, &timeouts, reach)?),
                Kind::Anthropic => Arc::new(Anthropic::new(name, provider, &timeouts, reach)?),
            };
            for model in &provider.models {
                if is_local(provider.tier) && is_passed_on(&model.name) {
                    bail!(
                        "router.providers.{name}: model {:?} is passed on to a cloud: not of tier {}",
                        model.name,
                        provider.tier
                    );
                }
                candidates.push(Arc::new(Candidate {
                    provider_name: name.clone(),
                    model: model.clone(),
                    tier: provider.tier,
                    price: model
                        .price(provider.tier)
                        .with_context(|| format!("router.providers.{name}"))?,
                    timeouts: timeouts.clone(),
                    provider: Arc::clone(&client),
                    breaker: Mutex::default(),
                    stats: Mutex::default(),
                }));
            }
        }
        let extractive = Arc::new(Candidate {
            provider_name: EXTRACTIVE.to_owned(),
            model: Model { vision: false, ..Model::free("extractive".to_owned()) },
            tier: 0,
            price: Price::default(),
            timeouts: config.timeouts.of_tier(0),
            provider: Arc::new(Extractive),
            breaker: Mutex::default(),
            stats: Mutex::default(),
        });
        let find = |place: String, name: &String| {
            let found = candidates.iter().find(|known| known.name() == *name);
            found
                .cloned()
                .with_context(|| format!("{place}: {name:?} is no configured provider/model"))
        };
        let mut splits = BTreeMap::new();
        for (name, weights) in &config.splits {
            let at = || format!("router.splits.{name}");
            if name.contains('/') || weights.is_empty() || weights.values().any(|w| *w == 0) {
                bail!("{}: its name must be free of '/', its weights above 0", at());
            }
            let member = |(one, weight): (&String, &u32)| Ok((find(at(), one)?, *weight));
            let members: anyhow::Result<Vec<_>> = weights.iter().map(member).collect();
            splits.insert(name, Arc::new(Split { name: name.clone(), members: members? }));
        }
        let mut routes = BTreeMap::new();
        for (name, wanted) in &config.routes {
            let place = |place: &String| match splits.get(place) {
                Some(split) => Ok(Place::Split(Arc::clone(split))),
                None => find(format!("router.routes.{name}"), place).map(Place::One),
            };
            let route: anyhow::Result<Vec<_>> = wanted.iter().map(place).collect();
            routes.insert(name.clone(), route?);
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
        Ok(Self { candidates, routes, hedged: config.hedged_routes.clone(), decides })
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
            let near = self.nearest(model).join(", ");
            return Err(Error::Invalid(format!("/model: {model:?} is unknown; near are {near}")));
        }
        candidates.retain(|c| context.privacy == Privacy::Public || is_local(c.tier));
        match candidates.is_empty() {
            true => Err(Error::NothingLocal(model.to_owned())),
            false => Ok(Chosen { candidates, reason, hedges: self.hedged.contains(model) }),
        }
    }

    /// Tells whether a request may call its `model` so.
    pub(crate) fn knows(&self, model: &str) -> bool {
        let named = |c: &Arc<Candidate>| c.model.name == model || c.name() == model;
        self.routes.contains_key(model) || self.candidates.iter().any(named)
    }

    /// Returns the three names that are most like `model`.
    fn nearest(&self, model: &str) -> Vec<String> {
        let mut names: Vec<String> = self.names().map(|name| name.0).collect();
        let like = |name: &String| {
            let own = name.rsplit('/').next().unwrap_or_default();
            strsim::jaro_winkler(name, model).max(strsim::jaro_winkler(own, model))
        };
        names.sort_by(|a, b| like(b).total_cmp(&like(a)));
        names.truncate(3);
        names
    }

    /// Returns every provider with how its models do, by name.
    pub(crate) fn providers(&self) -> Vec<ProviderState> {
        let mut providers = BTreeMap::new();
        for candidate in &self.candidates {
            let name = candidate.provider_name.clone();
            let new =
                ProviderState { name: name.clone(), tier: candidate.tier, models: Vec::new() };
            let stats = candidate.stats();
            providers.entry(name).or_insert(new).models.push(ModelState {
                name: candidate.model.name.clone(),
                circuit: candidate.circuit().into(),
                calls: stats.calls,
                answered: stats.answered,
                p50_micros: stats.percentile(50),
                p95_micros: stats.percentile(95),
            });
        }
        providers.into_values().collect()
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
        Catalog::new(&runtime::config::load(Some(file.path())).unwrap())
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
    fn a_route_to_nowhere_is_refused_at_start() {
        let fault = catalog("[routes]\nauto = ['a/b']").err().unwrap().to_string();
        assert_eq!(fault, "router.routes.auto: \"a/b\" is no configured provider/model");
    }
}
