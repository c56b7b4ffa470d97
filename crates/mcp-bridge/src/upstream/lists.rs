//! What a server offers: asked for once, and kept as long as it holds.

use std::mem::{self, Discriminant};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use rmcp::model::{
    ClientRequest, ListPromptsRequest, ListResourceTemplatesRequest, ListResourcesRequest,
    ListToolsRequest, PaginatedRequestParams, Prompt, Resource, ResourceTemplate,
    ServerCapabilities, ServerResult, Tool,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use types::{CallContext, TenantId};

use super::{Asking, Change, Connection, Upstream};
use crate::Error;
use crate::catalog::Catalog;

/// How many pages a server is asked for, and how much of them is kept.
const PAGES: usize = 100;
const ITEMS: usize = 5_000;
const BYTES: usize = 1024 * 1024;

/// For how long a list holds at least, though its server says less: calls look it up.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);

/// How many tenants' lists of a server are kept; the one not asked for the longest goes first.
const TENANTS: u64 = 256;

/// After how long a list is asked for again when something is not in it.
const AGAIN: Duration = Duration::from_secs(1);

/// A list of something that servers offer.
pub(crate) trait Kind: Sized + Send + Sync + 'static {
    type Item: Serialize + DeserializeOwned + Send;
    /// Its name in an answer.
    const FIELD: &'static str;
    /// What is told when it changes.
    const CHANGE: Change;
    fn offered(server: &ServerCapabilities) -> bool;
    fn request(page: Option<PaginatedRequestParams>) -> ClientRequest;
    fn page(result: ServerResult) -> Result<Page<Self::Item>, Box<ServerResult>>;
    fn keep(server: &str, items: Vec<Self::Item>) -> Self;
    fn cache(lists: &Lists) -> &Cache<Self>;
}

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
    ttl_ms: Option<u64>,
}

/// A list that was kept.
#[derive(Debug)]
pub(crate) struct Listed<K> {
    pub(crate) kept: K,
    /// For how long the server says that it holds, from when it was asked.
    pub(crate) ttl: Option<Duration>,
    /// The server offers more than is kept.
    pub(crate) cut: bool,
    pub(crate) asked: Instant,
    changes: u64,
    connection: Weak<Connection>,
}

/// By whose list it is: a tenant's, where the server knows tenants.
pub(crate) struct Cache<K>(moka::sync::Cache<Option<TenantId>, Held<K>>);

type Held<K> = Arc<tokio::sync::Mutex<Slot<K>>>;

/// The last list, or what was wrong instead, as far as it is in the log.
struct Slot<K> {
    listed: Option<Arc<Listed<K>>>,
    fault: Option<Discriminant<Error>>,
}

impl<K> Default for Slot<K> {
    fn default() -> Self {
        Self { listed: None, fault: None }
    }
}

impl<K> Slot<K> {
    /// Notes how a list came out; tells whether that is news.
    fn note(&mut self, fault: Option<&Error>) -> bool {
        let fault = fault.map(mem::discriminant);
        mem::replace(&mut self.fault, fault) != fault
    }
}

impl<K: Send + Sync + 'static> Default for Cache<K> {
    fn default() -> Self {
        // Not by how often: a tenant that comes late is not to be asked for anew each time.
        let builder = moka::sync::Cache::builder().eviction_policy(EvictionPolicy::lru());
        Self(builder.max_capacity(TENANTS).time_to_idle(LONGEST).build())
    }
}

/// The lists of a server.
#[derive(Default)]
pub(crate) struct Lists {
    tools: Cache<Catalog<Tool>>,
    prompts: Cache<Catalog<Prompt>>,
    resources: Cache<Vec<Resource>>,
    templates: Cache<Vec<ResourceTemplate>>,
}

impl<K> Listed<K> {
    fn holds(&self, changes: u64) -> bool {
        let ttl = self.ttl.unwrap_or_default().clamp(SHORTEST, LONGEST);
        // A program that has ended may offer something else when it is started again.
        let open = self.connection.upgrade().is_some_and(|connection| !connection.is_closed());
        open && self.changes == changes && self.asked.elapsed() < ttl
    }

    /// Whether it is old enough to be asked for again when something is missing.
    pub(crate) fn may_lack(&self) -> bool {
        self.asked.elapsed() > AGAIN
    }
}

impl Upstream {
    /// Returns what the server offers. It is asked for also when nobody waits for it any more.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `wait`, or what the server does wrong.
    pub(crate) async fn list<K: Kind>(
        self: &Arc<Self>,
        context: &CallContext,
        wait: Duration,
    ) -> Result<Arc<Listed<K>>, Error> {
        self.within(wait, self.list_since(context, None)).await
    }

    /// As [`Upstream::list`], for who asks several servers: a server that was waited for in vain is not
    /// waited for again before it has given a list.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn list_soon<K: Kind>(
        self: &Arc<Self>,
        context: &CallContext,
        wait: Duration,
    ) -> Result<Arc<Listed<K>>, Error> {
        if self.late.load(Ordering::Relaxed) {
            let soon = timeout(Duration::ZERO, self.list_since(context, None)).await;
            return soon.unwrap_or_else(|_| Err(self.unready()));
        }
        let listed = self.list(context, wait).await;
        // Not so where it was the caller who had no more time.
        let long = self.server.list_wait;
        if matches!(listed, Err(Error::Timeout { waited, .. }) if waited == wait && wait >= long) {
            self.late.store(true, Ordering::Relaxed);
        }
        listed
    }

    /// As [`Upstream::list`], and not the list that was `known`.
    pub(crate) async fn list_again<K: Kind>(
        self: &Arc<Self>,
        context: &CallContext,
        known: &Arc<Listed<K>>,
        wait: Duration,
    ) -> Result<Arc<Listed<K>>, Error> {
        self.within(wait, self.list_since(context, Some(known))).await
    }

    /// Returns a list that is at hand, everybody's own.
    pub(crate) fn at_hand<K: Kind>(&self) -> Option<Arc<Listed<K>>> {
        K::cache(&self.lists).0.get(&None)?.try_lock().ok()?.listed.clone()
    }

    async fn list_since<K: Kind>(
        self: &Arc<Self>,
        context: &CallContext,
        known: Option<&Arc<Listed<K>>>,
    ) -> Result<Arc<Listed<K>>, Error> {
        let tenant = self.server.tenant_header.then(|| context.tenant.clone());
        let held = K::cache(&self.lists).0.get_with(tenant, Arc::default);
        let mut kept = held.lock_owned().await;
        if let Some(listed) = kept.listed.as_ref().filter(|listed| {
            listed.holds(self.changes.so_far(&K::CHANGE))
                && known.is_none_or(|known| !Arc::ptr_eq(known, listed))
        }) {
            return Ok(Arc::clone(listed));
        }
        kept.listed = None;
        let (this, context) = (Arc::clone(self), context.clone());
        let asked = tokio::spawn(async move {
            let wait = this.server.start_timeout + this.server.timeout;
            let listed = this.within(wait, this.fetch::<K>(&context)).await;
            // The log says it once, and not whenever somebody asks.
            if kept.note(listed.as_ref().err()) {
                let (server, list) = (&this.server.name, K::FIELD);
                match &listed {
                    Ok(_) => tracing::info!(server, list, "a server gives its list again"),
                    Err(error) => tracing::warn!(server, list, %error, "a server gives no list"),
                }
            }
            let listed = kept.listed.insert(Arc::new(listed?));
            this.late.store(false, Ordering::Relaxed);
            Ok(Arc::clone(listed))
        });
        asked.await.map_err(|fault| self.unavailable("it gave no list", &fault))?
    }

    async fn fetch<K: Kind>(self: &Arc<Self>, context: &CallContext) -> Result<Listed<K>, Error> {
        let connection = self.own_connection(context).await?;
        let changes = self.changes.so_far(&K::CHANGE);
        let asked = Instant::now();
        let (mut items, mut ttl, mut bytes) = (Vec::new(), None::<u64>, 0);
        let (mut cursor, mut cut) = (None::<String>, false);
        let pages = if K::offered(&connection.info.capabilities) { PAGES } else { 0 };
        'pages: for _ in 0..pages {
            let params = cursor
                .take()
                .map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let result = self.ask_on(&connection, K::request(params), &Asking::default()).await?;
            let page = self.page::<K>(result)?;
            ttl = Some(ttl.unwrap_or(u64::MAX).min(page.ttl_ms.unwrap_or_default()));
            for item in page.items {
                bytes += crate::gate::size(&item)?;
                cut = bytes > BYTES || items.len() == ITEMS;
                if cut {
                    break 'pages;
                }
                items.push(item);
            }
            cursor = page.next;
            cut = cursor.is_some();
            if !cut {
                break;
            }
        }
        let kept = K::keep(&self.server.name, items);
        let (connection, ttl) = (Arc::downgrade(&connection), ttl.map(Duration::from_millis));
        Ok(Listed { kept, ttl, cut, asked, changes, connection })
    }

    /// Reads a page; what of it cannot be read is left out alone.
    fn page<K: Kind>(&self, result: ServerResult) -> Result<Page<K::Item>, Error> {
        let result = match K::page(result) {
            Ok(page) => return Ok(page),
            Err(other) => match *other {
                ServerResult::CustomResult(result) => result.0,
                _ => return Err(self.strange()),
            },
        };
        let all =
            result.get(K::FIELD).and_then(|all| all.as_array()).ok_or_else(|| self.strange())?;
        let server = &self.server.name;
        let read = |item: &serde_json::Value| match serde_json::from_value(item.clone()) {
            Ok(item) => Some(item),
            Err(fault) => {
                let name = item.get("name").and_then(|name| name.as_str()).unwrap_or_default();
                let name: String = name.chars().take(128).collect();
                tracing::warn!(server, name, %fault, list = K::FIELD, "what cannot be read is left out");
                None
            }
        };
        let next = result.get("nextCursor").and_then(|next| next.as_str()).map(str::to_owned);
        let ttl_ms = result.get("ttlMs").and_then(serde_json::Value::as_u64);
        Ok(Page { items: all.iter().filter_map(read).collect(), next, ttl_ms })
    }
}

macro_rules! kind {
    ($kept:ty, $item:ty, $field:literal, $items:ident, $cache:ident, $change:ident,
     $capability:ident, $request:ident, $result:ident, $keep:expr) => {
        impl Kind for $kept {
            type Item = $item;
            const FIELD: &'static str = $field;
            const CHANGE: Change = Change::$change;

            fn offered(server: &ServerCapabilities) -> bool {
                server.$capability.is_some()
            }

            fn request(params: Option<PaginatedRequestParams>) -> ClientRequest {
                let (method, extensions) = Default::default();
                ClientRequest::$request($request { method, params, extensions })
            }

            fn page(result: ServerResult) -> Result<Page<$item>, Box<ServerResult>> {
                let result = match result {
                    ServerResult::$result(result) => result,
                    other => return Err(Box::new(other)),
                };
                let (next, ttl_ms) = (result.next_cursor, result.ttl_ms);
                Ok(Page { items: result.$items, next, ttl_ms })
            }

            fn keep(server: &str, items: Vec<$item>) -> Self {
                $keep(server, items)
            }

            fn cache(lists: &Lists) -> &Cache<Self> {
                &lists.$cache
            }
        }
    };
}

kind!(
    Catalog<Tool>,
    Tool,
    "tools",
    tools,
    tools,
    Tools,
    tools,
    ListToolsRequest,
    ListToolsResult,
    Catalog::new
);
kind!(
    Catalog<Prompt>,
    Prompt,
    "prompts",
    prompts,
    prompts,
    Prompts,
    prompts,
    ListPromptsRequest,
    ListPromptsResult,
    Catalog::new
);
kind!(
    Vec<Resource>,
    Resource,
    "resources",
    resources,
    resources,
    Resources,
    resources,
    ListResourcesRequest,
    ListResourcesResult,
    |_, items| items
);
kind!(
    Vec<ResourceTemplate>,
    ResourceTemplate,
    "resourceTemplates",
    resource_templates,
    templates,
    Resources,
    resources,
    ListResourceTemplatesRequest,
    ListResourceTemplatesResult,
    |_, items| items
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_list_came_out_is_news_when_it_came_out_otherwise_before() {
        let mut slot = Slot::<Vec<Resource>>::default();
        let (many, busy) = (Error::TooMany("s".to_owned()), Error::TooManySessions(1));
        let outcomes = [None, Some(&many), Some(&many), Some(&busy), None, None, Some(&busy)];
        let news = outcomes.map(|fault| slot.note(fault));
        assert_eq!(news, [false, true, false, true, true, false, true]);
    }

    #[test]
    fn no_more_tenants_lists_are_kept_than_a_server_may_have() {
        let cache = Cache::<Vec<Resource>>::default();
        for number in 0..10 * TENANTS {
            cache.0.get_with(TenantId::new(format!("t{number}")).ok(), Arc::default);
        }
        cache.0.run_pending_tasks();
        assert!((1..=TENANTS).contains(&cache.0.entry_count()), "{}", cache.0.entry_count());
    }

    #[test]
    fn a_tenant_that_comes_late_is_kept_and_the_one_of_longest_ago_is_not() {
        let cache = Cache::<Vec<Resource>>::default();
        let tenant = |number: u64| TenantId::new(format!("t{number}")).ok();
        for number in (0..3).flat_map(|_| 0..TENANTS) {
            cache.0.get_with(tenant(number), Arc::default);
            cache.0.run_pending_tasks();
        }
        cache.0.get_with(tenant(TENANTS), Arc::default);
        cache.0.run_pending_tasks();
        assert!(cache.0.contains_key(&tenant(TENANTS)) && !cache.0.contains_key(&tenant(0)));
    }
}
