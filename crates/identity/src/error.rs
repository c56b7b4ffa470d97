use types::{Classify, ErrorKind, UserId};

/// Why a token stands for nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is none that is taken; what is wrong with it.
    #[error("the token {0}")]
    Refused(String),
    /// Its claims give its user no role.
    #[error("user {0} has no role here")]
    NoRole(UserId),
    /// Nobody can say now whether it is good.
    #[error("the keys of the token's issuer cannot be read now")]
    NoKeys,
}

impl Error {
    pub(crate) fn refused(fault: impl Into<String>) -> Self {
        Self::Refused(fault.into())
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(_) => ErrorKind::Unauthenticated,
            Self::NoRole(_) => ErrorKind::Denied,
            Self::NoKeys => ErrorKind::Unavailable,
        }
    }
}
