//! What is known of a definition by itself: its pin, what was found in it, its schemas. Worked out once.

use std::sync::Arc;

use moka::sync::Cache;
use rmcp::model::Tool;

use super::metrics::Counts;
use super::pins::Definition;
use super::scan::{Finding, scan};
use super::schema::Schema;

/// How many tools are remembered.
const MOST: u64 = 20_000;

/// A definition, looked through.
pub(crate) struct Checked {
    /// `server__tool`, whatever clients call it.
    pub(crate) name: String,
    /// The server's name for it.
    pub(crate) tool: String,
    pub(crate) definition: Definition,
    pub(crate) findings: Vec<Finding>,
    /// What arguments have to fit, or why that cannot be said.
    pub(crate) input: Result<Schema, String>,
    /// What results have to fit.
    pub(crate) output: Option<Result<Schema, String>>,
    /// Whether it may destroy something: unless it is pinned that it does not.
    pub(crate) destroys: bool,
    /// What all of it was worked out from.
    of: Tool,
}

impl AsRef<Self> for Checked {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Checked {
    fn new(server: &str, tool: &Tool, others: &[String]) -> Self {
        let definition = Definition::of(tool);
        let output = tool.output_schema.as_deref().map(Schema::new);
        Self {
            name: format!("{server}__{}", tool.name),
            tool: tool.name.to_string(),
            findings: scan(&definition.value, others),
            definition,
            input: Schema::new(&tool.input_schema),
            output,
            destroys: destroys(tool),
            of: tool.clone(),
        }
    }

    /// Whether it would be the same of another tool. Lists are kept, and with them their schemas.
    fn is_of(&self, tool: &Tool) -> bool {
        let same_output = match (&self.of.output_schema, &tool.output_schema) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (one, other) => one.is_none() && other.is_none(),
        };
        let (one, other) = (&self.of.input_schema, &tool.input_schema);
        self.of.name == tool.name
            && self.of.title == tool.title
            && self.of.description == tool.description
            && self.of.annotations == tool.annotations
            && (Arc::ptr_eq(one, other) || one == other)
            && same_output
    }

    /// Says what was found.
    pub(crate) fn told(&self) -> String {
        let found: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        format!("its definition has what it should not: {}", found.join(", "))
    }

    /// Says what is wrong with its schemas.
    pub(crate) fn schema_fault(&self) -> Option<String> {
        let output = self.output.as_ref().and_then(|output| output.as_ref().err());
        let input = self.input.as_ref().err().map(|fault| format!("its input schema: {fault}"));
        input.or_else(|| output.map(|fault| format!("its output schema: {fault}")))
    }
}

/// Reads a tool's hints as the protocol does: one that says nothing may destroy something.
fn destroys(tool: &Tool) -> bool {
    let hints = tool.annotations.as_ref();
    let reads = hints.and_then(|hints| hints.read_only_hint) == Some(true);
    !reads && hints.and_then(|hints| hints.destructive_hint) != Some(false)
}

/// Every definition that was looked through lately, by server and tool.
pub(crate) struct Checks {
    servers: Vec<String>,
    kept: Cache<(String, String), Arc<Checked>>,
}

impl Checks {
    pub(crate) fn new(servers: Vec<String>) -> Self {
        Self { servers, kept: Cache::new(MOST) }
    }

    pub(crate) fn of(&self, server: &str, tool: &Tool, counts: &Counts) -> Arc<Checked> {
        let key = (server.to_owned(), tool.name.to_string());
        if let Some(kept) = self.kept.get(&key).filter(|kept| kept.is_of(tool)) {
            return kept;
        }
        let others: Vec<String> =
            self.servers.iter().filter(|other| *other != server).cloned().collect();
        let checked = Arc::new(Checked::new(server, tool, &others));
        for finding in &checked.findings {
            counts.found(finding.kind.as_str());
        }
        if !checked.findings.is_empty() {
            tracing::warn!(server, tool = %tool.name, found = checked.told(), "a definition is odd");
        }
        self.kept.insert(key, Arc::clone(&checked));
        checked
    }
}
