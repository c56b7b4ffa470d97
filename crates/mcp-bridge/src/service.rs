use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use proto::bridge::bridge_service_server::BridgeService;
use proto::bridge::{
    CallToolRequest, CallToolResponse, Degraded, ListToolsRequest, ListToolsResponse,
};
use rmcp::model::JsonObject;
use tonic::{Request, Response};
use types::{CallContext, Privacy};

use crate::config::Config;
use crate::upstream::Upstream;
use crate::{Error, catalog};

/// The gRPC service.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a connection has nothing to show")]
pub struct Service {
    upstreams: Arc<BTreeMap<String, Upstream>>,
    max_result_bytes: usize,
}

impl Service {
    pub(crate) fn new(config: Config) -> anyhow::Result<Self> {
        let upstream = |(name, server): (&String, &crate::Server)| {
            Ok((name.clone(), Upstream::new(server.describe(name)?)))
        };
        let upstreams = config.servers.iter().map(upstream).collect::<anyhow::Result<_>>()?;
        let max_result_bytes = config.max_result_bytes;
        Ok(Self { upstreams: Arc::new(upstreams), max_result_bytes })
    }

    async fn call(
        &self,
        context: &CallContext,
        request: &CallToolRequest,
    ) -> Result<CallToolResponse, Error> {
        let unknown = || Error::Unknown(request.name.clone());
        let (server, tool) = catalog::split(&request.name).ok_or_else(unknown)?;
        let upstream = self.upstreams.get(server).ok_or_else(unknown)?;
        if !may_see(context, upstream) {
            return Err(Error::NotLocal(server.to_owned()));
        }
        let arguments: JsonObject = match request.arguments_json.as_str() {
            "" => JsonObject::new(),
            text => serde_json::from_str(text)
                .map_err(|fault| Error::Invalid(format!("the arguments: {fault}")))?,
        };
        let wait = context.time_left(upstream.server.timeout);
        let result = upstream.call(tool, arguments, wait).await?;
        let written = |fault: serde_json::Error| Error::Invalid(fault.to_string());
        let content_json = serde_json::to_string(&result.content).map_err(written)?;
        let structured = result.structured_content.as_ref().map(ToString::to_string);
        let structured_json = structured.unwrap_or_default();
        let (bytes, limit) = (content_json.len() + structured_json.len(), self.max_result_bytes);
        if bytes > limit {
            return Err(Error::TooLarge { tool: request.name.clone(), bytes, limit });
        }
        let is_error = result.is_error == Some(true);
        Ok(CallToolResponse { content_json, structured_json, is_error })
    }
}

fn may_see(context: &CallContext, upstream: &Upstream) -> bool {
    context.privacy == Privacy::Public || upstream.server.local
}

#[tonic::async_trait]
impl BridgeService for Service {
    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> tonic::Result<Response<ListToolsResponse>> {
        let context = &runtime::context::read(&request)?;
        let seen = self.upstreams.iter().filter(|(_, upstream)| may_see(context, upstream));
        let lists = seen.map(|(name, upstream)| async move {
            (name, upstream.list(context.time_left(upstream.server.timeout)).await)
        });
        let mut response = ListToolsResponse::default();
        for (server, listed) in join_all(lists).await {
            match listed {
                Ok(tools) => {
                    for tool in tools {
                        let name = tool.name.clone();
                        match catalog::federated(server, tool) {
                            Ok(tool) => response.tools.push(tool),
                            Err(reason) => {
                                tracing::warn!(server, %name, reason, "a tool is left out");
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(server, %error, "no list of tools");
                    let (server, reason) = (server.clone(), error.to_string());
                    response.degraded.push(Degraded { server, reason });
                }
            }
        }
        Ok(Response::new(response))
    }

    async fn call_tool(
        &self,
        request: Request<CallToolRequest>,
    ) -> tonic::Result<Response<CallToolResponse>> {
        let context = runtime::context::read(&request)?;
        let request = request.into_inner();
        let started = Instant::now();
        let called = self.call(&context, &request).await;
        let outcome = match &called {
            Ok(response) if response.is_error => "tool_error",
            Ok(_) => "ok",
            Err(error) => error.outcome(),
        };
        // Arguments and results may be private; who called what is the audit.
        tracing::info!(
            tenant = %context.tenant, user = %context.user, tool = request.name, outcome,
            ms = started.elapsed().as_secs_f64() * 1e3, "tool call"
        );
        Ok(Response::new(called?))
    }
}
