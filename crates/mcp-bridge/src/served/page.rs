//! Lists, a page at a time.

use rmcp::model::{ErrorData, JsonObject, MetaObject, PaginatedRequestParams};
use serde_json::json;

use crate::hub::Listing;

/// How many items a page of a list has.
const PAGE: usize = 250;

/// The names by which degraded servers, and tools that the caller may not use, stand in a list's metadata.
const DEGRADED: &str = "baton/degraded";
const REFUSED: &str = "baton/refused";

/// One page of a list, and what goes with every list.
pub(super) struct Shown<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
    pub(super) meta: Option<MetaObject>,
    pub(super) ttl_ms: u64,
}

/// Takes the page that was asked for; `show` makes of its items what a client is shown.
pub(super) fn page<I, T>(
    listing: Listing<I>,
    asked: Option<PaginatedRequestParams>,
    show: impl FnOnce(Vec<I>) -> Vec<T>,
) -> Result<Shown<T>, ErrorData> {
    let all: usize = listing.items.iter().map(|(_, items)| items.len()).sum();
    let cursor = asked.and_then(|asked| asked.cursor);
    let from = match &cursor {
        None => 0,
        Some(cursor) => cursor.parse().ok().filter(|from| *from <= all).ok_or_else(|| {
            ErrorData::invalid_params(format!("there is no page {cursor:?}"), None)
        })?,
    };
    let next = (from + PAGE < all).then(|| (from + PAGE).to_string());
    let items = listing.items.into_iter().flat_map(|(_, items)| items);
    let items = show(items.skip(from).take(PAGE).collect());
    let degraded = listing.degraded.iter();
    let degraded: Vec<_> = degraded
        .map(|(server, error)| json!({ "server": server, "reason": error.to_string() }))
        .collect();
    let refused = listing.refused.iter().take(PAGE);
    let refused: Vec<_> = refused
        .map(|(server, name, why)| json!({ "server": server, "name": name, "reason": why }))
        .collect();
    let told = [(DEGRADED, degraded), (REFUSED, refused)].into_iter();
    let told = told.filter(|(_, all)| !all.is_empty());
    let told: JsonObject = told.map(|(name, all)| (name.to_owned(), all.into())).collect();
    let meta = (!told.is_empty()).then_some(MetaObject(told));
    let ttl_ms = u64::try_from(listing.ttl.as_millis()).unwrap_or(u64::MAX);
    Ok(Shown { items, next, meta, ttl_ms })
}

/// Writes a page as the answer to a request; what a caller is shown is that caller's alone.
macro_rules! answer {
    ($result:ident, $items:ident, $shown:expr) => {{
        let shown = $shown;
        let mut result = $result::with_all_items(shown.items);
        (result.next_cursor, result.meta) = (shown.next, shown.meta);
        (result.ttl_ms, result.cache_scope) = (Some(shown.ttl_ms), Some(CacheScope::Private));
        Ok(result)
    }};
}

pub(super) use answer;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pages_go_across_servers_and_end() {
        let server = |at: i32| (format!("s{at}"), (at * 100..at * 100 + 100).collect());
        let read = |cursor: Option<&str>| {
            let (degraded, refused) = (Vec::new(), Vec::new());
            let items: Vec<(String, Vec<i32>)> = (0..3).map(server).collect();
            let listing = Listing { items, degraded, refused, ttl: Duration::ZERO };
            let asked = PaginatedRequestParams::default().with_cursor(cursor.map(str::to_owned));
            page(listing, Some(asked), |items| items)
        };
        let (first, last) = (read(None).unwrap(), read(Some("250")).unwrap());
        assert_eq!((first.items, first.next.as_deref()), ((0..250).collect(), Some("250")));
        assert_eq!((last.items, last.next), ((250..300).collect(), None));
        assert!(read(Some("300")).unwrap().items.is_empty() && read(Some("301")).is_err());
    }
}
