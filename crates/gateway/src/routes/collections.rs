use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use proto::retriever::{
    Collection, CreateCollectionRequest, DeleteCollectionRequest, ListCollectionsRequest,
    ReindexRequest,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::{CallContext, allows};

use super::{Json, Path, ingest};
use crate::auth::Grant;
use crate::{App, Error};

/// A collection to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCollection {
    /// 1 to 64 of a-z, 0-9, - and _
    name: String,
}

/// Lists the collections of documents by name.
#[utoipa::path(get, operation_id = "list_collections", path = "/api/v1/collections", tag = "documents",
    responses((status = 200, description = "Those that the key may use")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
) -> Result<axum::Json<Value>, Error> {
    let request = runtime::context::request(&context, ListCollectionsRequest {});
    let reply = app.retriever().list_collections(request).await?;
    let all = reply.into_inner().collections;
    let allowed = all.iter().filter(|one| allows(grant.collections.as_deref(), &one.name));
    Ok(axum::Json(json!({ "collections": allowed.map(shown).collect::<Vec<_>>() })))
}

/// Makes a collection; one that is there already stays as it is.
#[utoipa::path(post, operation_id = "create_collection", path = "/api/v1/collections", tag = "documents", request_body = NewCollection,
    responses((status = 200, description = "Was there already"), (status = 201, description = "Made"),
        (status = 400, description = "Not a name")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Json(new): Json<NewCollection>,
) -> Result<(StatusCode, axum::Json<Value>), Error> {
    let request = CreateCollectionRequest {
        name: grant.collection(Some(new.name))?,
        ..CreateCollectionRequest::default()
    };
    let request = runtime::context::request(&context, request);
    let reply = app.retriever().create_collection(request).await?.into_inner();
    let status = if reply.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(shown(&reply.collection.unwrap_or_default()))))
}

/// Removes a collection, its documents and everything made from them; `default` is emptied.
#[utoipa::path(delete, operation_id = "delete_collection", path = "/api/v1/collections/{name}", tag = "documents",
    params(("name" = String, Path, description = "The collection")),
    responses((status = 204, description = "Removed"), (status = 404, description = "There is none")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    let request = DeleteCollectionRequest { name: grant.collection(Some(name))? };
    let request = runtime::context::request(&context, request);
    app.retriever().delete_collection(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives the documents of a collection vectors of the model that is configured now.
///
/// The vectors that it has serve until all of the new ones are there. The job is told by `/api/v1/ingest/{job}`.
#[utoipa::path(post, operation_id = "reindex_collection", path = "/api/v1/collections/{name}/reindex", tag = "documents",
    params(("name" = String, Path, description = "The collection")),
    responses((status = 202, description = "The job that does it"), (status = 404, description = "There is no such collection"),
        (status = 409, description = "It has these vectors, nothing in it, or such a job")))]
pub(crate) async fn reindex(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<Value>), Error> {
    let request = ReindexRequest { collection: grant.collection(Some(name))? };
    let request = runtime::context::request(&context, request);
    let job = app.retriever().reindex(request).await?.into_inner().job.unwrap_or_default();
    Ok((StatusCode::ACCEPTED, axum::Json(ingest::shown(&job))))
}

fn shown(one: &Collection) -> Value {
    let fields: Map<String, Value> =
        one.fields.iter().map(|field| (field.name.clone(), field.kind.as_str().into())).collect();
    json!({
        "name": one.name,
        "documents": one.documents,
        "passages": one.passages,
        "model": Some(&one.model).filter(|model| !model.is_empty()),
        "dimension": Some(one.dimension).filter(|dimension| *dimension > 0),
        "attributes": fields,
        "created_at_ms": one.created_at_ms,
    })
}
