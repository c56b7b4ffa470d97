//! The history of `HEAD`.

use git2::{ErrorCode, Repository};
use schemars::JsonSchema;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::output::Output;
use crate::tool::{Effect, Tool};
use crate::{Config, Error, date};

/// Arguments of `git_log`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// How many commits at most
    #[serde(default = "ten")]
    max_count: u32,
    /// Only commits since then: ISO 8601 (2024-01-15T14:30:25), relative ('2 weeks ago', 'yesterday') or a date (2024-01-15, 'Jan 15 2024')
    #[serde(default)]
    start_timestamp: Option<String>,
    /// Only commits until then, in the same forms
    #[serde(default)]
    end_timestamp: Option<String>,
}

fn ten() -> u32 {
    10
}

impl Tool for Log {
    const NAME: &'static str = "git_log";
    const DESCRIPTION: &'static str = "Shows the commit logs";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        if self.max_count > config.max_count {
            return Err(Error::Invalid(format!(
                "max_count {} is more than {}",
                self.max_count, config.max_count
            )));
        }
        let moment = |what, given: &Option<String>| match given.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => date::read(what, text, OffsetDateTime::now_utc()).map(Some),
        };
        let start = moment("start_timestamp", &self.start_timestamp)?.unwrap_or(i64::MIN);
        let end = moment("end_timestamp", &self.end_timestamp)?.unwrap_or(i64::MAX);

        let mut output = Output::new(config.max_bytes);
        let mut walk = repository.revwalk()?;
        match walk.push_head() {
            Err(fault) if fault.code() == ErrorCode::UnbornBranch => {
                return Err(Error::Invalid("there are no commits yet".to_owned()));
            }
            pushed => pushed?,
        }
        // What lies behind a commit that is too old is older.
        let mut old = |id| repository.find_commit(id).is_ok_and(|one| one.time().seconds() < start);
        let mut left = self.max_count;
        for id in walk.with_hide_callback(&mut old)? {
            let commit = repository.find_commit(id?)?;
            if commit.time().seconds() > end || commit.time().seconds() < start {
                continue;
            }
            if left == 0 {
                break;
            }
            let separator = if left == self.max_count { "" } else { "\n" };
            left -= 1;
            let author = commit.author();
            let entry = format!(
                "{separator}Commit: {}\nAuthor: {}\nDate: {}\nMessage: {}\n",
                commit.id(),
                String::from_utf8_lossy(author.name_bytes()),
                date::in_log(author.when()),
                String::from_utf8_lossy(commit.message_raw_bytes()),
            );
            if !output.push(&entry) {
                break;
            }
        }
        Ok(format!("Commit history:\n{}", output.finish()))
    }
}
