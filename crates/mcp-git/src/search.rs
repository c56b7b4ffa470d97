//! Where a text occurs in the files of a commit.

use git2::{ObjectType, Repository, TreeWalkMode, TreeWalkResult};
use regex::bytes::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::output::Output;
use crate::tool::{Effect, Tool};
use crate::{Config, Error, revision};

/// How many bytes of a pattern, and of a line that is shown.
const LONGEST: usize = 500;

/// How much memory a pattern may use.
const PATTERN_BYTES: usize = 4 * 1024 * 1024;

/// A file with a zero byte in its first so many is not text, as git sees it.
const LOOKED_AT: usize = 8000;

/// Arguments of `git_search`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// The text that is looked for
    query: String,
    /// Whether the query is a regular expression
    #[serde(default)]
    regex: bool,
    /// Whether capitals are told from small letters
    #[serde(default = "yes")]
    case_sensitive: bool,
    /// The commit, tag or branch whose files are searched
    #[serde(default = "head")]
    revision: String,
    /// Only this file, or the files below this directory
    #[serde(default)]
    path: Option<String>,
    /// How many lines at most
    #[serde(default = "hundred")]
    max_count: u32,
}

fn yes() -> bool {
    true
}

fn head() -> String {
    "HEAD".to_owned()
}

fn hundred() -> u32 {
    100
}

impl Tool for Search {
    const NAME: &'static str = "git_search";
    const DESCRIPTION: &'static str =
        "Searches the files of a commit for a text or regular expression";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        if !(1..=config.max_count).contains(&self.max_count) {
            return Err(Error::Invalid(format!("max_count is not 1 to {}", config.max_count)));
        }
        let pattern = self.pattern()?;
        let tree = revision::object(repository, "revision", &self.revision)?;
        let tree = tree.peel_to_tree().map_err(Error::unknown(&self.revision))?;
        let below = self.path.as_deref().map(|path| path.trim_matches('/')).unwrap_or_default();
        let odb = repository.odb()?;

        let mut output = Output::new(config.max_bytes);
        let (mut found, mut skipped) = (0, 0);
        let (mut unread, mut is_full) = (Vec::new(), false);
        let walked = tree.walk(TreeWalkMode::PreOrder, |directory, entry| {
            let name = String::from_utf8_lossy(entry.name_bytes());
            let path = format!("{}{name}", String::from_utf8_lossy(directory.as_bytes()));
            if !may_lie_below(&path, below) {
                return TreeWalkResult::Skip;
            }
            if entry.kind() != Some(ObjectType::Blob) {
                return TreeWalkResult::Ok;
            }
            if odb.read_header(entry.id()).is_ok_and(|(bytes, _)| bytes > config.max_bytes) {
                skipped += 1;
                return TreeWalkResult::Ok;
            }
            let file = match odb.read(entry.id()) {
                Ok(file) => file,
                Err(fault) => {
                    unread.push((path, Error::from(fault)));
                    return TreeWalkResult::Ok;
                }
            };
            let text = file.data();
            if text.iter().take(LOOKED_AT).any(|byte| *byte == 0) || !pattern.is_match(text) {
                return TreeWalkResult::Ok;
            }
            for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
                if !pattern.is_match(line) {
                    continue;
                }
                let shown = String::from_utf8_lossy(&line[..line.len().min(LONGEST)]);
                found += 1;
                let fits = output.push(&format!("\n{path}:{}:{shown}", number + 1));
                if !fits || found == self.max_count {
                    is_full = true;
                    return TreeWalkResult::Abort;
                }
            }
            TreeWalkResult::Ok
        });
        if !is_full {
            walked?;
        }
        let mut answer = format!("Found {found} lines in {}:{}", self.revision, output.finish());
        if found == self.max_count {
            answer += "\n[cut: there may be more; max_count lines were found]";
        }
        if skipped > 0 {
            answer += &format!(
                "\n[{skipped} files of more than {} bytes were not searched]",
                config.max_bytes
            );
        }
        if let Some((path, fault)) = unread.first() {
            let more = unread.len();
            answer +=
                &format!("\n[{more} files could not be read, the first is '{path}': {fault}]");
        }
        Ok(answer)
    }
}

impl Search {
    fn pattern(&self) -> Result<Regex, Error> {
        if self.query.is_empty() || self.query.len() > LONGEST {
            return Err(Error::Invalid(format!("query is not 1 to {LONGEST} bytes")));
        }
        let pattern = match self.regex {
            true => self.query.clone(),
            false => regex::escape(&self.query),
        };
        RegexBuilder::new(&pattern)
            .case_insensitive(!self.case_sensitive)
            .multi_line(true)
            .size_limit(PATTERN_BYTES)
            .build()
            .map_err(|fault| Error::Invalid(format!("query: {fault}")))
    }
}

/// Tells whether `path` is `below`, lies below it, or is a directory on the way there.
fn may_lie_below(path: &str, below: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below.is_empty() || within(path, below) || within(below, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_elsewhere_is_not_searched() {
        for (path, below, wanted) in [
            ("a", "", true),
            ("src", "src/a.rs", true),
            ("src/a.rs", "src/a.rs", true),
            ("src/a.rs", "src", true),
            ("src_evil/a.rs", "src", false),
            ("src/b.rs", "src/a.rs", false),
        ] {
            assert_eq!(may_lie_below(path, below), wanted, "{path} {below}");
        }
    }
}
