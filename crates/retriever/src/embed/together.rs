//! What several documents ask for at once, in one call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tracing::Instrument as _;
use types::{CallContext, ErrorKind, KeyId, Privacy, TeamId, TenantId, UserId};

use super::{Embedder, Fault, Side};

/// A model that is asked for the passages of several documents together: while one call is under way, what comes
/// waits, and goes in the next, which has no more texts than a request of the model unless one document has: what fails
/// takes nothing with it that was paid. Only what the same payer asks for, equally private.
#[derive(Debug)]
pub(crate) struct Together {
    model: Arc<dyn Embedder>,
    lines: Arc<Lines>,
}

/// What waits, by who pays; a payer is here as long as somebody asks for them.
#[derive(Debug, Default)]
struct Lines(Mutex<HashMap<Payer, Vec<Part>>>);

/// Whoever pays, and how private it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Payer {
    tenant: TenantId,
    team: Option<TeamId>,
    user: UserId,
    key: Option<KeyId>,
    privacy: Privacy,
}

/// One document's texts.
#[derive(Debug)]
struct Part {
    texts: Vec<String>,
    done: oneshot::Sender<Result<Vec<Vec<f32>>, Fault>>,
}

impl Together {
    pub(crate) fn new(model: Arc<dyn Embedder>) -> Self {
        Self { model, lines: Arc::default() }
    }
}

#[async_trait]
impl Embedder for Together {
    async fn identity(&self, context: &CallContext) -> Result<Arc<str>, Fault> {
        self.model.identity(context).await
    }

    async fn embed(
        &self,
        context: &CallContext,
        texts: Vec<String>,
        side: Side,
    ) -> Result<Vec<Vec<f32>>, Fault> {
        if side == Side::Query {
            return self.model.embed(context, texts, side).await;
        }
        let payer = Payer {
            tenant: context.tenant.clone(),
            team: context.team.clone(),
            user: context.user.clone(),
            key: context.key.clone(),
            privacy: context.privacy,
        };
        let (done, told) = oneshot::channel();
        if self.lines.join(&payer, Part { texts, done }) {
            // One's patience is not the others'.
            let context = CallContext { deadline: None, ..context.clone() };
            let turn = Turn { lines: Arc::clone(&self.lines), payer, has_ended: false };
            tokio::spawn(lead(Arc::clone(&self.model), context, turn).in_current_span());
        }
        told.await.unwrap_or_else(|_| Err(Fault::Failed("a call of it was cut off".to_owned())))
    }

    fn is_bought(&self) -> bool {
        self.model.is_bought()
    }

    fn at_once(&self) -> usize {
        self.model.at_once()
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, HashMap<Payer, Vec<Part>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a part wait; true if nobody leads its line yet.
    fn join(&self, payer: &Payer, part: Part) -> bool {
        let mut lines = self.lock();
        let is_first = !lines.contains_key(payer);
        lines.entry(payer.clone()).or_default().push(part);
        is_first
    }

    /// Takes what goes next, of `most` texts; ends the line when that is nothing.
    fn next(&self, payer: &Payer, most: usize) -> Vec<Part> {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(payer) else { return Vec::new() };
        let mut texts = 0;
        let fits = |part: &&Part| {
            let is_first = texts == 0;
            texts += part.texts.len();
            is_first || texts <= most
        };
        let count = line.iter().take_while(fits).count();
        let next: Vec<Part> = line.drain(..count).collect();
        if next.is_empty() {
            lines.remove(payer);
        }
        next
    }
}

/// Whoever leads a line; it ends with them, so that nobody waits in one that is not led.
struct Turn {
    lines: Arc<Lines>,
    payer: Payer,
    /// Who comes after the line's end leads another.
    has_ended: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.has_ended {
            self.lines.lock().remove(&self.payer);
        }
    }
}

/// Asks for what waits until nothing does.
async fn lead(model: Arc<dyn Embedder>, context: CallContext, mut turn: Turn) {
    loop {
        let parts = turn.lines.next(&turn.payer, model.at_once());
        if parts.is_empty() {
            turn.has_ended = true;
            return;
        }
        let texts = parts.iter().flat_map(|part| part.texts.clone()).collect();
        match model.embed(&context, texts, Side::Document).await {
            Ok(vectors) => {
                let mut vectors = vectors.into_iter();
                for part in parts {
                    let own = vectors.by_ref().take(part.texts.len()).collect();
                    let _ = part.done.send(Ok(own));
                }
            }
            // One bad text is one document's fault.
            Err(fault) if parts.len() > 1 && fault.kind() == ErrorKind::Invalid => {
                for Part { texts, done } in parts {
                    let _ = done.send(model.embed(&context, texts, Side::Document).await);
                }
            }
            Err(fault) => {
                for part in parts {
                    let _ = part.done.send(Err(fault.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// Takes down what it is asked, and answers when it may.
    #[derive(Debug)]
    struct Recorder {
        asked: Mutex<Vec<Vec<String>>>,
        may: Semaphore,
    }

    #[async_trait]
    impl Embedder for Recorder {
        async fn identity(&self, _: &CallContext) -> Result<Arc<str>, Fault> {
            Ok("recorder".into())
        }

        async fn embed(
            &self,
            _: &CallContext,
            texts: Vec<String>,
            _: Side,
        ) -> Result<Vec<Vec<f32>>, Fault> {
            self.asked.lock().unwrap().push(texts.clone());
            self.may.acquire().await.unwrap().forget();
            if texts.iter().any(|text| text == "bad") {
                let status = runtime::error::status(ErrorKind::Invalid, "a bad text");
                return Err(Fault::Refused { model: "recorder".to_owned(), status });
            }
            Ok(texts.iter().map(|text| vec![text.len() as f32]).collect())
        }

        fn is_bought(&self) -> bool {
            true
        }

        fn at_once(&self) -> usize {
            3
        }
    }

    #[tokio::test]
    async fn documents_that_wait_go_together_in_one_request_and_a_bad_one_fails_alone() {
        let (asked, may) = (Mutex::default(), Semaphore::new(0));
        let model = Arc::new(Recorder { asked, may });
        let together = Arc::new(Together::new(model.clone()));
        let ask = |texts: &[&str], user: &str| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let (tenant, user) = (TenantId::new("t").unwrap(), UserId::new(user).unwrap());
            let (together, context) = (Arc::clone(&together), CallContext::new(tenant, user));
            tokio::spawn(async move { together.embed(&context, texts, Side::Document).await })
        };
        let seen = async |count: usize| {
            while model.asked.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
        };
        let waiting = async |count: usize| {
            while together.lines.lock().values().map(Vec::len).sum::<usize>() < count {
                tokio::task::yield_now().await;
            }
        };
        let first = ask(&["a"], "u");
        seen(1).await;
        let (second, third) = (ask(&["bb", "ccc"], "u"), ask(&["bad"], "u"));
        waiting(2).await;
        // It would make a second request of theirs.
        let fourth = ask(&["e"], "u");
        waiting(3).await;
        let other = ask(&["d"], "v");
        seen(2).await;
        model.may.add_permits(6);
        assert_eq!(first.await.unwrap().unwrap(), [[1.0]]);
        assert_eq!(second.await.unwrap().unwrap(), [[2.0], [3.0]]);
        assert_eq!(third.await.unwrap().unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(fourth.await.unwrap().unwrap(), [[1.0]]);
        assert_eq!(other.await.unwrap().unwrap(), [[1.0]]);
        let asked = model.asked.lock().unwrap().clone();
        let mut sizes: Vec<usize> = asked.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 1, 1, 1, 2, 3], "{asked:?}");
        while !together.lines.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}
