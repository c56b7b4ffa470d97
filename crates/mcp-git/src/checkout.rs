//! Branches that are made, and the one that is worked on.

use git2::build::CheckoutBuilder;
use git2::{Branch, BranchType, CheckoutNotificationType, Repository};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::head::Head;
use crate::tool::{Effect, Tool};
use crate::{Config, Error, head, revision};

/// Arguments of `git_create_branch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBranch {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// What it is called
    branch_name: String,
    /// The branch or tag that it begins at; the current branch when absent
    #[serde(default)]
    base_branch: Option<String>,
}

/// Arguments of `git_checkout`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkout {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// A branch, or a commit or tag to look at without a branch
    branch_name: String,
}

impl Tool for CreateBranch {
    const NAME: &'static str = "git_create_branch";
    const DESCRIPTION: &'static str = "Creates a new branch from an optional base branch";
    const EFFECT: Effect = Effect::Writes { destructive: false, idempotent: false };

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, _: &Config) -> Result<String, Error> {
        let name = revision::named("branch name", &self.branch_name)?;
        if !Branch::name_is_valid(name)? {
            return Err(Error::Invalid(format!("Invalid branch name: '{name}'")));
        }
        let base = match &self.base_branch {
            Some(base) => {
                let base = revision::named("base branch", base)?;
                let found = repository.resolve_reference_from_short_name(base);
                found.map_err(Error::unknown(base))?
            }
            None if repository.head_detached()? => {
                return Err(Error::Invalid(
                    "HEAD is detached, so there is no current branch to branch from; \
                     pass base_branch"
                        .to_owned(),
                ));
            }
            None => repository.head()?,
        };
        if repository.find_branch(name, BranchType::Local).is_ok() {
            return Err(Error::Invalid(format!(
                "Cannot create branch '{name}': refs/heads/{name} already exists"
            )));
        }
        repository.branch(name, &base.peel_to_commit()?, false)?;
        let base = String::from_utf8_lossy(base.shorthand_bytes());
        Ok(format!("Created branch '{name}' from '{base}'"))
    }
}

impl Tool for Checkout {
    const NAME: &'static str = "git_checkout";
    const DESCRIPTION: &'static str = "Switches branches";
    const EFFECT: Effect = Effect::Writes { destructive: false, idempotent: false };

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, _: &Config) -> Result<String, Error> {
        let name = revision::named("branch name", &self.branch_name)?;
        if repository.index()?.has_conflicts() {
            return Err(Error::Invalid("there are unmerged paths; resolve them first".to_owned()));
        }
        let unknown = Error::unknown(name);
        if let Ok(branch) = repository.find_branch(name, BranchType::Local) {
            write(repository, &branch.get().peel_to_commit()?)?;
            repository.set_head_bytes(branch.get().name_bytes())?;
        } else {
            let (object, reference) = repository.revparse_ext(name).map_err(&unknown)?;
            let commit = object.peel_to_commit().map_err(unknown)?;
            write(repository, &commit)?;
            let from = match &reference {
                Some(reference) => repository.reference_to_annotated_commit(reference)?,
                None => repository.find_annotated_commit(commit.id())?,
            };
            repository.set_head_detached_from_annotated(from)?;
        }
        Ok(match Head::of(repository)? {
            Head::Branch(name) | Head::Unborn(name) => format!("Switched to branch '{name}'"),
            Head::Detached { .. } => {
                let id = repository.head()?.peel_to_commit()?.id();
                format!("HEAD is now detached at {}", head::short(repository, id))
            }
        })
    }
}

/// Writes a commit's files, if no change of the work tree is lost by it.
fn write(repository: &Repository, commit: &git2::Commit<'_>) -> Result<(), Error> {
    let mut in_the_way = Vec::new();
    let written = {
        let mut options = CheckoutBuilder::new();
        options.safe().notify_on(CheckoutNotificationType::CONFLICT).notify(|_, path, _, _, _| {
            in_the_way.extend(path.map(|path| path.display().to_string()));
            true
        });
        repository.checkout_tree(commit.as_object(), Some(&mut options))
    };
    if in_the_way.is_empty() {
        return Ok(written?);
    }
    Err(Error::Invalid(format!(
        "Your local changes to the following files would be overwritten by checkout: {}. \
         Commit your changes or stash them before you switch branches.",
        in_the_way.join(", ")
    )))
}
