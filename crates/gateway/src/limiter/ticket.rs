//! What an admitted request holds until it is over.

use std::sync::Arc;

use super::{Ask, Limiter, Used, Verdict};

/// What was taken. When it is dropped, leases end and tokens are corrected by what was used.
pub(crate) struct Ticket {
    limiter: Arc<Limiter>,
    ask: Ask,
    costs: Vec<u64>,
    /// When, by Redis's clock if it decided, and by this process's own.
    at: (Option<u64>, u64),
    /// Where the tokens stand that were used. As long as nobody knows, what was estimated stays.
    used: Used,
}

impl Ticket {
    pub(super) fn new(
        limiter: Arc<Limiter>,
        ask: Ask,
        verdict: &Verdict,
        redis_ms: Option<u64>,
        memory_ms: u64,
    ) -> Self {
        let costs = verdict.windows.iter().map(|seen| seen.cost).collect();
        Self { limiter, ask, costs, at: (redis_ms, memory_ms), used: Used::default() }
    }

    /// Waits for tokens to be used.
    pub(crate) fn expect(&mut self, used: Used) {
        self.used = used;
    }

    /// Tells whether anything of it ends with the request.
    pub(crate) fn is_held(&self) -> bool {
        !self.ask.leases.is_empty() || self.ask.windows.iter().any(|one| one.is_tokens())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_held() {
            return;
        }
        // Without a runtime the process is at its end, and leases run out.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (limiter, ask) = (Arc::clone(&self.limiter), std::mem::take(&mut self.ask));
        let (costs, at) = (std::mem::take(&mut self.costs), self.at);
        // A client that went away got no answer, and its call goes on all the same.
        let used = self.used.tokens();
        runtime.spawn(async move {
            if !ask.leases.is_empty() {
                limiter.end(&ask).await;
            }
            let Some(used) = used else { return };
            for (wanted, cost) in ask.windows.iter().zip(costs).filter(|(one, _)| one.is_tokens()) {
                let by = i64::try_from(used).unwrap_or(i64::MAX).saturating_sub_unsigned(cost);
                if by != 0 {
                    limiter.correct((&wanted.bucket, wanted.window_ms), at, by).await;
                }
            }
        });
    }
}
