//! Listing and asking for a caller, over all servers.

#![allow(deprecated, reason = "older clients and servers use what is deprecated")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest,
    CompleteRequest, CompleteRequestParams, CompleteResult, GetPromptRequest,
    GetPromptRequestParams, GetPromptResponse, InputRequest, InputRequiredResult, LoggingLevel,
    Prompt, ReadResourceRequest, ReadResourceRequestParams, ReadResourceResponse, Reference,
    Resource, ResourceTemplate, ServerPeerInfo, ServerResult, SetLevelRequest,
    SetLevelRequestParams, SubscribeRequest, SubscribeRequestParams, Tool, UnsubscribeRequest,
    UnsubscribeRequestParams,
};
use runtime::metrics::Metrics;
use tracing::Instrument as _;
use types::CallContext;

use crate::catalog::{self, Catalog, Named, Offered};
use crate::config::Config;
use crate::gate::{Admission, Gate};
use crate::seal::Seals;
use crate::upstream::{Asking, Change, Kind, Listed, Upstream};
use crate::{Error, address, sandbox};

/// How often a server is given what it asks for, in one call.
const ROUNDS: usize = 10;

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
    /// Checks the servers' descriptions, and opens the gate; they are connected when they are needed.
    ///
    /// # Errors
    /// If one is not good, or the gate's store cannot be opened; the message names it.
    pub(crate) async fn open(config: &Config, metrics: &Metrics) -> anyhow::Result<Arc<Self>> {
        let upstream = |(name, server): (&String, &crate::Server)| {
            Ok((name.clone(), Upstream::new(server.describe(name, config)?)?))
        };
        let servers = config.servers.iter().map(upstream).collect::<anyhow::Result<_>>()?;
        sandbox::say_what_is_missing(config);
        let seals = Seals::new(config.state_key.as_ref())?;
        let gate = Gate::open(config, metrics).await?;
        let hub = Self { servers, gate, seals, sessions: AtomicU64::new(0) };
        let hub = Arc::new(hub);
        tokio::spawn(sweep(Arc::downgrade(&hub)));
        Ok(hub)
    }

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
        let line = upstream.within(wait, upstream.own_line(context)).await?;
        Ok(Arc::clone(&line.info))
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

    /// Calls a tool, as clients name it in this scope.
    ///
    /// # Errors
    /// [`Error::Unknown`] if there is none, what the gate refuses, and what the server does wrong.
    pub(crate) async fn call(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        mut call: CallToolRequestParams,
        asking: &Asking,
    ) -> Result<CallToolResponse, Error> {
        let arguments = call.arguments.take().unwrap_or_default();
        let (upstream, offered) = match self.find::<Tool>(context, scope, "tool", &call.name).await
        {
            Ok(found) => found,
            Err(error) => {
                return Err(self.gate.turned_away(context, &call.name, &arguments, error));
            }
        };
        let tool = &offered.item;
        let permit = match self.gate.admit(context, &upstream.server, tool, &arguments).await? {
            Admission::Go(permit) => permit,
            Admission::Answer(result) => return Ok(CallToolResponse::Complete(result)),
        };
        let asked = format!("tool {}", tool.name);
        let again = Again { responses: call.input_responses, state: call.request_state };
        let ask = |again: Again| {
            let mut params =
                CallToolRequestParams::new(tool.name.clone()).with_arguments(arguments.clone());
            (params.input_responses, params.request_state) = (again.responses, again.state);
            ClientRequest::CallToolRequest(CallToolRequest::new(params))
        };
        let conversation = self.converse(context, &upstream, &asked, again, ask, asking);
        let conversation = upstream.within(permit.timeout, conversation);
        let outcome = match conversation.instrument(permit.span()).await {
            Ok(ServerResult::InputRequiredResult(wanted)) => {
                permit.asked_back();
                return Ok(CallToolResponse::InputRequired(wanted));
            }
            Ok(ServerResult::CallToolResult(result)) => Ok(result),
            // What a tool leaves out altogether is nothing, and no fault.
            Ok(ServerResult::EmptyResult(_)) => Ok(CallToolResult::success(Vec::new())),
            Ok(_) => Err(upstream.strange()),
            Err(error) => Err(error),
        };
        let mut result = permit.finish(outcome)?;
        if scope == Scope::All {
            let server = &upstream.server.name;
            result.content.iter_mut().for_each(|one| address::wrap_content(server, one));
        }
        Ok(CallToolResponse::Complete(result))
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether what a tool gives is private.
    pub(crate) fn gives_private(&self, name: &str) -> bool {
        self.may_have(name).is_some_and(|one| one.server.private)
    }

    /// Gets a prompt.
    ///
    /// # Errors
    /// As [`Hub::call`].
    pub(crate) async fn prompt(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        params: GetPromptRequestParams,
        asking: &Asking,
    ) -> Result<GetPromptResponse, Error> {
        let (upstream, offered) =
            self.find::<Prompt>(context, scope, "prompt", &params.name).await?;
        let asked = format!("prompt {}", offered.item.name);
        let again = Again { responses: params.input_responses, state: params.request_state };
        let ask = |again: Again| {
            let mut get = GetPromptRequestParams::new(offered.item.name.clone());
            get.arguments = params.arguments.clone();
            (get.input_responses, get.request_state) = (again.responses, again.state);
            ClientRequest::GetPromptRequest(GetPromptRequest::new(get))
        };
        let conversation = self.converse(context, &upstream, &asked, again, ask, asking);
        let wait = context.time_left(upstream.server.timeout);
        match upstream.within(wait, conversation).await? {
            ServerResult::GetPromptResult(mut result) => {
                if scope == Scope::All {
                    let messages = result.messages.iter_mut();
                    messages.for_each(|one| {
                        address::wrap_content(&upstream.server.name, &mut one.content);
                    });
                }
                Ok(GetPromptResponse::Complete(result))
            }
            ServerResult::InputRequiredResult(wanted) => {
                Ok(GetPromptResponse::InputRequired(wanted))
            }
            _ => Err(upstream.strange()),
        }
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// As [`Hub::call`].
    pub(crate) async fn read(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        params: ReadResourceRequestParams,
        asking: &Asking,
    ) -> Result<ReadResourceResponse, Error> {
        let (upstream, uri) = self.addressed(context, scope, &params.uri)?;
        let asked = format!("resource {uri}");
        let again = Again { responses: params.input_responses, state: params.request_state };
        let ask = |again: Again| {
            let mut read = ReadResourceRequestParams::new(uri.clone());
            (read.input_responses, read.request_state) = (again.responses, again.state);
            ClientRequest::ReadResourceRequest(ReadResourceRequest::new(read))
        };
        let conversation = self.converse(context, &upstream, &asked, again, ask, asking);
        let wait = context.time_left(upstream.server.timeout);
        match upstream.within(wait, conversation).await? {
            ServerResult::ReadResourceResult(mut result) => {
                if scope == Scope::All {
                    let contents = result.contents.iter_mut();
                    contents.for_each(|one| address::wrap_contents(&upstream.server.name, one));
                }
                Ok(ReadResourceResponse::Complete(result))
            }
            ServerResult::InputRequiredResult(wanted) => {
                Ok(ReadResourceResponse::InputRequired(wanted))
            }
            _ => Err(upstream.strange()),
        }
    }

    /// Completes an argument of a prompt or of a resource's template.
    ///
    /// # Errors
    /// As [`Hub::call`].
    pub(crate) async fn complete(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        mut params: CompleteRequestParams,
        asking: &Asking,
    ) -> Result<CompleteResult, Error> {
        let upstream = match &mut params.r#ref {
            Reference::Prompt(prompt) => {
                let found = self.find::<Prompt>(context, scope, "prompt", &prompt.name).await?;
                prompt.name = found.1.item.name;
                found.0
            }
            Reference::Resource(resource) => {
                let (upstream, uri) = self.addressed(context, scope, &resource.uri)?;
                resource.uri = uri;
                upstream
            }
            _ => return Err(Error::Invalid("ref is neither a prompt nor a resource".to_owned())),
        };
        params.meta = None;
        let request = ClientRequest::CompleteRequest(CompleteRequest::new(params));
        let wait = context.time_left(upstream.server.timeout);
        match upstream.within(wait, upstream.ask(context, request, asking)).await? {
            ServerResult::CompleteResult(result) => Ok(result),
            _ => Err(upstream.strange()),
        }
    }

    /// Has a server of before 2026-07-28 tell the client's session of a resource's changes, or no more.
    ///
    /// # Errors
    /// As [`Hub::call`].
    pub(crate) async fn subscribe(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        uri: &str,
        subscribed: bool,
        asking: &Asking,
    ) -> Result<(), Error> {
        let (upstream, uri) = self.addressed(context, scope, uri)?;
        let request = match subscribed {
            true => {
                let params = SubscribeRequestParams::new(uri);
                ClientRequest::SubscribeRequest(SubscribeRequest::new(params))
            }
            false => {
                let params = UnsubscribeRequestParams::new(uri);
                ClientRequest::UnsubscribeRequest(UnsubscribeRequest::new(params))
            }
        };
        let wait = context.time_left(upstream.server.timeout);
        match upstream.within(wait, upstream.ask(context, request, asking)).await? {
            ServerResult::EmptyResult(_) => Ok(()),
            _ => Err(upstream.strange()),
        }
    }

    /// Tells a server how grave what it logs is to be.
    ///
    /// # Errors
    /// As [`Hub::call`].
    pub(crate) async fn set_level(
        &self,
        context: &CallContext,
        server: &str,
        level: LoggingLevel,
        asking: &Asking,
    ) -> Result<(), Error> {
        let upstream = self.upstream(context, server)?;
        let wait = context.time_left(upstream.server.timeout);
        let asked = upstream.within(wait, async {
            let line = upstream.line_for(context, asking).await?;
            if line.modern() || line.info.capabilities.logging.is_none() {
                return Ok(());
            }
            let params = SetLevelRequestParams::new(level);
            let request = ClientRequest::SetLevelRequest(SetLevelRequest::new(params));
            upstream.ask_on(&line, request, asking).await.map(drop)
        });
        asked.await
    }

    /// Asks a server, and gives it what it asks back for where that can be done here.
    async fn converse(
        &self,
        context: &CallContext,
        upstream: &Arc<Upstream>,
        asked: &str,
        mut again: Again,
        ask: impl Fn(Again) -> ClientRequest,
        asking: &Asking,
    ) -> Result<ServerResult, Error> {
        let server = &upstream.server.name;
        if let Some(sealed) = &again.state {
            again.state = Some(self.seals.open(context, server, asked, sealed)?);
        }
        for _ in 0..ROUNDS {
            let wanted = match upstream.ask(context, ask(again), asking).await? {
                ServerResult::InputRequiredResult(wanted) => wanted,
                other => return Ok(other),
            };
            may_be_asked(server, &wanted, asking)?;
            if asking.asks_again {
                let seal = |state: &String| self.seals.seal(context, server, asked, state);
                let state = wanted.request_state.as_ref().map(seal);
                let wanted = InputRequiredResult::new(wanted.input_requests, state);
                return Ok(ServerResult::InputRequiredResult(wanted));
            }
            let client = asking
                .client
                .as_ref()
                .ok_or_else(|| Error::Asks { server: server.clone(), wanted: "something" })?;
            let mut responses = BTreeMap::new();
            for (name, wanted) in wanted.input_requests.unwrap_or_default() {
                let answer = client.answer(wanted).await.map_err(|fault| Error::Refused {
                    server: server.clone(),
                    fault: Box::new(fault),
                })?;
                responses.insert(name, answer);
            }
            again = Again { responses: Some(responses), state: wanted.request_state };
        }
        Err(Error::Asks { server: server.clone(), wanted: "ever more" })
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

    /// Finds what clients call `name`; a list that does not have it is asked for again once.
    async fn find<T: Named + Clone>(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        what: &'static str,
        name: &str,
    ) -> Result<(Arc<Upstream>, Offered<T>), Error>
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
            let all = listed.kept.all().iter();
            let names = all.map(|one| match scope {
                Scope::One(_) => one.item.name(),
                Scope::All => one.name.as_str(),
            });
            Error::unknown(what, name, names)
        })?;
        Ok((Arc::clone(upstream), found))
    }

    /// Finds whose address it is, and what it is there.
    pub(crate) fn addressed(
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

/// What a client brings when it asks again.
#[derive(Debug, Default)]
struct Again {
    responses: Option<rmcp::model::InputResponses>,
    state: Option<String>,
}

/// Whether the client said that it can be asked for all of it: servers ask for nothing else.
fn may_be_asked(server: &str, wanted: &InputRequiredResult, asking: &Asking) -> Result<(), Error> {
    let client = &asking.capabilities;
    let undeclared = wanted.input_requests.iter().flatten().find_map(|(_, wanted)| match wanted {
        InputRequest::Elicitation(_) => client.elicitation.is_none().then_some("an elicitation"),
        InputRequest::CreateMessage(_) => client.sampling.is_none().then_some("a sampled message"),
        InputRequest::ListRoots(_) => client.roots.is_none().then_some("the client's roots"),
        _ => Some("something unknown"),
    });
    match undeclared {
        Some(wanted) => Err(Error::Asks { server: server.to_owned(), wanted }),
        None => Ok(()),
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
                    let limit = crate::upstream::ITEMS;
                    let error = Error::TooMany { server: server.clone(), limit };
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

/// Ends connections that nobody uses, as long as there is a hub.
async fn sweep(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(hub) = hub.upgrade() else { return };
        hub.servers.values().for_each(|upstream| upstream.sweep());
    }
}
