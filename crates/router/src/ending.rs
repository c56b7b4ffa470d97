//! The end of a process. What goes on though nobody waits for it is worked off before: streams whose
//! clients left, and candidates that answered second.

use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use crate::meter::Meter;

/// How long rows are waited for that are on disk already: the next process sends what is left.
const ROWS: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(crate) struct Ending {
    pub(crate) calls: TaskTracker,
    pub(crate) meter: Meter,
    /// How long calls are waited for.
    pub(crate) at_most: Duration,
}

impl Ending {
    /// Waits until every call has ended and its row has arrived. What does not is left to the end of
    /// its lease.
    pub(crate) async fn come(&self) {
        let begun = Instant::now();
        self.calls.close();
        if tokio::time::timeout(self.at_most, self.calls.wait()).await.is_err() {
            let (left, at_most) = (self.calls.len(), self.at_most);
            tracing::warn!(left, "calls were in flight after {at_most:?}: their leases run out");
        }
        let left = self.at_most.saturating_sub(begun.elapsed()).min(ROWS);
        // They are on disk.
        let _ = tokio::time::timeout(left, self.meter.sent()).await;
    }
}
