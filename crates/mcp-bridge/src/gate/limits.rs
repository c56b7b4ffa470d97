//! How often, and how many at once: of each caller under each rule, in this process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::CallContext;

use super::policy::{Rate, Rule};

/// How many callers are remembered.
const MOST: u64 = 100_000;

/// For how long at most a caller is remembered that does not call.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// Who shares a limit: whoever has one key, or else one user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Caller {
    rule: String,
    tenant: String,
    key: Option<String>,
    user: Option<String>,
}

impl Caller {
    fn of(context: &CallContext, rule: &Rule) -> Self {
        let key = context.key.as_ref().map(ToString::to_string);
        let user = key.is_none().then(|| context.user.to_string());
        Self { rule: rule.name.clone(), tenant: context.tenant.to_string(), key, user }
    }
}

/// Why a call has to wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Too often: how long until the next one.
    Rate(Duration),
    /// So many are under way.
    Concurrency(u32),
}

/// What each caller has used.
#[derive(Debug)]
pub(crate) struct Limits {
    rates: Cache<Caller, Arc<Mutex<Option<Instant>>>>,
    under_way: Cache<Caller, Arc<Semaphore>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rates: Cache::builder().max_capacity(MOST).time_to_idle(IDLE).build(),
            under_way: Cache::builder().max_capacity(MOST).time_to_idle(IDLE).build(),
        }
    }
}

impl Limits {
    /// Takes a call from what a rule leaves its caller; what is returned is held until the call's end. A
    /// call that is refused takes nothing.
    pub(crate) fn take(
        &self,
        context: &CallContext,
        rule: &Rule,
        now: Instant,
    ) -> Result<Option<OwnedSemaphorePermit>, Busy> {
        let held = match rule.concurrency {
            None => None,
            Some(most) => {
                let caller = Caller::of(context, rule);
                let fresh = || Arc::new(Semaphore::new(most as usize));
                let places = self.under_way.get_with(caller, fresh);
                Some(places.try_acquire_owned().map_err(|_| Busy::Concurrency(most))?)
            }
        };
        if let Some(rate) = rule.rate {
            let used = self.rates.get_with(Caller::of(context, rule), Arc::default);
            let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
            *used = Some(after(*used, rate, now).map_err(Busy::Rate)?);
        }
        Ok(held)
    }
}

/// The generic cell rate algorithm: returns when all that was used until now would be free again, or how
/// long to wait.
fn after(used: Option<Instant>, rate: Rate, now: Instant) -> Result<Instant, Duration> {
    let window = Duration::from_millis(rate.window_ms);
    let next = used.map_or(now, |used| used.max(now)) + window / rate.calls;
    let ahead = next.saturating_duration_since(now);
    if ahead > window { Err(ahead - window) } else { Ok(next) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::{TenantId, UserId};

    use super::super::policy::{Otherwise, Policy, Verdict};
    use super::*;

    #[test]
    fn a_rate_is_a_burst_and_then_a_call_at_a_time() {
        let rate = Rate { calls: 3, window_ms: 3000 };
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut used = None;
        for _ in 0..3 {
            used = Some(after(used, rate, start).unwrap());
        }
        assert_eq!(after(used, rate, start), Err(Duration::from_secs(1)));
        assert_eq!(after(used, rate, at(400)), Err(Duration::from_millis(600)));
        used = Some(after(used, rate, at(1000)).unwrap());
        assert!(after(used, rate, at(1000)).is_err() && after(used, rate, at(9000)).is_ok());
    }

    #[test]
    fn callers_do_not_share_and_places_come_back() {
        let rule = json!([{ "name": "a", "allow": ["*"], "concurrency": 1,
            "rate": { "calls": 2, "window_ms": 60000 } }]);
        let rules: Vec<_> = serde_json::from_value(rule).unwrap();
        let policy = Policy::new(&rules, Otherwise::Deny).unwrap();
        let caller =
            |user: &str| CallContext::new(TenantId::new("t").unwrap(), UserId::new(user).unwrap());
        let (ada, bob, limits, now) =
            (caller("ada"), caller("bob"), Limits::default(), Instant::now());
        let Verdict::Allowed(Some(rule)) = policy.about(&ada).decide("s__t") else { panic!() };
        let first = limits.take(&ada, rule, now).unwrap();
        assert_eq!(limits.take(&ada, rule, now).unwrap_err(), Busy::Concurrency(1));
        let _others = limits.take(&bob, rule, now).unwrap();
        drop(first);
        // The one that was refused used nothing of the rate.
        drop(limits.take(&ada, rule, now).unwrap());
        assert_eq!(limits.take(&ada, rule, now).unwrap_err(), Busy::Rate(Duration::from_secs(30)));
    }
}
