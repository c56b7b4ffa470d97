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
    /// There is no such file of this tenant.
    #[error("file {0:?} does not exist")]
    NoSuchFile(String),
    /// The files of a tenant have as many bytes as they may.
    #[error(
        "the tenant's files may have {0} bytes together: delete some, or wait until they expire"
    )]
    Full(i64),
    /// There is no such batch of this tenant.
    #[error("batch {0:?} does not exist")]
    NoSuchBatch(String),
    /// Whoever came too late to stop a batch.
    #[error("a batch that is {0} cannot be cancelled")]
    TooLate(&'static str),
    /// The database failed; nothing that was not written was told.
    #[error("the orchestrator's database is unavailable")]
    Database(#[from] sqlx::Error),
    /// The journal holds what is not an event.
    #[error("the run journal is damaged")]
    Damaged(#[from] prost::DecodeError),
    /// A batch's row holds what nobody wrote there.
    #[error("a stored {0} is damaged")]
    Corrupt(&'static str),
    /// Another replica works on the batch by now.
    #[error("the lease of a batch was lost")]
    LeaseLost,
    /// Whoever asked for a conversation is gone, and it ends with them.
    #[error("the client is gone")]
    Gone,
    /// A request's task ended without a word, which only a fault of ours does.
    #[error("a request of a batch was dropped")]
    Dropped,
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NoSuchRun(_) | Self::NoSuchFile(_) | Self::NoSuchBatch(_) => ErrorKind::NotFound,
            Self::TooLate(_) | Self::LeaseLost | Self::Full(_) => ErrorKind::Conflict,
            Self::Peer(status) => runtime::error::kind_of(status),
            Self::Database(_) | Self::Gone => ErrorKind::Unavailable,
            Self::Damaged(_) | Self::Corrupt(_) | Self::Dropped => ErrorKind::Internal,
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
