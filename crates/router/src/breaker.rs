//! Who is not worth asking for a while. Pure: the time is an argument.

use std::time::{Duration, Instant};

use proto::router::Circuit;

/// So many failures in a row open the circuit.
const FAILURES: u32 = 5;

/// So many of the last ones open it as well, though others went well between them.
const OUTLIER: (u32, u32) = (10, 20);

/// How long it stays open at first; twice as long after each failed probe.
const FIRST: Duration = Duration::from_secs(5);

/// How long it stays open at most, whatever a provider asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// How long somebody else's probe is waited for, before it is asked about again.
const ELSEWHERE: Duration = Duration::from_millis(250);

/// How long a circuit breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) until: Instant,
    /// How long it waits this time.
    pub(crate) wait: Duration,
}

/// A circuit breaker of one candidate: closed, open until a time, or half open with one probe out.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// How the last ones went, a bit each, the newest lowest: 1 failed.
    recent: u32,
    open_until: Option<Instant>,
    /// How long it was open the last time; doubles while probes fail.
    wait: Duration,
    probing: bool,
    /// Until then somebody else's probe is waited for.
    leaves_it: Option<Instant>,
}

impl Breaker {
    /// Returns whether the candidate may be asked. Whoever gets a yes tells how it went, by
    /// [`Breaker::succeeded`], [`Breaker::failed`] or [`Breaker::let_go`].
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until || self.probing => false,
            Some(_) if self.leaves_it.is_some_and(|until| now < until) => false,
            Some(_) => {
                self.probing = true;
                true
            }
        }
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self { recent: self.recent << 1, ..Self::default() };
    }

    /// Returns how it stands.
    pub(crate) fn state(&self, now: Instant) -> Circuit {
        match self.open_until {
            None => Circuit::Closed,
            Some(until) if now < until => Circuit::Open,
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// Returns whether the last yes was for a probe.
    pub(crate) fn is_probing(&self) -> bool {
        self.probing
    }

    /// Takes a probe's yes back, and waits for what becomes of somebody else's.
    pub(crate) fn leave_it(&mut self, now: Instant) {
        self.probing = false;
        self.leaves_it = Some(now + ELSEWHERE);
    }

    /// Returns how long it is open, or was: half open it still is.
    pub(crate) fn opened(&self) -> Option<Opened> {
        self.open_until.map(|until| Opened { until, wait: self.wait })
    }

    /// Takes over how it stands elsewhere.
    pub(crate) fn agree(&mut self, now: Instant, opened: Option<Opened>) {
        match opened {
            None => self.succeeded(),
            Some(Opened { until, wait }) => {
                self.open_until = Some(until.min(now + LONGEST));
                self.wait = wait.min(LONGEST);
            }
        }
    }

    /// Takes a yes back: the candidate was not asked after all.
    pub(crate) fn let_go(&mut self) {
        self.probing = false;
    }

    /// Notes a failure; a provider that says when to come back is not asked before.
    pub(crate) fn failed(&mut self, now: Instant, come_back: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        self.recent = self.recent << 1 | 1;
        let (many, of) = OUTLIER;
        let is_outlier = (self.recent & ((1 << of) - 1)).count_ones() >= many;
        let probed = std::mem::take(&mut self.probing);
        let wait = match come_back {
            Some(wait) => wait,
            None if probed => self.wait.saturating_mul(2).max(FIRST),
            None if self.failures >= FAILURES || is_outlier => FIRST,
            None => return,
        };
        self.recent = 0;
        self.wait = wait.min(LONGEST);
        self.open_until = Some(now + self.wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES - 1 {
            assert!(breaker.allow(start));
            breaker.failed(start, None);
        }
        breaker.succeeded();
        for _ in 0..FAILURES {
            assert!(breaker.allow(start));
            breaker.failed(start, None);
        }
        assert!(!breaker.allow(start + FIRST - Duration::from_millis(1)));
        let later = start + FIRST;
        assert_eq!(
            (breaker.state(start), breaker.state(later)),
            (Circuit::Open, Circuit::HalfOpen)
        );
        assert!(breaker.allow(later), "one probe");
        assert!(!breaker.allow(later), "and no second one");
        breaker.failed(later, None);
        assert!(!breaker.allow(later + FIRST), "it waits twice as long");
        assert!(breaker.allow(later + FIRST * 2));
        breaker.succeeded();
        assert!(breaker.allow(later) && breaker.allow(later));
    }

    #[test]
    fn one_that_fails_every_other_time_is_left_alone_too() {
        let start = Instant::now();
        let after = |of: u32, calls: u32| {
            let mut breaker = Breaker::default();
            for call in 0..calls {
                match call % of {
                    0 => breaker.failed(start, None),
                    _ => breaker.succeeded(),
                }
            }
            breaker.state(start)
        };
        assert_eq!(after(3, 300), Circuit::Closed);
        assert_eq!(after(2, 18), Circuit::Closed);
        assert_eq!(after(2, 19), Circuit::Open);
    }

    #[test]
    fn what_is_known_elsewhere_is_known_here() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        let opened = Opened { until: start + FIRST, wait: FIRST };
        breaker.agree(start, Some(opened));
        assert_eq!(breaker.opened(), Some(opened));
        assert!(!breaker.allow(start));
        let later = start + FIRST;
        assert!(breaker.allow(later) && breaker.is_probing());
        breaker.leave_it(later);
        assert!(!breaker.allow(later), "somebody else probes");
        assert!(breaker.allow(later + ELSEWHERE), "and was not heard of");
        breaker.failed(later, None);
        assert!(!breaker.allow(later + FIRST), "it waits twice as long as it did elsewhere");
        breaker.agree(later, None);
        assert!(breaker.allow(later) && breaker.allow(later));
        let far = Opened { until: start + LONGEST * 9, wait: LONGEST * 9 };
        breaker.agree(start, Some(far));
        assert!(breaker.allow(start + LONGEST), "whatever is said, a minute at most");
    }

    #[test]
    fn a_provider_is_not_asked_before_it_says_up_to_a_minute() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        breaker.failed(start, Some(Duration::from_secs(2)));
        assert!(!breaker.allow(start + Duration::from_secs(1)));
        assert!(breaker.allow(start + Duration::from_secs(2)));
        breaker.failed(start, Some(Duration::from_secs(86_400)));
        assert!(breaker.allow(start + LONGEST));
    }
}
