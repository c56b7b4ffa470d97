//! Asking a server for a caller.

#![allow(deprecated, reason = "older clients and servers use what is deprecated")]

use std::collections::BTreeMap;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest,
    CompleteRequest, CompleteRequestParams, CompleteResult, GetPromptRequest,
    GetPromptRequestParams, GetPromptResponse, InputRequest, InputRequiredResult, InputResponses,
    LoggingLevel, Prompt, ReadResourceRequest, ReadResourceRequestParams, ReadResourceResponse,
    Reference, ServerResult, SetLevelRequest, SetLevelRequestParams, SubscribeRequest,
    SubscribeRequestParams, Tool, UnsubscribeRequest, UnsubscribeRequestParams,
};
use tracing::Instrument as _;
use types::CallContext;

use super::{Hub, Scope};
use crate::gate::Admission;
use crate::upstream::{Asking, Upstream};
use crate::{Error, address};

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
                self.gate.passes(&asked, &result)?;
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
                self.gate.passes(&asked, &result)?;
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
