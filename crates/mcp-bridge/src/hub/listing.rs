//! What a caller is shown of what servers offer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rmcp::model::{Prompt, Resource, ResourceTemplate, Tool};
use types::CallContext;

use super::{Hub, Scope};
use crate::catalog::{Catalog, Offered};
use crate::upstream::{Kind, Listed, Upstream};
use crate::{Error, address};

/// What a caller is shown.
#[derive(Debug)]
pub(crate) struct Listing<T> {
    /// By server, then in the server's order.
    pub(crate) items: Vec<(String, Offered<T>)>,
    /// Servers that gave no list, or not all of it, and why.
    pub(crate) degraded: Vec<(String, Error)>,
    /// What the caller may not use: its server, its name and why.
    pub(crate) refused: Vec<(String, String, String)>,
    /// For how long all of them say that it holds.
    pub(crate) ttl: Duration,
}

/// What a server gave, or why it did not.
type Gathered<K> = Vec<(Arc<Upstream>, Result<Arc<Listed<K>>, Error>)>;

impl Hub {
    /// Lists the tools that the caller is shown. With [`Scope::All`] every server is asked at once,
    /// and one that gives no list is named with its fault.
    ///
    /// # Errors
    /// With [`Scope::One`], why that server gives no list.
    pub(crate) async fn tools(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Listing<Tool>, Error> {
        let gathered = self.gather::<Catalog<Tool>>(context, scope).await?;
        // One for each server that gave a list, in their order.
        let judged = gathered.iter().filter_map(|(upstream, listed)| {
            let listed = listed.as_ref().ok()?;
            Some(self.judged(context, upstream, &listed.kept))
        });
        let (shown, refused): (Vec<_>, Vec<_>) = join_all(judged).await.into_iter().unzip();
        let mut shown = shown.into_iter();
        let listing = listing(scope, gathered, |_, _| shown.next().unwrap_or_default())?;
        Ok(Listing { refused: refused.into_iter().flatten().collect(), ..listing })
    }

    async fn judged(
        &self,
        context: &CallContext,
        upstream: &Upstream,
        catalog: &Catalog<Tool>,
    ) -> (Vec<Offered<Tool>>, Vec<(String, String, String)>) {
        let tools = catalog.all().iter().map(|one| one.item.clone()).collect();
        let judged = self.gate.judge(context, &upstream.server, tools).await;
        let name = |own: &str| catalog.own(own).map(|one| one.name.clone());
        let shown = judged.tools.into_iter();
        let shown = shown.filter_map(|item| Some(Offered { name: name(&item.name)?, item }));
        let server = &upstream.server.name;
        let refused = judged.refused.into_iter();
        let refused =
            refused.filter_map(|(tool, reason)| Some((server.clone(), name(&tool)?, reason)));
        (shown.collect(), refused.collect())
    }

    /// Lists prompts, as [`Hub::tools`] lists tools.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn prompts(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Listing<Prompt>, Error> {
        let gathered = self.gather::<Catalog<Prompt>>(context, scope).await?;
        listing(scope, gathered, |_, catalog| catalog.all().to_vec())
    }

    /// Lists resources, as [`Hub::tools`] lists tools.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn resources(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Listing<Resource>, Error> {
        let gathered = self.gather::<Vec<Resource>>(context, scope).await?;
        let named = |item: &Resource| Offered { name: item.uri.clone(), item: item.clone() };
        listing(scope, gathered, |server, all| {
            let all = all.iter().map(named);
            all.map(|mut one| {
                if scope == Scope::All {
                    one.item.uri = address::wrap(server, &one.item.uri);
                }
                one
            })
            .collect()
        })
    }

    /// Lists templates of resources, as [`Hub::tools`] lists tools.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn templates(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Listing<ResourceTemplate>, Error> {
        let gathered = self.gather::<Vec<ResourceTemplate>>(context, scope).await?;
        let named =
            |item: &ResourceTemplate| Offered { name: item.name.clone(), item: item.clone() };
        listing(scope, gathered, |server, all| {
            let all = all.iter().map(named);
            all.map(|mut one| {
                if scope == Scope::All {
                    one.item.uri_template = address::wrap(server, &one.item.uri_template);
                }
                one
            })
            .collect()
        })
    }

    async fn gather<K: Kind>(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Gathered<K>, Error> {
        let lists = self.upstreams(context, scope)?.into_iter().map(|upstream| async {
            let server = &upstream.server;
            let listed = match scope {
                Scope::All => {
                    upstream.list_soon::<K>(context, context.time_left(server.list_wait)).await
                }
                Scope::One(_) => {
                    let wait = context.time_left(server.start_timeout + server.timeout);
                    upstream.list::<K>(context, wait).await
                }
            };
            (upstream, listed)
        });
        Ok(join_all(lists).await)
    }
}

fn listing<K: Kind, T>(
    scope: Scope<'_>,
    gathered: Gathered<K>,
    mut show: impl FnMut(&str, &K) -> Vec<Offered<T>>,
) -> Result<Listing<T>, Error> {
    let mut listing = Listing {
        items: Vec::new(),
        degraded: Vec::new(),
        refused: Vec::new(),
        ttl: Duration::MAX,
    };
    for (upstream, listed) in gathered {
        let server = &upstream.server.name;
        let shown = listed.as_ref().map(|listed| show(server, &listed.kept));
        match (shown, &listed) {
            (Ok(shown), Ok(listed)) => {
                listing.items.extend(shown.into_iter().map(|one| (server.clone(), one)));
                if listed.cut {
                    let error = Error::TooMany(server.clone());
                    listing.degraded.push((server.clone(), error));
                }
                let until = listed.asked + listed.ttl.unwrap_or_default();
                let left = until.saturating_duration_since(Instant::now());
                listing.ttl = listing.ttl.min(left);
            }
            (_, Ok(_)) => {}
            (_, Err(error)) if scope != Scope::All => return Err(error.clone()),
            (_, Err(error)) => {
                tracing::warn!(server, %error, list = K::FIELD, "a server gave no list");
                listing.degraded.push((server.clone(), error.clone()));
                listing.ttl = Duration::ZERO;
            }
        }
    }
    if listing.ttl == Duration::MAX {
        listing.ttl = Duration::ZERO;
    }
    Ok(listing)
}
