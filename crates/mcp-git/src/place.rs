//! Where a repository lies, and that all of it lies in the root.
//!
//! Git follows what it finds: a `.git` that is a file, `commondir`, alternates, links, a work tree
//! that the configuration names. Each of them is looked at before the repository is opened, and
//! what was opened is looked at again.

use std::path::{Path, PathBuf};

use git2::{ConfigLevel, Repository, RepositoryOpenFlags};

use crate::Error;

/// How long a file may be that names another place.
const POINTER_BYTES: u64 = 4096;

/// How long a configuration or a list of alternates may be.
const LIST_BYTES: u64 = 1024 * 1024;

/// How many alternates may stand behind each other, as in git itself.
const ALTERNATES: usize = 5;

/// A repository's directories.
#[derive(Debug)]
pub(crate) struct Place {
    /// As given.
    given: String,
    /// Where it is opened.
    path: PathBuf,
    /// Its own directory: a `.git`, or a bare repository.
    directory: PathBuf,
    /// What it shares with its other work trees; else its own directory.
    pub(crate) common: PathBuf,
}

impl Place {
    /// Finds the repository at `given`: relative to `root`, or absolute and in it. Nothing above
    /// `given` is searched.
    pub(crate) fn find(root: &Path, given: &str) -> Result<Self, Error> {
        if given.contains('\0') || given.len() > POINTER_BYTES as usize {
            return Err(Error::Invalid("repo_path is not a path".to_owned()));
        }
        let path = inside(root, &root.join(given), "repository").map_err(|fault| match fault {
            // The caller's own words, and not where a link of it leads.
            Error::Outside { what, .. } => Error::Outside { what, path: given.to_owned() },
            _ => Error::Missing(given.to_owned()),
        })?;
        let directory = match std::fs::metadata(path.join(".git")) {
            Ok(found) if found.is_dir() => inside(root, &path.join(".git"), "repository")?,
            Ok(_) => {
                let file = inside(root, &path.join(".git"), "repository")?;
                let text = read(given, &file, POINTER_BYTES)?;
                let Some(target) = text.strip_prefix("gitdir:") else {
                    return Err(refused(given, "its .git file names no directory"));
                };
                inside(root, &path.join(target.trim()), "repository directory")?
            }
            Err(_) => path.clone(),
        };
        if !directory.join("HEAD").exists() && directory.join("HEAD").symlink_metadata().is_err() {
            return Err(refused(given, "it is not a git repository"));
        }
        let shared = directory.join("commondir");
        let common = match shared.symlink_metadata() {
            Ok(_) => {
                let file = inside(root, &shared, "common directory")?;
                let target = read(given, &file, POINTER_BYTES)?;
                inside(root, &directory.join(target.trim()), "common directory")?
            }
            Err(_) => directory.clone(),
        };
        Ok(Self { given: given.to_owned(), path, directory, common })
    }

    /// Opens the repository, if nothing of it lies outside `root`.
    pub(crate) fn open(&self, root: &Path) -> Result<Repository, Error> {
        for directory in [&self.directory, &self.common] {
            self.entries(root, directory)?;
            for list in ["objects", "objects/pack", "objects/info", "info"] {
                self.entries(root, &directory.join(list))?;
            }
            self.tree(root, &directory.join("refs"))?;
        }
        self.configuration(&self.common.join("config"))?;
        self.configuration(&self.directory.join("config.worktree"))?;
        self.alternates(root, &self.common.join("objects"), 0)?;

        let none: [&Path; 0] = [];
        let repository = Repository::open_ext(&self.path, RepositoryOpenFlags::NO_SEARCH, none)
            .map_err(|fault| match Error::from(fault) {
                Error::Git(why) => refused(&self.given, &why),
                fault => fault,
            })?;
        inside(root, repository.path(), "repository directory")?;
        inside(root, repository.commondir(), "common directory")?;
        if let Some(tree) = repository.workdir() {
            inside(root, tree, "work tree")?;
        }
        for level in [ConfigLevel::Local, ConfigLevel::Worktree] {
            let Ok(own) = repository.config().and_then(|all| all.open_level(level)) else {
                continue;
            };
            for key in ["core.attributesfile", "core.excludesfile"] {
                let Ok(file) = own.get_path(key) else { continue };
                let file = repository.workdir().unwrap_or(repository.path()).join(file);
                match inside(root, &file, "a file of its configuration,") {
                    Ok(_) | Err(Error::Missing(_)) => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(repository)
    }

    /// Refuses links that lead out, and what would keep a reader waiting, in one directory.
    fn entries(&self, root: &Path, directory: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut directories = Vec::new();
        let Ok(entries) = std::fs::read_dir(directory) else { return Ok(directories) };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_symlink() {
                inside(root, &entry.path(), "a link of the repository,")?;
            } else if kind.is_dir() {
                directories.push(entry.path());
            } else if !kind.is_file() {
                let name = entry.file_name();
                let why = format!("its {} is a pipe, a socket or a device", name.display());
                return Err(refused(&self.given, &why));
            }
        }
        Ok(directories)
    }

    fn tree(&self, root: &Path, directory: &Path) -> Result<(), Error> {
        let mut waiting = vec![directory.to_owned()];
        while let Some(next) = waiting.pop() {
            waiting.extend(self.entries(root, &next)?);
        }
        Ok(())
    }

    /// Refuses a configuration that includes other files: they may lie anywhere.
    fn configuration(&self, file: &Path) -> Result<(), Error> {
        if file.symlink_metadata().is_err() {
            return Ok(());
        }
        let text = read(&self.given, file, LIST_BYTES)?;
        let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        match dense.to_ascii_lowercase().contains("[include") {
            true => Err(refused(&self.given, "its configuration includes other files")),
            false => Ok(()),
        }
    }

    fn alternates(&self, root: &Path, objects: &Path, depth: usize) -> Result<(), Error> {
        let list = objects.join("info/alternates");
        if depth >= ALTERNATES || list.symlink_metadata().is_err() {
            return Ok(());
        }
        let text = read(&self.given, &inside(root, &list, "list of alternates")?, LIST_BYTES)?;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let objects = inside(root, &objects.join(line), "alternate")?;
            self.entries(root, &objects)?;
            self.entries(root, &objects.join("pack"))?;
            self.alternates(root, &objects, depth + 1)?;
        }
        Ok(())
    }
}

/// Returns where `path` really is, if that is in `root`. What does not exist is nowhere.
pub(crate) fn inside(root: &Path, path: &Path, what: &'static str) -> Result<PathBuf, Error> {
    let shown = path.display().to_string();
    match path.canonicalize() {
        Ok(real) if real.starts_with(root) => Ok(real),
        // A link that dangles may point anywhere.
        Err(_) if path.symlink_metadata().is_err() => Err(Error::Missing(shown)),
        _ => Err(Error::Outside { what, path: shown }),
    }
}

fn read(given: &str, file: &Path, limit: u64) -> Result<String, Error> {
    let found = std::fs::metadata(file);
    if !found.is_ok_and(|found| found.is_file() && found.len() <= limit) {
        let why = format!("{} is not a file of at most {limit} bytes", file.display());
        return Err(refused(given, &why));
    }
    let bytes = std::fs::read(file).map_err(|fault| refused(given, &fault.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn refused(given: &str, why: &str) -> Error {
    Error::Refused { path: given.to_owned(), why: why.to_owned() }
}
