//! One connection to a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rmcp::RoleClient;
use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientNotification, ClientRequest,
    GetExtensions as _, RequestId, RequestMetaObject, ServerPeerInfo, ServerResult,
};
use rmcp::service::{Peer, PeerRequestOptions, RunningService, ServiceError};

use super::client::Relay;
use super::relay::{Calls, Listener};
use super::{Reason, held};

/// A connection that has been opened.
pub(crate) struct Connection {
    client: RunningService<RoleClient, Relay>,
    calls: Calls,
    /// What the server said of itself.
    pub(crate) info: Arc<ServerPeerInfo>,
    used: Mutex<Instant>,
    asked: AtomicU64,
    reason: Reason,
}

impl Connection {
    pub(super) fn new(
        client: RunningService<RoleClient, Relay>,
        calls: Calls,
        reason: Reason,
    ) -> Option<Self> {
        let (info, used) = (client.peer_info()?, Mutex::new(Instant::now()));
        Some(Self { client, calls, info, used, asked: 0.into(), reason })
    }

    /// Says why it was given up, if it was.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Whether the server keeps nothing between two requests: then callers may share a connection.
    pub(crate) fn modern(&self) -> bool {
        !self.info.protocol_version.has_initialize()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.client.is_transport_closed()
    }

    /// Whether nothing was asked of it for so long.
    pub(super) fn idle_for(&self) -> Duration {
        match self.asked.load(Ordering::Relaxed) {
            0 => held(&self.used).elapsed(),
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn peer(&self) -> &Peer<RoleClient> {
        self.client.peer()
    }

    /// Asks the server. Who no longer waits for the answer cancels the request there.
    pub(crate) async fn ask(
        &self,
        mut request: ClientRequest,
        meta: RequestMetaObject,
        listener: Option<Listener>,
    ) -> Result<ServerResult, ServiceError> {
        if let Some(listener) = listener {
            request.extensions_mut().insert(listener);
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut asked = Asked { connection: self, id: None };
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let handle = self.client.send_cancellable_request(request, options).await?;
        asked.id = Some(handle.id.clone());
        let answer = handle.await_response().await;
        if let Some(id) = asked.id.take() {
            self.calls.ended(&id);
        }
        answer
    }
}

/// A request that is cancelled at the server when it is dropped before its answer.
struct Asked<'a> {
    connection: &'a Connection,
    id: Option<RequestId>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        *held(&self.connection.used) = Instant::now();
        self.connection.asked.fetch_sub(1, Ordering::Relaxed);
        let Some(id) = self.id.take() else { return };
        self.connection.calls.ended(&id);
        let peer = self.connection.peer().clone();
        let cancelled = CancelledNotification::new(CancelledNotificationParam::new(
            Some(id),
            Some("the caller no longer waits".to_owned()),
        ));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let cancelled = ClientNotification::CancelledNotification(cancelled);
                let _ = peer.send_notification(cancelled).await;
            });
        }
    }
}
