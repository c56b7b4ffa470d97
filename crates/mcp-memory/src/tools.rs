//! The tools as clients see them: names, descriptions, arguments, and how each is answered.

use mcp_server::Parameters;
use rmcp::handler::server::tool::schema_for_type;
use rmcp::model::{CallToolResult, ContentBlock};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, tool, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::graph::{Added, Addition, Change, Changed, Deletion, Entity, Query, Relation, Which};
use crate::{Error, Memory};

/// What is to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateEntities {
    #[schemars(length(max = 100))]
    entities: Vec<Entity>,
}

/// What is to be made, or deleted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Relations {
    /// An array of relations
    #[schemars(length(max = 100))]
    relations: Vec<Relation>,
}

/// What is to be added.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddObservations {
    #[schemars(length(max = 100))]
    observations: Vec<Addition>,
}

/// What is to be deleted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteEntities {
    /// An array of entity names to delete
    #[schemars(length(max = 100))]
    entity_names: Vec<String>,
}

/// What is to be deleted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeleteObservations {
    #[schemars(length(max = 100))]
    deletions: Vec<Deletion>,
}

/// What is to be restored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestoreEntities {
    /// An array of names of entities that were deleted
    #[schemars(length(max = 100))]
    names: Vec<String>,
}

/// How much is read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadGraph {
    /// How many entities at most; all when absent
    #[serde(default)]
    limit: Option<usize>,
    /// The nextCursor of the page before
    #[serde(default)]
    cursor: Option<String>,
}

/// What is looked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SearchNodes {
    /// The search query to match against entity names, types, and observation content
    query: String,
    /// How many entities at most; all when absent
    #[serde(default)]
    limit: Option<usize>,
    /// The nextCursor of the page before
    #[serde(default)]
    cursor: Option<String>,
}

/// What is opened.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OpenNodes {
    /// An array of entity names to retrieve
    #[schemars(length(max = 100))]
    names: Vec<String>,
    /// How many entities at most; all when absent
    #[serde(default)]
    limit: Option<usize>,
    /// The nextCursor of the page before
    #[serde(default)]
    cursor: Option<String>,
}

/// Entities, as they are answered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct EntitiesMade {
    entities: Vec<Entity>,
}

/// Relations, as they are answered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RelationsMade {
    relations: Vec<Relation>,
}

/// Observations, as they are answered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ObservationsAdded {
    results: Vec<Added>,
}

/// What has become of a deletion.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Done {
    success: bool,
    message: String,
}

/// A part of a graph, as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "its shape alone is wanted: a page is written as it is")]
struct Graph {
    entities: Vec<Entity>,
    relations: Vec<Relation>,
    #[schemars(with = "String")]
    #[serde(default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[tool_router(vis = "pub(crate)")]
impl Memory {
    /// Create multiple new entities in the knowledge graph
    #[tool(
        title = "Create Entities",
        output_schema = schema_for_type::<EntitiesMade>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = false, open_world_hint = false)
    )]
    async fn create_entities(
        &self,
        Parameters(asked): Parameters<CreateEntities>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.change(&context, Change::CreateEntities(asked.entities)).await
    }

    /// Create multiple new relations between entities in the knowledge graph. Relations should be in active voice
    #[tool(
        title = "Create Relations",
        output_schema = schema_for_type::<RelationsMade>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = false, open_world_hint = false)
    )]
    async fn create_relations(
        &self,
        Parameters(asked): Parameters<Relations>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.change(&context, Change::CreateRelations(asked.relations)).await
    }

    /// Add new observations to existing entities in the knowledge graph
    #[tool(
        title = "Add Observations",
        output_schema = schema_for_type::<ObservationsAdded>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = false, open_world_hint = false)
    )]
    async fn add_observations(
        &self,
        Parameters(asked): Parameters<AddObservations>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.change(&context, Change::AddObservations(asked.observations)).await
    }

    /// Delete multiple entities and their associated relations from the knowledge graph
    #[tool(
        title = "Delete Entities",
        output_schema = schema_for_type::<Done>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn delete_entities(
        &self,
        Parameters(asked): Parameters<DeleteEntities>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.change(&context, Change::DeleteEntities(asked.entity_names)).await
    }

    /// Delete specific observations from entities in the knowledge graph
    #[tool(
        title = "Delete Observations",
        output_schema = schema_for_type::<Done>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn delete_observations(
        &self,
        Parameters(asked): Parameters<DeleteObservations>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.change(&context, Change::DeleteObservations(asked.deletions)).await
    }

    /// Delete multiple relations from the knowledge graph
    #[tool(
        title = "Delete Relations",
        output_schema = schema_for_type::<Done>(),
        annotations(read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn delete_relations(
        &self,
        Parameters(asked): Parameters<Relations>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.change(&context, Change::DeleteRelations(asked.relations)).await
    }

    /// Restore entities that were deleted lately, with their observations and relations
    #[tool(
        title = "Restore Entities",
        output_schema = schema_for_type::<EntitiesMade>(),
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn restore_entities(
        &self,
        Parameters(asked): Parameters<RestoreEntities>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.change(&context, Change::RestoreEntities(asked.names)).await
    }

    /// Read the entire knowledge graph
    #[tool(
        title = "Read Graph",
        output_schema = schema_for_type::<Graph>(),
        annotations(read_only_hint = true, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn read_graph(
        &self,
        Parameters(ReadGraph { limit, cursor }): Parameters<ReadGraph>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.part(&context, Which::All, limit, cursor).await
    }

    /// Search for nodes in the knowledge graph based on a query
    #[tool(
        title = "Search Nodes",
        output_schema = schema_for_type::<Graph>(),
        annotations(read_only_hint = true, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn search_nodes(
        &self,
        Parameters(SearchNodes { query, limit, cursor }): Parameters<SearchNodes>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.part(&context, Which::Matching(query), limit, cursor).await
    }

    /// Open specific nodes in the knowledge graph by their names
    #[tool(
        title = "Open Nodes",
        output_schema = schema_for_type::<Graph>(),
        annotations(read_only_hint = true, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn open_nodes(
        &self,
        Parameters(OpenNodes { names, limit, cursor }): Parameters<OpenNodes>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        self.part(&context, Which::Named(names), limit, cursor).await
    }

    async fn change(&self, context: &RequestContext<RoleServer>, change: Change) -> CallToolResult {
        let changed = async {
            let tenant = self.tenants.of(context)?;
            let changed = self.store.change(&tenant, &change).await?;
            self.watchers.tell(&tenant).await;
            Ok(changed)
        };
        match changed.await {
            Ok(Changed::Entities(all)) => answer(&all, json!({ "entities": all })),
            Ok(Changed::Relations(all)) => answer(&all, json!({ "relations": all })),
            Ok(Changed::Observations(all)) => answer(&all, json!({ "results": all })),
            Ok(Changed::Deleted { count, missing }) => deleted(&change, count, &missing),
            Err(fault) => failed(&fault),
        }
    }

    async fn part(
        &self,
        context: &RequestContext<RoleServer>,
        which: Which,
        limit: Option<usize>,
        cursor: Option<String>,
    ) -> CallToolResult {
        let page = async {
            let cursor = match cursor {
                None => 0,
                Some(cursor) => cursor.parse().ok().filter(|at| *at >= 0).ok_or_else(|| {
                    Error::Invalid("/cursor: not a nextCursor of a page before".to_owned())
                })?,
            };
            let query = Query { which, limit, cursor };
            self.store.read(&self.tenants.of(context)?, &query).await
        };
        match page.await {
            Ok(page) => answer(&page, json!(page)),
            Err(fault) => failed(&fault),
        }
    }
}

/// Answers in JSON for readers, and for programs.
fn answer(shown: &impl Serialize, structured: Value) -> CallToolResult {
    let text = serde_json::to_string_pretty(shown).unwrap_or_default();
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(structured);
    result
}

/// Answers a deletion: what was not there is named, and no success when nothing was.
fn deleted(change: &Change, count: usize, missing: &[String]) -> CallToolResult {
    let what = match change {
        Change::DeleteObservations(_) => "Observations",
        Change::DeleteRelations(_) => "Relations",
        _ => "Entities",
    };
    let not_found = format!("not found: {}", missing.join(", "));
    let message = match (missing.is_empty(), count) {
        (true, _) => format!("{what} deleted successfully"),
        (false, 0) => format!("Nothing was deleted; {not_found}"),
        (false, _) => format!("{what} deleted successfully; {not_found}"),
    };
    let success = missing.is_empty() || count > 0;
    let mut result = CallToolResult::success(vec![ContentBlock::text(&message)]);
    result.structured_content = Some(json!(Done { success, message }));
    result
}

fn failed(fault: &Error) -> CallToolResult {
    if let Error::Store(cause) = fault {
        tracing::warn!(%cause, "the memory's store failed");
    }
    CallToolResult::error(vec![ContentBlock::text(fault.to_string())])
}
