//! From texts to vectors.

use async_trait::async_trait;

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

/// A model that turns texts into vectors: here, or behind an endpoint.
#[async_trait]
pub trait Embedder: Send + Sync + std::fmt::Debug {
    /// Names the model and its weights: vectors of two identities are never compared.
    fn identity(&self) -> &str;

    /// Returns how many numbers a vector has.
    fn dimension(&self) -> usize;

    /// Returns a vector of length 1 for each text, in their order: `[texts][dimension]`. What is longer than
    /// the model reads is cut off.
    ///
    /// # Errors
    /// [`Fault::Failed`] when there are none.
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, Fault>;
}
