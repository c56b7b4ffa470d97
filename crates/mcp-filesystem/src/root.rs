use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

/// A directory, held open. Every access starts at its descriptor and the kernel keeps it beneath
/// (`openat2` with `RESOLVE_BENEATH`), so that no link and no race leads out.
#[derive(Debug)]
pub(crate) struct Root {
    /// As configured, made absolute, when that differs from `path`.
    alias: Option<PathBuf>,
    path: PathBuf,
    directory: OwnedFd,
}

impl Root {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let alias = std::path::absolute(path)?;
        let path = path.canonicalize()?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(CWD, &path, flags, Mode::empty())?;
        let root = Self { alias: (alias != path).then_some(alias), path, directory };
        // Says at the start what would fail at every call: no `openat2`, or no `/proc`.
        root.place_of(&root.handle(Path::new("."), Links::Followed)?)?;
        Ok(root)
    }

    /// Returns how paths in it may begin, its true path last.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Path> {
        self.alias.iter().chain([&self.path]).map(PathBuf::as_path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what an absolute path names, from here on.
    pub(crate) fn beneath<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        // By components: `/data_evil` is not in `/data`.
        self.names().find_map(|name| path.strip_prefix(name).ok())
    }

    /// Opens what `inside` names for reading, without waiting for anybody.
    pub(crate) fn reader(&self, inside: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        beneath(&self.directory, inside, flags, Links::Refused)
    }

    /// Opens what `inside` names as a place only: a pipe has no reader by it, a device no user.
    pub(crate) fn handle(&self, inside: &Path, links: Links) -> rustix::io::Result<OwnedFd> {
        beneath(&self.directory, inside, OFlags::PATH, links)
    }

    /// Returns where from here what is open lies: by which names, whatever links led to it.
    pub(crate) fn place_of(&self, open: &OwnedFd) -> rustix::io::Result<PathBuf> {
        let path = |open: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", open.as_raw_fd());
            let path = readlinkat(CWD, link, Vec::new())?;
            Ok::<_, Errno>(PathBuf::from(OsString::from_vec(path.into_bytes())))
        };
        // Asked anew, as it may have been moved.
        let root = path(&self.directory)?;
        path(open)?.strip_prefix(root).map(Path::to_owned).map_err(|_| Errno::XDEV)
    }
}

/// What is done about links on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// They are followed, as long as they stay beneath.
    Followed,
    /// The path has none, or leads nowhere.
    Refused,
}

/// Opens what `inside` names beneath `directory`.
pub(crate) fn beneath(
    directory: impl AsFd,
    inside: &Path,
    flags: OFlags,
    links: Links,
) -> rustix::io::Result<OwnedFd> {
    create_beneath(directory, inside, flags, links, Mode::empty())
}

/// As [`beneath`], with the mode of what is created.
pub(crate) fn create_beneath(
    directory: impl AsFd,
    inside: &Path,
    flags: OFlags,
    links: Links,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refused {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    // The kernel gives up on `..` while anything is renamed anywhere.
    for _ in 0..64 {
        match openat2(directory.as_fd(), inside, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}
