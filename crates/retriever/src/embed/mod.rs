//! From texts to vectors.

pub(crate) mod batch;
pub(crate) mod bert;
mod external;
pub(crate) mod files;
mod local;
pub(crate) mod onnx;
mod remote;
mod together;

use std::sync::Arc;

use async_trait::async_trait;
use tonic::Status;
use types::{CallContext, ErrorKind};

pub use self::local::Local;
pub(crate) use self::remote::Remote;
pub(crate) use self::together::Together;

/// Why a model cannot be opened or used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// Its directory is not what it should be; says which file and what is wrong.
    #[error("{0}")]
    Model(String),
    /// It failed at a text.
    #[error("the embedding model failed: {0}")]
    Failed(String),
    /// What it answered cannot be vectors: asking again would be paid again.
    #[error("the embedding model {model:?} answered what are no vectors: {what}")]
    Broken {
        /// As it is asked for.
        model: String,
        /// What is wrong with it.
        what: String,
    },
    /// Whoever leads to it refused, or is not reached. Its words are meant for whoever asked.
    #[error("the embedding model {model:?}: {}", .status.message())]
    Refused {
        /// As it is asked for.
        model: String,
        /// What was said.
        status: Status,
    },
}

impl Fault {
    /// Returns what can be done about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { status, .. } => runtime::error::kind_of(status),
            Self::Broken { .. } => ErrorKind::Internal,
            Self::Model(_) | Self::Failed(_) => ErrorKind::Unavailable,
        }
    }
}

/// What a text is for: some models want other words before a question than before what may answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A question.
    Query,
    /// What may answer it.
    Document,
}

/// A model that turns texts into vectors: here, or behind the router.
#[async_trait]
pub(crate) trait Embedder: Send + Sync + std::fmt::Debug {
    /// Names the model and its weights: vectors of two identities are never compared.
    ///
    /// # Errors
    /// [`Fault::Refused`] while nobody can say which model it is.
    async fn identity(&self, context: &CallContext) -> Result<Arc<str>, Fault>;

    /// Returns each text's vector, in their order: `[texts][dimension]`. What is longer than a local model reads
    /// is cut off. Their lengths are as the model has them; they are compared by their cosines. Whoever `context`
    /// names pays, if it costs anything, and a private call's texts stay here.
    ///
    /// # Errors
    /// [`Fault::Failed`] or [`Fault::Refused`] when there are none.
    async fn embed(
        &self,
        context: &CallContext,
        texts: Vec<String>,
        side: Side,
    ) -> Result<Vec<Vec<f32>>, Fault>;

    /// Tells whether vectors may cost money: they are kept as soon as they come.
    fn is_bought(&self) -> bool;

    /// Returns how many texts one request has at most, at least 1: with no more of them, either all vectors come
    /// or none is paid for.
    fn at_once(&self) -> usize;
}

/// Gives a vector length 1; one of zeros stays as it is.
pub(crate) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    }
}
