//! Whether accounts hold what their history sums up to. Pure.

use std::collections::BTreeMap;

use super::Entry;
use super::account::Account;
use crate::{Period, Scope};

/// How many lines are read at a time.
pub(crate) const PAGE: u32 = 10_000;

/// What a tenant's accounts hold.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) accounts: Vec<(Scope, Account)>,
    /// By scope, period and its begin: spent and held.
    pub(crate) past: Vec<(Scope, Period, i64, (i64, i64))>,
}

/// What a history sums up to, by scope, period and its begin: spent and held.
#[derive(Debug, Default)]
pub(crate) struct Sums(BTreeMap<(Scope, Period, i64), (i64, i64)>);

impl Sums {
    pub(crate) fn add(&mut self, entries: &[Entry]) {
        for entry in entries {
            for scope in &entry.scopes {
                for period in Period::ALL {
                    let window = (scope.clone(), period, period.bounds(entry.counts_at_ms).0);
                    let sum = self.0.entry(window).or_default();
                    *sum = (sum.0.saturating_add(entry.spent), sum.1.saturating_add(entry.held));
                }
            }
        }
    }

    /// Returns what differs from what is kept.
    pub(crate) fn compare(mut self, kept: Kept) -> Vec<String> {
        let mut differ = Vec::new();
        let mut windows = kept.past;
        for (scope, account) in kept.accounts {
            for (at, period) in Period::ALL.into_iter().enumerate() {
                let starts_at = period.bounds(account.moved_at).0;
                windows.push((
                    scope.clone(),
                    period,
                    starts_at,
                    (account.spent[at], account.held[at]),
                ));
            }
        }
        let mut tell = |(scope, period, starts_at): (&Scope, Period, i64), kept, sum| {
            if kept != sum {
                let period = period.as_str();
                differ.push(format!(
                    "{scope} {period} from {starts_at}: {kept:?} is kept, {sum:?} is the sum of its history (spent, held)"
                ));
            }
        };
        for (scope, period, starts_at, kept) in windows {
            let window = (scope, period, starts_at);
            let sum = self.0.remove(&window).unwrap_or_default();
            tell((&window.0, period, starts_at), kept, sum);
        }
        for ((scope, period, starts_at), sum) in &self.0 {
            tell((scope, *period, *starts_at), (0, 0), *sum);
        }
        differ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_sum_or_is_told() {
        let now = 1_795_521_600_000;
        let entry = |spent, held| Entry {
            number: 1,
            reservation: "r".to_owned(),
            kind: "hold".to_owned(),
            spent,
            held,
            scopes: vec![Scope::tenant()],
            counts_at_ms: now,
            at_ms: now,
            reason: String::new(),
            author: String::new(),
        };
        let sums = || {
            let mut sums = Sums::default();
            sums.add(&[entry(0, 7), entry(5, -7)]);
            sums
        };
        let mut account = Account::new([None; 4], now);
        account.add(now, 5, 0);
        let kept = |account: &Account| Kept {
            accounts: vec![(Scope::tenant(), account.clone())],
            past: Vec::new(),
        };
        assert_eq!(sums().compare(kept(&account)), Vec::<String>::new());
        assert_eq!(sums().compare(Kept::default()).len(), 4);
        account.spent[0] = 6;
        assert_eq!(sums().compare(kept(&account)).len(), 1);
    }
}
