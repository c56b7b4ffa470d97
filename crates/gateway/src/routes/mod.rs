//! One file a kind of route. Handlers parse, ask a peer, reply.

pub(crate) mod ask;
pub(crate) mod batches;
pub(crate) mod budget;
pub(crate) mod chat;
pub(crate) mod collections;
pub(crate) mod costs;
mod csv;
pub(crate) mod documents;
pub(crate) mod files;
mod filter;
pub(crate) mod health;
pub(crate) mod ingest;
mod json;
pub(crate) mod keys;
pub(crate) mod maintenance;
pub(crate) mod mcp;
pub(crate) mod messages;
pub(crate) mod pins;
pub(crate) mod providers;
pub(crate) mod responses;
pub(crate) mod search;
pub(crate) mod tools;
pub(crate) mod vector_stores;
pub(crate) mod well_known;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use types::ErrorKind;

pub(crate) use self::json::{Json, Object};
use crate::Error;

/// Query parameters; what is wrong with them is told in our error's shape.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Error))]
pub(crate) struct Query<T>(pub(crate) T);

/// Path parameters; as [`Query`].
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Error))]
pub(crate) struct Path<T>(pub(crate) T);

pub(crate) async fn not_found(OriginalUri(uri): OriginalUri) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no route {}", uri.path()))
}

pub(crate) async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Error {
    let message = format!("{} does not take {method}", uri.path());
    Error::with_status(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Returns a page of a list as OpenAI shows it.
fn page(data: Vec<Value>, has_more: bool) -> Value {
    let id = |one: Option<&Value>| one.map(|one| one["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    json!({ "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more })
}

/// Reads the order of a page, which begins with the newest unless asked otherwise.
fn oldest_first(order: Option<&str>) -> Result<bool, Error> {
    match order {
        None | Some("desc") => Ok(false),
        Some("asc") => Ok(true),
        Some(other) => Err(Error::invalid(format!("order: {other:?} is not asc or desc"))),
    }
}

/// Returns a page's size for a peer, to which none is 0.
fn at_least_one(limit: Option<u32>) -> Result<u32, Error> {
    match limit {
        Some(0) => Err(Error::invalid("limit: 0 is too few")),
        limit => Ok(limit.unwrap_or_default()),
    }
}
