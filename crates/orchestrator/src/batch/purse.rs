use types::NanoUsd;

/// A batch's own money: what was spent, and the most that what is in flight can cost, never pass its
/// limit together.
#[derive(Debug)]
pub(crate) struct Purse {
    limit: Option<NanoUsd>,
    spent: NanoUsd,
    held: NanoUsd,
}

impl Purse {
    pub(crate) fn new(limit: Option<NanoUsd>, spent: NanoUsd) -> Self {
        Self { limit, spent, held: NanoUsd::ZERO }
    }

    /// Returns true if there is a limit to keep.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Returns true if the limit covers a request that can cost `worst`.
    pub(crate) fn covers(&self, worst: NanoUsd) -> bool {
        let Some(limit) = self.limit else { return true };
        let total = self.spent.checked_add(self.held).and_then(|sum| sum.checked_add(worst));
        total.is_some_and(|total| total <= limit)
    }

    /// Sets `worst` aside, which the limit must cover.
    pub(crate) fn hold(&mut self, worst: NanoUsd) {
        debug_assert!(self.covers(worst), "{worst} is not covered");
        self.take_over(worst);
    }

    /// Sets `worst` aside, which is at stake already.
    pub(crate) fn take_over(&mut self, worst: NanoUsd) {
        self.held = self.held.checked_add(worst).unwrap_or(NanoUsd::new(i64::MAX));
    }

    /// Ends a hold of `worst` of which `spent` was spent.
    pub(crate) fn end(&mut self, worst: NanoUsd, spent: NanoUsd) {
        self.held = self.held.checked_sub(worst).unwrap_or(NanoUsd::ZERO);
        self.spent = self.spent.checked_add(spent).unwrap_or(NanoUsd::new(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_limit_everything_is_covered() {
        let mut purse = Purse::new(None, NanoUsd::ZERO);
        purse.hold(NanoUsd::new(i64::MAX));
        assert!(purse.covers(NanoUsd::new(i64::MAX)) && !purse.is_limited());
    }

    #[test]
    fn the_last_one_may_take_all_that_is_left() {
        let usd = NanoUsd::new;
        let mut purse = Purse::new(Some(usd(100)), usd(40));
        assert!(purse.covers(usd(60)) && !purse.covers(usd(61)));
        purse.hold(usd(60));
        assert!(purse.covers(usd(0)) && !purse.covers(usd(1)));
        purse.end(usd(60), usd(10));
        assert!(purse.covers(usd(50)) && !purse.covers(usd(51)));
        assert!(!purse.covers(usd(i64::MAX)), "nothing wraps");
    }

    proptest! {
        #[test]
        fn the_limit_is_never_passed(limit in 0..1000_i64, calls in prop::collection::vec((0..200_i64, 0..=100_i64, any::<bool>()), 0..50)) {
            let mut purse = Purse::new(Some(NanoUsd::new(limit)), NanoUsd::ZERO);
            let (mut flying, mut spent) = (Vec::new(), 0);
            for (worst, share, end_one) in calls {
                if purse.covers(NanoUsd::new(worst)) {
                    purse.hold(NanoUsd::new(worst));
                    flying.push((worst, worst * share / 100));
                }
                if end_one && let Some((worst, cost)) = flying.pop() {
                    purse.end(NanoUsd::new(worst), NanoUsd::new(cost));
                    spent += cost;
                }
                let held: i64 = flying.iter().map(|call| call.0).sum();
                prop_assert!(spent + held <= limit);
            }
        }
    }
}
