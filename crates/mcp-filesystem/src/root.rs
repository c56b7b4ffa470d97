//! One directory, and no way out of it.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::fs::{fstat, openat, openat2, statat};
use rustix::io::Errno;

use crate::Error;

/// A directory, held open. Every access starts at its descriptor and the kernel keeps it beneath
/// (`openat2` with `RESOLVE_BENEATH`), so that no link and no race leads out.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

/// One name in a directory.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_directory: bool,
}

impl Root {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let path = path.canonicalize()?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(CWD, &path, flags, Mode::empty())?;
        Ok(Self { path, directory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a regular file of at most `limit` bytes as text.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<String, Error> {
        // Not blocking: a pipe without a writer would hold the caller for ever.
        let file = self.at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let found = fstat(&file).map_err(|fault| Error::of(path, fault))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Error::NotAFile(path.to_owned()));
        }
        let mut bytes = Vec::new();
        std::fs::File::from(file)
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|fault| Error::of(path, Errno::from_io_error(&fault).unwrap_or(Errno::IO)))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { path: path.to_owned(), limit, unit: "bytes" });
        }
        String::from_utf8(bytes).map_err(|_| Error::NotText(path.to_owned()))
    }

    /// Lists a directory of at most `limit` entries by name. A link is listed as what it is, a file.
    pub(crate) fn list(&self, path: &str, limit: usize) -> Result<Vec<Entry>, Error> {
        let directory = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let fault = |fault| Error::of(path, fault);
        let mut entries = Vec::new();
        for entry in Dir::read_from(&directory).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == limit {
                let limit = limit as u64;
                return Err(Error::TooLarge { path: path.to_owned(), limit, unit: "entries" });
            }
            let kind = match entry.file_type() {
                // Some filesystems do not say.
                FileType::Unknown => {
                    let found = statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                    found.map_or(FileType::Unknown, |s| FileType::from_raw_mode(s.st_mode))
                }
                kind => kind,
            };
            entries.push(Entry { name, is_directory: kind == FileType::Directory });
        }
        entries.sort();
        Ok(entries)
    }

    /// Opens what `path` names: relative to the root, or absolute and in it.
    fn at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Error> {
        let given = Path::new(path);
        let inside = match given.is_absolute() {
            // By components: `/data_evil` is not in `/data`.
            true => given.strip_prefix(&self.path).map_err(|_| Error::Outside(path.to_owned()))?,
            false => given,
        };
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.directory, inside, flags | OFlags::CLOEXEC, Mode::empty(), beneath)
            .map_err(|fault| Error::of(path, fault))
    }
}
