//! What is in a directory and all those below.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use mcp_server::Deadline;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::Error;
use crate::files::Files;
use crate::list::{children, shown};
use crate::root::{Links, beneath};

/// The longest pattern and the most patterns: each is asked of each entry.
const LONGEST: usize = 1024;
const MOST: usize = 256;

/// One entry of a tree, as it is told.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Node {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<Vec<Node>>,
}

/// A walk, and how far it has come.
struct Walk<'a> {
    files: &'a Files,
    /// As given.
    path: &'a str,
    deadline: &'a Deadline,
    excluded: Vec<GlobMatcher>,
    told: usize,
}

impl Files {
    /// Returns a directory and all below as JSON.
    pub(crate) fn tree(
        &self,
        path: &str,
        excluded: &[String],
        deadline: &Deadline,
    ) -> Result<String, Error> {
        let (found, directory) = self.directory(path)?;
        few(excluded)?;
        // A name without a star is excluded wherever it stands, with all below.
        let excluded = excluded.iter().flat_map(|pattern| match pattern.contains('*') {
            true => vec![pattern.clone()],
            false => {
                vec![pattern.clone(), format!("**/{pattern}"), format!("**/{pattern}/**")]
            }
        });
        let excluded = globs(&excluded.collect::<Vec<_>>())?;
        let mut walk = Walk { files: self, path, deadline, excluded, told: 0 };
        let tree = walk.tree(&directory, &found.inside, Path::new(""))?;
        serde_json::to_string_pretty(&tree)
            .map_err(|fault| Error::Invalid(format!("{path:?}: {fault}")))
    }

    /// Returns the whole paths, a line each, of what `pattern` matches from `path` on.
    pub(crate) fn search(
        &self,
        path: &str,
        pattern: &str,
        excluded: &[String],
        deadline: &Deadline,
    ) -> Result<String, Error> {
        few(excluded)?;
        let (found, directory) = self.directory(path)?;
        let (wanted, excluded) = (glob(pattern)?, globs(excluded)?);
        let mut walk = Walk { files: self, path, deadline, excluded, told: 0 };
        let mut hits = Vec::new();
        walk.search(&directory, &found.inside, Path::new(""), &mut |below, kind| {
            let there = |path: &Path| found.root.handle(path, Links::Followed).is_ok();
            // A link to nothing, or out of here, is not found.
            if wanted.is_match(below)
                && (kind != FileType::Symlink || there(&found.inside.join(below)))
            {
                hits.push(below.to_owned());
            }
            hits.len()
        })?;
        // As they are walked by name: what a directory has stands behind it.
        hits.sort();
        let from = found.path();
        let whole = |below: &PathBuf| shown(from.join(below).as_os_str());
        Ok(match hits.is_empty() {
            true => "No matches found".to_owned(),
            false => hits.iter().map(whole).collect::<Vec<_>>().join("\n"),
        })
    }
}

impl Walk<'_> {
    fn tree(&mut self, open: &OwnedFd, inside: &Path, below: &Path) -> Result<Vec<Node>, Error> {
        let mut nodes = Vec::new();
        for entry in children(self.path, open)? {
            let (name, kind) = entry?;
            let below = below.join(&name);
            if self.is_over(&below)? {
                continue;
            }
            self.told += 1;
            if self.told > self.files.limits.entries {
                return Err(self.files.too_many(self.path));
            }
            let is_directory = kind == FileType::Directory;
            let children = match is_directory {
                true => {
                    let inside = inside.join(&name);
                    match self.enter(open, &inside, &below)? {
                        Some(open) => Some(self.tree(&open, &inside, &below)?),
                        None => Some(Vec::new()),
                    }
                }
                false => None,
            };
            let kind = if is_directory { "directory" } else { "file" };
            nodes.push(Node { name: shown(&name), kind, children });
        }
        nodes.sort();
        Ok(nodes)
    }

    /// Tells `visit` of every entry; it returns how many it keeps.
    fn search(
        &mut self,
        open: &OwnedFd,
        inside: &Path,
        below: &Path,
        visit: &mut dyn FnMut(&Path, FileType) -> usize,
    ) -> Result<(), Error> {
        for entry in children(self.path, open)? {
            let (name, kind) = entry?;
            let below = below.join(&name);
            if self.is_over(&below)? {
                continue;
            }
            if visit(&below, kind) > self.files.limits.entries {
                return Err(self.files.too_many(self.path));
            }
            let inside = inside.join(&name);
            if kind == FileType::Directory
                && let Some(open) = self.enter(open, &inside, &below)?
            {
                self.search(&open, &inside, &below, visit)?;
            }
        }
        Ok(())
    }

    /// Returns whether nothing is told of `below`.
    fn is_over(&self, below: &Path) -> Result<bool, Error> {
        match self.deadline.passed() {
            true => Err(Error::Late(self.path.to_owned())),
            false => Ok(self.excluded.iter().any(|glob| glob.is_match(below))),
        }
    }

    /// Opens a directory of an open one, unless nobody may, or it has gone.
    fn enter(&self, open: &OwnedFd, inside: &Path, below: &Path) -> Result<Option<OwnedFd>, Error> {
        let limit = self.files.limits.depth as u64;
        if below.components().count() as u64 > limit {
            let path = self.path.to_owned();
            return Err(Error::TooLarge { path, limit, unit: "levels of directories" });
        }
        if self.files.policy.reach(self.path, inside).is_err() {
            return Ok(None);
        }
        let Some(name) = below.file_name() else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        match beneath(open, Path::new(name), flags, Links::Refused) {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(None),
            Err(fault) => Err(Error::of(self.path, fault)),
        }
    }
}

fn few(patterns: &[String]) -> Result<(), Error> {
    match patterns.len() {
        ..=MOST => Ok(()),
        count => Err(Error::Invalid(format!("{count} patterns; at most {MOST} are looked for"))),
    }
}

fn globs(patterns: &[String]) -> Result<Vec<GlobMatcher>, Error> {
    patterns.iter().map(|pattern| glob(pattern)).collect()
}

/// Reads a pattern in which `*` stays in a directory and `**` does not.
fn glob(pattern: &str) -> Result<GlobMatcher, Error> {
    if pattern.len() > LONGEST {
        return Err(Error::Invalid(format!("a pattern has more than {LONGEST} bytes")));
    }
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    let glob = glob.map_err(|fault| Error::Invalid(format!("pattern {fault}")))?;
    Ok(glob.compile_matcher())
}
