use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use proto::orchestrator::create_file_request::Part;
use proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use proto::orchestrator::{
    CreateFileRequest, DeleteFileRequest, File, FileEnd, GetFileRequest, ListFilesRequest,
    ReadFileRequest,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use types::{CallContext, FileId};

use super::{Path, Query};
use crate::{App, Error};

/// The longest text beside a file.
const LONGEST: usize = 1024;

/// An upload, as the OpenAPI document describes it.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "described, not read: the parts are streamed")]
pub(crate) struct Upload {
    /// For `batch` a request a line: `{"custom_id", "method": "POST", "url", "body"}`
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// `batch`; or `assistants` or `user_data`, for vector stores
    purpose: String,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// The last id of the page before
    after: Option<String>,
    /// 1 to 10000, 10000 when absent
    limit: Option<u32>,
    /// Only files of this purpose: `batch`, `batch_output`, `assistants` or `user_data`
    purpose: Option<String>,
    /// By age: `asc`, or `desc` when absent
    order: Option<String>,
}

/// Stores a file of requests for a batch, or a document for vector stores: OpenAI's files.
#[utoipa::path(post, operation_id = "create_file", path = "/v1/files", tag = "batches",
    request_body(content = Upload, content_type = "multipart/form-data"),
    responses((status = 200, description = "OpenAI's file"), (status = 400, description = "No file, or of an unknown purpose"),
        (status = 413, description = "Too large")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<axum::Json<Value>, Error> {
    let form = form.map_err(|fault| Error::with_status(fault.status(), fault.body_text()))?;
    let (sender, mut parts) = mpsc::channel(2);
    let parts = stream::poll_fn(move |cx| parts.poll_recv(cx));
    let request = runtime::context::request(&context, parts);
    let mut orchestrator = OrchestratorServiceClient::new(app.peers.orchestrator.clone());
    // A form that fails ends without its last part, and the other side forgets it.
    let (sent, stored) = tokio::join!(forward(form, sender), orchestrator.create_file(request));
    sent?;
    Ok(axum::Json(shown(&stored?.into_inner().file.unwrap_or_default())))
}

/// Sends a form's parts on as they come, and reads to its end whatever happens: a client that is cut
/// off while it writes never reads why. Whoever receives may have refused; they say why themselves.
async fn forward(
    mut form: Multipart,
    sender: mpsc::Sender<CreateFileRequest>,
) -> Result<(), Error> {
    let send = async |part: Part| drop(sender.send(CreateFileRequest { part: Some(part) }).await);
    let mut fault = None;
    while let Some(mut field) = form.next_field().await? {
        match field.name().unwrap_or_default().to_owned().as_str() {
            "purpose" => send(Part::Purpose(text(field).await?)).await,
            "file" => {
                send(Part::Filename(field.file_name().unwrap_or("file").to_owned())).await;
                while let Some(chunk) = field.chunk().await? {
                    send(Part::Chunk(chunk)).await;
                }
            }
            other => fault = Some(Error::invalid(format!("{other}: there is no such field"))),
        }
    }
    if let Some(fault) = fault {
        return Err(fault);
    }
    send(Part::End(FileEnd {})).await;
    Ok(())
}

/// Reads a short field.
async fn text(mut field: Field<'_>) -> Result<String, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            return Err(Error::invalid(format!("a field has more than {LONGEST} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid("a field is not UTF-8"))
}

/// Lists files: OpenAI's, and what batches made.
#[utoipa::path(get, operation_id = "list_files", path = "/v1/files", tag = "batches", params(Page),
    responses((status = 200, description = "A page of OpenAI's files")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let oldest_first = super::oldest_first(page.order.as_deref())?;
    let request = ListFilesRequest {
        after: page.after.unwrap_or_default(),
        limit: super::at_least_one(page.limit)?,
        purpose: page.purpose.unwrap_or_default(),
        oldest_first,
    };
    let request = runtime::context::request(&context, request);
    let reply =
        OrchestratorServiceClient::new(app.peers.orchestrator.clone()).list_files(request).await?;
    let reply = reply.into_inner();
    Ok(axum::Json(super::page(reply.files.iter().map(shown).collect(), reply.has_more)))
}

/// Tells one file.
#[utoipa::path(get, operation_id = "retrieve_file", path = "/v1/files/{id}", tag = "batches",
    params(("id" = String, Path, description = "The file")),
    responses((status = 200, description = "OpenAI's file"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let request = GetFileRequest { file_id: FileId::new(id)?.to_string() };
    let request = runtime::context::request(&context, request);
    let reply =
        OrchestratorServiceClient::new(app.peers.orchestrator.clone()).get_file(request).await?;
    Ok(axum::Json(shown(&reply.into_inner().file.unwrap_or_default())))
}

/// Reads a file's content.
#[utoipa::path(get, operation_id = "download_file", path = "/v1/files/{id}/content", tag = "batches",
    params(("id" = String, Path, description = "The file")),
    responses((status = 200, description = "Its bytes"), (status = 404, description = "There is none")))]
pub(crate) async fn content(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let request = ReadFileRequest { file_id: FileId::new(id)?.to_string() };
    let request = runtime::context::request(&context, request);
    let pieces =
        OrchestratorServiceClient::new(app.peers.orchestrator.clone()).read_file(request).await?;
    // An error in the middle breaks the body off, so that nobody takes a part for the whole.
    let bytes = stream::try_unfold(pieces.into_inner(), |mut pieces| async move {
        let piece = pieces.message().await.map_err(Error::from)?;
        Ok::<_, Error>(piece.map(|piece| (piece.chunk, pieces)))
    });
    let mut response = Body::from_stream(bytes).into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Removes a file.
#[utoipa::path(delete, operation_id = "delete_file", path = "/v1/files/{id}", tag = "batches",
    params(("id" = String, Path, description = "The file")),
    responses((status = 200, description = "Removed"), (status = 404, description = "There is none")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let id = FileId::new(id)?;
    let request = DeleteFileRequest { file_id: id.to_string() };
    let request = runtime::context::request(&context, request);
    OrchestratorServiceClient::new(app.peers.orchestrator.clone()).delete_file(request).await?;
    Ok(axum::Json(json!({ "id": id, "object": "file", "deleted": true })))
}

fn shown(file: &File) -> Value {
    json!({
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at_ms / 1000,
        "expires_at": file.expires_at_ms / 1000,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": null,
    })
}

impl From<MultipartError> for Error {
    fn from(fault: MultipartError) -> Self {
        Self::with_status(fault.status(), fault.body_text())
    }
}
