use std::time::Duration;

use tonic::Status;
use types::{Classify, ErrorKind};

/// Why a tool was not listed or called.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such server, or no such tool at it.
    #[error("there is no tool {0:?}")]
    Unknown(String),
    /// The call is private and the server is not local.
    #[error("server {0:?} is not local and may not see a private call")]
    NotLocal(String),
    /// The server could not be started or reached, or the connection was lost.
    #[error("server {server:?}: {reason}")]
    Unavailable {
        /// Which server.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server took too long.
    #[error("server {server:?} did not answer within {} ms", waited.as_millis())]
    Timeout {
        /// Which server.
        server: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The tool gave more than is passed on.
    #[error("tool {tool:?} gave {bytes} bytes, at most {limit} are passed on")]
    TooLarge {
        /// Which tool.
        tool: String,
        /// How much it gave.
        bytes: usize,
        /// How much is allowed.
        limit: usize,
    },
}

impl Error {
    /// Returns the word for the audit of calls.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::NotLocal(_) => "denied",
            Self::Timeout { .. } => "timeout",
            _ => "protocol_error",
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Unknown(_) => ErrorKind::NotFound,
            Self::NotLocal(_) => ErrorKind::Denied,
            Self::Unavailable { .. } | Self::Timeout { .. } | Self::TooLarge { .. } => {
                ErrorKind::Unavailable
            }
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        runtime::error::to_status(error)
    }
}
