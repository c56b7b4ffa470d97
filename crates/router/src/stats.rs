//! How a candidate did. Pure.

use std::time::Duration;

/// How many calls the percentiles are of.
const LAST: usize = 256;

/// Counts of a candidate's calls, and the times of the last ones.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) calls: u64,
    pub(crate) answered: u64,
    micros: Vec<u64>,
}

impl Stats {
    /// Notes a call that was answered, and how long it took to begin.
    pub(crate) fn answered(&mut self, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        match self.micros.len() < LAST {
            true => self.micros.push(micros),
            false => self.micros[usize::try_from(self.answered).unwrap_or(0) % LAST] = micros,
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
        (0..1000).for_each(|_| stats.answered(Duration::from_secs(9)));
        (1..=LAST as u64).for_each(|at| stats.answered(Duration::from_micros(at)));
        stats.failed();
        assert_eq!((stats.percentile(50), stats.percentile(95)), (128, 244));
        assert_eq!((stats.calls, stats.answered), (1257, 1256));
    }
}
