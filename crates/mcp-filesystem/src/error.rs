use rustix::io::Errno;

/// Why a file or directory was not read. The caller's model reads it, so it names the path as given
/// and nothing of the machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It lies elsewhere, or a link on the way leads elsewhere.
    #[error("{0:?} is outside the allowed directory")]
    Outside(String),
    /// There is nothing.
    #[error("{0:?} does not exist")]
    Missing(String),
    /// A directory, pipe, socket or device.
    #[error("{0:?} is not a regular file")]
    NotAFile(String),
    /// A file, where a directory is wanted.
    #[error("{0:?} is not a directory")]
    NotADirectory(String),
    /// More than is read at once.
    #[error("{path:?} has more than {limit} {unit}")]
    TooLarge {
        /// As given.
        path: String,
        /// How many are allowed.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Not text.
    #[error("{0:?} is not UTF-8 text")]
    NotText(String),
    /// The arguments contradict each other.
    #[error("{0}")]
    Invalid(&'static str),
    /// The operating system refused.
    #[error("{path:?}: {fault}")]
    System {
        /// As given.
        path: String,
        /// What it said.
        fault: Errno,
    },
}

impl Error {
    pub(crate) fn of(path: &str, fault: Errno) -> Self {
        let path = path.to_owned();
        match fault {
            // A beneath-only lookup says so when `..` or a link would leave.
            Errno::XDEV | Errno::LOOP => Self::Outside(path),
            Errno::NOENT => Self::Missing(path),
            Errno::NOTDIR => Self::NotADirectory(path),
            // A socket, or a pipe without a reader.
            Errno::NXIO => Self::NotAFile(path),
            fault => Self::System { path, fault },
        }
    }
}
