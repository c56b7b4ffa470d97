use std::sync::Arc;

use mcp_server::Parameters;
use rmcp::model::{CallToolResult, JsonObject};
use rmcp::{tool, tool_router};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::{content_schema, schema};
use crate::list::SortBy;
use crate::read::Part;
use crate::{Error, Filesystem};

/// The most files that one call reads.
const MOST_FILES: usize = 1000;

/// Which file, and how much of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadTextFile {
    /// Relative to the first allowed directory, or absolute and in one
    path: String,
    /// Only the last lines, so many
    #[serde(default, deserialize_with = "lines", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    tail: Option<u64>,
    /// Only the first lines, so many
    #[serde(default, deserialize_with = "lines", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    head: Option<u64>,
}

/// Which files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadMultipleFiles {
    /// Which files; one that cannot be read is told in its place
    #[schemars(length(min = 1, max = 1000))]
    paths: Vec<String>,
}

/// Which file or directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct At {
    /// Relative to the first allowed directory, or absolute and in one
    path: String,
}

/// Which directory, and in which order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case, reason = "the names on the wire")]
struct ListDirectoryWithSizes {
    /// Relative to the first allowed directory, or absolute and in one
    path: String,
    /// By name, or the largest first
    #[serde(default)]
    #[schemars(schema_with = "sort_by")]
    sortBy: SortBy,
}

/// Which directory, and what of it is left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DirectoryTree {
    /// Relative to the first allowed directory, or absolute and in one
    path: String,
    /// Names or globs, relative to the directory, that are left out with all below
    #[serde(default)]
    exclude_patterns: Vec<String>,
}

/// Where, and for what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SearchFiles {
    /// Relative to the first allowed directory, or absolute and in one
    path: String,
    /// A glob for paths relative to the directory: `*.rs` for those in it, `**/*.rs` also for those below
    pattern: String,
    /// Globs, relative to the directory, for what is left out with all below
    #[serde(default)]
    exclude_patterns: Vec<String>,
}

#[tool_router(router = reading, vis = "pub(crate)")]
impl Filesystem {
    /// Read a text file, or only its first or last lines (the older name of read_text_file)
    #[tool(
        title = "Read File (Deprecated)",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn read_file(&self, Parameters(asked): Parameters<ReadTextFile>) -> CallToolResult {
        self.read(asked).await
    }

    /// Read a text file, or only its first lines (head) or last lines (tail). What is not UTF-8 in it
    /// is replaced; a file with NUL bytes is not text, see read_media_file
    #[tool(
        title = "Read Text File",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn read_text_file(&self, Parameters(asked): Parameters<ReadTextFile>) -> CallToolResult {
        self.read(asked).await
    }

    /// Read a file of any kind in base64: an image or a sound as such, anything else as a resource
    #[tool(
        title = "Read Media File",
        output_schema = media_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn read_media_file(&self, Parameters(At { path }): Parameters<At>) -> CallToolResult {
        self.answer(
            move |files, _| files.media(&path),
            |block| {
                let content = json!({ "content": [&block] });
                let mut result = CallToolResult::success(vec![block]);
                result.structured_content = Some(content);
                result
            },
        )
        .await
    }

    /// Read several text files at once, each behind its path. One that cannot be read is told in its
    /// place, and the others are read
    #[tool(
        title = "Read Multiple Files",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn read_multiple_files(
        &self,
        Parameters(ReadMultipleFiles { paths }): Parameters<ReadMultipleFiles>,
    ) -> CallToolResult {
        self.text(move |files, deadline| match paths.len() {
            1..=MOST_FILES => files.texts(&paths, deadline),
            count => Err(Error::Invalid(format!(
                "/paths: {count} files; from 1 to {MOST_FILES} are read"
            ))),
        })
        .await
    }

    /// List the names in a directory: [FILE] and [DIR] tell files from directories
    #[tool(
        title = "List Directory",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_directory(&self, Parameters(At { path }): Parameters<At>) -> CallToolResult {
        self.text(move |files, _| files.list(&path)).await
    }

    /// List the names in a directory with the sizes of files, and how much they are together
    #[tool(
        title = "List Directory with Sizes",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_directory_with_sizes(
        &self,
        Parameters(ListDirectoryWithSizes { path, sortBy }): Parameters<ListDirectoryWithSizes>,
    ) -> CallToolResult {
        self.text(move |files, _| files.list_with_sizes(&path, sortBy)).await
    }

    /// Tell all that is below a directory as JSON: name, type (file or directory) and, for a directory,
    /// children
    #[tool(
        title = "Directory Tree",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn directory_tree(
        &self,
        Parameters(DirectoryTree { path, exclude_patterns }): Parameters<DirectoryTree>,
    ) -> CallToolResult {
        self.text(move |files, deadline| files.tree(&path, &exclude_patterns, deadline)).await
    }

    /// Find files and directories, below one, whose paths match a glob; their whole paths are told
    #[tool(
        title = "Search Files",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn search_files(
        &self,
        Parameters(SearchFiles { path, pattern, exclude_patterns }): Parameters<SearchFiles>,
    ) -> CallToolResult {
        self.text(move |files, deadline| files.search(&path, &pattern, &exclude_patterns, deadline))
            .await
    }

    /// Tell what is known of a file or directory without reading it: size, times, kind, permissions
    #[tool(
        title = "Get File Info",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn get_file_info(&self, Parameters(At { path }): Parameters<At>) -> CallToolResult {
        self.text(move |files, _| files.info(&path)).await
    }

    /// List the directories that can be reached, with all below them
    #[tool(
        title = "List Allowed Directories",
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_allowed_directories(&self) -> CallToolResult {
        self.text(|files, _| {
            let roots = files.roots().iter().flat_map(|root| root.names());
            let roots = roots.map(|path| path.display().to_string());
            Ok(format!("Allowed directories:\n{}", roots.collect::<Vec<_>>().join("\n")))
        })
        .await
    }

    async fn read(&self, ReadTextFile { path, tail, head }: ReadTextFile) -> CallToolResult {
        self.text(move |files, _| {
            let part = match (head, tail) {
                (None, None) => Part::All,
                (Some(lines), None) => Part::Head(lines),
                (None, Some(lines)) => Part::Tail(lines),
                (Some(_), Some(_)) => {
                    return Err(Error::Invalid("head and tail cannot be given at once".to_owned()));
                }
            };
            files.text(&path, part)
        })
        .await
    }
}

/// Reads a number of lines. Zero is none given: models fill what they do not want with it.
fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    if number.fract() != 0.0 || !(0.0..=1e15).contains(&number) {
        let told = format!("{number} is not a number of lines");
        return Err(serde::de::Error::custom(told));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    Ok(Some(number as u64).filter(|lines| *lines > 0))
}

fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "number" })
}

fn sort_by(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["name", "size"], "default": "name" })
}

fn media_schema() -> Arc<JsonObject> {
    let string = json!({ "type": "string" });
    let medium = json!({
        "type": "object",
        "properties": {
            "type": { "type": "string", "enum": ["image", "audio"] },
            "data": string,
            "mimeType": string,
        },
        "required": ["type", "data", "mimeType"],
        "additionalProperties": false,
    });
    let resource = json!({
        "type": "object",
        "properties": { "uri": string, "mimeType": string, "blob": string },
        "required": ["uri", "blob"],
        "additionalProperties": false,
    });
    let other = json!({
        "type": "object",
        "properties": { "type": { "type": "string", "const": "resource" }, "resource": resource },
        "required": ["type", "resource"],
        "additionalProperties": false,
    });
    schema(&json!({ "type": "array", "items": { "anyOf": [medium, other] } }))
}
