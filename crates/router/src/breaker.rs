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

/// A yes: a candidate may be asked. Whoever has it tells once how that went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit(u64);

/// A circuit breaker of one candidate: closed, open until a time, or half open with one probe out.
///
/// A call may last longer than the breaker stands as it did when the call began. What becomes of it then
/// says nothing of now: only the probe's own end ends a probe.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// How the last ones went, a bit each, the newest lowest: 1 failed.
    recent: u32,
    open_until: Option<Instant>,
    /// How long it was open the last time; doubles while probes fail.
    wait: Duration,
    /// The probe that is out.
    probing: Option<Permit>,
    /// Until then somebody else's probe is waited for.
    leaves_it: Option<Instant>,
    /// Grows with every opening, closing and probe.
    turn: u64,
}

impl Breaker {
    /// Returns a permit if the candidate may be asked. Whoever gets one tells how it went, by
    /// [`Breaker::succeeded`], [`Breaker::failed`] or [`Breaker::let_go`].
    pub(crate) fn allow(&mut self, now: Instant) -> Option<Permit> {
        match self.open_until {
            None => Some(Permit(self.turn)),
            Some(until) if now < until || self.probing.is_some() => None,
            Some(_) if self.leaves_it.is_some_and(|until| now < until) => None,
            Some(_) => {
                self.turn += 1;
                self.probing = Some(Permit(self.turn));
                self.probing
            }
        }
    }

    /// Notes a success, and closes if it is the probe's.
    pub(crate) fn succeeded(&mut self, permit: Permit) {
        if self.is_probe(permit) || self.is_of_now(permit) {
            self.close();
        }
    }

    /// Returns how it stands.
    pub(crate) fn state(&self, now: Instant) -> Circuit {
        match self.open_until {
            None => Circuit::Closed,
            Some(until) if now < until => Circuit::Open,
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// Returns whether a permit is the probe's that is out.
    pub(crate) fn is_probe(&self, permit: Permit) -> bool {
        self.probing == Some(permit)
    }

    /// Returns whether it is closed since before a permit was given.
    fn is_of_now(&self, permit: Permit) -> bool {
        self.open_until.is_none() && permit == Permit(self.turn)
    }

    fn close(&mut self) {
        let is_new = self.open_until.is_some();
        let turn = self.turn + u64::from(is_new);
        *self = Self { recent: self.recent << 1, turn, ..Self::default() };
    }

    /// Takes a probe's permit back, and waits for what becomes of somebody else's.
    pub(crate) fn leave_it(&mut self, permit: Permit, now: Instant) {
        if self.is_probe(permit) {
            self.probing = None;
            self.leaves_it = Some(now + ELSEWHERE);
        }
    }

    /// Returns how long it is open, or was: half open it still is.
    pub(crate) fn opened(&self) -> Option<Opened> {
        self.open_until.map(|until| Opened { until, wait: self.wait })
    }

    /// Takes over how it stands elsewhere.
    pub(crate) fn agree(&mut self, now: Instant, opened: Option<Opened>) {
        match opened {
            None => self.close(),
            Some(Opened { until, wait }) => {
                self.turn += u64::from(self.open_until.is_none());
                self.open_until = Some(until.min(now + LONGEST));
                self.wait = wait.min(LONGEST);
            }
        }
    }

    /// Takes a permit back: the candidate was not asked after all.
    pub(crate) fn let_go(&mut self, permit: Permit) {
        if self.is_probe(permit) {
            self.probing = None;
        }
    }

    /// Notes a failure; a provider that says when to come back is not asked before, also when it says
    /// so to a call that began long ago.
    pub(crate) fn failed(&mut self, permit: Permit, now: Instant, come_back: Option<Duration>) {
        let probed = self.is_probe(permit);
        if !probed && !self.is_of_now(permit) {
            if let Some(wait) = come_back {
                self.wait_until(now + wait.min(LONGEST));
            }
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.recent = self.recent << 1 | 1;
        let (many, of) = OUTLIER;
        let is_outlier = (self.recent & ((1 << of) - 1)).count_ones() >= many;
        let wait = match come_back {
            Some(wait) => wait,
            None if probed => self.wait.saturating_mul(2).max(FIRST),
            None if self.failures >= FAILURES || is_outlier => FIRST,
            None => return,
        };
        self.recent = 0;
        self.wait = wait.min(LONGEST);
        self.open_until = Some(now + self.wait);
        self.probing = None;
        self.turn += 1;
    }

    /// Opens, or stays open, until then at least; a probe stays out.
    fn wait_until(&mut self, until: Instant) {
        self.turn += u64::from(self.open_until.is_none());
        self.open_until = Some(self.open_until.map_or(until, |known| known.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fail(breaker: &mut Breaker, now: Instant, come_back: Option<Duration>) {
        let permit = breaker.allow(now).unwrap();
        breaker.failed(permit, now, come_back);
    }

    fn succeed(breaker: &mut Breaker, now: Instant) {
        let permit = breaker.allow(now).unwrap();
        breaker.succeeded(permit);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES - 1 {
            fail(&mut breaker, start, None);
        }
        succeed(&mut breaker, start);
        for _ in 0..FAILURES {
            fail(&mut breaker, start, None);
        }
        assert_eq!(breaker.allow(start + FIRST - Duration::from_millis(1)), None);
        let later = start + FIRST;
        assert_eq!(
            (breaker.state(start), breaker.state(later)),
            (Circuit::Open, Circuit::HalfOpen)
        );
        let probe = breaker.allow(later).unwrap();
        assert_eq!(breaker.allow(later), None, "one probe, and no second one");
        breaker.failed(probe, later, None);
        assert_eq!(breaker.allow(later + FIRST), None, "it waits twice as long");
        succeed(&mut breaker, later + FIRST * 2);
        assert!(breaker.allow(later).is_some() && breaker.allow(later).is_some());
    }

    #[test]
    fn one_that_fails_every_other_time_is_left_alone_too() {
        let start = Instant::now();
        let after = |of: u32, calls: u32| {
            let mut breaker = Breaker::default();
            for call in 0..calls {
                match call % of {
                    0 => fail(&mut breaker, start, None),
                    _ => succeed(&mut breaker, start),
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
        assert_eq!(breaker.allow(start), None);
        let later = start + FIRST;
        let probe = breaker.allow(later).unwrap();
        assert!(breaker.is_probe(probe));
        breaker.leave_it(probe, later);
        assert_eq!(breaker.allow(later), None, "somebody else probes");
        // And was not heard of.
        fail(&mut breaker, later + ELSEWHERE, None);
        let again = later + ELSEWHERE + FIRST;
        assert_eq!(breaker.allow(again), None, "it waits twice as long as it did elsewhere");
        breaker.agree(later, None);
        assert!(breaker.allow(later).is_some() && breaker.allow(later).is_some());
        let far = Opened { until: start + LONGEST * 9, wait: LONGEST * 9 };
        breaker.agree(start, Some(far));
        assert!(breaker.allow(start + LONGEST).is_some(), "whatever is said, a minute at most");
    }

    #[test]
    fn a_provider_is_not_asked_before_it_says_up_to_a_minute() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        let (early, other) = (breaker.allow(start).unwrap(), breaker.allow(start).unwrap());
        breaker.failed(early, start, Some(Duration::from_secs(2)));
        assert_eq!(breaker.allow(start + Duration::from_secs(1)), None);
        let later = start + Duration::from_secs(2);
        fail(&mut breaker, later, Some(Duration::from_secs(86_400)));
        assert_eq!(breaker.allow(later + LONGEST - FIRST), None);
        breaker.failed(other, later + FIRST, Some(LONGEST));
        assert_eq!(breaker.allow(later + LONGEST), None, "it said so to a call of before");
        assert!(breaker.allow(later + FIRST + LONGEST).is_some());
    }

    #[test]
    fn a_call_that_began_before_ends_no_probe() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        let old = [(); 3].map(|()| breaker.allow(start).unwrap());
        fail(&mut breaker, start, Some(FIRST));
        let later = start + FIRST;
        let probe = breaker.allow(later).unwrap();
        breaker.let_go(old[0]);
        breaker.failed(old[1], later, None);
        breaker.succeeded(old[2]);
        assert_eq!((breaker.state(later), breaker.allow(later)), (Circuit::HalfOpen, None));
        breaker.succeeded(probe);
        assert_eq!(breaker.state(later), Circuit::Closed);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask,
        Succeed(prop::sample::Index),
        Fail(prop::sample::Index),
        LetGo(prop::sample::Index),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Ask),
            1 => any::<prop::sample::Index>().prop_map(Step::Succeed),
            3 => any::<prop::sample::Index>().prop_map(Step::Fail),
            1 => any::<prop::sample::Index>().prop_map(Step::LetGo),
            1 => (0..20_000_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// The model knows of each call in which spell it began, and counts spells by what can be seen:
        /// closed, or not.
        #[test]
        fn only_a_probe_s_own_end_ends_it(steps in prop::collection::vec(step(), 0..200)) {
            let (mut breaker, mut now) = (Breaker::default(), Instant::now());
            // Permit, the spell it is of, and whether it is a probe's.
            let mut flying: Vec<(Permit, u32, bool)> = Vec::new();
            let mut spell = 0;
            for step in steps {
                let before = breaker.opened();
                let (ended, was) = match step {
                    Step::Wait(ms) => {
                        now += Duration::from_millis(ms);
                        continue;
                    }
                    Step::Ask => {
                        let is_closed = before.is_none();
                        let probes = flying.iter().any(|call| call.2);
                        let is_due = before.is_some_and(|open| open.until <= now);
                        let permit = breaker.allow(now);
                        prop_assert_eq!(permit.is_some(), is_closed || is_due && !probes);
                        flying.extend(permit.map(|permit| (permit, spell, !is_closed)));
                        continue;
                    }
                    _ if flying.is_empty() => continue,
                    Step::Succeed(which) => (flying.remove(which.index(flying.len())), 0),
                    Step::Fail(which) => (flying.remove(which.index(flying.len())), 1),
                    Step::LetGo(which) => (flying.remove(which.index(flying.len())), 2),
                };
                let (permit, of, probe) = ended;
                match was {
                    0 => breaker.succeeded(permit),
                    1 => breaker.failed(permit, now, None),
                    _ => breaker.let_go(permit),
                }
                let after = breaker.opened();
                if probe {
                    prop_assert_eq!(after.is_none(), was == 0);
                    prop_assert_eq!(after != before, was != 2);
                } else if of != spell || was != 1 {
                    prop_assert_eq!(after, before, "it began in another spell, or went well");
                }
                spell += u32::from(before.is_some() != after.is_some());
            }
        }
    }
}
