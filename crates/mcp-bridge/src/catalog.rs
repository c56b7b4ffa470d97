//! What one server offers, the names that clients call it by, and what was found out of each definition.
//!
//! A client's name is `server__tool`. It is never taken apart: what it means stands in the catalogue.
//! Nothing in it depends on who asks, so that every list and call shares what is in it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rmcp::model::{Prompt, Tool};
use serde::Serialize;
use serde_json::{Value, json};
use types::tool_name;

use crate::gate::Checked;

/// Between a server's name, which has no underscore, and its tool's.
const SEPARATOR: &str = "__";

/// What a server offers by a name of its own.
pub(crate) trait Named: Serialize + Sized {
    fn name(&self) -> &str;

    /// Returns it by another name.
    fn called(self, name: &str) -> Self;

    /// Takes out of it what is not pinned, so that nothing gets past the pin.
    fn only_pinned(self) -> Self;

    /// Says why clients could do nothing with it, or would refuse a whole list for it.
    fn fault(&self) -> Option<&'static str>;
}

/// What a server offers, and the name that clients call it by.
#[derive(Debug)]
pub(crate) struct Offered<T> {
    /// `server__name`, at most 64 bytes.
    pub(crate) name: String,
    /// As its server describes it, under its server's name for it: of that, what is pinned.
    pub(crate) item: T,
    /// What follows its name in JSON, from the comma to the last brace.
    rest: String,
}

impl<T: Named> Offered<T> {
    fn new(name: String, item: T) -> Self {
        let rest = behind_name(&item);
        Self { name, item, rest }
    }

    /// Writes it in JSON, as clients are shown it who call it `name`.
    pub(crate) fn write(&self, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"name\":");
        // Writing into a Vec cannot fail.
        let _ = serde_json::to_writer(&mut *out, name);
        out.extend_from_slice(self.rest.as_bytes());
    }
}

/// Returns an item in JSON but for its beginning, which is its name: any can be written before it.
fn behind_name(item: &impl Serialize) -> String {
    let mut item = json!(item);
    if let Value::Object(fields) = &mut item {
        fields.retain(|name, _| name != "name");
    }
    match item.to_string().strip_prefix('{') {
        Some(fields) if fields != "}" => format!(",{fields}"),
        _ => "}".to_owned(),
    }
}

/// What one server offers, in its order.
#[derive(Debug)]
pub(crate) struct Catalog<T> {
    all: Vec<Arc<Offered<T>>>,
    by_name: HashMap<String, usize>,
    by_own_name: HashMap<String, usize>,
    /// One of each of `all`, from the first time that it is asked for.
    checked: OnceLock<Vec<Arc<Checked>>>,
}

impl<T: Named> Catalog<T> {
    /// Takes what a client can name; the log says of the others why they are left out.
    pub(crate) fn new(server: &str, items: Vec<T>) -> Self {
        let mut catalog = Self {
            all: Vec::new(),
            by_name: HashMap::new(),
            by_own_name: HashMap::new(),
            checked: OnceLock::new(),
        };
        for item in items.into_iter().map(T::only_pinned) {
            let name = tool_name(server, item.name());
            let taken = catalog.by_name.contains_key(&name).then_some("its name is taken");
            if let Some(reason) = item.fault().or(taken) {
                let name: String = item.name().chars().take(128).collect();
                tracing::warn!(server, name, reason, "what cannot be called is left out");
                continue;
            }
            catalog.by_name.insert(name.clone(), catalog.all.len());
            catalog.by_own_name.insert(item.name().to_owned(), catalog.all.len());
            catalog.all.push(Arc::new(Offered::new(name, item)));
        }
        catalog
    }

    pub(crate) fn all(&self) -> &[Arc<Offered<T>>] {
        &self.all
    }

    /// Returns each with what is known of its definition, which `check` finds out once.
    pub(crate) fn checked(
        &self,
        check: impl FnMut(&T) -> Arc<Checked>,
    ) -> (&[Arc<Offered<T>>], &[Arc<Checked>]) {
        let items = || self.all.iter().map(|one| &one.item);
        (&self.all, self.checked.get_or_init(|| items().map(check).collect()))
    }

    /// Returns what clients call `name`.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Offered<T>>> {
        self.all.get(*self.by_name.get(name)?)
    }

    /// Returns what its server calls `name`.
    pub(crate) fn own(&self, name: &str) -> Option<&Arc<Offered<T>>> {
        self.all.get(*self.by_own_name.get(name)?)
    }
}

/// Whether `name` could be a client's name for a tool of `server`; its catalogue says whether it is.
pub(crate) fn may_be_of(server: &str, name: &str) -> bool {
    rest_of(server, name).is_some()
}

/// Returns what stands behind `server` and the separator in a client's name.
pub(crate) fn rest_of<'a>(server: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(server)?.strip_prefix(SEPARATOR)
}

impl Named for Tool {
    fn name(&self) -> &str {
        &self.name
    }

    fn called(mut self, name: &str) -> Self {
        self.name = name.to_owned().into();
        self
    }

    fn only_pinned(mut self) -> Self {
        (self.icons, self.meta) = (None, None);
        self
    }

    fn fault(&self) -> Option<&'static str> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if self.name.is_empty() || self.name.len() > 128 || !self.name.chars().all(good) {
            return Some("its name is not 1 to 128 of A-Z a-z 0-9 _ - .");
        }
        if self.input_schema.get("type").and_then(|kind| kind.as_str()) != Some("object") {
            return Some("its input schema is not that of an object");
        }
        None
    }
}

impl Named for Prompt {
    fn name(&self) -> &str {
        &self.name
    }

    fn called(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    fn only_pinned(mut self) -> Self {
        (self.icons, self.meta) = (None, None);
        self
    }

    fn fault(&self) -> Option<&'static str> {
        let good = (1..=128).contains(&self.name.len()) && !self.name.contains(char::is_control);
        (!good).then_some("its name is not 1 to 128 characters that can be seen")
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn tool(name: &str, schema: Value) -> Tool {
        serde_json::from_value(json!({ "name": name, "inputSchema": schema })).unwrap()
    }

    fn named(names: &[&str]) -> Catalog<Tool> {
        let tools = names.iter().map(|name| tool(name, json!({ "type": "object" })));
        Catalog::new("files", tools.collect())
    }

    #[test]
    fn a_tool_is_found_by_its_name_or_left_out_alone() {
        let catalog = named(&["read__all", "", "a b", "read__all", "write"]);
        let names: Vec<_> = catalog.all().iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["files__read__all", "files__write"]);
        assert_eq!(catalog.named("files__read__all").unwrap().item.name, "read__all");
        assert_eq!(catalog.own("write").unwrap().name, "files__write");
        assert!(catalog.named("write").is_none() && catalog.own("files__write").is_none());
        assert!(Catalog::new("files", vec![tool("a", json!({}))]).all().is_empty());
    }

    #[test]
    fn a_long_name_is_shortened_and_still_its_own() {
        let long = "x".repeat(64);
        let (longer, other) = (format!("{long}1"), format!("{long}2"));
        let fits = "y".repeat(64 - "files__".len());
        let catalog = named(&[&longer, &other, &fits]);
        assert_eq!(catalog.all().len(), 3);
        for offered in catalog.all() {
            assert!(offered.name.len() == 64 && may_be_of("files", &offered.name));
            assert_eq!(catalog.named(&offered.name).unwrap().item.name, offered.item.name);
        }
        // The same, whatever else there is.
        assert!(catalog.named(&named(&[&other]).all()[0].name).is_some());
    }

    #[test]
    fn what_is_written_is_what_is_pinned_under_the_name_that_was_asked_for() {
        let unpinned = json!({ "_meta": { "a": 1 }, "icons": [{ "src": "https://a/b" }] });
        let with = |mut item: Value| {
            item.as_object_mut().unwrap().extend(unpinned.as_object().unwrap().clone());
            item
        };
        let schema = json!({ "type": "object", "properties": { "name": { "const": 1.5 } } });
        let bare = json!({ "name": "read", "inputSchema": schema });
        let full = json!({
            "name": "read", "title": "R", "description": "\"a\"\n", "inputSchema": schema,
            "outputSchema": schema, "annotations": { "title": "R", "readOnlyHint": true },
        });
        for pinned in [bare, full] {
            written::<Tool>(with(pinned.clone()), pinned);
        }
        let bare = json!({ "name": "a \"b\"" });
        let full = json!({ "name": "a", "description": "b", "arguments": [{ "name": "c" }] });
        for pinned in [bare, full] {
            written::<Prompt>(with(pinned.clone()), pinned);
        }
    }

    fn written<T: Named + DeserializeOwned>(item: Value, mut pinned: Value) {
        let item: T = serde_json::from_value(item).unwrap();
        let catalog = Catalog::new("files", vec![item]);
        let one = &catalog.all()[0];
        for name in [one.item.name(), one.name.as_str()] {
            let mut written = Vec::new();
            one.write(name, &mut written);
            pinned["name"] = json!(name);
            let pinned: T = serde_json::from_value(pinned.clone()).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), json!(pinned));
        }
    }

    #[test]
    fn a_name_may_be_of_one_server_alone() {
        assert!(may_be_of("a", "a__b__c") && !may_be_of("a", "a-b__c") && !may_be_of("a", "a_b"));
        assert!(may_be_of("a-b", "a-b__c") && !may_be_of("", "a__b"));
    }
}
