use tonic::Status;
use types::{Classify, ErrorKind};

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong, here or in the provider's own words.
    #[error("{0}")]
    Invalid(String),
    /// No provider has this name.
    #[error("{0}")]
    UnknownProvider(String),
    /// The call is private and nothing local can serve it.
    #[error("{0:?} has no local candidate, and the request is private")]
    NothingLocal(String),
    /// Every candidate failed.
    #[error("no provider answered: {}", .0.join("; "))]
    AllFailed(Vec<String>),
    /// Nobody by that name has a batch API in use, or it has no such batch.
    #[error("{0:?}: no such batch API, or no such batch")]
    NoBatch(String),
    /// A provider may have begun a batch, or not.
    #[error("nobody knows what became of it: {0}")]
    InDoubt(String),
    /// The budget service refused or failed.
    #[error("{}", .0.message())]
    Budget(#[from] Status),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::UnknownProvider(_) => ErrorKind::NotFound,
            Self::NothingLocal(_) => ErrorKind::Denied,
            Self::AllFailed(_) | Self::InDoubt(_) => ErrorKind::Unavailable,
            Self::NoBatch(_) => ErrorKind::NotFound,
            Self::Budget(status) => runtime::error::kind_of(status),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            // Without a kind of ours, as a call whose end nobody saw.
            Error::InDoubt(_) => Self::unknown(error.to_string()),
            error => runtime::error::to_status(error),
        }
    }
}
