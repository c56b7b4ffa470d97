//! How long a server that keeps failing is left alone. Pure.

use std::time::{Duration, Instant};

use crate::Error;

/// The longest wait.
const MOST: Duration = Duration::from_secs(60);

/// Who ran for so long is well, whatever was before.
const HEALTHY: Duration = Duration::from_secs(60);

/// What is held against a server. It is tried again at once after it has failed once; from then on the
/// waits double.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    failures: u32,
    last: Option<Instant>,
    until: Option<Instant>,
    /// Why it failed the last time, where that is known.
    pub(super) fault: Option<Error>,
}

impl Backoff {
    /// The first wait is of about so long; none: there are no waits.
    pub(super) fn new(first: Duration) -> Self {
        Self { first, failures: 0, last: None, until: None, fault: None }
    }

    /// Notes that it failed after it ran for a while. `jitter` is 0 to 1.
    pub(super) fn failed(&mut self, ran: Duration, now: Instant, jitter: f64) {
        self.failures = if ran >= HEALTHY { 1 } else { self.failures.saturating_add(1) };
        let doubled = self.failures.checked_sub(2).map(|times| {
            let longest = self.first.saturating_mul(2_u32.saturating_pow(times)).min(MOST);
            longest.mul_f64(0.5 + jitter / 2.0)
        });
        self.until = doubled.map(|wait| now + wait);
        self.last = Some(now);
    }

    /// Returns how often it failed in a row and how long it is left alone, if it is.
    pub(super) fn rest(&self, now: Instant) -> Option<(u32, Duration)> {
        let wait = self.until?.saturating_duration_since(now);
        (!wait.is_zero()).then_some((self.failures, wait))
    }

    /// Whether nothing is held against it any more: it failed so long ago that it would have been well
    /// since, had it been tried.
    pub(super) fn is_past(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) > MOST + HEALTHY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_end_with_health() {
        let (now, quick) = (Instant::now(), Duration::from_millis(5));
        let mut record = Backoff::new(Duration::from_millis(500));
        let mut waits = Vec::new();
        for _ in 0..12 {
            record.failed(quick, now, 1.0);
            waits.push(record.rest(now).map_or(0, |(_, wait)| wait.as_millis()));
        }
        assert_eq!(waits[..5], [0, 500, 1000, 2000, 4000]);
        assert_eq!(waits[8..], [60_000; 4]);
        assert_eq!(record.rest(now).unwrap().0, 12);
        assert!(record.rest(now + MOST).is_none());
        assert!(!record.is_past(now + MOST) && record.is_past(now + 3 * MOST));
        record.failed(quick, now, 0.0);
        assert_eq!(record.rest(now).unwrap().1, Duration::from_secs(30), "half of it is chance");

        record.failed(HEALTHY, now, 1.0);
        assert!(record.rest(now).is_none());
        record.failed(quick, now, 1.0);
        assert_eq!(record.rest(now).unwrap(), (2, Duration::from_millis(500)));

        let mut patient = Backoff::new(Duration::ZERO);
        for _ in 0..9 {
            patient.failed(quick, now, 1.0);
            assert!(patient.rest(now).is_none());
        }
    }
}
