use mcp_server::Parameters;
use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

use super::content_schema;
use crate::edit::{self, Edit};
use crate::read::into_text;
use crate::{Error, Filesystem, diff};

/// Which file, and what is in it from now on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WriteFile {
    /// Relative to the first allowed directory, or absolute and in one
    path: String,
    /// All that the file will have
    content: String,
}

/// Which file, and what is replaced in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EditFile {
    /// Relative to the first allowed directory, or absolute and in one
    path: String,
    /// Made one after the other; all of them, or none
    edits: Vec<Replacement>,
    /// Only tell what would change
    #[serde(default)]
    dry_run: bool,
}

/// One text for another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
struct Replacement {
    /// What the file has exactly once
    old_text: String,
    /// What it has instead from then on
    new_text: String,
}

/// Which directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateDirectory {
    /// Relative to the first allowed directory, or absolute and in one
    path: String,
}

/// From where, to where.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MoveFile {
    /// Relative to the first allowed directory, or absolute and in one
    source: String,
    /// As `source`; nothing may be there
    destination: String,
}

#[tool_router(router = writing, vis = "pub(crate)")]
impl Filesystem {
    /// Create a file, or replace all that is in it. It has the old contents or the new ones, never half
    #[tool(
        title = "Write File",
        output_schema = content_schema(),
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn write_file(
        &self,
        Parameters(WriteFile { path, content }): Parameters<WriteFile>,
    ) -> CallToolResult {
        self.text(move |files, _| {
            files.write(&path, content.as_bytes())?;
            Ok(format!("Successfully wrote to {path}"))
        })
        .await
    }

    /// Replace texts in a file, each of which must be there exactly once, and tell the difference. Line
    /// ends keep their kind, and other bytes stay as they are
    #[tool(
        title = "Edit File",
        output_schema = content_schema(),
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn edit_file(
        &self,
        Parameters(EditFile { path, edits, dry_run }): Parameters<EditFile>,
    ) -> CallToolResult {
        let edits = edits
            .into_iter()
            .map(|Replacement { old_text, new_text }| Edit { old: old_text, new: new_text });
        let edits: Vec<_> = edits.collect();
        self.text(move |files, deadline| {
            files.change(&path, |found, old| {
                let mut new = old.to_owned();
                for (number, edit) in (1..).zip(&edits) {
                    if deadline.passed() {
                        return Err(Error::Late(path.clone()));
                    }
                    new = edit::apply(&new, edit).map_err(|fault| Error::Edit {
                        path: path.clone(),
                        number,
                        fault,
                    })?;
                }
                let name = found.path().to_string_lossy().into_owned();
                let (before, after) = (into_text(old.to_owned()), into_text(new.clone()));
                let told = diff::fenced(&name, &before, &after, deadline.remaining() / 2);
                Ok(((new != old && !dry_run).then_some(new), told))
            })
        })
        .await
    }

    /// Create a directory and those above it, as far as they are not there
    #[tool(
        title = "Create Directory",
        output_schema = content_schema(),
        annotations(
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn create_directory(
        &self,
        Parameters(CreateDirectory { path }): Parameters<CreateDirectory>,
    ) -> CallToolResult {
        self.text(move |files, _| {
            files.create_directory(&path)?;
            Ok(format!("Successfully created directory {path}"))
        })
        .await
    }

    /// Move or rename a file or directory. Nothing may be at the destination
    #[tool(
        title = "Move File",
        output_schema = content_schema(),
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn move_file(
        &self,
        Parameters(MoveFile { source, destination }): Parameters<MoveFile>,
    ) -> CallToolResult {
        self.text(move |files, _| {
            files.rename(&source, &destination)?;
            Ok(format!("Successfully moved {source} to {destination}"))
        })
        .await
    }
}
