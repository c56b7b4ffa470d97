//! From passages that may answer a question to those that do: each is read together with the question.

mod local;
mod remote;

use async_trait::async_trait;
use types::CallContext;

pub use self::local::Local;
pub(crate) use self::remote::Remote;
use crate::fuse::Ranked;

/// Why passages cannot be reranked.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The model's directory is not what it should be; says which file and what is wrong.
    #[error("{0}")]
    Model(String),
    /// It failed, or is not reached; the words are meant for whoever asked.
    #[error("{0}")]
    Failed(String),
}

/// A model that reads a question and a passage together: here, or behind an endpoint on this machine.
#[async_trait]
pub(crate) trait Reranker: Send + Sync + std::fmt::Debug {
    /// Returns how well each passage answers the question, more is better, in their order.
    ///
    /// # Errors
    /// [`Fault::Failed`] when there are none.
    async fn score(
        &self,
        context: &CallContext,
        query: &str,
        passages: Vec<String>,
    ) -> Result<Vec<f32>, Fault>;
}

/// Puts the first of some ranked passages in the order of these scores of theirs; what has none stays behind them.
/// Equals by their order before.
pub(crate) fn reorder(ranked: &mut [Ranked], scores: &[f32]) {
    for (one, score) in ranked.iter_mut().zip(scores) {
        (one.rerank, one.score) = (Some(*score), *score);
    }
    let scored = ranked.len().min(scores.len());
    ranked[..scored].sort_by(|a, b| b.score.total_cmp(&a.score));
}
