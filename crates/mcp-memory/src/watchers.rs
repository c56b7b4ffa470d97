//! Who is told when a graph has changed.

use std::sync::{Arc, Mutex, PoisonError};

use rmcp::RoleServer;
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::Peer;
use types::TenantId;

/// How many clients one process tells.
const MOST: usize = 1000;

/// Whose graph, and who is told.
type Watcher = (TenantId, Peer<RoleServer>);

/// Clients that have subscribed to their tenant's graph, in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<Vec<Watcher>>>);

impl Watchers {
    /// Adds a client; says whether there was room.
    pub(crate) fn add(&self, tenant: TenantId, peer: Peer<RoleServer>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, peer)| !peer.is_transport_closed());
        if all.len() < MOST {
            all.push((tenant, peer));
            return true;
        }
        false
    }

    /// Forgets who subscribed for a tenant: over standard input and output that is one client.
    pub(crate) fn remove(&self, tenant: &TenantId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, _)| of != tenant);
    }

    /// Tells a tenant's clients that its graph has changed.
    pub(crate) async fn tell(&self, tenant: &TenantId) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (_, peer) in all.into_iter().filter(|(of, _)| of == tenant) {
            let changed = ResourceUpdatedNotificationParam::new(crate::RESOURCE);
            // One that is gone needs not be told.
            let _ = peer.notify_resource_updated(changed).await;
        }
    }
}
