use std::time::Duration;

/// Why a tool did not do what it was asked. The caller's model reads it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments are not what the tool takes.
    #[error("{0}")]
    Invalid(String),
    /// The tool changes a repository, and the operator has not allowed that.
    #[error("{0} changes a repository; this server only reads (mcp_git.write is false)")]
    ReadOnly(&'static str),
    /// There is nothing.
    #[error("'{0}' does not exist")]
    Missing(String),
    /// It lies, or leads, elsewhere.
    #[error("{what} '{path}' is outside the allowed directory")]
    Outside {
        /// What does.
        what: &'static str,
        /// As far as it is known.
        path: String,
    },
    /// A repository that is not opened.
    #[error("'{path}' is not opened: {why}")]
    Refused {
        /// The repository, as given.
        path: String,
        /// Why not.
        why: String,
    },
    /// No commit, tag, branch, directory or file goes by this name.
    #[error("Ref '{0}' did not resolve to an object")]
    Unknown(String),
    /// More than is shown.
    #[error("'{what}' has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// What.
        what: String,
        /// How many it has.
        bytes: usize,
        /// How many are shown.
        limit: usize,
    },
    /// There was too little memory for it.
    #[error("'{0}' could not be compared: there was too little memory (mcp_git.max_memory_bytes)")]
    NotCompared(String),
    /// There was too little memory, and the library does not say for what.
    #[error("it takes more memory than it may have (mcp_git.max_memory_bytes)")]
    TooMuchMemory,
    /// It took too long.
    #[error("it took longer than {} ms (mcp_git.time_limit_ms)", .0.as_millis())]
    Late(Duration),
    /// The process that does the work is gone.
    #[error("git did not finish: {0}")]
    Died(String),
    /// What the library says.
    #[error("{0}")]
    Git(String),
}

impl Error {
    /// Says that nothing goes by this name, unless memory was too little to find it.
    pub(crate) fn unknown(name: &str) -> impl Fn(git2::Error) -> Self {
        |fault| match Self::from(fault) {
            Self::TooMuchMemory => Self::TooMuchMemory,
            _ => Self::Unknown(name.to_owned()),
        }
    }
}

impl From<git2::Error> for Error {
    fn from(fault: git2::Error) -> Self {
        match fault.class() {
            git2::ErrorClass::NoMemory => Self::TooMuchMemory,
            _ => Self::Git(fault.message().to_owned()),
        }
    }
}
