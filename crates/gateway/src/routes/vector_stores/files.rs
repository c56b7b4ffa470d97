//! Files of vector stores: documents whose sources begin with the ids of files.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use proto::orchestrator::{File, GetFileRequest, ReadFileRequest};
use proto::retriever::{
    AddToJobRequest, ChangeEntryRequest, CreateJobRequest, DeleteEntryRequest, DeleteJobRequest,
    Entry, GetDocumentRequest, ListEntriesRequest, ListEntriesResponse, PutDocumentRequest,
    TaskState, Values,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::{CallContext, DocumentId, ErrorKind, FileId};

use super::super::documents::read_attributes;
use super::super::{Json, Path, Query, filter};
use super::{cut_by_itself, detached, page_size, undoing};
use crate::auth::Grant;
use crate::{App, Error};

/// A file to be added.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewStoreFile {
    /// A file of `/v1/files`
    pub(super) file_id: String,
    /// What it is filtered by, each value a text, a number, true or false
    #[schema(value_type = Option<Object>)]
    pub(super) attributes: Option<Map<String, Value>>,
    /// `{"type": "auto"}` alone: documents are cut along their structure
    #[schema(value_type = Option<Object>)]
    pub(super) chunking_strategy: Option<Value>,
}

/// What is to change of a file.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreFileChange {
    /// In place of all that it was filtered by, each value a text, a number, true or false; null or {}: by nothing
    #[schema(value_type = Option<Object>, required = true)]
    attributes: Value,
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
    /// By the ids of files, which sort by age: `asc`, or `desc` when absent
    order: Option<String>,
    /// Only files that are so: `in_progress`, `completed`, `failed`; none is ever `cancelled`
    filter: Option<String>,
}

/// A file that is to be a store's, with what it is filtered by there.
pub(super) struct Uploaded {
    file: File,
    attributes: HashMap<String, Values>,
}

impl From<File> for Uploaded {
    fn from(file: File) -> Self {
        Self { file, attributes: HashMap::new() }
    }
}

/// Adds a file to a vector store: it is stored and indexed while nobody waits.
#[utoipa::path(post, operation_id = "create_vector_store_file", path = "/v1/vector_stores/{id}/files", tag = "vector stores",
    params(("id" = String, Path, description = "The store")), request_body = NewStoreFile,
    responses((status = 200, description = "OpenAI's vector store file"), (status = 400, description = "It cannot be a document"),
        (status = 404, description = "There is no such store or file"), (status = 429, description = "Too many documents wait")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Json(new): Json<NewStoreFile>,
) -> Result<axum::Json<Value>, Error> {
    let store = grant.collection(Some(id))?;
    let uploaded = upload(&app, &context, new).await?;
    let entry = Entry {
        source: source(&uploaded.file),
        state: TaskState::Queued.into(),
        attributes: uploaded.attributes.clone(),
        updated_at_ms: uploaded.file.created_at_ms,
        ..Entry::default()
    };
    detached(async move {
        add(&app, &context, &store, vec![uploaded]).await?;
        Ok(axum::Json(shown(&store, &entry)))
    })
    .await
}

/// Lists a vector store's files.
#[utoipa::path(get, operation_id = "list_vector_store_files", path = "/v1/vector_stores/{id}/files", tag = "vector stores",
    params(("id" = String, Path, description = "The store"), Page),
    responses((status = 200, description = "A page of OpenAI's vector store files"), (status = 404, description = "There is no such store")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let store = grant.collection(Some(id))?;
    listed(&app, &context, store, String::new(), page).await
}

/// Tells one file of a vector store.
#[utoipa::path(get, operation_id = "retrieve_vector_store_file", path = "/v1/vector_stores/{id}/files/{file_id}", tag = "vector stores",
    params(("id" = String, Path, description = "The store"), ("file_id" = String, Path, description = "The file")),
    responses((status = 200, description = "OpenAI's vector store file"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, file)): Path<(String, String)>,
) -> Result<axum::Json<Value>, Error> {
    let store = grant.collection(Some(id))?;
    let entry = there(&app, &context, &store, &file).await?;
    Ok(axum::Json(shown(&store, &entry)))
}

/// Changes what a file of a vector store is filtered by; its text and its time stay.
#[utoipa::path(post, operation_id = "update_vector_store_file", path = "/v1/vector_stores/{id}/files/{file_id}", tag = "vector stores",
    params(("id" = String, Path, description = "The store"), ("file_id" = String, Path, description = "The file")), request_body = StoreFileChange,
    responses((status = 200, description = "As it is now"), (status = 400, description = "Something that no attribute can be"),
        (status = 404, description = "There is none")))]
pub(crate) async fn change(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, file)): Path<(String, String)>,
    Json(change): Json<StoreFileChange>,
) -> Result<axum::Json<Value>, Error> {
    let store = grant.collection(Some(id))?;
    let attributes = match change.attributes {
        Value::Null => HashMap::new(),
        Value::Object(attributes) => read_attributes(attributes)?,
        _ => return Err(Error::invalid("/attributes: is not an object")),
    };
    let source = there(&app, &context, &store, &file).await?.source;
    let request = ChangeEntryRequest { collection: store.clone(), source, attributes };
    let request = runtime::context::request(&context, request);
    app.retriever().change_entry(request).await?;
    let entry = there(&app, &context, &store, &file).await?;
    Ok(axum::Json(shown(&store, &entry)))
}

/// Reads the text of a vector store's file.
#[utoipa::path(get, operation_id = "vector_store_file_content", path = "/v1/vector_stores/{id}/files/{file_id}/content", tag = "vector stores",
    params(("id" = String, Path, description = "The store"), ("file_id" = String, Path, description = "The file")),
    responses((status = 200, description = "A page of OpenAI's content: the stored text"), (status = 404, description = "There is none"),
        (status = 409, description = "It is not completed")))]
pub(crate) async fn content(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, file)): Path<(String, String)>,
) -> Result<axum::Json<Value>, Error> {
    let collection = grant.collection(Some(id))?;
    let entry = there(&app, &context, &collection, &file).await?;
    if entry.state() != TaskState::Done {
        let fault = format!("file {file:?} is {}, and has no content yet", status(&entry));
        return Err(Error::new(ErrorKind::Conflict, fault));
    }
    let request = GetDocumentRequest { id: entry.document_id, collection };
    let request = runtime::context::request(&context, request);
    let text = app.retriever().get_document(request).await?.into_inner().text;
    Ok(axum::Json(json!({
        "object": "vector_store.file_content.page",
        "data": [{ "type": "text", "text": text }],
        "has_more": false,
        "next_page": null,
    })))
}

/// Removes a file from a vector store, and what waits of it; the file itself stays.
#[utoipa::path(delete, operation_id = "delete_vector_store_file", path = "/v1/vector_stores/{id}/files/{file_id}", tag = "vector stores",
    params(("id" = String, Path, description = "The store"), ("file_id" = String, Path, description = "The file")),
    responses((status = 200, description = "Removed"), (status = 404, description = "There is none")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, file)): Path<(String, String)>,
) -> Result<axum::Json<Value>, Error> {
    let collection = grant.collection(Some(id))?;
    let source = there(&app, &context, &collection, &file).await?.source;
    let request = runtime::context::request(&context, DeleteEntryRequest { collection, source });
    app.retriever().delete_entry(request).await?;
    Ok(axum::Json(json!({ "id": file, "object": "vector_store.file.deleted", "deleted": true })))
}

/// Returns a page of a store's files, or of those that one batch added.
pub(super) async fn listed(
    app: &App,
    context: &CallContext,
    store: String,
    batch: String,
    page: Page,
) -> Result<axum::Json<Value>, Error> {
    let backwards = !super::super::oldest_first(page.order.as_deref())?;
    let states: &[TaskState] = match page.filter.as_deref() {
        None => &[],
        Some("in_progress") => &[TaskState::Queued, TaskState::Running],
        Some("completed") => &[TaskState::Done],
        Some("failed") => &[TaskState::Failed],
        // Whatever is cancelled is forgotten: nothing is in this state.
        Some("cancelled") => &[TaskState::Unspecified],
        Some(other) => {
            let known = "in_progress, completed, failed, cancelled";
            return Err(Error::invalid(format!("filter: {other:?} is none of {known}")));
        }
    };
    let after = match &page.after {
        None => None,
        Some(id) => Some(place(app, context, &store, "after", id, backwards).await?),
    };
    let before = match &page.before {
        None => None,
        Some(id) => Some(place(app, context, &store, "before", id, !backwards).await?),
    };
    // Those before a file are read from there on the other way, unless it is said where they begin.
    let is_turned = after.is_none() && before.is_some();
    let request = ListEntriesRequest {
        collection: store.clone(),
        after: after.or_else(|| before.clone()).unwrap_or_default(),
        backwards: backwards != is_turned,
        limit: u32::try_from(page_size(page.limit)?).unwrap_or(u32::MAX),
        states: states.iter().map(|state| i32::from(*state)).collect(),
        job: batch,
    };
    let request = runtime::context::request(context, request);
    let reply = app.retriever().list_entries(request).await?.into_inner();
    let ListEntriesResponse { mut entries, mut has_more } = reply;
    if is_turned {
        entries.reverse();
    } else if let Some(before) = &before {
        has_more &= !cut(&mut entries, before, backwards);
    }
    let data = entries.iter().map(|entry| shown(&store, entry)).collect();
    Ok(axum::Json(super::super::page(data, has_more)))
}

/// Returns the source behind which a list goes on from a file; `parameter` is what the request calls that file.
async fn place(
    app: &App,
    context: &CallContext,
    store: &str,
    parameter: &str,
    id: &str,
    backwards: bool,
) -> Result<String, Error> {
    if id.starts_with("file-") {
        // Whether it is there still or not: its source is between these two.
        return Ok(if backwards { format!("{id}/") } else { format!("{id}/\u{10ffff}") });
    }
    let found = find(app, context, store, id).await?;
    Ok(found.ok_or_else(|| Error::invalid(format!("{parameter}: there is no file {id:?}")))?.source)
}

/// Removes those of a list's entries that are not before a source; tells whether there were any.
fn cut(entries: &mut Vec<Entry>, before: &str, backwards: bool) -> bool {
    let count = entries.len();
    entries.retain(|entry| match backwards {
        true => entry.source.as_str() > before,
        false => entry.source.as_str() < before,
    });
    entries.len() < count
}

/// Finds a file that is to be added.
pub(super) async fn upload(
    app: &App,
    context: &CallContext,
    new: NewStoreFile,
) -> Result<Uploaded, Error> {
    cut_by_itself(new.chunking_strategy.as_ref())?;
    let attributes = read_attributes(new.attributes.unwrap_or_default())?;
    let file = uploads(app, context, vec![new.file_id]).await?.pop();
    let file = file.ok_or_else(|| Error::new(ErrorKind::Internal, "a file was lost"))?;
    Ok(Uploaded { file, attributes })
}

/// Finds files of `/v1/files`, each once.
pub(super) async fn uploads(
    app: &App,
    context: &CallContext,
    ids: Vec<String>,
) -> Result<Vec<File>, Error> {
    let mut files: Vec<File> = Vec::with_capacity(ids.len());
    for id in ids {
        if files.iter().any(|file| file.id == id) {
            continue;
        }
        let request = GetFileRequest { file_id: FileId::new(id)?.to_string() };
        let request = runtime::context::request(context, request);
        let mut orchestrator = OrchestratorServiceClient::new(app.peers.orchestrator.clone());
        let file = orchestrator.get_file(request).await?.into_inner().file.unwrap_or_default();
        let (is, most) = (file.bytes, app.config.max_body_bytes);
        if usize::try_from(is).map_or(true, |is| is > most) {
            let fault = format!("file {:?} has {is} bytes, at most {most} are allowed", file.id);
            return Err(Error::invalid(fault));
        }
        files.push(file);
    }
    Ok(files)
}

/// Adds files to a store in one job, and returns its id.
///
/// # Errors
/// If one of them cannot be added: those that wait are forgotten then, and what was stored by then stays.
pub(super) async fn add(
    app: &App,
    context: &CallContext,
    store: &str,
    files: Vec<Uploaded>,
) -> Result<String, Error> {
    let request = CreateJobRequest { collection: store.to_owned(), documents: Vec::new() };
    let request = runtime::context::request(context, request);
    let job = app.retriever().create_job(request).await?.into_inner().job.unwrap_or_default().id;
    for Uploaded { file, attributes } in files {
        let added = async {
            let document = PutDocumentRequest {
                source: source(&file),
                content: bytes(app, context, &file).await?.into(),
                attributes,
                private: file.private.then_some(true),
                ..PutDocumentRequest::default()
            };
            let request = AddToJobRequest { job: job.clone(), document: Some(document) };
            let request = runtime::context::request(context, request);
            app.retriever().add_to_job(request).await?;
            Ok::<_, Error>(())
        };
        if let Err(fault) = added.await {
            let request = DeleteJobRequest { job };
            let request = runtime::context::request(&undoing(context), request);
            if let Err(fault) = app.retriever().delete_job(request).await {
                tracing::warn!(%fault, "files of a batch that was refused may still be added");
            }
            return Err(fault);
        }
    }
    Ok(job)
}

async fn bytes(app: &App, context: &CallContext, file: &File) -> Result<Vec<u8>, Error> {
    let request = ReadFileRequest { file_id: file.id.clone() };
    let request = runtime::context::request(context, request);
    let mut orchestrator = OrchestratorServiceClient::new(app.peers.orchestrator.clone());
    let mut pieces = orchestrator.read_file(request).await?.into_inner();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.message().await? {
        whole.extend_from_slice(&piece.chunk);
    }
    Ok(whole)
}

/// Returns what a file is called in its store: two files may have one name.
fn source(file: &File) -> String {
    format!("{}/{}", file.id, file.filename)
}

/// Returns the id and the name that a document has as a store's file: those of the file that it was made from, or else
/// its own.
pub(super) fn named<'a>(source: &'a str, document_id: &'a str) -> (&'a str, &'a str) {
    match source.split_once('/') {
        Some((id, name)) if id.starts_with("file-") => (id, name),
        _ => (document_id, source),
    }
}

/// Returns what a store has of a file.
///
/// # Errors
/// If there is nothing.
async fn there(app: &App, context: &CallContext, store: &str, id: &str) -> Result<Entry, Error> {
    let missing =
        || Error::new(ErrorKind::NotFound, format!("vector store {store:?} has no file {id:?}"));
    find(app, context, store, id).await?.ok_or_else(missing)
}

async fn find(
    app: &App,
    context: &CallContext,
    store: &str,
    id: &str,
) -> Result<Option<Entry>, Error> {
    let collection = store.to_owned();
    if !id.starts_with("file-") {
        return document(app, context, collection, id).await;
    }
    // The first source behind a file's id is the file's, if it has one.
    let after = format!("{id}/");
    let request =
        ListEntriesRequest { collection, after, limit: 1, ..ListEntriesRequest::default() };
    let request = runtime::context::request(context, request);
    let found = app.retriever().list_entries(request).await?.into_inner().entries.pop();
    Ok(found.filter(|entry| named(&entry.source, &entry.document_id).0 == id))
}

/// Finds a document that is stored and was made from no file.
async fn document(
    app: &App,
    context: &CallContext,
    collection: String,
    id: &str,
) -> Result<Option<Entry>, Error> {
    let request = GetDocumentRequest { id: DocumentId::new(id)?.to_string(), collection };
    let request = runtime::context::request(context, request);
    let reply = match app.retriever().get_document(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) if runtime::error::kind_of(&status) == ErrorKind::NotFound => return Ok(None),
        Err(status) => return Err(status.into()),
    };
    Ok(reply.document.map(|document| Entry {
        source: document.source,
        state: TaskState::Done.into(),
        document_id: document.id,
        attributes: document.attributes,
        updated_at_ms: document.updated_at_ms,
        bytes: reply.text.len() as u64,
        ..Entry::default()
    }))
}

fn status(entry: &Entry) -> &'static str {
    match entry.state() {
        TaskState::Done => "completed",
        TaskState::Failed => "failed",
        TaskState::Queued | TaskState::Running | TaskState::Unspecified => "in_progress",
    }
}

pub(super) fn shown(store: &str, entry: &Entry) -> Value {
    let last_error = (entry.state() == TaskState::Failed)
        .then(|| json!({ "code": "invalid_file", "message": entry.reason }));
    json!({
        "id": named(&entry.source, &entry.document_id).0,
        "object": "vector_store.file",
        "created_at": entry.updated_at_ms / 1000,
        "vector_store_id": store,
        "usage_bytes": entry.bytes,
        "status": status(entry),
        "last_error": last_error,
        "chunking_strategy": { "type": "other" },
        "attributes": filter::shown(&entry.attributes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_before_a_file_is_left() {
        for (before, backwards, left) in
            [("c", false, "ab"), ("d", false, "abc"), ("a", false, ""), ("b/", true, "c")]
        {
            let entry = |source: char| Entry { source: source.into(), ..Entry::default() };
            let mut entries: Vec<Entry> = "abc".chars().map(entry).collect();
            let was_cut = cut(&mut entries, before, backwards);
            let sources: String = entries.into_iter().map(|entry| entry.source).collect();
            assert_eq!((sources.as_str(), was_cut), (left, left != "abc"), "{before:?}");
        }
    }
}
