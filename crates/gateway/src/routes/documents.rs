use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use proto::retriever::{
    DeleteDocumentRequest, Document, GetDocumentRequest, ListDocumentsRequest, PutDocumentRequest,
    Values,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::{CallContext, DocumentId};

use super::{Path, Query, filter};
use crate::auth::Grant;
use crate::{App, Error};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// The document's name: a path or an address, unique in its collection
    source: String,
    /// Where it goes, `default` when absent
    collection: Option<String>,
    /// What it is filtered by: a JSON object, each value a text, a number, true, false, or a list of them
    attributes: Option<String>,
    /// `private`: whatever reads it may not leave the machine. When absent, what the document of the same source is,
    /// or else `public`
    privacy: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Within {
    /// Where it is, `default` when absent
    collection: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// 1 to 1000, 100 when absent
    page_size: Option<u32>,
    /// `next_page_token` of the page before
    page_token: Option<String>,
    /// Whose documents, `default` when absent
    collection: Option<String>,
}

/// Stores a document: the body is the file itself.
///
/// Replaces the document of the same source; the same again changes nothing. `Content-Type` may name the
/// file's type, which its source's ending tells otherwise.
#[utoipa::path(post, operation_id = "put_document", path = "/api/v1/documents", tag = "documents", params(Named),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "Was there already"), (status = 201, description = "Stored"),
        (status = 400, description = "Cannot be read"), (status = 404, description = "There is no such collection"),
        (status = 409, description = "The collection has another model's vectors"), (status = 413, description = "Too large")))]
pub(crate) async fn put(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Query(named): Query<Named>,
    headers: HeaderMap,
    content: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, axum::Json<Value>), Error> {
    let mut request = read_upload(&app, named, &headers, content)?;
    request.collection =
        grant.collection(Some(request.collection).filter(|name| !name.is_empty()))?;
    let request = runtime::context::request(&context, request);
    let reply = app.retriever().put_document(request).await?.into_inner();
    let status = if reply.changed { StatusCode::CREATED } else { StatusCode::OK };
    let mut body = shown(&reply.document.unwrap_or_default());
    body["changed"] = reply.changed.into();
    Ok((status, axum::Json(body)))
}

/// Lists documents by source.
#[utoipa::path(get, operation_id = "list_documents", path = "/api/v1/documents", tag = "documents", params(Page),
    responses((status = 200, description = "A page of documents")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let request = ListDocumentsRequest {
        page_size: page.page_size.unwrap_or_default(),
        page_token: page.page_token.unwrap_or_default(),
        collection: grant.collection(page.collection)?,
    };
    let request = runtime::context::request(&context, request);
    let reply = app.retriever().list_documents(request).await?;
    let reply = reply.into_inner();
    let documents: Vec<Value> = reply.documents.iter().map(shown).collect();
    let next = Some(reply.next_page_token).filter(|token| !token.is_empty());
    Ok(axum::Json(json!({ "documents": documents, "next_page_token": next })))
}

/// Reads a document and its stored text.
#[utoipa::path(get, operation_id = "get_document", path = "/api/v1/documents/{id}", tag = "documents",
    params(("id" = String, Path, description = "The document"), Within),
    responses((status = 200, description = "The document"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Query(within): Query<Within>,
) -> Result<axum::Json<Value>, Error> {
    let (id, collection) = (DocumentId::new(id)?.to_string(), grant.collection(within.collection)?);
    let request = GetDocumentRequest { id, collection };
    let request = runtime::context::request(&context, request);
    let reply = app.retriever().get_document(request).await?.into_inner();
    let mut body = shown(&reply.document.unwrap_or_default());
    body["text"] = reply.text.into();
    Ok(axum::Json(body))
}

/// Removes a document and everything made from it.
#[utoipa::path(delete, operation_id = "delete_document", path = "/api/v1/documents/{id}", tag = "documents",
    params(("id" = String, Path, description = "The document"), Within),
    responses((status = 204, description = "Removed"), (status = 404, description = "There is none")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Query(within): Query<Within>,
) -> Result<StatusCode, Error> {
    let (id, collection) = (DocumentId::new(id)?.to_string(), grant.collection(within.collection)?);
    let request = DeleteDocumentRequest { id, collection };
    let request = runtime::context::request(&context, request);
    app.retriever().delete_document(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(document: &Document) -> Value {
    json!({
        "id": document.id,
        "source": document.source,
        "media_type": document.media_type,
        "content_sha256": document.content_sha256,
        "passages": document.passages,
        "characters": document.characters,
        "updated_at_ms": document.updated_at_ms,
        "collection": document.collection,
        "privacy": if document.private { "private" } else { "public" },
        "attributes": filter::shown(&document.attributes),
    })
}

/// Reads an uploaded document; its collection is empty when none is named.
///
/// # Errors
/// If the body is too large, or something said of it is malformed.
pub(super) fn read_upload(
    app: &App,
    named: Named,
    headers: &HeaderMap,
    content: Result<Bytes, BytesRejection>,
) -> Result<PutDocumentRequest, Error> {
    let content = content.map_err(|fault| {
        let fault_text =
            format!("{} (at most {} bytes)", fault.body_text(), app.config.max_body_bytes);
        Error::with_status(fault.status(), fault_text)
    })?;
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type =
        media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    // What curl and fetch send when nobody chose: no statement about the file.
    let media_type = match media_type {
        "application/octet-stream" | "application/x-www-form-urlencoded" => "",
        chosen => chosen,
    };
    Ok(PutDocumentRequest {
        source: named.source,
        content,
        media_type: media_type.to_owned(),
        collection: named.collection.unwrap_or_default(),
        attributes: attributes(named.attributes.as_deref().unwrap_or("{}"))?,
        private: privacy(named.privacy.as_deref())?,
        fetch: false,
    })
}

/// Reads what is said of a document's privacy.
pub(super) fn privacy(said: Option<&str>) -> Result<Option<bool>, Error> {
    match said {
        None => Ok(None),
        Some("public") => Ok(Some(false)),
        Some("private") => Ok(Some(true)),
        Some(other) => {
            Err(Error::invalid(format!("privacy: {other:?} is neither public nor private")))
        }
    }
}

/// Reads attributes, each one value or a list of them.
fn attributes(text: &str) -> Result<HashMap<String, Values>, Error> {
    let fault = |what: String| Error::invalid(format!("attributes: {what}"));
    let read: Value = serde_json::from_str(text).map_err(|broken| fault(broken.to_string()))?;
    let Value::Object(read) = read else { return Err(fault("is not an object".to_owned())) };
    read_attributes(read)
}

/// As [`attributes`], of an object.
pub(super) fn read_attributes(read: Map<String, Value>) -> Result<HashMap<String, Values>, Error> {
    let attribute = |(name, value): (String, Value)| {
        let values = match value {
            Value::Array(values) => values,
            one => vec![one],
        };
        let place = format!("attributes: /{name}");
        let values = values.iter().map(|value| filter::value(value, &place));
        Ok((name.clone(), Values { values: values.collect::<Result<_, Error>>()? }))
    };
    read.into_iter().map(attribute).collect()
}
