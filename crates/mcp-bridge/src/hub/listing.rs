//! What a caller is shown of what servers offer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rmcp::model::{Prompt, Resource, ResourceTemplate, Tool};
use types::CallContext;

use super::{Hub, Scope};
use crate::Error;
use crate::catalog::{Catalog, Offered};
use crate::gate::Defined;
use crate::upstream::{Kind, Listed, Upstream};

/// What a caller is shown.
#[derive(Debug)]
pub(crate) struct Listing<T> {
    /// Each server's, in its order.
    pub(crate) items: Vec<(String, Vec<T>)>,
    /// Servers that gave no list, or not all of it, and why.
    pub(crate) degraded: Vec<(String, Error)>,
    /// What the caller may not use: its server, its name and why.
    pub(crate) refused: Vec<Refused>,
    /// For how long all of them say that it holds.
    pub(crate) ttl: Duration,
}

/// Whose, what, and why not.
type Refused = (String, String, String);

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
    ) -> Result<Listing<Arc<Offered<Tool>>>, Error> {
        self.defined(context, scope).await
    }

    /// Lists what has definitions.
    async fn defined<T: Defined>(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Listing<Arc<Offered<T>>>, Error>
    where
        Catalog<T>: Kind,
    {
        let gathered = self.gather::<Catalog<T>>(context, scope).await?;
        // One for each server that gave a list, in their order.
        let judged = gathered.iter().filter_map(|(upstream, listed)| {
            let listed = listed.as_ref().ok()?;
            Some(self.gate.judge(context, &upstream.server, &listed.kept))
        });
        let mut judged = join_all(judged).await.into_iter();
        let mut refused = Vec::new();
        let listing = listing(scope, gathered, |upstream, _| {
            let Some(judged) = judged.next() else { return Vec::new() };
            let server = &upstream.server.name;
            let told = judged.refused.into_iter();
            refused.extend(told.map(|(one, reason)| (server.clone(), one.name.clone(), reason)));
            judged.shown
        })?;
        Ok(Listing { refused, ..listing })
    }

    /// Lists prompts, as [`Hub::tools`] lists tools.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn prompts(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Listing<Arc<Offered<Prompt>>>, Error> {
        self.defined(context, scope).await
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
        self.addresses(context, scope, |item: &mut Resource| &mut item.uri).await
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
        self.addresses(context, scope, |item: &mut ResourceTemplate| &mut item.uri_template).await
    }

    /// Lists what has an address.
    async fn addresses<T: Clone>(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        address: impl Fn(&mut T) -> &mut String,
    ) -> Result<Listing<T>, Error>
    where
        Vec<T>: Kind,
    {
        let gathered = self.gather::<Vec<T>>(context, scope).await?;
        let mut refused = Vec::new();
        let listing = listing(scope, gathered, |upstream, all: &Vec<T>| {
            let shown = all.iter().filter_map(|item| {
                let mut item = item.clone();
                let own = address(&mut item).clone();
                let name = Self::shown(scope, &upstream.server.name, &own);
                if let Err(reason) = self.gate.shows(context, &upstream.server, &own) {
                    refused.push((upstream.server.name.clone(), name, reason));
                    return None;
                }
                *address(&mut item) = name;
                Some(item)
            });
            shown.collect()
        })?;
        Ok(Listing { refused, ..listing })
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
    mut show: impl FnMut(&Upstream, &K) -> Vec<T>,
) -> Result<Listing<T>, Error> {
    let mut listing = Listing {
        items: Vec::new(),
        degraded: Vec::new(),
        refused: Vec::new(),
        ttl: Duration::MAX,
    };
    for (upstream, listed) in gathered {
        let server = &upstream.server.name;
        let shown = listed.as_ref().map(|listed| show(&upstream, &listed.kept));
        match (shown, &listed) {
            (Ok(shown), Ok(listed)) => {
                listing.items.push((server.clone(), shown));
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
