//! Commits, and the way back from what is staged.

use git2::{Repository, RepositoryState, Signature};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tool::{Effect, Tool};
use crate::{Config, Error, head, stage};

/// How long a commit's message may be.
const MESSAGE_BYTES: usize = 64 * 1024;

/// Arguments of `git_commit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// The commit's message
    message: String,
}

/// Arguments of `git_reset`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reset {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
}

impl Tool for Commit {
    const NAME: &'static str = "git_commit";
    const DESCRIPTION: &'static str = "Records changes to the repository";
    const EFFECT: Effect = Effect::Writes { destructive: false, idempotent: false };

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        if self.message.len() > MESSAGE_BYTES || self.message.contains('\0') {
            return Err(Error::Invalid(format!(
                "message: at most {MESSAGE_BYTES} bytes without NUL"
            )));
        }
        let author = author(repository, config)?;
        let mut index = repository.index()?;
        if index.has_conflicts() {
            return Err(Error::Invalid(
                "there are unmerged paths; resolve them and stage them with git_add".to_owned(),
            ));
        }
        let head = head::now(repository)?.map(|head| head.peel_to_commit()).transpose()?;
        let merged = merged(repository)?;
        let tree = repository.find_tree(index.write_tree()?)?;
        let is_same = match &head {
            Some(head) => head.tree_id() == tree.id(),
            None => tree.is_empty(),
        };
        if is_same && merged.is_empty() {
            return Err(Error::Invalid(
                "No changes staged for commit. Use git_add to stage changes first; \
                 git_status shows what is currently staged."
                    .to_owned(),
            ));
        }
        let parents: Vec<_> = head.iter().chain(&merged).collect();
        let id =
            repository.commit(Some("HEAD"), &author, &author, &self.message, &tree, &parents)?;
        if !merged.is_empty() {
            repository.cleanup_state()?;
        }
        Ok(format!("Changes committed successfully with hash {id}"))
    }
}

impl Tool for Reset {
    const NAME: &'static str = "git_reset";
    const DESCRIPTION: &'static str = "Unstages all staged changes";
    const EFFECT: Effect = Effect::Writes { destructive: true, idempotent: true };

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, _: &Config) -> Result<String, Error> {
        let mut index = repository.index()?;
        match head::now(repository)?.map(|head| head.peel_to_tree()).transpose()? {
            Some(tree) => index.read_tree(&tree)?,
            None => index.clear()?,
        }
        match repository.workdir() {
            Some(tree) => stage::write(&mut index, tree)?,
            None => index.write()?,
        }
        Ok("All staged changes reset".to_owned())
    }
}

/// Returns whom the operator names, or else git's own configuration.
fn author(repository: &Repository, config: &Config) -> Result<Signature<'static>, Error> {
    if !config.author_name.is_empty() {
        return Ok(Signature::now(&config.author_name, &config.author_email)?);
    }
    repository.signature().map_err(|fault| match Error::from(fault) {
        Error::TooMuchMemory => Error::TooMuchMemory,
        _ => Error::Invalid(
            "nobody is named as the author: set user.name and user.email in git's configuration, \
             or mcp_git.author_name and mcp_git.author_email"
                .to_owned(),
        ),
    })
}

/// Returns the commits that a merge in progress brings in.
fn merged(repository: &Repository) -> Result<Vec<git2::Commit<'_>>, Error> {
    if repository.state() != RepositoryState::Merge {
        return Ok(Vec::new());
    }
    if repository.path().join("MERGE_AUTOSTASH").exists() {
        return Err(Error::Invalid(
            "this merge has put changes aside (autostash): conclude it with git itself".to_owned(),
        ));
    }
    let heads = std::fs::read_to_string(repository.path().join("MERGE_HEAD"));
    let heads = heads.map_err(|fault| Error::Git(format!("MERGE_HEAD: {fault}")))?;
    let commit = |id: &str| Ok(repository.find_commit(id.parse()?)?);
    heads.split_whitespace().map(commit).collect()
}
