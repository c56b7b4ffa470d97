//! The list of branches.

use git2::{Branch, BranchType, Oid, Repository};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::head::Head;
use crate::output::Output;
use crate::tool::{Effect, Tool};
use crate::{Config, Error, revision};

/// Arguments of `git_branch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Branches {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// 'local', 'remote' or 'all'
    branch_type: String,
    /// Only branches that have this commit
    #[serde(default)]
    contains: Option<String>,
    /// Only branches that do not have this commit
    #[serde(default)]
    not_contains: Option<String>,
}

impl Tool for Branches {
    const NAME: &'static str = "git_branch";
    const DESCRIPTION: &'static str = "List Git branches";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        let (filter, prefix) = match self.branch_type.as_str() {
            "local" => (Some(BranchType::Local), ""),
            "remote" => (Some(BranchType::Remote), ""),
            "all" => (None, "remotes/"),
            other => return Err(Error::Invalid(format!("Invalid branch type: {other}"))),
        };
        let commit = |what, name: &Option<String>| match name {
            Some(name) => Ok(Some(revision::commit(repository, what, name)?.id())),
            None => Ok::<_, Error>(None),
        };
        let contains = commit("contains value", &self.contains)?;
        let not_contains = commit("not_contains value", &self.not_contains)?;
        // A branch of which it cannot be told is left out.
        let has = |tip: Oid, commit: Oid, unknown: bool| match tip == commit {
            true => Ok(true),
            false => match repository.graph_descendant_of(tip, commit).map_err(Error::from) {
                Err(Error::TooMuchMemory) => Err(Error::TooMuchMemory),
                has => Ok(has.unwrap_or(unknown)),
            },
        };
        let is_wanted = |tip: Option<Oid>| {
            let Some(tip) = tip else { return Ok(contains.is_none()) };
            let has_it = contains.map_or(Ok(true), |commit| has(tip, commit, false))?;
            let has_other = not_contains.map_or(Ok(false), |commit| has(tip, commit, true))?;
            Ok::<_, Error>(has_it && !has_other)
        };

        let mut lines = Vec::new();
        if filter != Some(BranchType::Remote)
            && let Head::Detached { from, has_moved } = Head::of(repository)?
            && is_wanted(repository.head()?.target())?
        {
            let how = if has_moved { "from" } else { "at" };
            lines.push(match from {
                Some(from) => format!("* (HEAD detached {how} {from})"),
                None => "* (no branch)".to_owned(),
            });
        }
        let mut branches = repository.branches(filter)?.collect::<Result<Vec<_>, _>>()?;
        branches.sort_by_key(|(branch, _)| branch.get().name_bytes().to_vec());
        for (branch, kind) in branches {
            if is_wanted(branch.get().resolve().ok().and_then(|found| found.target()))? {
                lines.push(line(&branch, if kind == BranchType::Remote { prefix } else { "" })?);
            }
        }
        let mut output = Output::new(config.max_bytes);
        output.push(&lines.join("\n"));
        Ok(output.finish())
    }
}

fn line(branch: &Branch<'_>, prefix: &str) -> Result<String, Error> {
    let mark = if branch.is_head() { "*" } else { " " };
    let name = String::from_utf8_lossy(branch.name_bytes()?).into_owned();
    let target = branch.get().symbolic_target_bytes().map(|target| {
        let target = String::from_utf8_lossy(target).into_owned();
        let short = ["refs/heads/", "refs/remotes/"].iter().find_map(|p| target.strip_prefix(p));
        format!(" -> {}", short.unwrap_or(&target))
    });
    Ok(format!("{mark} {prefix}{name}{}", target.unwrap_or_default()))
}
