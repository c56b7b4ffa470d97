//! Who may call which route: one table, which a test compares with the OpenAPI document.

use axum::http::Method;
use types::{ErrorKind, Role};

use super::Grant;
use crate::Error;

/// What a route asks of whoever calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Nothing more than to be known.
    Known,
    /// To have calls made: members and above.
    Call,
    /// To see what the tenant does and spends: all but members.
    Report,
    /// The same; or to be the user, or the first thing, that the path names.
    OwnReport,
    /// To change limits, probe providers: operators and admins.
    Operate,
    /// To refuse every tenant's work for a while, to approve tools for all: those of them who run the
    /// system.
    Maintain,
    /// To make keys: admins.
    Keys,
}

use Right::{Call, Keys, Known, Maintain, Operate, OwnReport, Report};

const TABLE: &[(Method, &str, Right)] = &[
    (Method::POST, "/v1/chat/completions", Call),
    (Method::POST, "/v1/messages", Call),
    (Method::POST, "/v1/messages/count_tokens", Call),
    (Method::POST, "/v1/responses", Call),
    (Method::GET, "/v1/responses/{id}", Call),
    (Method::DELETE, "/v1/responses/{id}", Call),
    (Method::GET, "/v1/responses/{id}/input_items", Call),
    (Method::POST, "/v1/embeddings", Call),
    (Method::GET, "/v1/models", Known),
    (Method::POST, "/v1/files", Call),
    (Method::GET, "/v1/files", Call),
    (Method::GET, "/v1/files/{id}", Call),
    (Method::DELETE, "/v1/files/{id}", Call),
    (Method::GET, "/v1/files/{id}/content", Call),
    (Method::POST, "/v1/batches", Call),
    (Method::GET, "/v1/batches", Call),
    (Method::GET, "/v1/batches/{id}", Call),
    (Method::POST, "/v1/batches/{id}/cancel", Call),
    (Method::POST, "/v1/vector_stores", Call),
    (Method::GET, "/v1/vector_stores", Call),
    (Method::GET, "/v1/vector_stores/{id}", Call),
    (Method::POST, "/v1/vector_stores/{id}", Call),
    (Method::DELETE, "/v1/vector_stores/{id}", Call),
    (Method::POST, "/v1/vector_stores/{id}/search", Call),
    (Method::POST, "/v1/vector_stores/{id}/files", Call),
    (Method::GET, "/v1/vector_stores/{id}/files", Call),
    (Method::GET, "/v1/vector_stores/{id}/files/{file_id}", Call),
    (Method::POST, "/v1/vector_stores/{id}/files/{file_id}", Call),
    (Method::DELETE, "/v1/vector_stores/{id}/files/{file_id}", Call),
    (Method::GET, "/v1/vector_stores/{id}/files/{file_id}/content", Call),
    (Method::POST, "/v1/vector_stores/{id}/file_batches", Call),
    (Method::GET, "/v1/vector_stores/{id}/file_batches/{batch_id}", Call),
    (Method::GET, "/v1/vector_stores/{id}/file_batches/{batch_id}/files", Call),
    (Method::POST, "/v1/vector_stores/{id}/file_batches/{batch_id}/cancel", Call),
    (Method::GET, "/api/v1/providers", Report),
    (Method::POST, "/api/v1/providers/{name}/probe", Operate),
    (Method::POST, "/api/v1/estimate", Call),
    (Method::POST, "/api/v1/ask", Call),
    (Method::GET, "/api/v1/runs/{id}/events", Call),
    (Method::POST, "/api/v1/search", Call),
    (Method::POST, "/api/search", Call),
    (Method::POST, "/api/v1/documents", Call),
    (Method::GET, "/api/v1/documents", Call),
    (Method::GET, "/api/v1/documents/{id}", Call),
    (Method::DELETE, "/api/v1/documents/{id}", Call),
    (Method::GET, "/api/v1/collections", Call),
    (Method::POST, "/api/v1/collections", Call),
    (Method::DELETE, "/api/v1/collections/{name}", Call),
    (Method::POST, "/api/v1/collections/{name}/reindex", Call),
    (Method::POST, "/api/v1/ingest", Call),
    (Method::GET, "/api/v1/ingest", Call),
    (Method::GET, "/api/v1/ingest/{job}", Call),
    (Method::DELETE, "/api/v1/ingest/{job}", Call),
    (Method::POST, "/api/v1/ingest/{job}/documents", Call),
    (Method::POST, "/api/v1/ingest/{job}/retry", Call),
    (Method::GET, "/api/v1/tools", Call),
    (Method::POST, "/api/v1/tools/{name}", Call),
    (Method::POST, "/mcp", Call),
    (Method::GET, "/mcp", Call),
    (Method::DELETE, "/mcp", Call),
    (Method::POST, "/mcp/{server}", Call),
    (Method::GET, "/mcp/{server}", Call),
    (Method::DELETE, "/mcp/{server}", Call),
    (Method::GET, "/api/v1/tools/calls", Report),
    (Method::GET, "/api/v1/tools/pins", Maintain),
    (Method::GET, "/api/v1/tools/pins/{name}", Maintain),
    (Method::POST, "/api/v1/tools/pins/{name}/approve", Maintain),
    (Method::POST, "/api/v1/tools/pins/{name}/reject", Maintain),
    (Method::GET, "/api/v1/budget/user/{id}", OwnReport),
    (Method::GET, "/api/v1/budget/team/{id}", Report),
    (Method::GET, "/api/v1/budget/key/{id}", Report),
    (Method::GET, "/api/v1/budget/tenant", Report),
    (Method::GET, "/api/v1/budget/spend/{id}", OwnReport),
    (Method::POST, "/api/v1/budget/limit", Operate),
    (Method::GET, "/api/v1/budget/limit/{id}", OwnReport),
    (Method::DELETE, "/api/v1/budget/limit/{id}", Operate),
    (Method::GET, "/api/v1/budget/limit/{id}/{period}", OwnReport),
    (Method::DELETE, "/api/v1/budget/limit/{id}/{period}", Operate),
    (Method::GET, "/api/v1/budget/top-spenders/{period}", Report),
    (Method::GET, "/api/v1/budget/utilization/{period}", Report),
    (Method::GET, "/api/v1/budget/tier-costs/{period}", Report),
    (Method::GET, "/api/v1/budget/history", Report),
    (Method::GET, "/api/v1/budget/verify", Report),
    (Method::POST, "/api/v1/budget/corrections", Operate),
    (Method::GET, "/api/v1/maintenance", Known),
    (Method::POST, "/api/v1/maintenance", Maintain),
    (Method::GET, "/api/v1/costs", Report),
    (Method::GET, "/api/v1/audit", Report),
    (Method::POST, "/api/v1/keys", Keys),
    (Method::GET, "/api/v1/keys", Keys),
    (Method::GET, "/api/v1/keys/{id}", Keys),
    (Method::PATCH, "/api/v1/keys/{id}", Keys),
    (Method::DELETE, "/api/v1/keys/{id}", Keys),
    (Method::POST, "/api/v1/keys/{id}/rotate", Keys),
];

/// Returns what a route asks for; HEAD what GET does. A route that nobody thought of is for admins.
pub(crate) fn right(method: &Method, path: &str) -> Right {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let found = TABLE.iter().find(|(known, route, _)| known == method && *route == path);
    found.map_or(Keys, |(.., right)| *right)
}

/// Tells whether a path is a route's, for whatever method.
pub(crate) fn is_route(path: &str) -> bool {
    TABLE.iter().any(|(_, route, _)| *route == path)
}

/// Checks that a grant has a right; `named` is what the path names first.
///
/// # Errors
/// If it has not, with the roles that have.
pub(crate) fn check(grant: &Grant, right: Right, named: Option<&str>) -> Result<(), Error> {
    use Role::{Admin, Member, Operator, ReadOnly};
    let roles: &[Role] = match right {
        Known => &[ReadOnly, Member, Operator, Admin],
        Call => &[Member, Operator, Admin],
        Report | OwnReport => &[ReadOnly, Operator, Admin],
        Operate | Maintain => &[Operator, Admin],
        Keys => &[Admin],
    };
    let (role, denied) = (grant.role, |fault: String| Err(Error::new(ErrorKind::Denied, fault)));
    if right == Maintain && !grant.runs_it {
        return denied(
            "this is for whoever runs the system: with a key of its configuration".to_owned(),
        );
    }
    let own = right == OwnReport && named == Some(grant.user.as_str());
    if own || roles.contains(&role) {
        return Ok(());
    }
    let words: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    denied(format!("role {} may not do this; it takes {}", role.as_str(), words.join(" or ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use types::{TenantId, UserId};

    use super::*;

    #[test]
    fn every_route_that_is_described_has_a_rule_and_every_rule_a_route() {
        let (_, document) = crate::api().split_for_parts();
        let document = serde_json::to_value(&document).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                if ["get", "post", "put", "patch", "delete", "head", "options"]
                    .contains(&method.as_str())
                {
                    described.insert((method.to_uppercase(), path.clone()));
                }
            }
        }
        let ruled = TABLE.iter().map(|(method, path, _)| (method.to_string(), (*path).to_owned()));
        assert_eq!(ruled.collect::<BTreeSet<_>>(), described);
        assert_eq!(TABLE.len(), described.len(), "one rule a route");
    }

    #[test]
    fn a_role_may_do_what_its_rights_say() {
        let grant = |role, runs_it| {
            let (tenant, user) = (TenantId::new("t").unwrap(), UserId::new("a b").unwrap());
            Grant { runs_it, ..Grant::new(tenant, user, role) }
        };
        let those = |runs_it, right, named| {
            let has = |role: &Role| check(&grant(*role, runs_it), right, named).is_ok();
            Role::ALL.into_iter().filter(has).map(Role::as_str).collect::<Vec<_>>().join(" ")
        };
        let may = |right, named| those(false, right, named);
        assert_eq!(may(Known, None), "read_only member operator admin");
        assert_eq!(may(Call, None), "member operator admin");
        assert_eq!(may(Report, Some("a b")), "read_only operator admin");
        assert_eq!(may(OwnReport, Some("other")), "read_only operator admin");
        assert_eq!(may(OwnReport, Some("a b")), "read_only member operator admin");
        assert_eq!(may(Operate, None), "operator admin");
        assert_eq!(may(Maintain, None), "", "no tenant stops the others");
        assert_eq!(those(true, Maintain, None), "operator admin");
        assert_eq!(may(Keys, None), "admin");
        assert_eq!(right(&Method::GET, "/api/v1/new"), Keys);
        assert_eq!(right(&Method::HEAD, "/api/v1/costs"), Report);
    }
}
