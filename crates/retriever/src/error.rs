use tonic::Status;
use types::{Classify, ErrorKind};

/// Why a document or a search was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The tenant has no such document.
    #[error("document {0:?} does not exist")]
    NotFound(String),
    /// The tenant has no such collection.
    #[error("collection {0:?} does not exist")]
    NoCollection(String),
    /// The tenant has no such job.
    #[error("job {0:?} does not exist")]
    NoJob(String),
    /// The index is not reached, or fails.
    #[error("the index is unavailable")]
    Index(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Whoever worked on it has no right to it any more.
    #[error("the document was sent again, or its job has ended")]
    Lost,
    /// Too much waits; later is fine.
    #[error("{0}")]
    Full(String),
    /// The collection was made with another model.
    #[error("{0}")]
    Conflict(String),
    /// The model failed, or whoever leads to it refused; nothing changed.
    #[error("{}", told(.0))]
    Model(#[from] crate::embed::Fault),
    /// The store failed; nothing changed.
    #[error("the document store is unavailable")]
    Store(#[from] sqlx::Error),
    /// Another retriever, which does not share its index, has the database by now.
    #[error("another retriever has taken the document store for itself")]
    Taken,
    /// A stored passage cannot be read, or its parser ended early.
    #[error("a document cannot be processed")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The router's words are meant for clients; the inside of a model is not.
fn told(fault: &crate::embed::Fault) -> String {
    match fault {
        crate::embed::Fault::Refused { .. } | crate::embed::Fault::Broken { .. } => {
            fault.to_string()
        }
        _ => "the embedding model cannot be used".to_owned(),
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotFound(_) | Self::NoCollection(_) | Self::NoJob(_) => ErrorKind::NotFound,
            Self::Full(_) => ErrorKind::RateLimited,
            Self::Conflict(_) | Self::Lost => ErrorKind::Conflict,
            Self::Model(fault) => fault.kind(),
            Self::Store(_) | Self::Index(_) | Self::Taken => ErrorKind::Unavailable,
            Self::Broken(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        runtime::error::to_status(error)
    }
}
