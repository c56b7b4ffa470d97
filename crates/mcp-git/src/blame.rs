//! Who last changed each line of a file.

use git2::{BlameOptions, ObjectType, Repository};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::output::Output;
use crate::tool::{Effect, Tool};
use crate::{Config, Error, date, revision, show};

/// Arguments of `git_blame`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Blame {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// The file, relative to the repository
    path: String,
    /// The commit, tag or branch in which the file is looked at
    #[serde(default = "head")]
    revision: String,
    /// The first line
    #[serde(default)]
    start_line: Option<u32>,
    /// The last line
    #[serde(default)]
    end_line: Option<u32>,
}

fn head() -> String {
    "HEAD".to_owned()
}

impl Tool for Blame {
    const NAME: &'static str = "git_blame";
    const DESCRIPTION: &'static str =
        "Shows the commit, author and date that last changed each line of a file";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        let commit = revision::commit(repository, "revision", &self.revision)?;
        let path = std::path::Path::new(revision::named("path", &self.path)?);
        let name = format!("{}:{}", self.revision, self.path);
        let entry = commit.tree()?.get_path(path).map_err(Error::unknown(&name))?;
        if entry.kind() != Some(ObjectType::Blob) {
            return Err(Error::Invalid(format!("'{}' is not a file", self.path)));
        }
        let text = show::file(repository, entry.id(), &name, config.max_bytes)?;
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let first = self.start_line.unwrap_or(1) as usize;
        let last = self.end_line.map_or(lines.len(), |line| line as usize).min(lines.len());
        if first == 0 || (first > last && !lines.is_empty()) {
            let count = lines.len();
            return Err(Error::Invalid(format!("'{}' has the lines 1 to {count}", self.path)));
        }
        let mut output = Output::new(config.max_bytes);
        if !lines.is_empty() {
            let mut options = BlameOptions::new();
            options.newest_commit(commit.id()).min_line(first).max_line(last);
            let blame = repository.blame_file(path, Some(&mut options))?;
            let rows = (first..=last).filter_map(|number| {
                let hunk = blame.get_line(number)?;
                let author = hunk.final_signature()?;
                let id = hunk.final_commit_id().to_string();
                let id = match hunk.is_boundary() {
                    true => format!("^{}", &id[..7]),
                    false => id[..8].to_owned(),
                };
                let name = String::from_utf8_lossy(author.name_bytes()).into_owned();
                Some((number, id, name, date::iso(author.when())))
            });
            let rows: Vec<_> = rows.collect();
            let width = rows.iter().map(|row| row.2.chars().count()).max().unwrap_or_default();
            let digits = last.to_string().len();
            for (number, id, name, date) in rows {
                let line = lines.get(number - 1).copied().unwrap_or_default();
                let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
                let row = format!("{id} ({name:<width$} {date} {number:>digits$}) {line}\n");
                if !output.push(&row) {
                    break;
                }
            }
        }
        Ok(format!("Blame of {}:\n{}", self.path, output.finish()))
    }
}
