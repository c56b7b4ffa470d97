//! Other names of groups: `model_group_alias`.

use serde_json::{Map, Value};

use crate::commands::import::draft::Draft;
use crate::commands::import::{at, table};

pub(super) fn aliases(root: &Map<String, Value>, draft: &mut Draft) {
    let found = table(root, "router_settings").find(|(field, _)| *field == "model_group_alias");
    let aliases = found.and_then(|(_, aliases)| aliases.as_object());
    for alias in aliases.into_iter().flat_map(Map::keys) {
        let path = at("router_settings.model_group_alias", alias);
        match draft.routed(aliased(root, alias)).map(<[String]>::to_vec) {
            Some(candidates) => draft.route(alias, candidates),
            None => draft.leave(&path, "names no model that was taken over"),
        }
        let hidden = aliases.and_then(|all| all.get(alias)?.get("hidden")?.as_bool());
        if hidden == Some(true) {
            draft.leave(at(&path, "hidden"), "no equivalent: every route is listed");
        }
    }
}

/// Returns what an alias stands for, or the name itself.
pub(super) fn aliased<'a>(root: &'a Map<String, Value>, name: &'a str) -> &'a str {
    let found = table(root, "router_settings").find(|(field, _)| *field == "model_group_alias");
    let alias = found.and_then(|(_, aliases)| aliases.get(name));
    alias.and_then(|alias| alias.get("model").unwrap_or(alias).as_str()).unwrap_or(name)
}
