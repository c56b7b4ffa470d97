//! What clients ask, of all servers or of one.

#![allow(deprecated, reason = "older clients use what is deprecated")]

use std::sync::Arc;

use rmcp::ServerHandler;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult,
    DiscoverResult, ErrorData, GetPromptRequestParams, GetPromptResponse, Implementation,
    InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams,
    ReadResourceResponse, ResultType, ServerCapabilities, ServerConfig, SetLevelRequestParams,
    SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};

use super::page::{answer, page};
use super::ready::Ready;
use super::session::{Kept, Places, follow};
use super::talk::{Talk, caller, modern};
use super::{fault, watch};
use crate::catalog::{Catalog, Offered};
use crate::gate::Defined;
use crate::hub::{Hub, Scope};
use crate::upstream::{Asking, Kind};

/// Answers one client: a session of before 2026-07-28, or one request since.
pub(crate) struct Handler {
    hub: Arc<Hub>,
    server: Option<Arc<str>>,
    kept: Arc<Kept>,
}

impl Handler {
    pub(super) fn new(hub: Arc<Hub>, server: Option<Arc<str>>, places: Places) -> Self {
        let kept = Arc::new(Kept::new(Arc::clone(&hub), places));
        Self { hub, server, kept }
    }

    fn scope(&self) -> Scope<'_> {
        self.server.as_deref().map_or(Scope::All, Scope::One)
    }

    fn begin<'a>(&self, request: &'a RequestContext<RoleServer>) -> (Asking, Talk<'a>) {
        let session = self.kept.session().filter(|_| !modern(request));
        Talk::begin(request, session)
    }

    /// Returns what a client is shown of a page: none where they are left to be put into the answer.
    fn shown<T: Defined>(
        &self,
        request: &RequestContext<RoleServer>,
        page: Vec<Arc<Offered<T>>>,
    ) -> Vec<T>
    where
        Catalog<T>: Kind,
    {
        let scope = self.scope();
        let Some(ready) = Ready::of(request) else {
            let page = page.iter();
            return page.map(|one| one.item.clone().called(scope.name_of(one))).collect();
        };
        let mut items = Vec::new();
        for one in &page {
            if !items.is_empty() {
                items.push(b',');
            }
            one.write(scope.name_of(one), &mut items);
        }
        ready.leave(Catalog::<T>::FIELD, items);
        Vec::new()
    }

    /// Says what is served: of one server, what that says of itself.
    async fn described(
        &self,
        request: &RequestContext<RoleServer>,
    ) -> Result<ServerConfig, ErrorData> {
        let mut config = self.get_info();
        let Some(server) = &self.server else { return Ok(config) };
        let info = self.hub.info(caller(request)?, server).await.map_err(fault::of)?;
        let theirs = &info.capabilities;
        let mut capabilities = ServerCapabilities::default();
        // What is relayed, and nothing else.
        capabilities.tools = theirs.tools.clone();
        capabilities.prompts = theirs.prompts.clone();
        capabilities.resources = theirs.resources.clone();
        capabilities.completions = theirs.completions.clone();
        capabilities.logging = theirs.logging.clone();
        config.capabilities = capabilities;
        config.instructions = info.instructions.clone();
        if let Some(theirs) = &info.server_info {
            config.server_info = theirs.clone();
        }
        Ok(config)
    }
}

/// Says that a result is whole: servers of before do not, and clients of before are not told.
fn whole(said: &mut Option<ResultType>) {
    said.get_or_insert(ResultType::COMPLETE);
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        let mut config = ServerConfig::new(capabilities);
        config.server_info = Implementation::new("baton", env!("CARGO_PKG_VERSION"));
        config
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let negotiated = self.negotiate_initialize(&request)?;
        let caller = caller(&context)?;
        let peer = context.peer.clone();
        self.kept.begin(caller, self.server.clone(), peer).map_err(fault::of)?;
        let mut result = self.described(&context).await?;
        result.protocol_version = negotiated.protocol_version;
        Ok(result)
    }

    async fn discover(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        let described = self.described(&context).await?;
        Ok(DiscoverResult::from_server_info(versions, described))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let listing = self.hub.tools(caller(&context)?, self.scope()).await.map_err(fault::of)?;
        let shown = page(listing, request, |page| self.shown(&context, page))?;
        answer!(ListToolsResult, tools, shown)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.hub.tool_at_hand(self.scope(), name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let (asking, talk) = self.begin(&context);
        let called = self.hub.call(caller(&context)?, self.scope(), request, &asking);
        match talk.wait(called).await? {
            Ok(CallToolResponse::Complete(mut result)) => {
                whole(&mut result.result_type);
                Ok(CallToolResponse::Complete(result))
            }
            Ok(response) => Ok(response),
            Err(error) => fault::of_call(error).map(CallToolResponse::Complete),
        }
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let listing = self.hub.prompts(caller(&context)?, self.scope()).await.map_err(fault::of)?;
        let shown = page(listing, request, |page| self.shown(&context, page))?;
        answer!(ListPromptsResult, prompts, shown)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let (asking, talk) = self.begin(&context);
        let asked = self.hub.prompt(caller(&context)?, self.scope(), request, &asking);
        let mut response = talk.wait(asked).await?.map_err(fault::of)?;
        if let GetPromptResponse::Complete(result) = &mut response {
            whole(&mut result.result_type);
        }
        Ok(response)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let listing = self.hub.resources(caller(&context)?, self.scope()).await;
        let shown = page(listing.map_err(fault::of)?, request, |page| page)?;
        answer!(ListResourcesResult, resources, shown)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let listing = self.hub.templates(caller(&context)?, self.scope()).await;
        let shown = page(listing.map_err(fault::of)?, request, |page| page)?;
        answer!(ListResourceTemplatesResult, resource_templates, shown)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let (asking, talk) = self.begin(&context);
        let read = self.hub.read(caller(&context)?, self.scope(), request, &asking);
        let mut response = talk.wait(read).await?.map_err(fault::of)?;
        if let ReadResourceResponse::Complete(result) = &mut response {
            whole(&mut result.result_type);
        }
        Ok(response)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let (asking, talk) = self.begin(&context);
        let completed = self.hub.complete(caller(&context)?, self.scope(), request, &asking);
        let mut result = talk.wait(completed).await?.map_err(fault::of)?;
        whole(&mut result.result_type);
        Ok(result)
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.kept.set_level(request.level);
        let Some(server) = &self.server else { return Ok(()) };
        let (asking, talk) = self.begin(&context);
        let set = self.hub.set_level(caller(&context)?, server, request.level, &asking);
        talk.wait(set).await?.map_err(fault::of)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let (asking, talk) = self.begin(&context);
        let done = self.hub.subscribe(caller(&context)?, self.scope(), &request.uri, true, &asking);
        talk.wait(done).await?.map_err(fault::of)
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let (asking, talk) = self.begin(&context);
        let done =
            self.hub.subscribe(caller(&context)?, self.scope(), &request.uri, false, &asking);
        talk.wait(done).await?.map_err(fault::of)
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let request = context.request_context();
        let caller = caller(request)?;
        let lists = follow(&self.hub, caller, self.scope()).map_err(fault::of)?;
        let uris = context.accepted().resource_subscriptions.clone().unwrap_or_default();
        let updates = watch::follow(&self.hub, caller, self.scope(), uris).await;
        watch::pass(&context, lists, updates.map_err(fault::of)?).await;
        Ok(())
    }
}
