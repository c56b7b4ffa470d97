//! Routes, models, and who may serve a call. No I/O.

mod candidate;
mod opening;
mod order;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use types::{CallContext, Privacy};

pub(crate) use self::candidate::Candidate;
use self::order::{Place, in_order, sort};
use crate::Error;
use crate::call::Policy;
use crate::complexity::Need;
use crate::config::is_local;
use crate::site::Site;

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

    /// Returns the configured providers.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.sites.values()
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

#[cfg(test)]
mod tests {
    use types::{TenantId, UserId};

    use super::*;
    use crate::prices::Prices;

    pub(super) fn catalog(toml: &str) -> anyhow::Result<Catalog> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let config = runtime::config::load(Some(file.path())).unwrap();
        Catalog::new(&config, &Prices::default(), None, None)
    }

    pub(super) const TWO: &str = "[providers.cloud]\nkind='openai'\nbase_url='http://127.0.0.1:1/v1'\ntier=1\n\
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
}
