//! One file a kind of route. Handlers parse, ask a peer, reply.

pub(crate) mod ask;
pub(crate) mod budget;
pub(crate) mod chat;
pub(crate) mod documents;
pub(crate) mod health;
pub(crate) mod messages;
pub(crate) mod providers;
pub(crate) mod responses;
pub(crate) mod search;
pub(crate) mod tools;

use axum::extract::{FromRequest, FromRequestParts, OriginalUri};
use axum::http::{Method, StatusCode};
use types::ErrorKind;

use crate::Error;

/// A JSON body; what is wrong with it is told in our error's shape.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Error))]
pub(crate) struct Json<T>(pub(crate) T);

/// Query parameters; as [`Json`].
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Error))]
pub(crate) struct Query<T>(pub(crate) T);

/// Path parameters; as [`Json`].
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
