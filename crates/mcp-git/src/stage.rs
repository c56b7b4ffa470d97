//! What the next commit will have.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use git2::{
    AttrCheckFlags, Index, IndexEntry, Pathspec, PathspecFlags, Repository, Status, StatusOptions,
    StatusShow,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tool::{Effect, Tool};
use crate::{Config, Error};

/// How many paths one call may name.
const MAX_FILES: usize = 1000;

/// Arguments of `git_add`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Add {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// Files, directories or patterns, relative to the repository; ["."] is everything
    #[schemars(length(min = 1, max = 1000))]
    files: Vec<String>,
}

impl Tool for Add {
    const NAME: &'static str = "git_add";
    const DESCRIPTION: &'static str = "Adds file contents to the staging area";
    const EFFECT: Effect = Effect::Writes { destructive: false, idempotent: true };

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, _: &Config) -> Result<String, Error> {
        if self.files.is_empty() || self.files.len() > MAX_FILES {
            return Err(Error::Invalid(format!(
                "files: 1 to {MAX_FILES} paths, or ['.'] to stage everything"
            )));
        }
        let Some(tree) = repository.workdir() else {
            return Err(Error::Invalid("a bare repository has no files to stage".to_owned()));
        };
        let paths = self.files.iter().map(|file| relative(tree, file));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;

        let mut options = StatusOptions::new();
        options
            .show(StatusShow::Workdir)
            .include_untracked(true)
            .recurse_untracked_dirs(true)
            // To look at a submodule is to open it, wherever it lies.
            .exclude_submodules(true);
        let everything = paths.iter().any(|path| path.is_empty());
        if !everything {
            for path in &paths {
                options.pathspec(path);
            }
        }
        let changes = repository.statuses(Some(&mut options))?;
        let changed =
            |entry: &git2::StatusEntry<'_>| PathBuf::from(OsStr::from_bytes(entry.path_bytes()));
        let changes: Vec<_> =
            changes.iter().map(|entry| (changed(&entry), entry.status())).collect();

        let mut index = repository.index()?;
        for (given, path) in self.files.iter().zip(&paths).filter(|(_, path)| !path.is_empty()) {
            let spec = Pathspec::new([path])?;
            let matches = |path: &Path| spec.matches_path(path, PathspecFlags::DEFAULT);
            if changes.iter().any(|(path, _)| matches(path)) {
                continue;
            }
            if spec.match_index(&index, PathspecFlags::DEFAULT)?.entries().len() > 0 {
                continue;
            }
            let why = match repository.status_should_ignore(Path::new(path)) {
                Ok(true) => "is ignored by a .gitignore file",
                _ => "did not match any files",
            };
            return Err(Error::Invalid(format!("pathspec '{given}' {why}")));
        }

        // Looked at before anything is staged: a call that fails has changed nothing.
        for (path, _) in &changes {
            if let Ok(Some(filter)) = repository.get_attr(path, "filter", AttrCheckFlags::default())
            {
                return Err(Error::Invalid(format!(
                    "'{}' goes through the filter '{filter}', and this server runs none: \
                     stage it with git itself",
                    path.display()
                )));
            }
        }
        for (path, status) in &changes {
            match status.contains(Status::WT_DELETED) || tree.join(path).symlink_metadata().is_err()
            {
                true => index.remove_path(path)?,
                false => index.add_path(path)?,
            }
        }
        if changes.is_empty() {
            return Ok("No changes were staged: the given paths had nothing new to stage. \
                       git_status shows what is modified or untracked."
                .to_owned());
        }
        write(&mut index, tree)?;
        Ok("Files staged successfully".to_owned())
    }
}

/// Writes the index. A file that was changed in the second in which it had been staged is marked, so
/// that also a git that compares whole seconds looks at it again.
pub(crate) fn write(index: &mut Index, tree: &Path) -> Result<(), Error> {
    let written = index.path().and_then(|path| path.metadata().ok());
    let since = written.map_or(i64::MIN, |written| written.mtime());
    let was_changed = |entry: &IndexEntry| {
        let staged = entry.mtime;
        let path = tree.join(OsStr::from_bytes(&entry.path));
        i64::from(staged.seconds()) >= since
            && path.symlink_metadata().is_ok_and(|now| {
                now.mtime() == i64::from(staged.seconds())
                    && now.mtime_nsec() != i64::from(staged.nanoseconds())
            })
    };
    let changed: Vec<_> = index.iter().filter(was_changed).collect();
    for entry in changed {
        index.add(&IndexEntry { file_size: 0, ..entry })?;
    }
    Ok(index.write()?)
}

/// Returns a path relative to the work tree, empty for all of it. No way leads out of the tree: not
/// by `..`, not by an absolute path, not through a link.
fn relative(tree: &Path, given: &str) -> Result<String, Error> {
    let outside = || {
        let tree = tree.display().to_string();
        let tree = tree.trim_end_matches('/');
        Error::Invalid(format!("Path '{given}' is outside the repository '{tree}'"))
    };
    if given.is_empty() || given.contains('\0') {
        return Err(Error::Invalid(format!("Invalid path: '{given}'")));
    }
    let inner = match Path::new(given).strip_prefix(tree) {
        Ok(inner) => inner,
        Err(_) if given.starts_with('/') => return Err(outside()),
        Err(_) => Path::new(given),
    };
    let mut path = PathBuf::new();
    for part in inner.components() {
        match part {
            Component::Normal(part) if part.eq_ignore_ascii_case(".git") => {
                return Err(Error::Invalid(format!("Path '{given}' is the repository's own")));
            }
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return Err(outside()),
        }
    }
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if tree.join(above).is_symlink() {
            return Err(Error::Invalid(format!("Path '{given}' is beyond a symbolic link")));
        }
    }
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_the_tree_or_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path();
        std::os::unix::fs::symlink("/etc", tree.join("door")).unwrap();
        let absolute = tree.join("a/b").display().to_string();
        for (given, wanted) in [
            (".", ""),
            ("./a//b", "a/b"),
            ("a/../b", "b"),
            (&absolute, "a/b"),
            ("door", "door"),
            ("*.rs", "*.rs"),
        ] {
            assert_eq!(relative(tree, given).unwrap(), wanted, "{given}");
        }
        for (given, wanted) in [
            ("", "Invalid path"),
            ("x\0y", "Invalid path"),
            ("..", "outside"),
            ("a/../../b", "outside"),
            ("/etc/passwd", "outside"),
            ("door/passwd", "beyond a symbolic link"),
        ] {
            let told = relative(tree, given).unwrap_err().to_string();
            assert!(told.contains(wanted), "{given:?}: {told}");
        }
    }
}
