//! A sliding window: what was taken, counted in twentieths of it. Pure.
//!
//! A window of twenty slots may begin anywhere in its first one, so it touches twenty-one: all of them
//! count. No span as long as the window ever holds more than the limit, and what was taken is free again
//! after the window and at most a twentieth of it. A refusal adds nothing, so it does not last longer
//! for being asked again.

use std::collections::VecDeque;

/// In how many slots a window is counted.
pub(crate) const SLOTS: u64 = 20;

/// What was taken of one bucket.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    slot_ms: u64,
    /// The oldest first.
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: u64,
    count: u64,
    /// The part of the count that nobody else knows of.
    owed: u64,
}

impl Window {
    /// Returns an empty one.
    pub(crate) fn new(window_ms: u64) -> Self {
        Self { slot_ms: slot_ms(window_ms), slots: VecDeque::new() }
    }

    /// Returns how much of the window that ends at `now_ms` is taken.
    pub(crate) fn used(&self, now_ms: u64) -> u64 {
        self.live(now_ms).fold(0, |sum, slot| sum.saturating_add(slot.count))
    }

    /// Takes `count` at `now_ms`; `is_owed` when it has to be told to others.
    pub(crate) fn take(&mut self, now_ms: u64, count: u64, is_owed: bool) {
        let number = now_ms / self.slot_ms;
        while self.slots.front().is_some_and(|slot| slot.number + SLOTS < number) {
            self.slots.pop_front();
        }
        // A clock that went back counts where it was.
        if self.slots.back().is_none_or(|last| last.number < number) {
            self.slots.push_back(Slot { number, count: 0, owed: 0 });
        }
        if let Some(last) = self.slots.back_mut() {
            last.count = last.count.saturating_add(count);
            last.owed = last.owed.saturating_add(if is_owed { count } else { 0 });
        }
    }

    /// Changes what was taken at `at_ms` by so much; what is gone by then stays gone.
    pub(crate) fn correct(&mut self, at_ms: u64, by: i64) {
        let number = at_ms / self.slot_ms;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            slot.count = slot.count.saturating_add_signed(by);
            slot.owed = slot.owed.min(slot.count);
        }
    }

    /// Returns in how many milliseconds `cost` fits below `limit`: 0 if it does now, none if it never does.
    pub(crate) fn wait_ms(&self, now_ms: u64, limit: u64, cost: u64) -> Option<u64> {
        let room = limit.checked_sub(cost)?;
        let mut used = self.used(now_ms);
        if used <= room {
            return Some(0);
        }
        for slot in self.live(now_ms) {
            used -= slot.count;
            if used <= room {
                return Some(self.end_ms(slot).saturating_sub(now_ms));
            }
        }
        None
    }

    /// Returns in how many milliseconds nothing is taken any more.
    pub(crate) fn reset_ms(&self, now_ms: u64) -> u64 {
        let last = self.live(now_ms).filter(|slot| slot.count > 0).last();
        last.map_or(0, |slot| self.end_ms(slot).saturating_sub(now_ms))
    }

    /// Returns how long it is, in milliseconds; at most twenty longer than was asked for.
    pub(crate) fn window_ms(&self) -> u64 {
        self.slot_ms * SLOTS
    }

    /// Returns what others have to be told: how many slots ago, and how much.
    pub(crate) fn owed(&self, now_ms: u64) -> Vec<(u64, u64)> {
        let now = now_ms / self.slot_ms;
        let owed = self.live(now_ms).filter(|slot| slot.owed > 0);
        owed.map(|slot| (now.saturating_sub(slot.number), slot.owed)).collect()
    }

    /// Others were told what [`Window::owed`] returned at `now_ms`.
    pub(crate) fn told(&mut self, now_ms: u64, owed: &[(u64, u64)]) {
        let now = now_ms / self.slot_ms;
        for slot in &mut self.slots {
            let age = now.saturating_sub(slot.number);
            if let Some((_, count)) = owed.iter().find(|(of, _)| *of == age) {
                slot.owed = slot.owed.saturating_sub(*count);
            }
        }
    }

    fn live(&self, now_ms: u64) -> impl Iterator<Item = &Slot> {
        let now = now_ms / self.slot_ms;
        self.slots.iter().filter(move |slot| slot.number + SLOTS >= now)
    }

    /// When a slot counts no more.
    fn end_ms(&self, slot: &Slot) -> u64 {
        (slot.number + SLOTS + 1) * self.slot_ms
    }
}

/// Returns how long a slot of a window is.
pub(crate) fn slot_ms(window_ms: u64) -> u64 {
    window_ms.div_ceil(SLOTS).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refusal_ends_when_it_said_and_asking_meanwhile_changes_nothing() {
        let mut window = Window::new(60_000);
        window.take(1_000, 2, false);
        window.take(31_000, 1, false);
        let free_at = |now| now + window.wait_ms(now, 3, 1).unwrap();
        assert_eq!((free_at(40_000), free_at(59_000)), (63_000, 63_000));
        assert_eq!(window.wait_ms(62_999, 3, 1), Some(1));
        assert_eq!(window.wait_ms(63_000, 3, 1), Some(0));
        assert_eq!(window.wait_ms(40_000, 3, 4), None, "more than the limit never fits");
        assert_eq!(window.reset_ms(40_000), 93_000 - 40_000);
    }

    #[test]
    fn what_is_owed_is_told_once_with_its_age() {
        let mut window = Window::new(20);
        window.take(100, 1, true);
        window.take(103, 2, true);
        window.take(103, 4, false);
        let owed = window.owed(105);
        assert_eq!(owed, [(5, 1), (2, 2)]);
        window.take(103, 1, true);
        window.told(105, &owed);
        assert_eq!(window.owed(105), [(2, 1)], "it was taken meanwhile");
        assert_eq!(window.used(105), 8);
    }

    proptest! {
        /// The model is a list of what was taken and when.
        #[test]
        fn no_span_holds_more_than_the_limit_and_nothing_waits_much_longer(
            window_ms in 1_u64..2_000,
            limit in 1_u64..8,
            asked in prop::collection::vec((0_u64..400, 1_u64..4), 1..80),
        ) {
            let (mut window, mut taken, mut now) = (Window::new(window_ms), Vec::new(), 10_000);
            let slot = slot_ms(window_ms);
            for (pause, cost) in asked {
                now += pause;
                let within = |span: u64| -> u64 {
                    let since = now.saturating_sub(span);
                    taken.iter().filter(|(at, _)| *at > since).map(|(_, cost)| cost).sum()
                };
                let fits = window.wait_ms(now, limit, cost) == Some(0);
                if fits {
                    prop_assert!(within(window_ms) + cost <= limit);
                } else {
                    prop_assert!(within(slot * (SLOTS + 1)) + cost > limit);
                    if let Some(wait) = window.wait_ms(now, limit, cost) {
                        prop_assert_eq!(window.wait_ms(now + wait, limit, cost), Some(0));
                        prop_assert!(window.wait_ms(now + wait - 1, limit, cost) > Some(0));
                    } else {
                        prop_assert!(cost > limit);
                    }
                }
                if fits {
                    window.take(now, cost, false);
                    taken.push((now, cost));
                }
                prop_assert!(window.slots.len() <= SLOTS as usize + 1);
            }
        }
    }
}
