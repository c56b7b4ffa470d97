//! Limits in this process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use types::Clock;

use super::window::{Share, Window};
use super::{Ask, Backend, Changed, Owed, Seen, Taken, Verdict};

/// How many buckets there are at least before those that are over are looked for.
const SWEEP_AT: usize = 1024;

/// What was taken here; of a bucket that nobody asks for nothing is left after its window.
pub(crate) struct Memory {
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
}

/// The time since it was made: unlike the time of day, it never jumps.
pub(crate) struct Uptime(Instant);

impl Default for Uptime {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Uptime {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// One lock for all: a decision takes about a microsecond.
#[derive(Debug, Default)]
struct Book {
    windows: HashMap<String, Window>,
    leases: HashMap<String, HashSet<String>>,
    sweep_at: usize,
}

impl Memory {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, book: Mutex::default() }
    }

    /// As [`Backend::decide`], of an equal share among so many processes; what is taken is owed when
    /// `is_owed`.
    pub(crate) fn share(&self, ask: &Ask, replicas: u64, is_owed: bool) -> Verdict {
        let now = self.now_ms();
        let mut book = self.book();
        let verdict = book.verdict(now, ask, replicas.max(1));
        if verdict.admitted {
            book.take(now, ask, &verdict, is_owed);
        }
        verdict
    }

    /// Writes down what Redis admitted, and how it said that all stands; returns when.
    pub(crate) fn admit(&self, ask: &Ask, told: &Verdict) -> u64 {
        let now = self.now_ms();
        let mut book = self.book();
        if told.admitted {
            book.take(now, ask, told, false);
        }
        for (wanted, seen) in ask.windows.iter().zip(&told.windows) {
            let window = book.window(now, &wanted.bucket, wanted.window_ms);
            let here = if told.admitted { seen.cost } else { 0 };
            window.stands(now, wanted.limit.saturating_sub(seen.left).saturating_add(here));
        }
        now
    }

    /// Writes down what others changed in Redis.
    pub(crate) fn hear(&self, changed: &Changed) {
        let now = self.now_ms();
        let mut book = self.book();
        book.window(now, &changed.bucket, changed.window_ms).hear(now, changed.age, changed.by);
    }

    /// Returns what was taken here and others have to be told.
    pub(crate) fn owed(&self) -> Vec<Owed> {
        let (at_ms, book) = (self.now_ms(), self.book());
        let owed = book.windows.iter().filter_map(|(bucket, held)| {
            let slots = held.owed(at_ms);
            let window_ms = held.window_ms();
            (!slots.is_empty()).then(|| Owed { bucket: bucket.clone(), window_ms, at_ms, slots })
        });
        owed.collect()
    }

    /// Others were told.
    pub(crate) fn told(&self, owed: &[Owed]) {
        let mut book = self.book();
        for owed in owed {
            if let Some(held) = book.windows.get_mut(&owed.bucket) {
                held.told(owed.at_ms, &owed.slots);
            }
        }
    }

    /// Returns the leases that are out: a bucket and an id each.
    pub(crate) fn leases(&self) -> Vec<(String, String)> {
        let book = self.book();
        let out = book
            .leases
            .iter()
            .flat_map(|(bucket, ids)| ids.iter().map(move |id| (bucket.clone(), id.clone())));
        out.collect()
    }

    /// Tells whether a lease is out.
    pub(crate) fn is_out(&self, (bucket, id): &(String, String)) -> bool {
        self.book().leases.get(bucket).is_some_and(|ids| ids.contains(id))
    }

    /// Returns the time since this process's own began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now_ms()).unwrap_or(0)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for Memory {
    async fn decide(&self, ask: &Ask) -> Option<Verdict> {
        Some(self.share(ask, 1, false))
    }

    async fn correct(&self, taken: &Taken<'_>, by: i64) {
        let mut book = self.book();
        if let Some(window) = book.windows.get_mut(taken.bucket) {
            window.correct(taken.at_ms, by, taken.is_owed);
        }
    }

    async fn end(&self, ask: &Ask) {
        let mut book = self.book();
        for lease in &ask.leases {
            let Some(ids) = book.leases.get_mut(&lease.bucket) else { continue };
            ids.remove(&ask.id);
            if ids.is_empty() {
                book.leases.remove(&lease.bucket);
            }
        }
    }
}

impl Book {
    fn verdict(&self, now: u64, ask: &Ask, replicas: u64) -> Verdict {
        let empty = Window::new(1);
        let windows = ask.windows.iter().map(|wanted| {
            let window = self.windows.get(&wanted.bucket).unwrap_or(&empty);
            let share = Share { limit: wanted.limit, among: replicas };
            let cost = wanted.cost.min(share.most());
            Seen {
                cost,
                left: window.left(now, share),
                wait_ms: window.wait_ms(now, share, cost).filter(|_| share.most() > 0),
                reset_ms: window.reset_ms(now),
            }
        });
        let windows: Vec<Seen> = windows.collect();
        let in_use = |bucket| self.leases.get(bucket).map_or(0, |ids| ids.len() as u64);
        let free = ask
            .leases
            .iter()
            .map(|lease| (lease.limit / replicas).saturating_sub(in_use(lease.bucket.as_str())));
        let free: Vec<u64> = free.collect();
        let admitted = windows.iter().all(|seen| seen.wait_ms == Some(0)) && !free.contains(&0);
        Verdict { admitted, at_ms: now, windows, free }
    }

    fn take(&mut self, now: u64, ask: &Ask, verdict: &Verdict, is_owed: bool) {
        for (wanted, seen) in ask.windows.iter().zip(&verdict.windows) {
            let window = self.window(now, &wanted.bucket, wanted.window_ms);
            window.take(now, seen.cost, is_owed);
        }
        for lease in &ask.leases {
            self.leases.entry(lease.bucket.clone()).or_default().insert(ask.id.clone());
        }
    }

    fn window(&mut self, now: u64, bucket: &str, window_ms: u64) -> &mut Window {
        self.sweep(now);
        self.windows.entry(bucket.to_owned()).or_insert_with(|| Window::new(window_ms))
    }

    /// Drops what is over, whenever there may be twice as much as was left the last time.
    fn sweep(&mut self, now: u64) {
        if self.windows.len() >= self.sweep_at.max(SWEEP_AT) {
            self.windows.retain(|_, window| window.used(now) > 0);
            self.sweep_at = self.windows.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::super::Wanted;
    use super::*;

    /// A clock that is set.
    #[derive(Default)]
    struct Set(AtomicI64);

    impl Clock for Set {
        fn now_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn memory() -> (Memory, Arc<Set>) {
        let clock = Arc::new(Set::default());
        (Memory::new(clock.clone()), clock)
    }

    fn ask(bucket: &str, limit: u64) -> Ask {
        let window =
            Wanted { bucket: bucket.to_owned(), limit, window_ms: 1_000, cost: 1, policy: "user" };
        Ask { windows: vec![window], ..Ask::default() }
    }

    #[test]
    fn buckets_whose_window_is_over_are_dropped() {
        let (memory, clock) = memory();
        for number in 0..SWEEP_AT * 2 {
            assert!(memory.share(&ask(&number.to_string(), 1), 1, false).admitted);
        }
        clock.0.store(2_000, Ordering::Relaxed);
        for number in 0..SWEEP_AT {
            assert!(memory.share(&ask(&format!("new {number}"), 1), 1, false).admitted);
        }
        assert!(memory.book().windows.len() <= SWEEP_AT * 2, "{}", memory.book().windows.len());
    }

    #[test]
    fn shares_of_a_limit_never_sum_up_to_more() {
        for (limit, replicas, wanted) in [(10, 4, 2), (3, 4, 0), (4, 4, 1), (100, 1, 100)] {
            let ((memory, _), ask) = (memory(), ask("b", limit));
            let admitted = (0..200).filter(|_| memory.share(&ask, replicas, true).admitted).count();
            assert_eq!(admitted, wanted, "{limit} of {replicas}");
            let owed: u64 =
                memory.owed().iter().flat_map(|owed| &owed.slots).map(|slot| slot.1).sum();
            assert_eq!(owed, wanted as u64);
        }
    }

    #[test]
    fn a_share_is_of_what_was_left_for_all_when_nobody_can_be_asked_any_more() {
        let ((one, clock), ask) = (memory(), ask("b", 100));
        // The others took 88, of which nothing was heard; this one took 2 of 12 that were left.
        let said = |left| Verdict {
            admitted: true,
            windows: vec![Seen { cost: 1, left, wait_ms: Some(0), reset_ms: 0 }],
            ..Verdict::default()
        };
        one.admit(&ask, &said(12));
        one.admit(&ask, &said(11));
        let admitted = (0..50).filter(|_| one.share(&ask, 4, true).admitted).count();
        assert_eq!(admitted, 2, "a quarter of ten");
        clock.0.store(1_100, Ordering::Relaxed);
        let admitted = (0..50).filter(|_| one.share(&ask, 4, true).admitted).count();
        assert_eq!(admitted, 25, "what was left is of a window that is over");
    }
}
