use tonic::Status;
use types::{Classify, ErrorKind, NanoUsd};

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
    /// No such response is stored.
    #[error("no response {0:?} is stored")]
    Unknown(String),
    /// What a tenant keeps is as much as it may.
    #[error("the tenant keeps as many responses as it may: {most} bytes")]
    Full {
        /// How many bytes that is.
        most: u64,
    },
    /// The store of responses failed.
    #[error("stored responses are not available")]
    Store(#[from] sqlx::Error),
    /// As the other, behind candidates that broke off and are paid all the same.
    #[error("{error}")]
    InVain {
        /// What they cost.
        spent: NanoUsd,
        /// Why the call was not answered.
        error: Box<Self>,
    },
    /// The budget service refused or failed.
    #[error("{}", .0.message())]
    Budget(#[from] Status),
}

impl Error {
    /// Returns the error of a call that cost so much all the same.
    pub(crate) fn after_spending(self, spent: NanoUsd) -> Self {
        match spent > NanoUsd::ZERO {
            true => Self::InVain { spent, error: Box::new(self) },
            false => self,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::UnknownProvider(_) => ErrorKind::NotFound,
            Self::NothingLocal(_) => ErrorKind::Denied,
            Self::NoBatch(_) | Self::Unknown(_) => ErrorKind::NotFound,
            Self::Full { .. } => ErrorKind::Conflict,
            Self::AllFailed(_) | Self::InDoubt(_) | Self::Store(_) => ErrorKind::Unavailable,
            Self::InVain { error, .. } => error.kind(),
            Self::Budget(status) => runtime::error::kind_of(status),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            // Without a kind of ours, as a call whose end nobody saw.
            Error::InDoubt(_) => Self::unknown(error.to_string()),
            Error::InVain { spent, error } => runtime::error::with_spent((*error).into(), spent),
            error => runtime::error::to_status(error),
        }
    }
}
