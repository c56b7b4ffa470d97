use tonic::Status;
use types::{Classify, ErrorKind, IdError};

/// Why a run was refused or ended without an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such run of this tenant.
    #[error("run {0:?} does not exist")]
    NoSuchRun(String),
    /// A peer refused or failed; its words are meant for the client.
    #[error("{}", .0.message())]
    Peer(#[from] Status),
    /// The journal failed; nothing that was not journaled was streamed.
    #[error("the run journal is unavailable")]
    Journal(#[source] sqlx::Error),
    /// The journal holds what is not an event.
    #[error("the run journal is damaged")]
    Damaged(#[from] prost::DecodeError),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NoSuchRun(_) => ErrorKind::NotFound,
            Self::Peer(status) => runtime::error::kind_of(status),
            Self::Journal(_) => ErrorKind::Unavailable,
            Self::Damaged(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        runtime::error::to_status(error)
    }
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Self {
        Self::Invalid(error.to_string())
    }
}
