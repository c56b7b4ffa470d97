//! A sliding window: what was taken, counted in twentieths of it. Pure.
//!
//! A window of twenty slots may begin anywhere in its first one, so it touches twenty-one: all of them
//! count. No span as long as the window ever holds more than the limit, and what was taken is free again
//! after the window and at most a twentieth of it. A refusal adds nothing, so it does not last longer
//! for being asked again.
//!
//! Of what was taken a part may be owed: nobody else knows of it. When one of several processes is alone, it takes
//! its share of what is left of what all know.

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

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    number: u64,
    count: u64,
    /// The part of the count that nobody else knows of.
    owed: u64,
    /// What others took besides, of which it is not known when; until then is late enough.
    unheard: u64,
}

/// The part of a limit that one of `among` may take, who do not hear of each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) limit: u64,
    pub(crate) among: u64,
}

impl Share {
    /// Returns how much it is when nothing is taken.
    pub(crate) fn most(self) -> u64 {
        self.limit / self.among.max(1)
    }

    /// Returns what is left of it: of all that is taken `owed` is known to nobody else.
    fn left(self, taken: u64, owed: u64) -> u64 {
        let known = taken.saturating_sub(owed);
        (self.limit.saturating_sub(known) / self.among.max(1)).saturating_sub(owed)
    }
}

impl Window {
    /// Returns an empty one.
    pub(crate) fn new(window_ms: u64) -> Self {
        Self { slot_ms: slot_ms(window_ms), slots: VecDeque::new() }
    }

    /// Returns how much of the window that ends at `now_ms` is taken.
    pub(crate) fn used(&self, now_ms: u64) -> u64 {
        self.live(now_ms).fold(0, |sum, slot| sum.saturating_add(slot.taken()))
    }

    /// Returns how much of a share is left at `now_ms`.
    pub(crate) fn left(&self, now_ms: u64, share: Share) -> u64 {
        share.left(self.used(now_ms), self.live(now_ms).map(|slot| slot.owed).sum())
    }

    /// Takes `count` at `now_ms`; `is_owed` when it has to be told to others.
    pub(crate) fn take(&mut self, now_ms: u64, count: u64, is_owed: bool) {
        let last = self.last(now_ms);
        last.count = last.count.saturating_add(count);
        last.owed = last.owed.saturating_add(if is_owed { count } else { 0 });
    }

    /// Others say how much is taken by all at `now_ms`; whatever of it was not heard of is as if it were taken now.
    pub(crate) fn stands(&mut self, now_ms: u64, taken: u64) {
        for slot in &mut self.slots {
            slot.unheard = 0;
        }
        let unheard = taken.saturating_sub(self.used(now_ms));
        if unheard > 0 {
            self.last(now_ms).unheard = unheard;
        }
    }

    /// Hears that others changed what is taken by so much, so many slots before `now_ms` by a clock that may be in
    /// the next slot already.
    pub(crate) fn hear(&mut self, now_ms: u64, age: u64, by: i64) {
        if let Ok(count) = u64::try_from(by) {
            return self.take(now_ms, count, false);
        }
        let number = (now_ms / self.slot_ms).saturating_sub(age);
        let heard = self.slots.iter_mut().filter(|slot| slot.count > slot.owed);
        if let Some(slot) = heard.min_by_key(|slot| slot.number.abs_diff(number)) {
            slot.count = slot.count.saturating_add_signed(by).max(slot.owed);
        }
    }

    /// Changes what was taken at `at_ms` by so much, and what others have to be told if that `is_owed`; what is gone by
    /// then stays gone.
    pub(crate) fn correct(&mut self, at_ms: u64, by: i64, is_owed: bool) {
        let number = at_ms / self.slot_ms;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            slot.count = slot.count.saturating_add_signed(by);
            let owed = slot.owed.saturating_add_signed(if is_owed { by } else { 0 });
            slot.owed = owed.min(slot.count);
        }
    }

    /// Returns in how many milliseconds `cost` fits into a share: 0 if it does now, none if it never does.
    pub(crate) fn wait_ms(&self, now_ms: u64, share: Share, cost: u64) -> Option<u64> {
        let (mut taken, mut owed) = (0_u64, 0_u64);
        for slot in self.live(now_ms) {
            taken = taken.saturating_add(slot.taken());
            owed = owed.saturating_add(slot.owed);
        }
        if cost <= share.left(taken, owed) {
            return Some(0);
        }
        for slot in self.live(now_ms) {
            taken -= slot.taken();
            owed -= slot.owed;
            if cost <= share.left(taken, owed) {
                return Some(self.end_ms(slot).saturating_sub(now_ms));
            }
        }
        None
    }

    /// Returns in how many milliseconds nothing is taken any more.
    pub(crate) fn reset_ms(&self, now_ms: u64) -> u64 {
        let last = self.live(now_ms).filter(|slot| slot.taken() > 0).last();
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

    /// Returns the slot of `now_ms`, or the last one, where a clock that went back counts.
    fn last(&mut self, now_ms: u64) -> &mut Slot {
        let number = now_ms / self.slot_ms;
        while self.slots.front().is_some_and(|slot| slot.number + SLOTS < number) {
            self.slots.pop_front();
        }
        if self.slots.back().is_none_or(|last| last.number < number) {
            self.slots.push_back(Slot { number, ..Slot::default() });
        }
        let last = self.slots.len() - 1;
        &mut self.slots[last]
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

impl Slot {
    fn taken(&self) -> u64 {
        self.count.saturating_add(self.unheard)
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
        let three = Share { limit: 3, among: 1 };
        let free_at = |now| now + window.wait_ms(now, three, 1).unwrap();
        assert_eq!((free_at(40_000), free_at(59_000)), (63_000, 63_000));
        assert_eq!(window.wait_ms(62_999, three, 1), Some(1));
        assert_eq!(window.wait_ms(63_000, three, 1), Some(0));
        assert_eq!(window.wait_ms(40_000, three, 4), None, "more than the limit never fits");
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

    #[test]
    fn a_correction_is_owed_if_what_it_corrects_is() {
        let mut window = Window::new(20_000);
        window.take(1_000, 1_000, false);
        window.take(1_000, 500, true);
        window.correct(1_000, -900, false);
        assert_eq!((window.used(1_000), window.owed(1_000)), (600, vec![(0, 500)]));
        window.correct(1_000, 40, true);
        assert_eq!((window.used(1_000), window.owed(1_000)), (640, vec![(0, 540)]));
    }

    #[test]
    fn a_share_is_of_what_is_left_of_what_all_know_and_grows_as_that_is_over() {
        let mut window = Window::new(20_000);
        let quarter = Share { limit: 100, among: 4 };
        window.take(1_000, 30, false);
        window.hear(1_000, 0, 40);
        window.hear(2_500, 2, -2);
        assert_eq!((window.used(2_500), window.left(2_500, quarter)), (68, 8));
        window.take(2_500, 5, true);
        assert_eq!(window.left(2_500, quarter), 3, "what nobody else knows of is of the own share");
        assert_eq!(window.wait_ms(2_500, quarter, 3), Some(0));
        assert_eq!(window.wait_ms(2_500, quarter, 4), Some(22_000 - 2_500));
        assert_eq!(window.left(22_000, quarter), 20);
        assert_eq!(window.wait_ms(2_500, quarter, 26), None);
        window.stands(3_000, 80);
        assert_eq!((window.used(3_000), window.left(3_000, quarter)), (80, 1));
        window.stands(4_000, 73);
        assert_eq!(window.used(4_000), 73, "what was on its way was heard of since");
    }

    proptest! {
        /// Some processes hear of each other until they do not any more.
        #[test]
        fn those_that_are_cut_off_take_no_more_than_the_limit_together(
            limit in 1_u64..200,
            among in 1_usize..6,
            before in prop::collection::vec((0_usize..6, 1_u64..5, 0_u64..900), 0..60),
            after in prop::collection::vec((0_usize..6, 1_u64..5, 0_u64..900), 0..120),
        ) {
            let share = Share { limit, among: among as u64 };
            let mut windows = vec![Window::new(10_000); among];
            let (mut all, mut now) = (Window::new(10_000), 10_000);
            let total = Share { limit, among: 1 };
            for (who, cost, pause) in before {
                now += pause;
                if all.wait_ms(now, total, cost) != Some(0) {
                    continue;
                }
                all.take(now, cost, false);
                for (number, window) in windows.iter_mut().enumerate() {
                    match number == who % among {
                        true => window.take(now, cost, false),
                        false => window.hear(now, 0, i64::try_from(cost).unwrap()),
                    }
                }
            }
            for (who, cost, pause) in after {
                now += pause;
                let window = &mut windows[who % among];
                if window.wait_ms(now, share, cost) == Some(0) {
                    window.take(now, cost, true);
                    all.take(now, cost, false);
                }
                prop_assert!(all.used(now) <= limit, "{} of {limit}", all.used(now));
            }
        }

        /// The model is a list of what was taken and when.
        #[test]
        fn no_span_holds_more_than_the_limit_and_nothing_waits_much_longer(
            window_ms in 1_u64..2_000,
            limit in 1_u64..8,
            asked in prop::collection::vec((0_u64..400, 1_u64..4), 1..80),
        ) {
            let (mut window, mut taken, mut now) = (Window::new(window_ms), Vec::new(), 10_000);
            let (slot, limit_of_all) = (slot_ms(window_ms), Share { limit, among: 1 });
            for (pause, cost) in asked {
                now += pause;
                let within = |span: u64| -> u64 {
                    let since = now.saturating_sub(span);
                    taken.iter().filter(|(at, _)| *at > since).map(|(_, cost)| cost).sum()
                };
                let fits = window.wait_ms(now, limit_of_all, cost) == Some(0);
                if fits {
                    prop_assert!(within(window_ms) + cost <= limit);
                } else {
                    prop_assert!(within(slot * (SLOTS + 1)) + cost > limit);
                    if let Some(wait) = window.wait_ms(now, limit_of_all, cost) {
                        prop_assert_eq!(window.wait_ms(now + wait, limit_of_all, cost), Some(0));
                        prop_assert!(window.wait_ms(now + wait - 1, limit_of_all, cost) > Some(0));
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
