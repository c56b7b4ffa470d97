//! The tools: what they are called, what they take, what they do to a repository.

use std::sync::Arc;

use git2::Repository;
use rmcp::handler::server::tool::schema_for_type;
use rmcp::model::{JsonObject, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::place::Place;
use crate::{Config, Error};
use crate::{blame, branches, change, checkout, diff, log, search, show, stage, status};

/// What a call may do to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Writes { destructive: bool, idempotent: bool },
}

/// A tool's arguments, and what it does with them.
pub(crate) trait Tool: DeserializeOwned + JsonSchema + 'static {
    const NAME: &'static str;
    const DESCRIPTION: &'static str;
    const EFFECT: Effect;

    fn repo_path(&self) -> &str;

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error>;
}

/// A tool as it is looked up by its name.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    description: &'static str,
    schema: fn() -> Arc<JsonObject>,
    /// Reads the arguments, and returns which repository they name.
    pub(crate) check: fn(&Value) -> Result<String, Error>,
    /// Does the work, in a process that may do little else.
    pub(crate) run: fn(&Value, &Config) -> Result<String, Error>,
}

/// The reference server's tools in its order, and then ours.
pub(crate) static TOOLS: [Entry; 14] = [
    Entry::of::<status::Status>(),
    Entry::of::<diff::Unstaged>(),
    Entry::of::<diff::Staged>(),
    Entry::of::<diff::Against>(),
    Entry::of::<change::Commit>(),
    Entry::of::<stage::Add>(),
    Entry::of::<change::Reset>(),
    Entry::of::<log::Log>(),
    Entry::of::<checkout::CreateBranch>(),
    Entry::of::<checkout::Checkout>(),
    Entry::of::<show::Show>(),
    Entry::of::<branches::Branches>(),
    Entry::of::<blame::Blame>(),
    Entry::of::<search::Search>(),
];

impl Entry {
    const fn of<T: Tool>() -> Self {
        Self {
            name: T::NAME,
            effect: T::EFFECT,
            description: T::DESCRIPTION,
            schema: schema_for_type::<T>,
            check: |arguments| Ok(read::<T>(arguments)?.repo_path().to_owned()),
            run: |arguments, config| {
                let tool: T = read(arguments)?;
                let repository = Place::find(&config.root, tool.repo_path())?.open(&config.root)?;
                tool.run(&repository, config)
            },
        }
    }

    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.name == name)
    }

    /// Returns the tool as a client sees it.
    pub(crate) fn listed(&self) -> rmcp::model::Tool {
        let (read_only, destructive, idempotent) = match self.effect {
            Effect::Reads => (true, false, true),
            Effect::Writes { destructive, idempotent } => (false, destructive, idempotent),
        };
        let hints = ToolAnnotations::from_raw(
            None,
            Some(read_only),
            Some(destructive),
            Some(idempotent),
            Some(false),
        );
        rmcp::model::Tool::new(self.name, self.description, (self.schema)()).with_annotations(hints)
    }
}

fn read<T: DeserializeOwned>(arguments: &Value) -> Result<T, Error> {
    let told = |fault| Error::Invalid(format!("invalid arguments: {fault}"));
    mcp_server::read(arguments.clone()).map_err(told)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_in_the_arguments_is_pointed_at() {
        let told = |arguments| (Entry::find("git_add").unwrap().check)(&arguments).unwrap_err();
        for (arguments, wanted) in [
            (json!({}), "invalid arguments: missing field `repo_path`"),
            (json!({ "repo_path": "x", "files": ["a", 1] }), "/files/1: invalid type: integer"),
            (json!({ "repo_path": "x", "files": [], "y": 1 }), "unknown field `y`"),
        ] {
            let told = told(arguments).to_string();
            assert!(told.contains(wanted), "{told}");
        }
        let log = Entry::find("git_log").unwrap();
        let told = (log.check)(&json!({ "repo_path": "x", "max_count": -1 })).unwrap_err();
        assert!(told.to_string().contains("/max_count: invalid value: integer `-1`"), "{told}");
    }
}
