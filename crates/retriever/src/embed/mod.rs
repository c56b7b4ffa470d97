//! From texts to vectors.

mod bert;
mod local;

use async_trait::async_trait;

pub use self::local::Local;

/// Why a model cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its directory is not what it should be; says which file and what is wrong.
    #[error("{0}")]
    Model(String),
    /// It failed at a text, or is not reached.
    #[error("the embedding model failed: {0}")]
    Failed(String),
}

/// What a text is for: some models want other words before a question than before what may answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A question.
    Query,
    /// What may answer it.
    Document,
}

/// A model that turns texts into vectors: here, or behind an endpoint.
#[async_trait]
pub trait Embedder: Send + Sync + std::fmt::Debug {
    /// Names the model and its weights: vectors of two identities are never compared.
    fn identity(&self) -> &str;

    /// Returns how many numbers a vector has.
    fn dimension(&self) -> usize;

    /// Returns each text's vector, in their order: `[texts][dimension]`. What is longer than the model reads
    /// is cut off. Their lengths are as the model has them; they are compared by their cosines.
    ///
    /// # Errors
    /// [`Fault::Failed`] when there are none.
    async fn embed(&self, texts: Vec<String>, side: Side) -> Result<Vec<Vec<f32>>, Fault>;
}

/// Gives a vector length 1; one of zeros stays as it is.
pub(crate) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    }
}
