//! Counting tokens: what a text can have at most, and about how many it has.
//!
//! The first is cheap and holds money, see [`most`]. The second asks a tokenizer, and is for what a
//! provider does not say: it is loaded when it is needed first, and works on a thread of its own, so that
//! no call that does without it pays for it, and no text however odd stops a worker.

pub(crate) mod most;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::Context as _;
use tokio::sync::oneshot;

/// The most bytes of a text that are counted; the rest is taken to be like them.
const COUNTED: usize = 256 * 1024;

/// How much is counted at once: there are texts whose time grows with the square of their length.
const SLICE: usize = 4 * 1024;

/// How many texts may wait to be counted; another one is guessed.
const WAITING: usize = 16;

/// The tokenizer's thread needs more than others have: it keeps what it has counted before.
const STACK: usize = 8 * 1024 * 1024;

/// A text, or as much of its beginning as is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text {
    beginning: String,
    bytes: u64,
}

impl Text {
    /// Takes bytes that may be no text: of their beginning little is counted, and the rest is taken to be
    /// like it.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(SLICE)]).into_owned();
        Self { bytes: (bytes.len() as u64).max(beginning.len() as u64), beginning }
    }

    /// Goes on with it.
    pub(crate) fn push(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        let room = COUNTED - self.beginning.len();
        self.beginning.push_str(&text[..text.floor_char_boundary(room)]);
    }

    /// Goes on with another one.
    pub(crate) fn append(&mut self, text: &Self) {
        self.push(&text.beginning);
        self.bytes = self.bytes.saturating_add(text.bytes - text.beginning.len() as u64);
    }

    /// Tells whether there is nothing of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns how many bytes it has.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Guesses how many tokens it has: one has about four bytes.
    pub(crate) fn guess(&self) -> u64 {
        self.bytes.div_ceil(4)
    }

    /// Takes what was counted of the beginning for the whole.
    fn whole(&self, counted: u64) -> u64 {
        let (counted, bytes) = (u128::from(counted), u128::from(self.bytes));
        let beginning = self.beginning.len().max(1) as u128;
        u64::try_from((counted * bytes).div_ceil(beginning)).unwrap_or(u64::MAX)
    }
}

struct Job {
    text: Text,
    done: oneshot::Sender<u64>,
}

/// Counts tokens as `o200k_base` has them. Clones share one thread, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct Tokens(SyncSender<Job>);

impl Tokens {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has none left.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (sender, jobs) = sync_channel::<Job>(WAITING);
        let count = move || {
            for Job { text, done } in jobs {
                // A fault of the tokenizer's costs one answer, not all that come after.
                let counted = catch_unwind(AssertUnwindSafe(|| count(&text.beginning)));
                let counted = counted.ok().flatten().map(|counted| text.whole(counted));
                let _ = done.send(counted.unwrap_or(text.guess()));
            }
        };
        let thread = std::thread::Builder::new().name("tokens".to_owned()).stack_size(STACK);
        thread.spawn(count).context("the thread that counts tokens")?;
        Ok(Self(sender))
    }

    /// Returns about how many tokens a text has; a guess when too many wait to know.
    pub(crate) async fn count(&self, text: Text) -> u64 {
        let guess = text.guess();
        if guess == 0 {
            return 0;
        }
        let (done, counted) = oneshot::channel();
        match self.0.try_send(Job { text, done }) {
            Ok(()) => counted.await.unwrap_or(guess),
            Err(_) => guess,
        }
    }
}

/// Counts a text in slices.
fn count(text: &str) -> Option<u64> {
    let tokenizer = tiktoken::get_encoding("o200k_base")?;
    let (mut rest, mut tokens) = (text, 0);
    while !rest.is_empty() {
        let (slice, more) = rest.split_at(rest.floor_char_boundary(SLICE));
        tokens += tokenizer.count(slice) as u64;
        rest = more;
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn text(said: &str) -> Text {
        let mut text = Text::default();
        text.push(said);
        text
    }

    #[tokio::test]
    async fn a_text_is_counted_as_its_tokenizer_does() {
        let tokens = Tokens::start().unwrap();
        for (said, wanted) in [
            ("", 0),
            ("hello world", 2),
            // As published for this tokenizer: https://github.com/openai/openai-cookbook (2024-05).
            ("antidisestablishmentarianism", 6),
            ("2 + 2 = 4", 7),
            ("お誕生日おめでとう", 8),
        ] {
            assert_eq!(tokens.count(text(said)).await, wanted, "{said}");
        }
    }

    #[tokio::test]
    async fn a_long_text_is_like_its_beginning_and_kept_no_longer() {
        let tokens = Tokens::start().unwrap();
        let words = "hello world, ".repeat(100);
        let mut long = Text::default();
        for _ in 0..10_000 {
            long.push(&words);
        }
        assert_eq!((long.beginning.len(), long.bytes()), (COUNTED, 13_000_000));
        let counted = tokens.count(long).await;
        assert!((2_990_000..3_010_000).contains(&counted), "{counted}");
        // A letter of three bytes does not fit into the last two.
        let mut odd = text(&"a".repeat(COUNTED - 2));
        odd.push("你");
        assert_eq!((odd.beginning.len(), odd.bytes()), (COUNTED - 2, COUNTED as u64 + 1));
    }

    #[tokio::test]
    async fn no_text_takes_long() {
        let tokens = Tokens::start().unwrap();
        tokens.count(text("loaded")).await;
        for odd in ["a", " ", "\n", " \u{a0}x", "zq", "\u{1}", "é", "你", "\u{300}", "👩\u{200d}"]
        {
            let begun = Instant::now();
            let counted = tokens.count(text(&odd.repeat(COUNTED / odd.len()))).await;
            assert!(counted > 0, "{odd:?}");
            // Without slices the slowest takes minutes.
            assert!(begun.elapsed() < Duration::from_secs(10), "{odd:?} {:?}", begun.elapsed());
        }
    }

    #[tokio::test]
    async fn what_cannot_be_counted_is_guessed() {
        let (sender, jobs) = sync_channel(1);
        drop(jobs);
        assert_eq!(Tokens(sender).count(text("nine letters")).await, 3);
    }
}
