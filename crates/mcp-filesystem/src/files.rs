//! Where a path leads, and what may be done there.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::io::Errno;

use crate::policy::Policy;
use crate::root::{Links, Root};
use crate::{Config, Error};

/// How often what another changes meanwhile is looked up anew.
const ATTEMPTS: usize = 16;

/// How deep trees may be walked: each level is held open, and is a call of its own.
const DEEPEST: usize = 256;

/// The directories that are served.
#[derive(Debug)]
pub(crate) struct Files {
    roots: Vec<Root>,
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) locks: crate::write::Locks,
}

/// How much of everything.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) entries: usize,
    pub(crate) depth: usize,
    pub(crate) hard_links: bool,
}

/// Something that is there, not opened yet.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) root: &'a Root,
    /// Where it is beneath the root: no links and no `..`.
    pub(crate) inside: PathBuf,
    pub(crate) stat: Stat,
    pub(crate) handle: OwnedFd,
}

/// A name in a directory that is held open, and what has that name, not followed.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) root: &'a Root,
    pub(crate) directory: OwnedFd,
    pub(crate) name: OsString,
    /// Where it is beneath the root: no links and no `..`.
    pub(crate) inside: PathBuf,
    pub(crate) stat: Option<Stat>,
}

impl Files {
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let roots = config.root.paths().iter().map(|path| {
            let told = |fault| anyhow::anyhow!("mcp_filesystem.root: {}: {fault}", path.display());
            Root::open(path).map_err(told)
        });
        let roots = roots.collect::<anyhow::Result<Vec<_>>>()?;
        anyhow::ensure!(
            config.max_depth <= DEEPEST,
            "mcp_filesystem.max_depth: {} is more than {DEEPEST}",
            config.max_depth
        );
        anyhow::ensure!(!roots.is_empty(), "mcp_filesystem.root: no directory is given");
        let policy = Policy::new(&config.forbidden)
            .map_err(|fault| fault.context("mcp_filesystem.forbidden"))?;
        let limits = Limits {
            bytes: config.max_file_bytes,
            entries: config.max_entries,
            depth: config.max_depth,
            hard_links: config.hard_links,
        };
        Ok(Self { roots, policy, limits, locks: Default::default() })
    }

    pub(crate) fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Looks up what `path` names: beneath the first root, or absolute and beneath any.
    pub(crate) fn find(&self, path: &str) -> Result<Found<'_>, Error> {
        let (root, given) = self.given(path)?;
        let told = |fault| Error::of(path, fault);
        let handle = root.handle(given, Links::Followed).map_err(told)?;
        let inside = root.place_of(&handle).map_err(told)?;
        self.policy.reach(path, &inside)?;
        let stat = fstat(&handle).map_err(told)?;
        Ok(Found { root, inside, stat, handle })
    }

    /// Opens a directory to list it.
    pub(crate) fn directory(&self, path: &str) -> Result<(Found<'_>, OwnedFd), Error> {
        self.opened(path, |found| match found.kind() {
            FileType::Directory => Ok(()),
            _ => Err(Error::NotADirectory(path.to_owned())),
        })
    }

    /// Opens a regular file to read it.
    pub(crate) fn file(&self, path: &str) -> Result<(Found<'_>, File), Error> {
        let (found, file) = self.opened(path, |found| self.is_plain(path, &found.stat))?;
        Ok((found, File::from(file)))
    }

    /// Refuses what is not a regular file of one name.
    pub(crate) fn is_plain(&self, path: &str, stat: &Stat) -> Result<(), Error> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::NotAFile(path.to_owned()));
        }
        if stat.st_nlink > 1 && !self.limits.hard_links {
            return Err(Error::HardLink(path.to_owned()));
        }
        Ok(())
    }

    /// Finds and opens the same thing: nothing is opened of which it is not known what and where it is.
    fn opened(
        &self,
        path: &str,
        check: impl Fn(&Found<'_>) -> Result<(), Error>,
    ) -> Result<(Found<'_>, OwnedFd), Error> {
        attempts(path, || {
            let found = self.find(path)?;
            check(&found)?;
            let opened = match found.root.reader(&found.inside) {
                Ok(opened) => opened,
                Err(fault) if is_change(fault) => return Err(Error::Changed(path.to_owned())),
                Err(fault) => return Err(Error::of(path, fault)),
            };
            let stat = fstat(&opened).map_err(|fault| Error::of(path, fault))?;
            match same(&stat, &found.stat) {
                true => Ok((Found { stat, ..found }, opened)),
                false => Err(Error::Changed(path.to_owned())),
            }
        })
    }

    /// Looks up the last name of `path` in its directory. A link there is not followed.
    pub(crate) fn entry(&self, path: &str) -> Result<Entry<'_>, Error> {
        let (root, given) = self.given(path)?;
        let (Some(parent), Some(name)) = (given.parent(), given.file_name()) else {
            return Err(Error::Invalid(format!(
                "{path:?} has no name beneath an allowed directory"
            )));
        };
        let told = |fault| Error::of(path, fault);
        let directory = root.handle(parent, Links::Followed).map_err(told)?;
        let inside = root.place_of(&directory).map_err(told)?.join(name);
        self.entry_in(path, root, directory, inside)
    }

    /// As [`Self::entry`], for what a link led to.
    pub(crate) fn entry_of<'a>(&self, path: &str, found: &Found<'a>) -> Result<Entry<'a>, Error> {
        let parent = found.inside.parent().unwrap_or(Path::new(""));
        let directory = match found.root.handle(parent, Links::Refused) {
            Ok(directory) => directory,
            Err(fault) if is_change(fault) => return Err(Error::Changed(path.to_owned())),
            Err(fault) => return Err(Error::of(path, fault)),
        };
        let entry = self.entry_in(path, found.root, directory, found.inside.clone())?;
        match entry.stat.as_ref().is_some_and(|stat| same(stat, &found.stat)) {
            true => Ok(entry),
            false => Err(Error::Changed(path.to_owned())),
        }
    }

    fn entry_in<'a>(
        &self,
        path: &str,
        root: &'a Root,
        directory: OwnedFd,
        inside: PathBuf,
    ) -> Result<Entry<'a>, Error> {
        let name = inside.file_name().unwrap_or_default().to_owned();
        self.policy.reach(path, &inside)?;
        let stat = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(fault) => return Err(Error::of(path, fault)),
        };
        Ok(Entry { root, directory, name, inside, stat })
    }

    /// Returns the root in which `path` is, and the path from there, as given.
    pub(crate) fn given<'a>(&self, path: &'a str) -> Result<(&Root, &'a Path), Error> {
        if path.contains('\0') {
            return Err(Error::Invalid(format!("{path:?} has a NUL character")));
        }
        // A name is what would be made of it here.
        if let [drive, b':', rest @ ..] = path.as_bytes()
            && drive.is_ascii_alphabetic()
            && matches!(rest.first(), None | Some(b'\\' | b'/'))
        {
            return Err(Error::Invalid(format!("{path:?} is a path of another system")));
        }
        let given = Path::new(path);
        let found = match given.is_absolute() {
            true => self.roots.iter().find_map(|root| Some((root, root.beneath(given)?))),
            false => self.roots.first().map(|root| (root, given)),
        };
        let (root, inside) = found.ok_or_else(|| Error::Outside(path.to_owned()))?;
        self.policy.reach(path, inside)?;
        Ok((root, inside))
    }
}

impl Found<'_> {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Returns its whole path.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join(&self.inside)
    }
}

/// Tries again as long as another changes what is looked at, within reason.
pub(crate) fn attempts<T>(
    path: &str,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    for _ in 0..ATTEMPTS {
        match attempt() {
            Err(Error::Changed(_)) => {}
            ended => return ended,
        }
    }
    Err(Error::Changed(path.to_owned()))
}

/// Returns whether both are of one file.
pub(crate) fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Returns whether a path without links was there a moment ago, and is another now.
fn is_change(fault: Errno) -> bool {
    matches!(fault, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}
