//! Batches of files for vector stores: ingest jobs by another name.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use proto::retriever::{DeleteJobRequest, GetJobRequest, Job};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::{CallContext, ErrorKind, JobId};

use super::super::{Json, Path, Query};
use super::files::{NewStoreFile, Page, add, listed, upload};
use super::{MOST_FILES, detached};
use crate::auth::Grant;
use crate::{App, Error};

/// A batch of files to be added: `file_ids` or `files`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewFileBatch {
    /// Files of `/v1/files`, at most 500
    file_ids: Option<Vec<String>>,
    /// Files with their own attributes, at most 500
    files: Option<Vec<NewStoreFile>>,
    /// What the files of `file_ids` are filtered by, each value a text, a number, true or false
    #[schema(value_type = Option<Object>)]
    attributes: Option<Map<String, Value>>,
    /// `{"type": "auto"}` alone: documents are cut along their structure
    #[schema(value_type = Option<Object>)]
    chunking_strategy: Option<Value>,
}

impl NewFileBatch {
    /// Returns each file with what is said of it.
    ///
    /// # Errors
    /// If there are none, more than [`MOST_FILES`], or one twice, or both fields are given.
    fn files(self) -> Result<Vec<NewStoreFile>, Error> {
        let Self { file_ids, files, attributes, chunking_strategy } = self;
        let field = if files.is_some() { "/files" } else { "/file_ids" };
        let files: Vec<NewStoreFile> = match (file_ids, files) {
            (Some(ids), None) => ids
                .into_iter()
                .map(|file_id| NewStoreFile {
                    file_id,
                    attributes: attributes.clone(),
                    chunking_strategy: chunking_strategy.clone(),
                })
                .collect(),
            (None, Some(_)) if attributes.is_some() || chunking_strategy.is_some() => {
                let fault = "/files: each file says its own attributes and chunking_strategy";
                return Err(Error::invalid(fault));
            }
            (None, Some(files)) => files,
            _ => return Err(Error::invalid("/file_ids: is needed, or files, and not both")),
        };
        let count = files.len();
        if !(1..=MOST_FILES).contains(&count) {
            let fault = format!("{field}: has {count}, 1 to {MOST_FILES} are allowed");
            return Err(Error::invalid(fault));
        }
        let mut ids = HashSet::new();
        match files.iter().find(|file| !ids.insert(&file.file_id)) {
            None => Ok(files),
            Some(twice) => Err(Error::invalid(format!("{field}: has {:?} twice", twice.file_id))),
        }
    }
}

/// Adds files to a vector store. When one cannot be added those that wait are forgotten, and what was stored by then stays.
#[utoipa::path(post, operation_id = "create_vector_store_file_batch", path = "/v1/vector_stores/{id}/file_batches", tag = "vector stores",
    params(("id" = String, Path, description = "The store")), request_body = NewFileBatch,
    responses((status = 200, description = "OpenAI's batch of vector store files, an ingest job"),
        (status = 400, description = "One of them cannot be a document"), (status = 404, description = "There is no such store or file"),
        (status = 429, description = "Too many documents wait")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Json(new): Json<NewFileBatch>,
) -> Result<axum::Json<Value>, Error> {
    let store = grant.collection(Some(id))?;
    let mut uploaded = Vec::new();
    for file in new.files()? {
        uploaded.push(upload(&app, &context, file).await?);
    }
    detached(async move {
        let job = add(&app, &context, &store, uploaded).await?;
        let job = find(&app, &context, &store, job).await?;
        Ok(axum::Json(shown(&job, false)))
    })
    .await
}

/// Tells how far a batch of files is.
#[utoipa::path(get, operation_id = "retrieve_vector_store_file_batch", path = "/v1/vector_stores/{id}/file_batches/{batch_id}", tag = "vector stores",
    params(("id" = String, Path, description = "The store"), ("batch_id" = String, Path, description = "The batch")),
    responses((status = 200, description = "OpenAI's batch of vector store files"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, batch)): Path<(String, String)>,
) -> Result<axum::Json<Value>, Error> {
    let job = find(&app, &context, &grant.collection(Some(id))?, batch).await?;
    Ok(axum::Json(shown(&job, false)))
}

/// Lists the files of a batch as the store has them by now, without those that were removed from it since.
#[utoipa::path(get, operation_id = "list_vector_store_file_batch_files", path = "/v1/vector_stores/{id}/file_batches/{batch_id}/files", tag = "vector stores",
    params(("id" = String, Path, description = "The store"), ("batch_id" = String, Path, description = "The batch"), Page),
    responses((status = 200, description = "A page of OpenAI's vector store files"), (status = 404, description = "There is no such batch")))]
pub(crate) async fn files(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, batch)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let (store, batch) = (grant.collection(Some(id))?, JobId::new(batch)?.to_string());
    listed(&app, &context, store, batch, page).await
}

/// Cancels a batch of files, which is forgotten then: what waits is not done, what is completed stays.
#[utoipa::path(post, operation_id = "cancel_vector_store_file_batch", path = "/v1/vector_stores/{id}/file_batches/{batch_id}/cancel", tag = "vector stores",
    params(("id" = String, Path, description = "The store"), ("batch_id" = String, Path, description = "The batch")),
    responses((status = 200, description = "As it was"), (status = 404, description = "There is none")))]
pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, batch)): Path<(String, String)>,
) -> Result<axum::Json<Value>, Error> {
    let job = find(&app, &context, &grant.collection(Some(id))?, batch).await?;
    let request = runtime::context::request(&context, DeleteJobRequest { job: job.id.clone() });
    app.retriever().delete_job(request).await?;
    Ok(axum::Json(shown(&job, true)))
}

/// Finds an ingest job of a store.
async fn find(app: &App, context: &CallContext, store: &str, id: String) -> Result<Job, Error> {
    let request = GetJobRequest {
        job: JobId::new(id.clone())?.to_string(),
        page_size: 1,
        ..GetJobRequest::default()
    };
    let request = runtime::context::request(context, request);
    let job = app.retriever().get_job(request).await?.into_inner().job.unwrap_or_default();
    if job.collection != store || job.model.is_some() {
        let fault = format!("vector store {store:?} has no batch {id:?}");
        return Err(Error::new(ErrorKind::NotFound, fault));
    }
    Ok(job)
}

fn shown(job: &Job, is_cancelled: bool) -> Value {
    let waits = job.queued + job.running;
    let (status, in_progress, cancelled) = match is_cancelled {
        true => ("cancelled", 0, waits),
        false if waits > 0 => ("in_progress", waits, 0),
        false => ("completed", 0, 0),
    };
    json!({
        "id": job.id,
        "object": "vector_store.files_batch",
        "created_at": job.created_at_ms / 1000,
        "vector_store_id": job.collection,
        "status": status,
        "file_counts": {
            "in_progress": in_progress,
            "completed": job.done,
            "failed": job.failed,
            "cancelled": cancelled,
            "total": waits + job.done + job.failed,
        },
    })
}
