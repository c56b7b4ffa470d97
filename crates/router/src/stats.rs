//! How a candidate did. Pure.

use std::time::Duration;

/// How many calls the percentiles are of.
const LAST: usize = 256;

/// Fewer tell nothing of what is late.
const ENOUGH: usize = 20;

/// Counts of a candidate's calls, and the times of the last ones.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) calls: u64,
    pub(crate) answered: u64,
    begun: Last,
    first_tokens: Last,
}

/// The last times, in microseconds.
#[derive(Debug, Default)]
struct Last {
    micros: Vec<u64>,
    oldest: usize,
}

impl Stats {
    /// Notes a call that was answered, and how long it took to begin, by its first token or whole.
    pub(crate) fn answered(&mut self, after: Duration, first_token: bool) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.begun.push(micros);
        if first_token {
            self.first_tokens.push(micros);
        }
        self.calls += 1;
        self.answered += 1;
    }

    /// Notes a call that failed.
    pub(crate) fn failed(&mut self) {
        self.calls += 1;
    }

    /// Returns the time in microseconds within which `percent` of the last calls began.
    pub(crate) fn percentile(&self, percent: usize) -> u64 {
        self.begun.percentile(percent)
    }

    /// Returns the time within which nineteen of twenty first tokens came, if that is known.
    pub(crate) fn usual_first_token(&self) -> Option<Duration> {
        let known = self.first_tokens.micros.len() >= ENOUGH;
        known.then(|| Duration::from_micros(self.first_tokens.percentile(95)))
    }
}

impl Last {
    fn push(&mut self, micros: u64) {
        if self.micros.len() < LAST {
            self.micros.push(micros);
        } else {
            self.micros[self.oldest] = micros;
            self.oldest = (self.oldest + 1) % LAST;
        }
    }

    fn percentile(&self, percent: usize) -> u64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(place).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_last_calls() {
        let mut stats = Stats::default();
        assert_eq!(stats.percentile(95), 0);
        (0..1000).for_each(|_| stats.answered(Duration::from_secs(9), false));
        (1..=LAST as u64).for_each(|at| stats.answered(Duration::from_micros(at), at < 20));
        stats.failed();
        assert_eq!((stats.percentile(50), stats.percentile(95)), (128, 244));
        assert_eq!(stats.usual_first_token(), None, "of nineteen only");
        stats.answered(Duration::from_micros(1), true);
        assert_eq!(stats.usual_first_token(), Some(Duration::from_micros(18)));
        assert_eq!((stats.calls, stats.answered), (1258, 1257));
    }
}
