//! OpenAI's vector stores: collections of documents by other names. A store's id is its collection's name, and every
//! collection is a store.

pub(crate) mod batches;
pub(crate) mod files;
pub(crate) mod search;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use proto::retriever::{
    ChangeCollectionRequest, Collection, CreateCollectionRequest, DeleteCollectionRequest,
    GetCollectionRequest, ListCollectionsRequest, Metadata,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::Instrument as _;
use types::{CallContext, ErrorKind, VectorStoreId, allows};

use self::files::{Uploaded, add, uploads};
use super::{Json, Path, Query};
use crate::auth::Grant;
use crate::{App, Error};

/// A store begins with so many files at most.
const MOST_FILES: usize = 500;
/// So long it may take to undo what was begun, however long its call had.
const UNDONE: Duration = Duration::from_secs(30);

/// A store to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewStore {
    /// At most 256 bytes
    name: Option<String>,
    /// Files that it begins with, at most 500
    file_ids: Option<Vec<String>>,
    /// At most 16 pairs
    metadata: Option<BTreeMap<String, String>>,
    /// `{"type": "auto"}` alone: documents are cut along their structure
    #[schema(value_type = Option<Object>)]
    chunking_strategy: Option<Value>,
    /// Refused: stores do not expire
    #[schema(value_type = Option<Object>)]
    expires_after: Option<Value>,
}

/// What is to change of a store; what is absent stays.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreChange {
    /// At most 256 bytes
    name: Option<String>,
    /// In place of all pairs before, at most 16
    metadata: Option<BTreeMap<String, String>>,
    /// Refused: stores do not expire
    #[schema(value_type = Option<Object>)]
    expires_after: Option<Value>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// The last id of the page before
    after: Option<String>,
    /// The first id of the page behind
    before: Option<String>,
    /// 1 to 100, 20 when absent
    limit: Option<u32>,
    /// By age: `asc`, or `desc` when absent
    order: Option<String>,
}

/// Makes a vector store: OpenAI's. It is a collection of documents, whose name is the store's id.
#[utoipa::path(post, operation_id = "create_vector_store", path = "/v1/vector_stores", tag = "vector stores", request_body = NewStore,
    responses((status = 200, description = "OpenAI's vector store"), (status = 400, description = "Something that it cannot be"),
        (status = 404, description = "There is no such file"), (status = 429, description = "Too many documents wait")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Json(new): Json<NewStore>,
) -> Result<axum::Json<Value>, Error> {
    never_expires(new.expires_after.as_ref())?;
    cut_by_itself(new.chunking_strategy.as_ref())?;
    let ids = new.file_ids.unwrap_or_default();
    if ids.len() > MOST_FILES {
        let fault = format!("/file_ids: has {}, at most {MOST_FILES} are allowed", ids.len());
        return Err(Error::invalid(fault));
    }
    let files = uploads(&app, &context, ids).await?;
    let name = grant.collection(Some(VectorStoreId::generate().to_string()))?;
    let request = CreateCollectionRequest {
        name: name.clone(),
        title: new.name.unwrap_or_default(),
        metadata: new.metadata.unwrap_or_default().into_iter().collect(),
    };
    detached(async move {
        let request = runtime::context::request(&context, request);
        app.retriever().create_collection(request).await?;
        let files: Vec<Uploaded> = files.into_iter().map(Uploaded::from).collect();
        if !files.is_empty()
            && let Err(fault) = add(&app, &context, &name, files).await
        {
            // All of it, or nothing.
            let request = DeleteCollectionRequest { name };
            let request = runtime::context::request(&undoing(&context), request);
            if let Err(fault) = app.retriever().delete_collection(request).await {
                tracing::warn!(%fault, "a vector store that was refused is there still");
            }
            return Err(fault);
        }
        one(&app, &context, name).await
    })
    .await
}

/// Lists vector stores.
#[utoipa::path(get, operation_id = "list_vector_stores", path = "/v1/vector_stores", tag = "vector stores", params(Page),
    responses((status = 200, description = "A page of OpenAI's vector stores: those that the key may use")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let (oldest_first, limit) =
        (super::oldest_first(page.order.as_deref())?, page_size(page.limit)?);
    let request = runtime::context::request(&context, ListCollectionsRequest {});
    let mut stores = app.retriever().list_collections(request).await?.into_inner().collections;
    stores.retain(|store| allows(grant.collections.as_deref(), &store.name));
    stores.sort_by(|one, other| {
        (one.created_at_ms, &one.name).cmp(&(other.created_at_ms, &other.name))
    });
    if !oldest_first {
        stores.reverse();
    }
    let place = |id: &str, what: &str| {
        let found = stores.iter().position(|store| store.name == id);
        found.ok_or_else(|| Error::invalid(format!("{what}: there is no vector store {id:?}")))
    };
    let begin = page.after.map_or(Ok(0), |id| place(&id, "after").map(|at| at + 1))?;
    let (wanted, has_more) = match page.before {
        None => {
            let end = stores.len().min(begin + limit);
            (begin..end, end < stores.len())
        }
        // Those that are next to it.
        Some(id) => {
            let end = place(&id, "before")?.max(begin);
            let start = end.saturating_sub(limit).max(begin);
            (start..end, start > begin)
        }
    };
    let data = stores[wanted].iter().map(shown).collect();
    Ok(axum::Json(super::page(data, has_more)))
}

/// Tells one vector store.
#[utoipa::path(get, operation_id = "retrieve_vector_store", path = "/v1/vector_stores/{id}", tag = "vector stores",
    params(("id" = String, Path, description = "The store")),
    responses((status = 200, description = "OpenAI's vector store"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    one(&app, &context, grant.collection(Some(id))?).await
}

/// Changes a vector store's name or metadata.
#[utoipa::path(post, operation_id = "modify_vector_store", path = "/v1/vector_stores/{id}", tag = "vector stores",
    params(("id" = String, Path, description = "The store")), request_body = StoreChange,
    responses((status = 200, description = "As it is now"), (status = 404, description = "There is none")))]
pub(crate) async fn change(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Json(change): Json<StoreChange>,
) -> Result<axum::Json<Value>, Error> {
    never_expires(change.expires_after.as_ref())?;
    let pairs = |pairs: BTreeMap<_, _>| Metadata { pairs: pairs.into_iter().collect() };
    let request = ChangeCollectionRequest {
        name: grant.collection(Some(id))?,
        title: change.name,
        metadata: change.metadata.map(pairs),
    };
    let request = runtime::context::request(&context, request);
    let changed = app.retriever().change_collection(request).await?.into_inner();
    Ok(axum::Json(shown(&changed.collection.unwrap_or_default())))
}

/// Removes a vector store with its documents; the files that they were made from stay.
#[utoipa::path(delete, operation_id = "delete_vector_store", path = "/v1/vector_stores/{id}", tag = "vector stores",
    params(("id" = String, Path, description = "The store")),
    responses((status = 200, description = "Removed"), (status = 404, description = "There is none")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let request = DeleteCollectionRequest { name: grant.collection(Some(id.clone()))? };
    let request = runtime::context::request(&context, request);
    app.retriever().delete_collection(request).await?;
    Ok(axum::Json(json!({ "id": id, "object": "vector_store.deleted", "deleted": true })))
}

/// Runs to its end also when its client goes away, though not when the process ends. What is undone after a fault is
/// up to `changes`.
async fn detached<T: Send + 'static>(
    changes: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::spawn(changes.in_current_span()).await;
    done.unwrap_or_else(|fault| {
        tracing::error!(%fault, "changes to a vector store did not end");
        Err(Error::new(ErrorKind::Internal, "internal error"))
    })
}

/// Returns the context of whatever undoes what a call began: that call's own time may be over.
fn undoing(context: &CallContext) -> CallContext {
    CallContext { deadline: Some(Instant::now() + UNDONE), ..context.clone() }
}

async fn one(app: &App, context: &CallContext, name: String) -> Result<axum::Json<Value>, Error> {
    let request = runtime::context::request(context, GetCollectionRequest { name });
    let reply = app.retriever().get_collection(request).await?.into_inner();
    Ok(axum::Json(shown(&reply.collection.unwrap_or_default())))
}

/// Refuses that a store expires.
fn never_expires(expires_after: Option<&Value>) -> Result<(), Error> {
    match expires_after {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Error::invalid("/expires_after: vector stores do not expire here")),
    }
}

/// Refuses other ways to cut documents than ours.
fn cut_by_itself(strategy: Option<&Value>) -> Result<(), Error> {
    match strategy {
        None | Some(Value::Null) => Ok(()),
        Some(strategy) if *strategy == json!({ "type": "auto" }) => Ok(()),
        Some(_) => Err(Error::invalid(
            "/chunking_strategy: documents are cut along their structure, which is {\"type\": \"auto\"}",
        )),
    }
}

/// Reads a page's size.
fn page_size(limit: Option<u32>) -> Result<usize, Error> {
    match limit.unwrap_or(20) {
        limit @ 1..=100 => Ok(limit as usize),
        other => Err(Error::invalid(format!("limit: {other} is not 1 to 100"))),
    }
}

fn shown(store: &Collection) -> Value {
    let completed = store.documents.saturating_sub(store.waiting_stored);
    let title = Some(&store.title).filter(|title| !title.is_empty());
    // One that was made as a collection has a name that says something.
    let name = title.or_else(|| Some(&store.name).filter(|name| !name.starts_with("vs_")));
    let metadata: BTreeMap<&String, &String> = store.metadata.iter().collect();
    json!({
        "id": store.name,
        "object": "vector_store",
        "created_at": store.created_at_ms / 1000,
        "name": name,
        "usage_bytes": store.bytes,
        "file_counts": {
            "in_progress": store.waiting,
            "completed": completed,
            "failed": store.failed,
            "cancelled": 0,
            "total": store.waiting + completed + store.failed,
        },
        "status": if store.waiting > 0 { "in_progress" } else { "completed" },
        "expires_after": null,
        "expires_at": null,
        "last_active_at": null,
        "metadata": metadata,
    })
}
