//! Where a group's requests go when it fails.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::aliases::aliased;
use super::deployments::Group;
use crate::commands::import::draft::Draft;
use crate::commands::import::{at, table};

/// Where a group's requests go when it fails.
#[derive(Default)]
pub(super) struct Fallbacks {
    /// Names of groups, or candidates, by the group's name.
    of: BTreeMap<String, Vec<Target>>,
    /// Of groups that have none of their own.
    default: Vec<Target>,
}

#[derive(Clone)]
enum Target {
    Group(String),
    Candidate(String),
}

impl Fallbacks {
    pub(super) fn read(root: &Map<String, Value>, groups: &[Group], draft: &mut Draft) -> Self {
        let mut fallbacks = Self::default();
        for section in ["litellm_settings", "router_settings"] {
            for (field, value) in table(root, section) {
                let path = at(section, field);
                match field.as_str() {
                    "default_fallbacks" => {
                        fallbacks.default = targets(&path, value, root, groups, draft);
                    }
                    "fallbacks" => fallbacks.add(&path, value, root, groups, draft),
                    _ => {}
                }
            }
        }
        fallbacks
    }

    fn add(
        &mut self,
        path: &str,
        value: &Value,
        root: &Map<String, Value>,
        groups: &[Group],
        draft: &mut Draft,
    ) {
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for (from, to) in list.iter().filter_map(Value::as_object).flatten() {
            let path = at(path, from);
            if from == "*" {
                self.default = targets(&path, to, root, groups, draft);
                continue;
            }
            let from = aliased(root, from);
            if !groups.iter().any(|group| group.name == from) {
                draft.leave(path, "names no model that was taken over");
                continue;
            }
            let to = targets(&path, to, root, groups, draft);
            self.of.insert(from.to_owned(), to);
        }
    }

    /// Returns the candidates of a group, and of what takes its place, in turn.
    pub(super) fn follow(&self, groups: &[Group], name: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let mut found = Vec::new();
        let mut next = vec![Target::Group(name.to_owned())];
        while let Some(target) = next.pop() {
            let name = match target {
                Target::Candidate(candidate) => {
                    found.push(candidate);
                    continue;
                }
                Target::Group(name) => name,
            };
            if seen.contains(&name) {
                continue;
            }
            let group = groups.iter().find(|group| group.name == name);
            found.extend(group.into_iter().flat_map(|group| group.places.clone()));
            let targets = self.of.get(&name).unwrap_or(&self.default);
            next.extend(targets.iter().rev().cloned());
            seen.push(name);
        }
        found
    }
}

/// Reads names of groups, aliases, or ids of deployments.
fn targets(
    path: &str,
    value: &Value,
    root: &Map<String, Value>,
    groups: &[Group],
    draft: &mut Draft,
) -> Vec<Target> {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut targets = Vec::new();
    for (index, target) in list.iter().enumerate() {
        let name = target.as_str().map(|name| aliased(root, name));
        let group = groups.iter().find(|group| Some(group.name.as_str()) == name);
        let mut deployments = groups.iter().flat_map(|group| &group.deployments);
        let deployment = deployments.find(|one| name.is_some() && one.id.as_deref() == name);
        match (group, deployment) {
            (Some(group), _) => targets.push(Target::Group(group.name.clone())),
            (None, Some(one)) => targets.push(Target::Candidate(one.candidate.clone())),
            (None, None) => {
                draft.leave(format!("{path}[{index}]"), "names no model that was taken over");
            }
        }
    }
    targets
}
