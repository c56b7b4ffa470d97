//! Asking a server for a caller.

#![allow(deprecated, reason = "older clients and servers use what is deprecated")]

use std::collections::BTreeMap;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest,
    CompleteRequest, CompleteRequestParams, CompleteResult, ContentBlock, GetPromptRequest,
    GetPromptRequestParams, GetPromptResponse, InputRequest, InputRequiredResult, InputResponses,
    JsonObject, LoggingLevel, Prompt, ReadResourceRequest, ReadResourceRequestParams,
    ReadResourceResponse, Reference, ServerResult, SetLevelRequest, SetLevelRequestParams,
    SubscribeRequest, SubscribeRequestParams, Tool, UnsubscribeRequest, UnsubscribeRequestParams,
};
use tracing::Instrument as _;
use types::CallContext;

use super::{Hub, Scope};
use crate::catalog::{self, Catalog, Offered};
use crate::gate::{Admission, Defined, Permit};
use crate::upstream::{Asking, Kind, Upstream};
use crate::{Error, address, gate};

/// How often a server is given what it asks for, in one call.
const ROUNDS: usize = 10;

/// What a client brings when it asks again.
#[derive(Debug, Default)]
struct Again {
    responses: Option<InputResponses>,
    state: Option<String>,
}

impl Hub {
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
        let method = "tools/call";
        let (upstream, offered) =
            self.offered::<Tool>(context, scope, method, &call.name, &arguments).await?;
        let tool = &offered.item;
        let admitted = self.gate.admit(context, &upstream.server, method, tool, &arguments);
        let permit = match admitted.await? {
            Admission::Go(permit) => permit,
            Admission::Answer(text) => {
                let result = CallToolResult::error(vec![ContentBlock::text(text)]);
                return Ok(CallToolResponse::Complete(result));
            }
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
        let (method, arguments) = ("prompts/get", params.arguments.clone().unwrap_or_default());
        let (upstream, offered) =
            self.offered::<Prompt>(context, scope, method, &params.name, &arguments).await?;
        let admitted =
            self.gate.admit(context, &upstream.server, method, &offered.item, &arguments);
        let permit = goes(admitted.await?)?;
        let asked = format!("prompt {}", offered.item.name);
        let again = Again { responses: params.input_responses, state: params.request_state };
        let ask = |again: Again| {
            let mut get = GetPromptRequestParams::new(offered.item.name.clone());
            get.arguments = params.arguments.clone();
            (get.input_responses, get.request_state) = (again.responses, again.state);
            ClientRequest::GetPromptRequest(GetPromptRequest::new(get))
        };
        let conversation = self.converse(context, &upstream, &asked, again, ask, asking);
        let fits = |result: &_| matches!(result, ServerResult::GetPromptResult(_));
        match within(&upstream, permit, conversation, fits).await? {
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
        let (upstream, uri, permit) =
            self.admitted(context, scope, "resources/read", &params.uri, JsonObject::new()).await?;
        let asked = format!("resource {uri}");
        let again = Again { responses: params.input_responses, state: params.request_state };
        let ask = |again: Again| {
            let mut read = ReadResourceRequestParams::new(uri.clone());
            (read.input_responses, read.request_state) = (again.responses, again.state);
            ClientRequest::ReadResourceRequest(ReadResourceRequest::new(read))
        };
        let conversation = self.converse(context, &upstream, &asked, again, ask, asking);
        let fits = |result: &_| matches!(result, ServerResult::ReadResourceResult(_));
        match within(&upstream, permit, conversation, fits).await? {
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

    /// Completes an argument of a prompt or of a resource's template. To rules and the audit its
    /// arguments are those that are known already, and the one that is completed.
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
        let method = "completion/complete";
        let argument = &params.argument;
        let mut known = params.context.as_mut().and_then(|context| context.arguments.as_mut());
        // The one that is completed is not known, too: the server is sent what was decided on.
        if let Some(known) = &mut known {
            known.remove(&argument.name);
        }
        let known = known.map(|known| &*known).into_iter().flatten();
        let all = known.chain([(&argument.name, &argument.value)]);
        let arguments: JsonObject =
            all.map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let (upstream, permit) = match &mut params.r#ref {
            Reference::Prompt(prompt) => {
                let (upstream, offered) = self
                    .offered::<Prompt>(context, scope, method, &prompt.name, &arguments)
                    .await?;
                let admitted =
                    self.gate.admit(context, &upstream.server, method, &offered.item, &arguments);
                let permit = goes(admitted.await?)?;
                prompt.name.clone_from(&offered.item.name);
                (upstream, permit)
            }
            Reference::Resource(resource) => {
                let (upstream, uri, permit) =
                    self.admitted(context, scope, method, &resource.uri, arguments).await?;
                resource.uri = uri;
                (upstream, permit)
            }
            _ => return Err(Error::Invalid("ref is neither a prompt nor a resource".to_owned())),
        };
        params.meta = None;
        let request = ClientRequest::CompleteRequest(CompleteRequest::new(params));
        let asked = upstream.ask(context, request, asking);
        let fits = |result: &_| matches!(result, ServerResult::CompleteResult(_));
        match within(&upstream, permit, asked, fits).await? {
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
        let method = if subscribed { "resources/subscribe" } else { "resources/unsubscribe" };
        let admitted = self.admitted(context, scope, method, uri, JsonObject::new());
        let (upstream, uri, permit) = admitted.await?;
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
        let asked = upstream.ask(context, request, asking);
        let fits = |result: &_| matches!(result, ServerResult::EmptyResult(_));
        match within(&upstream, permit, asked, fits).await? {
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
            let connection = upstream.connection_for(context, asking).await?;
            if connection.modern() || connection.info.capabilities.logging.is_none() {
                return Ok(());
            }
            let params = SetLevelRequestParams::new(level);
            let request = ClientRequest::SetLevelRequest(SetLevelRequest::new(params));
            upstream.ask_on(&connection, request, asking).await.map(drop)
        });
        asked.await
    }

    /// Finds what is called so; the audit has a row where it is not found.
    async fn offered<T: Defined>(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        method: &'static str,
        name: &str,
        arguments: &JsonObject,
    ) -> Result<(Arc<Upstream>, Arc<Offered<T>>), Error>
    where
        Catalog<T>: Kind,
    {
        let found = self.find::<T>(context, scope, T::KIND.as_str(), name).await;
        found.map_err(|error| {
            let whole = |name: &str| self.whole(scope, T::KIND, name);
            let error = self.gate.hide(context, T::KIND, whole, error);
            self.gate.turned_away(context, method, T::KIND, name, arguments, error)
        })
    }

    /// Returns what rules and keys call something that clients call `name` in this scope.
    fn whole(&self, scope: Scope<'_>, kind: gate::Kind, name: &str) -> String {
        let (server, own) = match scope {
            Scope::One(server) => (server, name),
            Scope::All => {
                let Some(one) = self.may_have(name) else { return name.to_owned() };
                let server = one.server.name.as_str();
                (server, catalog::rest_of(server, name).unwrap_or(name))
            }
        };
        kind.whole(server, own)
    }

    /// Admits that something is done with a resource, with `arguments` besides its address: whose it
    /// is, and what it is there.
    ///
    /// # Errors
    /// If it is nobody's, or what the gate refuses.
    pub(crate) async fn admitted(
        &self,
        context: &CallContext,
        scope: Scope<'_>,
        method: &'static str,
        uri: &str,
        mut arguments: JsonObject,
    ) -> Result<(Arc<Upstream>, String, Box<Permit>), Error> {
        if arguments.contains_key("uri") {
            let told =
                "argument \"uri\": rules call the resource's address so, it is not completed";
            return Err(Error::Invalid(told.to_owned()));
        }
        let kind = gate::Kind::Resource;
        let found = self.addressed(context, scope, uri);
        let told = found.as_ref().map_or(uri, |(_, own)| own);
        arguments.insert("uri".to_owned(), told.into());
        let (upstream, uri) = found.map_err(|error| {
            // An address that is of no server is called the same by rules.
            let error = self.gate.hide(context, kind, str::to_owned, error);
            self.gate.turned_away(context, method, kind, uri, &arguments, error)
        })?;
        let server = &upstream.server;
        let admitted = self.gate.admit_resource(context, server, method, &uri, &arguments);
        let permit = goes(admitted.await?)?;
        Ok((upstream, uri, permit))
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
            self.gate.passes(asked, &wanted)?;
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
}

/// Returns the permit of what is no tool: its wrong arguments are the request's fault.
fn goes(admission: Admission) -> Result<Box<Permit>, Error> {
    match admission {
        Admission::Go(permit) => Ok(permit),
        Admission::Answer(text) => Err(Error::Invalid(text)),
    }
}

/// Asks for something else than a tool, and ends its permit; what does not fit is no answer.
async fn within(
    upstream: &Upstream,
    permit: Box<Permit>,
    asked: impl Future<Output = Result<ServerResult, Error>>,
    fits: fn(&ServerResult) -> bool,
) -> Result<ServerResult, Error> {
    match upstream.within(permit.timeout, asked).instrument(permit.span()).await {
        Ok(wanted @ ServerResult::InputRequiredResult(_)) => {
            permit.asked_back();
            Ok(wanted)
        }
        Ok(result) if !fits(&result) => permit.done(Err(upstream.strange())),
        outcome => permit.pass(outcome),
    }
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
