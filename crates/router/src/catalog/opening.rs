//! A catalog from a configuration, with what of the one before it is as it was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, bail};
use ipnet::IpNet;

use super::order::{Place, preferred};
use super::{Candidate, Catalog, EXTRACTIVE};
use crate::call::Policy;
use crate::config::{Config, Model, Price};
use crate::prices::Prices;
use crate::providers::Provider;
use crate::providers::extractive::Extractive;
use crate::site::Site;
use crate::split::Split;
use redis_link::Link;

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
        let policy = Policy {
            on_disconnect: config.on_disconnect,
            free_when_down: config.free_when_down,
            retries: config.retries,
        };
        Ok(Self { candidates, routes, hedged, decides, sites, policy })
    }
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

/// The tiers, as they are written.
const TIERS: [&str; 5] = ["0", "1", "2", "3", "4"];

#[cfg(test)]
mod tests {
    use super::super::tests::{TWO, catalog};
    use super::*;

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
