//! A connection to one MCP server, made when it is needed and made again when it was lost.

mod backoff;
mod http;
mod lines;
mod program;
mod stdio;

use std::sync::Arc;
use std::time::Duration;

use rmcp::ClientLifecycleMode;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ErrorCode,
    Implementation, JsonObject, ProtocolVersion, Tool,
};
use rmcp::service::{RunningService, ServiceError};
use rmcp::{ClientServiceExt as _, RoleClient};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::Error;
use crate::config::{Described, Place};

pub(crate) use backoff::Backoff;
pub(crate) use stdio::{Apart, Program};

type Client = RunningService<RoleClient, ClientConfig>;

pub(crate) struct Upstream {
    pub(crate) server: Described,
    client: Mutex<Option<Arc<Client>>>,
}

impl Upstream {
    pub(crate) fn new(server: Described) -> Self {
        Self { server, client: Mutex::new(None) }
    }

    /// Lists its tools. A connection that turns out to be lost is made once again.
    pub(crate) async fn list(&self, wait: Duration) -> Result<Vec<Tool>, Error> {
        let list = async {
            let client = self.client().await?;
            let listed = match client.list_all_tools().await {
                Err(fault) if is_lost(&fault) => {
                    self.forget(&client).await;
                    self.client().await?.list_all_tools().await
                }
                listed => listed,
            };
            listed.map_err(|fault| self.failed(&fault))
        };
        self.within(wait, list).await
    }

    /// Calls a tool, once: a lost connection does not tell whether the tool ran.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: JsonObject,
        wait: Duration,
    ) -> Result<CallToolResult, Error> {
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let call = async {
            let client = self.client().await?;
            let called = client.call_tool(request).await;
            if called.as_ref().is_err_and(is_lost) {
                self.forget(&client).await;
            }
            Ok(called)
        };
        match self.within(wait, call).await? {
            Ok(result) => Ok(result),
            Err(ServiceError::McpError(fault)) if fault.code == ErrorCode::INVALID_PARAMS => {
                // The protocol has one code for a wrong name and for wrong arguments.
                let known = self.list(wait).await?;
                match known.iter().any(|one| one.name == tool) {
                    true => Err(Error::Invalid(fault.message.into_owned())),
                    false => Err(Error::Unknown(format!("{}__{tool}", self.server.name))),
                }
            }
            Err(fault) => Err(self.failed(&fault)),
        }
    }

    /// Returns the connection; whoever comes while it is made waits for the same one.
    async fn client(&self) -> Result<Arc<Client>, Error> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        // A dead one goes first: its process is killed and reaped.
        kept.take();
        let client = Arc::new(self.within(self.server.start_timeout, self.connect()).await?);
        Ok(Arc::clone(kept.insert(client)))
    }

    /// Lets go of a connection that is lost, unless another took its place.
    async fn forget(&self, lost: &Arc<Client>) {
        let mut kept = self.client.lock().await;
        if kept.as_ref().is_some_and(|client| Arc::ptr_eq(client, lost)) {
            kept.take();
        }
    }

    async fn connect(&self) -> Result<Client, Error> {
        let name = Implementation::new("baton-mcp-bridge", env!("CARGO_PKG_VERSION"));
        let client = ClientConfig::new(ClientCapabilities::default(), name);
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        match &self.server.place {
            Place::Program(program) => {
                client.serve_with_lifecycle(program.start()?, lifecycle).await
            }
            Place::Address(url) => {
                let transport = http::transport(url, self.server.reach.clone())
                    .map_err(|fault| self.unavailable("it cannot be reached", &fault))?;
                client.serve_with_lifecycle(transport, lifecycle).await
            }
        }
        .map_err(|fault| self.unavailable("it does not speak MCP, or cannot be reached", &fault))
    }

    async fn within<T>(
        &self,
        wait: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = || Error::Timeout { server: self.server.name.clone(), waited: wait };
        timeout(wait, work).await.map_err(|_| late())?
    }

    fn failed(&self, fault: &ServiceError) -> Error {
        match fault {
            ServiceError::McpError(fault) => Error::Unavailable {
                server: self.server.name.clone(),
                reason: format!("it answered with an error: {}", fault.message),
            },
            fault if is_lost(fault) => self.unavailable("the connection was lost", fault),
            fault => self.unavailable("it answered what cannot be read", fault),
        }
    }

    /// Says that the server failed; the cause may name addresses and goes to the log alone.
    fn unavailable(&self, reason: &str, fault: &dyn std::error::Error) -> Error {
        let server = self.server.name.clone();
        tracing::warn!(server, reason, %fault, "an MCP server failed");
        Error::Unavailable { server, reason: reason.to_owned() }
    }
}

fn is_lost(fault: &ServiceError) -> bool {
    matches!(fault, ServiceError::TransportClosed | ServiceError::TransportSend(_))
}
