//! Listing and calling for a caller, over all servers.

use std::collections::BTreeMap;

use futures::future::join_all;
use rmcp::model::{CallToolResult, JsonObject};
use types::CallContext;

use crate::Error;
use crate::catalog::{self, Catalog, Offered};
use crate::config::Config;
use crate::gate::Gate;
use crate::sandbox;
use crate::upstream::Upstream;

/// Every server, and what is admitted.
pub(crate) struct Hub {
    servers: BTreeMap<String, Upstream>,
    gate: Gate,
}

/// What a caller is shown.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By server, then in the server's order.
    pub(crate) tools: Vec<(String, Offered)>,
    /// Servers that gave no list, and why.
    pub(crate) degraded: Vec<(String, Error)>,
}

impl Hub {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let upstream = |(name, server): (&String, &crate::Server)| {
            Ok((name.clone(), Upstream::new(server.describe(name, config)?)))
        };
        let servers = config.servers.iter().map(upstream).collect::<anyhow::Result<_>>()?;
        sandbox::say_what_is_missing(config);
        Ok(Self { servers, gate: Gate::new(config) })
    }

    /// Lists the tools of every server that the caller may see, all asked at once; one that gives no
    /// list is named with its fault.
    pub(crate) async fn list(&self, context: &CallContext) -> Listing {
        let seen = self.servers.values().filter(|one| self.gate.sees(context, &one.server).is_ok());
        let lists = seen.map(|upstream| async move {
            (&upstream.server.name, self.list_one(context, upstream).await)
        });
        let mut listing = Listing::default();
        for (server, listed) in join_all(lists).await {
            match listed {
                Ok(tools) => {
                    listing.tools.extend(tools.into_iter().map(|tool| (server.clone(), tool)));
                }
                Err(error) => {
                    tracing::warn!(server, %error, "no list of tools");
                    listing.degraded.push((server.clone(), error));
                }
            }
        }
        listing
    }

    async fn list_one(
        &self,
        context: &CallContext,
        upstream: &Upstream,
    ) -> Result<Vec<Offered>, Error> {
        let server = &upstream.server;
        let catalog = self.catalog(context, upstream).await?;
        let tools = catalog.tools().iter().map(|one| one.tool.clone()).collect();
        let judged = self.gate.judge(context, server, tools).await;
        for (tool, reason) in judged.refused {
            tracing::warn!(server = server.name, tool, reason, "a tool is not shown");
        }
        let named = judged.tools.into_iter().filter_map(|tool| {
            let name = catalog.own(&tool.name)?.name.clone();
            Some(Offered { name, tool })
        });
        Ok(named.collect())
    }

    /// Calls the tool that clients call `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] if there is none, what the gate refuses, and what the server does wrong.
    pub(crate) async fn call(
        &self,
        context: &CallContext,
        name: &str,
        arguments: JsonObject,
    ) -> Result<CallToolResult, Error> {
        let unknown = || Error::Unknown(name.to_owned());
        let mut servers = self.servers.values();
        let upstream = servers.find(|one| catalog::may_be_of(&one.server.name, name));
        let upstream = upstream.ok_or_else(unknown)?;
        self.gate.sees(context, &upstream.server)?;
        let catalog = self.catalog(context, upstream).await?;
        let Offered { tool, .. } = catalog.named(name).ok_or_else(unknown)?;
        let permit = self.gate.admit(context, &upstream.server, tool, &arguments).await?;
        let outcome = upstream.call(&tool.name, arguments, permit.timeout).await;
        permit.finish(outcome).await
    }

    /// Whether what a tool gives is private.
    pub(crate) fn gives_private(&self, name: &str) -> bool {
        let of = |one: &&Upstream| catalog::may_be_of(&one.server.name, name);
        self.servers.values().find(of).is_some_and(|one| one.server.private)
    }

    async fn catalog(&self, context: &CallContext, upstream: &Upstream) -> Result<Catalog, Error> {
        let server = &upstream.server;
        let tools = upstream.list(context.time_left(server.timeout)).await?;
        let (catalog, left_out) = Catalog::new(&server.name, tools);
        for (tool, reason) in left_out {
            tracing::warn!(server = server.name, tool, reason, "a tool is left out");
        }
        Ok(catalog)
    }
}
