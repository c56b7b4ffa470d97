//! What changes at a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rmcp::model::{ServerCapabilities, ServerNotification, SubscriptionFilter};
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::Connection;

/// How many changes of a server wait for who follows them.
const CHANGES: usize = 256;

/// What of a server changed.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
}

/// The changes at a server.
#[derive(Debug)]
pub(crate) struct Changes {
    told: broadcast::Sender<Change>,
    lists: [AtomicU64; 3],
}

impl Default for Changes {
    fn default() -> Self {
        Self { told: broadcast::channel(CHANGES).0, lists: Default::default() }
    }
}

impl Changes {
    pub(super) fn tell(&self, change: Change) {
        self.count(&change).fetch_add(1, Ordering::Relaxed);
        // Nobody may be listening.
        let _ = self.told.send(change);
    }

    pub(super) fn follow(&self) -> broadcast::Receiver<Change> {
        self.told.subscribe()
    }

    /// Returns how often such a list has changed so far.
    pub(super) fn so_far(&self, list: &Change) -> u64 {
        self.count(list).load(Ordering::Relaxed)
    }

    fn count(&self, change: &Change) -> &AtomicU64 {
        let [tools, prompts, resources] = &self.lists;
        match change {
            Change::Tools => tools,
            Change::Prompts => prompts,
            Change::Resources => resources,
        }
    }
}

/// Follows the changes of a server's lists where it says that it tells of them, until the connection
/// ends; a server that does not say in time that it will is not followed.
pub(super) async fn follow(connection: Weak<Connection>, changes: Arc<Changes>, wait: Duration) {
    let Some(filter) =
        connection.upgrade().map(|connection| changing(&connection.info.capabilities))
    else {
        return;
    };
    let Some(peer) = connection.upgrade().map(|connection| connection.peer().clone()) else {
        return;
    };
    if filter == SubscriptionFilter::default() {
        return;
    }
    let Ok(Ok(mut told)) = timeout(wait, peer.listen(filter)).await else { return };
    while let Ok(Some(change)) = told.next().await {
        match change {
            ServerNotification::ToolListChangedNotification(_) => changes.tell(Change::Tools),
            ServerNotification::PromptListChangedNotification(_) => changes.tell(Change::Prompts),
            ServerNotification::ResourceListChangedNotification(_) => {
                changes.tell(Change::Resources);
            }
            _ => {}
        }
    }
}

fn changing(server: &ServerCapabilities) -> SubscriptionFilter {
    let mut filter = SubscriptionFilter::default();
    let says = |said: Option<Option<bool>>| said.flatten().filter(|said| *said);
    filter.tools_list_changed = says(server.tools.as_ref().map(|one| one.list_changed));
    filter.prompts_list_changed = says(server.prompts.as_ref().map(|one| one.list_changed));
    filter.resources_list_changed = says(server.resources.as_ref().map(|one| one.list_changed));
    filter
}
