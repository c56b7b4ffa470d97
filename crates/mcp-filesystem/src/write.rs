//! How files and directories come to be, and are moved.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fdatasync, fstat,
    linkat, mkdirat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::Error;
use crate::files::{Entry, Files, Found, attempts, same};
use crate::root::{Links, beneath, create_beneath};

/// Whose turn it is to change a file: two edits of one file are made one after the other.
#[derive(Debug)]
pub(crate) struct Locks([Mutex<()>; 64]);

impl Default for Locks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Locks {
    fn of(&self, entry: &Entry<'_>) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        (entry.root.path(), &entry.inside).hash(&mut hasher);
        let turn = hasher.finish() % self.0.len() as u64;
        // Nothing is kept in it that a panic could leave half done.
        let lock = &self.0[usize::try_from(turn).unwrap_or_default()];
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// Gives the file `path` these contents, whether it was there or not: all of them, or none.
    pub(crate) fn write(&self, path: &str, contents: &[u8]) -> Result<(), Error> {
        self.may_write(path)?;
        attempts(path, || {
            let _turn = self.locks.of(&self.writable(path)?);
            self.put(path, &self.writable(path)?, contents)
        })
    }

    /// Gives the file `path` the contents that `change` makes of it, and returns what it returns.
    pub(crate) fn change<T>(
        &self,
        path: &str,
        change: impl Fn(&Found<'_>, &[u8]) -> Result<(Option<Vec<u8>>, T), Error>,
    ) -> Result<T, Error> {
        self.may_write(path)?;
        attempts(path, || {
            let _turn = self.locks.of(&self.writable(path)?);
            let (found, bytes) = self.bytes(path)?;
            self.policy.write(path, &found.inside)?;
            let entry = self.entry_of(path, &found)?;
            let (contents, answer) = change(&found, &bytes)?;
            if let Some(contents) = contents {
                // As it was when it was opened: what another has written since must not be lost.
                let entry = Entry { stat: Some(found.stat), ..entry };
                self.put(path, &entry, &contents)?;
            }
            Ok(answer)
        })
    }

    /// Makes a directory and those above it, as far as they are not there.
    pub(crate) fn create_directory(&self, path: &str) -> Result<(), Error> {
        self.may_write(path)?;
        let (root, given) = self.given(path)?;
        let told = |fault| Error::of(path, fault);
        let parts: Vec<_> = given.components().collect();
        let mut there = parts.len();
        let mut directory = loop {
            let existing: PathBuf = parts[..there].iter().collect();
            match root.handle(&existing, Links::Followed) {
                Ok(directory) => break directory,
                Err(Errno::NOENT) if there > 0 => there -= 1,
                Err(fault) => return Err(told(fault)),
            }
        };
        let names = parts[there..].iter().map(|part| match part {
            Component::Normal(name) => Ok(Path::new(*name)),
            // What is above a directory that is not there is not known either.
            _ => Err(Error::Missing(path.to_owned())),
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let rest: PathBuf = names.iter().collect();
        self.policy.write(path, &root.place_of(&directory).map_err(told)?.join(rest))?;
        for name in names {
            match mkdirat(&directory, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(fault) => return Err(told(fault)),
            }
            directory = beneath(&directory, name, OFlags::PATH, Links::Refused).map_err(
                |fault| match fault {
                    // There was nothing behind it: a link to nothing.
                    Errno::LOOP => Error::Dangling(path.to_owned()),
                    fault => told(fault),
                },
            )?;
        }
        let stat = fstat(&directory).map_err(told)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(()),
            _ => Err(Error::Exists(path.to_owned())),
        }
    }

    /// Gives what has the name `source` the name `destination`, which nothing may have.
    pub(crate) fn rename(&self, source: &str, destination: &str) -> Result<(), Error> {
        self.may_write(source)?;
        self.may_write(destination)?;
        let (from, to) = (self.entry(source)?, self.entry(destination)?);
        self.policy.write(source, &from.inside)?;
        self.policy.write(destination, &to.inside)?;
        let Some(stat) = from.stat else { return Err(Error::of(source, Errno::NOENT)) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory | FileType::Symlink => {}
            _ => return Err(Error::NotAFile(source.to_owned())),
        }
        if to.stat.is_some() {
            return Err(Error::Exists(destination.to_owned()));
        }
        rename_new((&from.directory, Path::new(&from.name)), (&to.directory, Path::new(&to.name)))
            .map_err(|fault| match fault {
                Errno::XDEV => Error::Elsewhere(destination.to_owned()),
                Errno::INVAL => Error::Invalid(format!("{destination:?} lies in {source:?}")),
                Errno::NOENT => Error::of(source, fault),
                fault => Error::of(destination, fault),
            })
    }

    /// Refuses names of git's as they are given: `.git` may be a link. Where the path leads is looked at
    /// as well, when it is known: a link may lead to `.git`.
    fn may_write(&self, path: &str) -> Result<(), Error> {
        self.policy.write(path, self.given(path)?.1)
    }

    /// Returns where `path` is written: a link is followed, if it leads to a file.
    fn writable(&self, path: &str) -> Result<Entry<'_>, Error> {
        let entry = match self.find(path) {
            Ok(found) => {
                self.is_plain(path, &found.stat)?;
                self.entry_of(path, &found)?
            }
            Err(Error::Missing(_) | Error::NotAName(_)) => {
                let entry = self.entry(path)?;
                match entry.stat.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    None => entry,
                    Some(FileType::Symlink) => return Err(Error::Dangling(path.to_owned())),
                    Some(_) => return Err(Error::Changed(path.to_owned())),
                }
            }
            Err(fault) => return Err(fault),
        };
        self.policy.write(path, &entry.inside)?;
        entry.stat.as_ref().map_or(Ok(()), |stat| self.is_plain(path, stat))?;
        Ok(entry)
    }

    /// Writes a file beside, and gives it the name at once.
    fn put(&self, path: &str, entry: &Entry<'_>, contents: &[u8]) -> Result<(), Error> {
        if contents.len() as u64 > self.limits.bytes {
            let limit = self.limits.bytes;
            return Err(Error::TooLarge { path: path.to_owned(), limit, unit: "bytes" });
        }
        let temporary = format!(".baton-{:016x}.tmp", fastrand::u64(..));
        let temporary = Path::new(&temporary);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        // What there is already may be more secret than what is new.
        let mode = Mode::from_raw_mode(if entry.stat.is_some() { 0o600 } else { 0o666 });
        let file = create_beneath(&entry.directory, temporary, flags, Links::Refused, mode)
            .map_err(|fault| Error::of(path, fault))?;
        let written = fill(file, contents, entry.stat.as_ref())
            .map_err(|fault| Error::io(path, &fault))
            .and_then(|()| name(path, entry, temporary));
        if written.is_err() {
            // There is nothing more to be done if this fails too.
            let _ = unlinkat(&entry.directory, temporary, AtFlags::empty());
        }
        written
    }
}

/// Writes the contents, with the mode and, as far as we may, the owner of what they replace.
fn fill(file: OwnedFd, contents: &[u8], replaced: Option<&Stat>) -> std::io::Result<()> {
    let mut file = std::fs::File::from(file);
    file.write_all(contents)?;
    if let Some(stat) = replaced {
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        if fchown(&file, Some(owner), Some(group)).is_err() {
            let _ = fchown(&file, None, Some(group));
        }
        fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o777))?;
    }
    // Else a power cut may leave the name with nothing in it.
    fdatasync(&file)?;
    Ok(())
}

/// Gives what is called `temporary` the name of `entry`, if there is what was there.
fn name(path: &str, entry: &Entry<'_>, temporary: &Path) -> Result<(), Error> {
    let changed = || Error::Changed(path.to_owned());
    let name = Path::new(&entry.name);
    let Some(expected) = &entry.stat else {
        return rename_new((&entry.directory, temporary), (&entry.directory, name)).map_err(
            |fault| match fault {
                Errno::EXIST => changed(),
                fault => Error::of(path, fault),
            },
        );
    };
    let found = statat(&entry.directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| changed())?;
    let state = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    if !same(&found, expected) || state(&found) != state(expected) {
        return Err(changed());
    }
    renameat(&entry.directory, temporary, &entry.directory, name)
        .map_err(|fault| Error::of(path, fault))
}

/// Renames, and overwrites nothing.
fn rename_new(from: (&OwnedFd, &Path), to: (&OwnedFd, &Path)) -> rustix::io::Result<()> {
    match renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        // Some file systems, NFS among them, have no such flag; a second name of a file will do.
        Err(unknown @ (Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) => {
            match linkat(from.0, from.1, to.0, to.1, AtFlags::empty()) {
                Ok(()) => unlinkat(from.0, from.1, AtFlags::empty()),
                // Directories have one name.
                Err(Errno::PERM) => Err(unknown),
                Err(fault) => Err(fault),
            }
        }
        renamed => renamed,
    }
}
