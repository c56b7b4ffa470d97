//! When candidates are asked again. Pure: time and chance are arguments.

use std::time::Duration;

use crate::config::Retries;

/// How long the first pause is, before chance; each is twice the one before.
const FIRST: Duration = Duration::from_millis(100);

/// Returns how long to pause before candidates are asked for the `time`th time again (from 0), `spent`
/// since the call began; `None` when it is given up. The soonest that one may be asked is after
/// `come_back`. `chance` is from 0 to 1: callers that failed together do not come back together.
pub(crate) fn pause(
    retries: &Retries,
    time: u32,
    spent: Duration,
    come_back: Duration,
    chance: f64,
) -> Option<Duration> {
    if time >= retries.times {
        return None;
    }
    let most = FIRST.saturating_mul(2_u32.saturating_pow(time));
    let pause = come_back.saturating_add(most.mul_f64(0.5 + chance / 2.0));
    let within = Duration::from_millis(retries.within_ms);
    (spent.saturating_add(pause) <= within).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pauses_longer_each_time_and_not_beyond_what_a_call_has() {
        let retries = Retries { times: 3, within_ms: 1_000 };
        let ms = Duration::from_millis;
        let pause = |time, spent, come_back, chance| {
            let pause = pause(&retries, time, ms(spent), ms(come_back), chance);
            pause.map(|pause| pause.as_millis())
        };
        assert_eq!(pause(0, 0, 0, 0.0), Some(50));
        assert_eq!(pause(0, 0, 0, 1.0), Some(100));
        assert_eq!(pause(2, 0, 0, 1.0), Some(400));
        assert_eq!(pause(3, 0, 0, 0.0), None, "three times, and no fourth");
        assert_eq!(pause(0, 0, 500, 0.0), Some(550), "a provider says when");
        assert_eq!(pause(0, 0, 1_000, 0.0), None, "which is too late");
        assert_eq!(pause(0, 0, u64::MAX, 0.0), None, "nobody comes back");
        assert_eq!(pause(0, 960, 0, 0.0), None);
    }
}
