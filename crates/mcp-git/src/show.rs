//! One commit, file or directory.

use git2::{Commit, DiffOptions, ErrorCode, ObjectType, Repository, Tree};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::output::Output;
use crate::tool::{Effect, Tool};
use crate::{Config, Error, date, diff, revision};

/// Arguments of `git_show`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Show {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// A commit, tag or branch, or <revision>:<path>
    revision: String,
}

impl Tool for Show {
    const NAME: &'static str = "git_show";
    const DESCRIPTION: &'static str =
        "Shows the contents of a commit, or of a file or directory given as <revision>:<path>";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        let found = revision::object(repository, "revision", &self.revision)?;
        let mut output = Output::new(config.max_bytes);
        match found.kind() {
            Some(ObjectType::Blob) => {
                let text = file(repository, found.id(), &self.revision, config.max_bytes)?;
                output.push_bytes(&text);
            }
            Some(ObjectType::Tree) => directory(&found.peel_to_tree()?, &mut output),
            _ => {
                let found = found.peel_to_commit().map_err(Error::unknown(&self.revision))?;
                commit(repository, &found, config, &mut output)?;
            }
        }
        Ok(output.finish())
    }
}

/// Returns a file's bytes, if it has at most `limit`; one that has more is not read.
pub(crate) fn file(
    repository: &Repository,
    id: git2::Oid,
    name: &str,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let (bytes, _) = repository.odb()?.read_header(id)?;
    if bytes > limit {
        return Err(Error::TooLarge { what: name.to_owned(), bytes, limit });
    }
    Ok(repository.find_blob(id)?.content().to_vec())
}

fn directory(tree: &Tree<'_>, output: &mut Output) {
    for (index, entry) in tree.iter().enumerate() {
        let separator = if index == 0 { "" } else { "\n" };
        let slash = if entry.kind() == Some(ObjectType::Tree) { "/" } else { "" };
        let name = String::from_utf8_lossy(entry.name_bytes());
        if !output.push(&format!("{separator}{name}{slash}")) {
            return;
        }
    }
}

fn commit(
    repository: &Repository,
    commit: &Commit<'_>,
    config: &Config,
    output: &mut Output,
) -> Result<(), Error> {
    let author = commit.author();
    let message = String::from_utf8_lossy(commit.message_raw_bytes()).into_owned();
    let lines = message.trim_end_matches('\n').split('\n').map(|line| format!("    {line}\n"));
    output.push(&format!(
        "commit {}\nAuthor: {} <{}>\nDate:   {}\n\n{}",
        commit.id(),
        String::from_utf8_lossy(author.name_bytes()),
        String::from_utf8_lossy(author.email_bytes()),
        date::iso(author.when()),
        lines.collect::<String>(),
    ));
    let before = match commit.parent(0).and_then(|parent| parent.tree()) {
        Ok(tree) => Some(tree),
        Err(fault) if fault.code() == ErrorCode::NotFound => None,
        Err(fault) => return Err(fault.into()),
    };
    if before.is_none() && commit.parent_count() > 0 {
        output.push("\nIts parent is not in this repository, which is a shallow one.\n");
        return Ok(());
    }
    let mut options: DiffOptions = diff::options(3, config);
    let changes =
        repository.diff_tree_to_tree(before.as_ref(), Some(&commit.tree()?), Some(&mut options))?;
    diff::write(changes, diff::Style::Plain, output)
}
