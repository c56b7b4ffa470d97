//! How a connection to a server is made.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rmcp::model::{ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::ClientInitializeError;
use rmcp::transport::Transport;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _, RoleClient};

use super::client::Relay;
use super::http;
use super::relay::{Calls, Relayed};
use super::{Connection, Key, Reason, Session, Upstream};
use crate::Error;
use crate::config::Place;

impl Upstream {
    /// Connects, in the era that is known or as it is found out.
    pub(super) async fn connect(
        &self,
        key: &Key,
        session: Option<&Session>,
        modern: Option<bool>,
    ) -> Result<Connection, Error> {
        let modes = match modern {
            Some(true) => vec![ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            }],
            Some(false) => vec![ClientLifecycleMode::Initialize],
            // Servers of before end, or answer anything, when they are asked what they do not know:
            // then once more, anew, as they know it.
            None => vec![
                ClientLifecycleMode::Auto {
                    preferred_versions: vec![ProtocolVersion::V_2026_07_28],
                    legacy_version: Some(ProtocolVersion::V_2025_11_25),
                },
                ClientLifecycleMode::Initialize,
            ],
        };
        let mut fault = None;
        for mode in modes {
            let reason = Reason::default();
            let connected = match &self.server.place {
                Place::Program(program) => {
                    let (connection, life) =
                        program.start(&self.record(key), Arc::clone(&reason))?;
                    let served = self.serve(connection, key, session, mode, reason).await;
                    match &served {
                        Ok(_) => life.well.store(true, Ordering::Relaxed),
                        Err(_) => life.failed(),
                    }
                    served
                }
                Place::Address(url) => {
                    let address = http::Address {
                        url,
                        token: self.server.token.as_ref(),
                        tenant: key.tenant.as_ref().filter(|_| self.server.tenant_header),
                        max_bytes: self.server.max_message_bytes,
                    };
                    let Some(client) = self.http.clone() else { continue };
                    let transport = http::transport(client, &address)
                        .map_err(|fault| self.unavailable("its tenant has no header", &fault))?;
                    self.serve(transport, key, session, mode, reason).await
                }
            };
            match connected {
                Ok(connection) => return Ok(connection),
                Err(said) => fault = Some(said),
            }
        }
        let fault = fault.unwrap_or_else(|| "there is no way to connect".into());
        if session.is_some()
            && let Some(ClientInitializeError::JsonRpcError(fault)) = fault.downcast_ref()
        {
            let fault = Box::new(fault.clone());
            return Err(Error::Refused { server: self.server.name.clone(), fault });
        }
        Err(self.unavailable("it does not speak MCP, or cannot be reached", fault.as_ref()))
    }

    async fn serve<T>(
        &self,
        transport: T,
        key: &Key,
        session: Option<&Session>,
        mode: ClientLifecycleMode,
        reason: Reason,
    ) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>>
    where
        T: Transport<RoleClient> + 'static,
    {
        let server = &self.server.name;
        let calls = Calls::of(session.map(|one| (server.clone(), one.said.clone())));
        let one_caller = key.user.is_some();
        let name = Implementation::new("baton-mcp-bridge", env!("CARGO_PKG_VERSION"));
        let capabilities = serde_json::from_str(&key.asks).unwrap_or_default();
        let mut info = ClientConfig::new(capabilities, name);
        info.protocol_version = ProtocolVersion::V_2025_11_25;
        let relay =
            Relay { info, calls: calls.clone(), one_caller, changes: Arc::clone(&self.changes) };
        let transport = Relayed::new(transport, calls.clone(), one_caller, Arc::clone(&reason));
        let client = relay.serve_with_lifecycle(transport, mode).await?;
        Connection::new(client, calls, reason).ok_or_else(|| "it said nothing of itself".into())
    }
}
