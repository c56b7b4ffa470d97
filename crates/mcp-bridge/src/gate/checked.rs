//! What is known of a definition by itself: its pin, what was found in it, its schemas. Worked out once.

use std::sync::Arc;

use moka::sync::Cache;
use rmcp::model::{Prompt, Tool};

use super::metrics::Counts;
use super::pins::Definition;
use super::scan::{Finding, scan};
use super::schema::Schema;
use super::subject::Kind;
use crate::catalog::Named;

/// How many definitions are remembered.
const MOST: u64 = 20_000;

/// What has a definition that is pinned.
pub(crate) trait Defined: Named + Clone + Send + Sync {
    const KIND: Kind;

    fn check(&self, server: &str, others: &[String]) -> Checked;

    /// Whether `checked` was worked out from the same.
    fn is_same(&self, checked: &Checked) -> bool;
}

/// A definition, looked through.
pub(crate) struct Checked {
    /// What pins call it.
    pub(crate) named: String,
    /// What rules and keys call it.
    pub(crate) whole: String,
    pub(crate) definition: Definition,
    pub(crate) findings: Vec<Finding>,
    /// What arguments have to fit, or why that cannot be said; none where anything goes.
    pub(crate) input: Option<Result<Schema, String>>,
    /// What results have to fit.
    pub(crate) output: Option<Result<Schema, String>>,
    /// Whether it may destroy something: unless it is pinned that it does not.
    pub(crate) destroys: bool,
    /// What all of it was worked out from.
    of: Of,
}

enum Of {
    Tool(Tool),
    Prompt(Prompt),
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked").field("named", &self.named).finish_non_exhaustive()
    }
}

impl AsRef<Self> for Checked {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Checked {
    /// Says what was found.
    pub(crate) fn told(&self) -> String {
        let found: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        format!("its definition has what it should not: {}", found.join(", "))
    }

    /// Says what is wrong with its schemas.
    pub(crate) fn schema_fault(&self) -> Option<String> {
        let output = self.output.as_ref().and_then(|output| output.as_ref().err());
        let input = self.input.as_ref().and_then(|input| input.as_ref().err());
        let input = input.map(|fault| format!("its input schema: {fault}"));
        input.or_else(|| output.map(|fault| format!("its output schema: {fault}")))
    }
}

impl Defined for Tool {
    const KIND: Kind = Kind::Tool;

    fn check(&self, server: &str, others: &[String]) -> Checked {
        let definition = Definition::of(self);
        Checked {
            named: Self::KIND.named(&self.name),
            whole: Self::KIND.whole(server, &self.name),
            findings: scan(&definition.value, others),
            definition,
            input: Some(Schema::new(&self.input_schema)),
            output: self.output_schema.as_deref().map(Schema::new),
            destroys: destroys(self),
            of: Of::Tool(self.clone()),
        }
    }

    fn is_same(&self, checked: &Checked) -> bool {
        let Of::Tool(of) = &checked.of else { return false };
        // Lists are kept, and with them their schemas.
        let same_output = match (&of.output_schema, &self.output_schema) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (one, other) => one.is_none() && other.is_none(),
        };
        let (one, other) = (&of.input_schema, &self.input_schema);
        of.name == self.name
            && of.title == self.title
            && of.description == self.description
            && of.annotations == self.annotations
            && (Arc::ptr_eq(one, other) || one == other)
            && same_output
    }
}

impl Defined for Prompt {
    const KIND: Kind = Kind::Prompt;

    fn check(&self, server: &str, others: &[String]) -> Checked {
        let definition = Definition::of_prompt(self);
        Checked {
            named: Self::KIND.named(&self.name),
            whole: Self::KIND.whole(server, &self.name),
            findings: scan(&definition.value, others),
            definition,
            input: None,
            output: None,
            destroys: false,
            of: Of::Prompt(self.clone()),
        }
    }

    fn is_same(&self, checked: &Checked) -> bool {
        matches!(&checked.of, Of::Prompt(of) if of == self)
    }
}

/// Reads a tool's hints as the protocol does: one that says nothing may destroy something.
fn destroys(tool: &Tool) -> bool {
    let hints = tool.annotations.as_ref();
    let reads = hints.and_then(|hints| hints.read_only_hint) == Some(true);
    !reads && hints.and_then(|hints| hints.destructive_hint) != Some(false)
}

/// Every definition that was looked through lately, by server and what pins call it.
pub(crate) struct Checks {
    servers: Vec<String>,
    kept: Cache<(String, String), Arc<Checked>>,
}

impl Checks {
    pub(crate) fn new(servers: Vec<String>) -> Self {
        Self { servers, kept: Cache::new(MOST) }
    }

    pub(crate) fn of<T: Defined>(&self, server: &str, item: &T, counts: &Counts) -> Arc<Checked> {
        let key = (server.to_owned(), T::KIND.named(item.name()));
        if let Some(kept) = self.kept.get(&key).filter(|kept| item.is_same(kept)) {
            return kept;
        }
        let others: Vec<String> =
            self.servers.iter().filter(|other| *other != server).cloned().collect();
        let checked = Arc::new(item.check(server, &others));
        for finding in &checked.findings {
            counts.found(finding.kind.as_str());
        }
        if !checked.findings.is_empty() {
            tracing::warn!(server, name = key.1, found = checked.told(), "a definition is odd");
        }
        self.kept.insert(key, Arc::clone(&checked));
        checked
    }
}
