use std::sync::Arc;

use proto::bridge::bridge_service_server::BridgeService;
use proto::bridge::{
    CallToolRequest, CallToolResponse, DecidePinRequest, DecidePinResponse, Degraded,
    ListCallsRequest, ListCallsResponse, ListPinsRequest, ListPinsResponse, ListToolsRequest,
    ListToolsResponse, RefusedTool, Tool,
};
use rmcp::model::{CallToolRequestParams, JsonObject};
use tonic::{Request, Response};
use types::CallContext;

use crate::catalog::Offered;
use crate::hub::{Hub, Scope};
use crate::upstream::Asking;
use crate::{Error, records};

/// The gRPC service.
#[derive(Clone)]
pub(crate) struct Service {
    hub: Arc<Hub>,
}

impl Service {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn call(
        &self,
        context: &CallContext,
        request: &CallToolRequest,
    ) -> Result<CallToolResponse, Error> {
        let arguments: JsonObject = match request.arguments_json.as_str() {
            "" => JsonObject::new(),
            text => serde_json::from_str(text)
                .map_err(|fault| Error::Invalid(format!("the arguments: {fault}")))?,
        };
        let call = CallToolRequestParams::new(request.name.clone()).with_arguments(arguments);
        let called = self.hub.call(context, Scope::All, call, &Asking::default()).await?;
        let rmcp::model::CallToolResponse::Complete(result) = called else {
            return Err(Error::Invalid("the tool asks for something else first".to_owned()));
        };
        let structured = result.structured_content.as_ref().map(ToString::to_string);
        Ok(CallToolResponse {
            content_json: json(&result.content)?,
            structured_json: structured.unwrap_or_default(),
            is_error: result.is_error == Some(true),
            private: self.hub.gives_private(&request.name),
        })
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|fault| Error::Invalid(fault.to_string()))
}

fn to_wire(
    server: &str,
    offered: &Offered<rmcp::model::Tool>,
    private: bool,
) -> Result<Tool, Error> {
    let tool = &offered.item;
    Ok(Tool {
        name: offered.name.clone(),
        server: server.to_owned(),
        description: tool.description.as_deref().unwrap_or_default().to_owned(),
        input_schema_json: json(&tool.input_schema)?,
        own_name: tool.name.to_string(),
        private,
    })
}

#[tonic::async_trait]
impl BridgeService for Service {
    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> tonic::Result<Response<ListToolsResponse>> {
        let context = runtime::context::read(&request)?;
        let listing = self.hub.tools(&context, Scope::All).await?;
        let hub = &self.hub;
        let tools = listing.items.iter().flat_map(|(server, tools)| {
            let tools = tools.iter();
            tools.map(move |tool| to_wire(server, tool, hub.gives_private(&tool.name)))
        });
        let tools = tools.collect::<Result<_, _>>()?;
        let degraded = listing.degraded.into_iter();
        let degraded =
            degraded.map(|(server, error)| Degraded { server, reason: error.to_string() });
        let refused = listing.refused.into_iter();
        let refused = refused.map(|(server, name, reason)| RefusedTool { server, name, reason });
        let (degraded, refused) = (degraded.collect(), refused.collect());
        Ok(Response::new(ListToolsResponse { tools, degraded, refused }))
    }

    async fn call_tool(
        &self,
        request: Request<CallToolRequest>,
    ) -> tonic::Result<Response<CallToolResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.call(&context, &request.into_inner()).await?))
    }

    async fn list_pins(
        &self,
        request: Request<ListPinsRequest>,
    ) -> tonic::Result<Response<ListPinsResponse>> {
        runtime::context::read(&request)?;
        Ok(Response::new(records::list_pins(self.hub.gate(), &request.into_inner()).await?))
    }

    async fn decide_pin(
        &self,
        request: Request<DecidePinRequest>,
    ) -> tonic::Result<Response<DecidePinResponse>> {
        let context = runtime::context::read(&request)?;
        let request = request.into_inner();
        Ok(Response::new(records::decide_pin(self.hub.gate(), &context, &request).await?))
    }

    async fn list_calls(
        &self,
        request: Request<ListCallsRequest>,
    ) -> tonic::Result<Response<ListCallsResponse>> {
        let context = runtime::context::read(&request)?;
        let request = request.into_inner();
        Ok(Response::new(records::list_calls(self.hub.gate(), &context, &request).await?))
    }
}
