use rustix::io::Errno;

/// Why nothing was read or written. The caller's model reads it, so it names the path as given and
/// nothing of the machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It lies elsewhere, or a link on the way leads elsewhere.
    #[error("{0:?} is outside the allowed directories")]
    Outside(String),
    /// There is nothing.
    #[error("{0:?} does not exist")]
    Missing(String),
    /// There is nothing of which the name can be given: it has characters that stand for what is not UTF-8.
    #[error("{0:?} does not exist; a name that is not UTF-8 cannot be given here")]
    NotAName(String),
    /// A link to nothing: what is written there would appear elsewhere.
    #[error("{0:?} is a link to what does not exist")]
    Dangling(String),
    /// There is something already.
    #[error("{0:?} exists already")]
    Exists(String),
    /// A directory, pipe, socket or device.
    #[error("{0:?} is not a regular file")]
    NotAFile(String),
    /// A file, where a directory is wanted.
    #[error("{0:?} is not a directory")]
    NotADirectory(String),
    /// A name matches a pattern of the configuration.
    #[error("{path:?} is not accessible here: names like {pattern:?} are forbidden")]
    Forbidden {
        /// As given.
        path: String,
        /// What it matches.
        pattern: String,
    },
    /// A git repository's own files, by which programs are started.
    #[error("{0:?} is not written: it belongs to git")]
    Git(String),
    /// Another name of the file may lie outside.
    #[error("{0:?} is a file with more than one name (hard links), which are not allowed here")]
    HardLink(String),
    /// More than is read or written at once.
    #[error("{path:?} has more than {limit} {unit}")]
    TooLarge {
        /// As given.
        path: String,
        /// How many are allowed.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Bytes.
    #[error("{0:?} is not text; read_media_file reads it")]
    NotText(String),
    /// The arguments are not good.
    #[error("{0}")]
    Invalid(String),
    /// An edit finds nothing, or more than one place.
    #[error("edit {number} of {path:?}: {fault}")]
    Edit {
        /// As given.
        path: String,
        /// From one on.
        number: usize,
        /// What it found.
        fault: String,
    },
    /// Somebody else changes it all the while.
    #[error("{0:?} was changed by another meanwhile")]
    Changed(String),
    /// Another file system.
    #[error("{0:?} lies on another file system")]
    Elsewhere(String),
    /// The call takes too long.
    #[error("{0:?} takes too long")]
    Late(String),
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
        let owned = || path.to_owned();
        match fault {
            // A beneath-only lookup says so when `..` or a link would leave.
            Errno::XDEV | Errno::LOOP => Self::Outside(owned()),
            Errno::NOENT if path.contains('\u{fffd}') => Self::NotAName(owned()),
            Errno::NOENT => Self::Missing(owned()),
            Errno::EXIST => Self::Exists(owned()),
            Errno::NOTDIR => Self::NotADirectory(owned()),
            // A socket, or a pipe without a reader.
            Errno::NXIO => Self::NotAFile(owned()),
            Errno::NAMETOOLONG => Self::Invalid(format!(
                "the path is too long: {} bytes, or one of its names more than 255",
                path.len()
            )),
            fault => Self::System { path: owned(), fault },
        }
    }

    pub(crate) fn io(path: &str, fault: &std::io::Error) -> Self {
        Self::of(path, Errno::from_io_error(fault).unwrap_or(Errno::IO))
    }
}
