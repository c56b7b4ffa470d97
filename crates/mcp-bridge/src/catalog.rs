//! What one server offers, and the names that clients call it by. Pure.
//!
//! A client's name is `server__tool`. It is never taken apart: what it means stands in the catalogue.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};
use rmcp::model::Tool;

/// Between a server's name, which has no underscore, and its tool's.
const SEPARATOR: &str = "__";

/// The longest name that clients are shown, in bytes: the APIs of some models take no longer one.
const LONGEST: usize = 64;

/// How many hexadecimal digits tell shortened names apart.
const DIGITS: usize = 10;

/// A tool, and the name that clients call it by.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    /// `server__tool`, at most 64 bytes.
    pub(crate) name: String,
    /// The tool as its server describes it, under its server's name for it.
    pub(crate) tool: Tool,
}

/// The tools of one server, in its order.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    tools: Vec<Offered>,
    by_name: HashMap<String, usize>,
    /// The same, by the server's own names.
    by_own_name: HashMap<String, usize>,
}

impl Catalog {
    /// Takes the tools that a client can name, and says of the others why they are left out.
    pub(crate) fn new(server: &str, tools: Vec<Tool>) -> (Self, Vec<(String, &'static str)>) {
        let mut catalog = Self::default();
        let mut left_out = Vec::new();
        for tool in tools {
            let name = federated(server, &tool.name);
            let taken = |name: &str| catalog.by_name.contains_key(name);
            let fault = fault(&tool).or(taken(&name).then_some("its name is taken"));
            if let Some(fault) = fault {
                left_out.push((tool.name.into_owned(), fault));
                continue;
            }
            catalog.by_name.insert(name.clone(), catalog.tools.len());
            catalog.by_own_name.insert(tool.name.to_string(), catalog.tools.len());
            catalog.tools.push(Offered { name, tool });
        }
        (catalog, left_out)
    }

    pub(crate) fn tools(&self) -> &[Offered] {
        &self.tools
    }

    /// Returns the tool that clients call `name`.
    pub(crate) fn named(&self, name: &str) -> Option<&Offered> {
        self.tools.get(*self.by_name.get(name)?)
    }

    /// Returns the tool that its server calls `name`.
    pub(crate) fn own(&self, name: &str) -> Option<&Offered> {
        self.tools.get(*self.by_own_name.get(name)?)
    }
}

/// Whether `name` could be a client's name for a tool of `server`; its catalogue says whether it is.
pub(crate) fn may_be_of(server: &str, name: &str) -> bool {
    name.strip_prefix(server).is_some_and(|rest| rest.starts_with(SEPARATOR))
}

/// Returns a client's name for a tool: the same whatever other servers and tools there are.
fn federated(server: &str, tool: &str) -> String {
    let name = format!("{server}{SEPARATOR}{tool}");
    if name.len() <= LONGEST {
        return name;
    }
    let hash = digest(&SHA256, name.as_bytes());
    let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = name.char_indices().map(|(at, _)| at);
    let kept = kept.take_while(|at| *at < LONGEST - DIGITS).last().unwrap_or_default();
    format!("{}_{}", &name[..kept], &digits[..DIGITS])
}

/// Says why clients could do nothing with a tool, or would refuse a whole list for it.
fn fault(tool: &Tool) -> Option<&'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if tool.name.is_empty() || tool.name.len() > 128 || !tool.name.chars().all(good) {
        return Some("its name is not 1 to 128 of A-Z a-z 0-9 _ - .");
    }
    if tool.input_schema.get("type").and_then(|kind| kind.as_str()) != Some("object") {
        return Some("its input schema is not that of an object");
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tool(name: &str, schema: Value) -> Tool {
        serde_json::from_value(json!({ "name": name, "inputSchema": schema })).unwrap()
    }

    fn named(names: &[&str]) -> (Catalog, Vec<(String, &'static str)>) {
        let tools = names.iter().map(|name| tool(name, json!({ "type": "object" })));
        Catalog::new("files", tools.collect())
    }

    #[test]
    fn a_tool_is_found_by_its_name_or_left_out_alone() {
        let (catalog, left_out) = named(&["read__all", "", "a b", "read__all", "write"]);
        let names: Vec<_> = catalog.tools().iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["files__read__all", "files__write"]);
        assert_eq!(catalog.named("files__read__all").unwrap().tool.name, "read__all");
        assert_eq!(catalog.own("write").unwrap().name, "files__write");
        assert!(catalog.named("write").is_none() && catalog.own("files__write").is_none());
        assert_eq!(left_out.len(), 3);
        let (none, left_out) = Catalog::new("files", vec![tool("a", json!({}))]);
        assert!(none.tools().is_empty() && left_out[0].1.contains("schema"));
    }

    #[test]
    fn a_long_name_is_shortened_and_still_its_own() {
        let long = "x".repeat(64);
        let (longer, other) = (format!("{long}1"), format!("{long}2"));
        let fits = "y".repeat(64 - "files__".len());
        let (catalog, left_out) = named(&[&longer, &other, &fits]);
        assert!(left_out.is_empty(), "{left_out:?}");
        for offered in catalog.tools() {
            assert!(offered.name.len() == LONGEST && may_be_of("files", &offered.name));
            assert_eq!(catalog.named(&offered.name).unwrap().tool.name, offered.tool.name);
        }
        // The same, whatever else there is.
        let (alone, _) = named(&[&other]);
        assert!(catalog.named(&alone.tools()[0].name).is_some());
    }

    #[test]
    fn a_name_may_be_of_one_server_alone() {
        assert!(may_be_of("a", "a__b__c") && !may_be_of("a", "a-b__c") && !may_be_of("a", "a_b"));
        assert!(may_be_of("a-b", "a-b__c") && !may_be_of("", "a__b"));
    }
}
