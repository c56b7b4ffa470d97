//! What a scope may spend, has spent and holds. Pure.

use types::NanoUsd;

use crate::Period;

/// As many as there are periods, in their order.
pub(crate) type Each<T> = [T; Period::ALL.len()];

/// A scope's account in the four windows that hold one moment: its day, week, month, and all time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Account {
    /// That moment, of the last move, in milliseconds since 1970. It never goes back.
    pub(crate) moved_at: i64,
    pub(crate) limits: Each<Option<i64>>,
    pub(crate) spent: Each<i64>,
    pub(crate) held: Each<i64>,
}

/// What moves in a window that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) period: Period,
    pub(crate) starts_at: i64,
    pub(crate) spent: i64,
    pub(crate) held: i64,
}

impl Account {
    /// Returns an account in which nothing has moved.
    pub(crate) fn new(limits: Each<Option<i64>>, now: i64) -> Self {
        Self { moved_at: now, limits, ..Self::default() }
    }

    /// Goes on to the windows that hold `now`, and returns those that are over with it.
    pub(crate) fn advance(&mut self, now: i64) -> Vec<Past> {
        let mut over = Vec::new();
        if day(now) == day(self.moved_at) {
            self.moved_at = self.moved_at.max(now);
            return over;
        }
        for (at, period) in Period::ALL.into_iter().enumerate() {
            let starts_at = period.bounds(self.moved_at).0;
            if period.bounds(now).0 > starts_at {
                let spent = std::mem::take(&mut self.spent[at]);
                let held = std::mem::take(&mut self.held[at]);
                over.push(Past { period, starts_at, spent, held });
            }
        }
        self.moved_at = self.moved_at.max(now);
        over
    }

    /// Returns the place of the first period whose limit, with so many percent of grace, does not
    /// cover `amount` besides what is spent and held.
    pub(crate) fn refuses(&self, amount: NanoUsd, grace: u8) -> Option<usize> {
        let covers = |at: usize| {
            // Without a limit there is what can be counted, so that what is held is exact.
            let limit = i128::from(self.limits[at].unwrap_or(i64::MAX));
            let most = (limit + limit * i128::from(grace) / 100).min(i128::from(i64::MAX));
            let then = [self.spent[at], self.held[at], amount.nanos()];
            then.into_iter().map(i128::from).sum::<i128>() <= most
        };
        (0..Period::ALL.len()).find(|at| !covers(*at))
    }

    /// Moves money that counts in the windows that hold `counts_at`; returns what moves in those of
    /// them that are over.
    ///
    /// More than can be counted is the most that can.
    pub(crate) fn add(&mut self, counts_at: i64, spent: i64, held: i64) -> Vec<Past> {
        let mut over = Vec::new();
        let today = day(counts_at) == day(self.moved_at);
        for (at, period) in Period::ALL.into_iter().enumerate() {
            if !today {
                let starts_at = period.bounds(counts_at).0;
                if starts_at < period.bounds(self.moved_at).0 {
                    over.push(Past { period, starts_at, spent, held });
                    continue;
                }
            }
            self.spent[at] = self.spent[at].saturating_add(spent);
            self.held[at] = self.held[at].saturating_add(held);
        }
        over
    }

    /// Returns how many percent of a period's limit are spent; none without a limit.
    pub(crate) fn percent(&self, at: usize) -> Option<i128> {
        let limit = self.limits[at]?;
        let spent = i128::from(self.spent[at]);
        Some(if limit == 0 {
            if spent > 0 { 100 } else { 0 }
        } else {
            spent * 100 / i128::from(limit)
        })
    }
}

/// Returns the day in UTC that holds a moment: within one no window ends.
fn day(at_ms: i64) -> i64 {
    at_ms.div_euclid(86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24T12:00:00Z, a Tuesday.
    const NOON: i64 = 1_795_521_600_000;
    const DAY: i64 = 86_400_000;

    #[test]
    fn a_window_that_is_over_is_left_with_what_it_had() {
        let mut account = Account::new([Some(10), None, None, None], NOON);
        assert_eq!(account.add(NOON, 0, 7), []);
        assert_eq!(account.held, [7; 4]);
        assert_eq!(account.advance(NOON + 1), []);
        let over = account.advance(NOON + DAY);
        let start = NOON - DAY / 2;
        assert_eq!(over, [Past { period: Period::Daily, starts_at: start, spent: 0, held: 7 }]);
        assert_eq!(account.held, [0, 7, 7, 7]);
        // It was reserved yesterday, and counts there.
        let past = account.add(NOON, 5, -7);
        assert_eq!(past, [Past { period: Period::Daily, starts_at: start, spent: 5, held: -7 }]);
        assert_eq!((account.spent, account.held), ([0, 5, 5, 5], [0; 4]));
        // A clock that is behind changes nothing.
        assert_eq!(account.advance(NOON), []);
        assert_eq!(account.moved_at, NOON + DAY);
    }

    #[test]
    fn a_limit_covers_what_it_covers() {
        let mut account = Account::new([Some(100), None, Some(50), None], NOON);
        let refuses =
            |account: &Account, amount, grace| account.refuses(NanoUsd::new(amount), grace);
        assert_eq!(refuses(&account, 50, 0), None);
        assert_eq!(refuses(&account, 51, 0), Some(2));
        assert_eq!(refuses(&account, 52, 5), None);
        assert_eq!(refuses(&account, 53, 5), Some(2));
        account.add(NOON, 40, 10);
        assert_eq!(refuses(&account, 0, 0), None);
        assert_eq!(refuses(&account, 1, 0), Some(2));
        assert_eq!(
            (account.percent(0), account.percent(1), account.percent(2)),
            (Some(40), None, Some(80))
        );
        let mut most = Account::new([Some(i64::MAX), None, None, None], NOON);
        assert_eq!(refuses(&most, i64::MAX, 5), None);
        // More than can be counted is refused, also without a limit: it could not be given back.
        most.add(NOON, 0, 1);
        assert_eq!(refuses(&most, i64::MAX, 5), Some(0));
        most.limits[0] = None;
        assert_eq!(refuses(&most, i64::MAX, 5), Some(0));
        assert_eq!(refuses(&most, i64::MAX - 1, 5), None);
    }
}
