//! What a server of before 2026-07-28 asks the client that a call is for.

#![allow(deprecated, reason = "older servers use what is deprecated")]

use std::sync::Arc;

use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, ClientResult, CreateMessageRequest,
    CreateMessageRequestParams, CreateMessageResult, ElicitRequest, ElicitRequestParams,
    ElicitResult, ErrorData, GetExtensions as _, InputRequest, ListRootsRequest, ListRootsResult,
    RequestId, ServerRequest,
};
use rmcp::service::{
    InboundStreamOrigin, NotificationContext, OriginatingRequestId, Peer, PeerRequestOptions,
    RequestContext, RoleClient, RoleServer, ServiceError,
};
use serde_json::Value;

use super::changes::{Change, Changes};
use super::relay::Calls;

/// The client that a call is for, of an era in which servers asked their clients.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer<RoleServer>,
    /// The client's own request, on whose stream it is asked.
    pub(crate) request: RequestId,
    pub(crate) capabilities: ClientCapabilities,
}

impl Client {
    /// Asks the client, where it said that it can be asked such a thing.
    async fn ask(&self, mut request: ServerRequest) -> Result<ClientResult, ErrorData> {
        let Self { capabilities, .. } = self;
        let may = match &request {
            ServerRequest::ElicitRequest(_) => capabilities.elicitation.is_some(),
            ServerRequest::CreateMessageRequest(_) => capabilities.sampling.is_some(),
            ServerRequest::ListRootsRequest(_) => capabilities.roots.is_some(),
            _ => false,
        };
        if !may {
            return Err(cannot_be_asked());
        }
        request.extensions_mut().insert(OriginatingRequestId(self.request.clone()));
        let options = PeerRequestOptions::no_options();
        let asked = match self.peer.send_cancellable_request(request, options).await {
            Ok(handle) => handle.await_response().await,
            Err(fault) => Err(fault),
        };
        asked.map_err(|fault| match fault {
            ServiceError::McpError(fault) => fault,
            fault => ErrorData::internal_error(format!("the client did not answer: {fault}"), None),
        })
    }

    /// Answers what a server of the modern era wants to know before it goes on.
    ///
    /// # Errors
    /// What the client answers, or that it cannot be asked for it.
    pub(crate) async fn answer(&self, wanted: InputRequest) -> Result<Value, ErrorData> {
        let request = match wanted {
            InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
            InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
            InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
            _ => return Err(cannot_be_asked()),
        };
        serde_json::to_value(self.ask(request).await?).map_err(|_| unexpected())
    }
}

fn cannot_be_asked() -> ErrorData {
    ErrorData::invalid_request("the client of this call cannot be asked for it", None)
}

/// Answers what a server asks, by asking the client that its call is for.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) info: ClientConfig,
    pub(super) calls: Calls,
    pub(super) one_caller: bool,
    pub(super) changes: Arc<Changes>,
}

impl Relay {
    async fn ask(
        &self,
        request: ServerRequest,
        context: &RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        let origin = context.extensions.get::<InboundStreamOrigin>();
        let listener = self.calls.of_stream(origin, self.one_caller);
        let listener = listener.ok_or_else(cannot_be_asked)?;
        let client = listener.client.as_ref().ok_or_else(cannot_be_asked)?;
        // The client has no longer to answer than its call goes on.
        tokio::select! {
            answer = client.ask(request) => answer,
            () = context.ct.cancelled() => Err(ErrorData::internal_error(
                "the server no longer waits for the answer", None,
            )),
            () = listener.gone() => Err(ErrorData::internal_error(
                "the client did not answer while its call went on", None,
            )),
        }
    }
}

fn unexpected() -> ErrorData {
    ErrorData::internal_error("the client answered something else", None)
}

impl ClientHandler for Relay {
    fn get_info(&self) -> ClientConfig {
        self.info.clone()
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let request = ServerRequest::ElicitRequest(ElicitRequest::new(request));
        match self.ask(request, &context).await? {
            ClientResult::ElicitResult(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let request = ServerRequest::CreateMessageRequest(CreateMessageRequest::new(request));
        match self.ask(request, &context).await? {
            ClientResult::CreateMessageResult(result) => Ok(*result),
            _ => Err(unexpected()),
        }
    }

    async fn list_roots(
        &self,
        context: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        let request = ServerRequest::ListRootsRequest(ListRootsRequest {
            method: Default::default(),
            extensions: Default::default(),
        });
        match self.ask(request, &context).await? {
            ClientResult::ListRootsResult(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changes.tell(Change::Tools);
    }

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changes.tell(Change::Prompts);
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changes.tell(Change::Resources);
    }
}
