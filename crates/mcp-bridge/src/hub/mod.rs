//! Every server, for a caller.

mod asking;
mod listing;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rmcp::model::{ServerPeerInfo, Tool};
use runtime::metrics::Metrics;
use types::CallContext;

use crate::catalog::{self, Catalog, Named, Offered};
use crate::config::Config;
use crate::gate::Gate;
use crate::seal::Seals;
use crate::upstream::{Change, Kind, Upstream};
use crate::{Error, address, sandbox};

pub(crate) use listing::Listing;

/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_secs(15);

/// Every server, and what is admitted.
pub(crate) struct Hub {
    servers: BTreeMap<String, Arc<Upstream>>,
    gate: Gate,
    seals: Seals,
    sessions: AtomicU64,
}

/// Which servers a client speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// All, by the names that the bridge gives.
    All,
    /// One, by its own names.
    One(&'a str),
}

impl Scope<'_> {
    /// Returns what its clients call something.
    pub(crate) fn name_of<T: Named>(self, one: &Offered<T>) -> &str {
        match self {
            Self::All => &one.name,
            Self::One(_) => one.item.name(),
        }
    }
}

impl Hub {
    /// Checks the servers' descriptions, and opens the gate; they are connected when they are needed.
    ///
    /// # Errors
    /// If one is not good, or the gate's store cannot be opened; the message names it.
    pub(crate) async fn open(config: &Config, metrics: &Metrics) -> anyhow::Result<Arc<Self>> {
        let upstream = |(name, server): (&String, &crate::Server)| {
            Ok((name.clone(), Upstream::new(server.describe(name, config)?)?))
        };
        let servers = config.servers.iter().map(upstream).collect::<anyhow::Result<_>>()?;
        sandbox::check_networks(config)?;
        sandbox::say_what_is_missing(config);
        let seals = Seals::new(config.state_key.as_ref())?;
        let gate = Gate::open(config, metrics).await?;
        let hub = Self { servers, gate, seals, sessions: AtomicU64::new(0) };
        let hub = Arc::new(hub);
        tokio::spawn(sweep(Arc::downgrade(&hub)));
        Ok(hub)
    }

    /// Says what a server says of itself.
    ///
    /// # Errors
    /// If there is no such server, the caller may not see it, or it cannot be reached.
    pub(crate) async fn info(
        &self,
        context: &CallContext,
        server: &str,
    ) -> Result<Arc<ServerPeerInfo>, Error> {
        let upstream = self.upstream(context, server)?;
        let wait = context.time_left(upstream.server.start_timeout);
        let connection = upstream.within(wait, upstream.own_connection(context)).await?;
        Ok(Arc::clone(&connection.info))
    }

    /// Returns a tool, where a list that has it is at hand.
    pub(crate) fn tool_at_hand(&self, scope: Scope<'_>, name: &str) -> Option<Tool> {
        let upstream = match scope {
            Scope::One(server) => self.servers.get(server)?,
            Scope::All => self.may_have(name)?,
        };
        let listed = upstream.at_hand::<Catalog<Tool>>()?;
        let found = match scope {
            Scope::One(_) => listed.kept.own(name),
            Scope::All => listed.kept.named(name),
        };
        found.map(|one| one.item.clone())
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether what a tool gives is private.
    pub(crate) fn gives_private(&self, name: &str) -> bool {
        self.may_have(name).is_some_and(|one| one.server.private)
    }

    /// Returns the servers that the caller may see, and nothing of the others.
    fn seen(&self, context: &CallContext) -> impl Iterator<Item = &Arc<Upstream>> {
        let seen = |one: &&Arc<Upstream>| self.gate.sees(context, &one.server).is_ok();
        self.servers.values().filter(seen)
    }

    /// Returns a server by its name.
    ///
    /// # Errors
    /// If there is none, or the caller may not see it.
    pub(crate) fn upstream(
        &self,
        context: &CallContext,
        server: &str,
    ) -> Result<&Arc<Upstream>, Error> {
        let names = self.seen(context).map(|one| one.server.name.as_str());
        let unknown = || Error::unknown("server", server, names);
        let upstream = self.servers.get(server).ok_or_else(unknown)?;
        self.gate.sees(context, &upstream.server)?;
        Ok(upstream)
    }

    /// Returns the servers of a scope.
    ///
    /// # Errors
    /// With [`Scope::One`], as [`Hub::upstream`].
    pub(crate) fn upstreams(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Vec<Arc<Upstream>>, Error> {
        match scope {
            Scope::All => Ok(self.seen(context).cloned().collect()),
            Scope::One(server) => Ok(vec![Arc::clone(self.upstream(context, server)?)]),
        }
    }

    /// The one server whose catalogue could have such a name.
    fn may_have(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.servers.values().find(|one| catalog::may_be_of(&one.server.name, name))
    }

    /// Finds what clients call `name`; a list that does not have it is asked for again once.
    async fn find<T: Named>(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        what: &'static str,
        name: &str,
    ) -> Result<(Arc<Upstream>, Arc<Offered<T>>), Error>
    where
        Catalog<T>: Kind,
    {
        let upstream = match scope {
            Scope::One(server) => self.upstream(context, server)?,
            Scope::All => {
                let names = self.seen(context).map(|one| one.server.name.as_str());
                let unknown = || Error::unknown(what, name, names);
                let upstream = self.may_have(name).ok_or_else(unknown)?;
                self.upstream(context, &upstream.server.name)?
            }
        };
        let wait = context.time_left(upstream.server.start_timeout + upstream.server.timeout);
        let mut listed = upstream.list::<Catalog<T>>(context, wait).await?;
        let pick = |catalog: &Catalog<T>| match scope {
            Scope::One(_) => catalog.own(name).cloned(),
            Scope::All => catalog.named(name).cloned(),
        };
        let mut found = pick(&listed.kept);
        if found.is_none() && listed.may_lack() {
            listed = upstream.list_again(context, &listed, wait).await?;
            found = pick(&listed.kept);
        }
        let found = found.ok_or_else(|| {
            let names = listed.kept.all().iter().map(|one| scope.name_of(one));
            Error::unknown(what, name, names)
        })?;
        Ok((Arc::clone(upstream), found))
    }

    /// Finds whose address it is, and what it is there.
    fn addressed(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        uri: &str,
    ) -> Result<(Arc<Upstream>, String), Error> {
        let own = |one: &Arc<Upstream>| address::unwrap(&one.server.name, uri).map(str::to_owned);
        let (upstream, uri) = match scope {
            Scope::One(server) => (self.upstream(context, server)?, uri.to_owned()),
            Scope::All => {
                let mut all = self.servers.values();
                let found = all.find_map(|one| Some((one, own(one)?)));
                let (one, own) =
                    found.ok_or_else(|| Error::unknown("resource", uri, [].into_iter()))?;
                (self.upstream(context, &one.server.name)?, own)
            }
        };
        Ok((Arc::clone(upstream), uri))
    }

    /// Returns a client's address for a server's resource.
    pub(crate) fn shown(scope: Scope<'_>, server: &str, uri: &str) -> String {
        match scope {
            Scope::One(_) => uri.to_owned(),
            Scope::All => address::wrap(server, uri),
        }
    }

    /// Returns an id that no client's session had before.
    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets go of what a client's session had at the servers.
    pub(crate) fn end(&self, session: u64) {
        self.servers.values().for_each(|upstream| upstream.end(session));
    }

    /// Follows what changes at the servers of a scope.
    ///
    /// # Errors
    /// As [`Hub::upstreams`].
    pub(crate) fn changes(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
    ) -> Result<Vec<(String, tokio::sync::broadcast::Receiver<Change>)>, Error> {
        let all = self.upstreams(context, scope)?.into_iter();
        Ok(all.map(|one| (one.server.name.clone(), one.changes())).collect())
    }
}

/// Ends connections that nobody uses, as long as there is a hub.
async fn sweep(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(hub) = hub.upgrade() else { return };
        hub.servers.values().for_each(|upstream| upstream.sweep());
    }
}
