use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use proto::orchestrator::{
    Batch, BatchFault, BatchStatus, CancelBatchRequest, CreateBatchRequest, GetBatchRequest,
    ListBatchesRequest,
};
use serde::Deserialize;
use serde_json::{Value, json};
use types::{BatchId, CallContext, ErrorKind, FileId, NanoUsd};

use super::{Json, Path, Query};
use crate::auth::Grant;
use crate::{App, Error};

/// A new batch.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBatch {
    /// A file of purpose `batch`
    input_file_id: String,
    /// `/v1/chat/completions`, `/v1/messages` or `/v1/responses`
    endpoint: String,
    /// `1h` to `168h`: what has not begun by then never will
    completion_window: String,
    /// At most 16 pairs; `max_cost_usd` limits what the requests may cost, as a decimal number
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// The last id of the page before
    after: Option<String>,
    /// 1 to 100, 20 when absent
    limit: Option<u32>,
}

/// Begins a batch of requests: OpenAI's batches.
///
/// The requests are made in the caller's name, as privately as the call and its file, while nobody
/// waits.
#[utoipa::path(post, operation_id = "create_batch", path = "/v1/batches", tag = "batches", request_body = NewBatch,
    responses((status = 200, description = "OpenAI's batch"), (status = 400, description = "An unknown endpoint or an impossible limit"),
        (status = 404, description = "There is no such file")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Json(new): Json<NewBatch>,
) -> Result<axum::Json<Value>, Error> {
    // Its lines name models, and are read when nobody asks any more what the key may use.
    if grant.models.is_some() {
        let fault = "the key may use some models only, and so begin no batch";
        return Err(Error::new(ErrorKind::Denied, fault));
    }
    let request = CreateBatchRequest {
        input_file_id: FileId::new(new.input_file_id)?.to_string(),
        endpoint: new.endpoint,
        completion_window: new.completion_window,
        metadata: new.metadata.unwrap_or_default().into_iter().collect(),
    };
    let request = runtime::context::request(&context, request);
    let reply = OrchestratorServiceClient::new(app.peers.orchestrator.clone())
        .create_batch(request)
        .await?;
    Ok(axum::Json(shown(&reply.into_inner().batch.unwrap_or_default())))
}

/// Lists batches, the newest first.
#[utoipa::path(get, operation_id = "list_batches", path = "/v1/batches", tag = "batches", params(Page),
    responses((status = 200, description = "A page of OpenAI's batches")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let request = ListBatchesRequest {
        after: page.after.unwrap_or_default(),
        limit: super::at_least_one(page.limit)?,
    };
    let request = runtime::context::request(&context, request);
    let reply = OrchestratorServiceClient::new(app.peers.orchestrator.clone())
        .list_batches(request)
        .await?;
    let reply = reply.into_inner();
    Ok(axum::Json(super::page(reply.batches.iter().map(shown).collect(), reply.has_more)))
}

/// Tells how a batch stands.
#[utoipa::path(get, operation_id = "retrieve_batch", path = "/v1/batches/{id}", tag = "batches",
    params(("id" = String, Path, description = "The batch")),
    responses((status = 200, description = "OpenAI's batch"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let request = GetBatchRequest { batch_id: BatchId::new(id)?.to_string() };
    let request = runtime::context::request(&context, request);
    let reply =
        OrchestratorServiceClient::new(app.peers.orchestrator.clone()).get_batch(request).await?;
    Ok(axum::Json(shown(&reply.into_inner().batch.unwrap_or_default())))
}

/// Lets nothing more of a batch begin; what has begun is finished.
#[utoipa::path(post, operation_id = "cancel_batch", path = "/v1/batches/{id}/cancel", tag = "batches",
    params(("id" = String, Path, description = "The batch")),
    responses((status = 200, description = "OpenAI's batch"), (status = 404, description = "There is none"),
        (status = 409, description = "It has ended")))]
pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let request = CancelBatchRequest { batch_id: BatchId::new(id)?.to_string() };
    let request = runtime::context::request(&context, request);
    let reply = OrchestratorServiceClient::new(app.peers.orchestrator.clone())
        .cancel_batch(request)
        .await?;
    Ok(axum::Json(shown(&reply.into_inner().batch.unwrap_or_default())))
}

fn shown(batch: &Batch) -> Value {
    let status = batch.status();
    let name = status.as_str_name().trim_start_matches("BATCH_STATUS_");
    let time = |ms: i64| (ms != 0).then_some(ms / 1000);
    let ended_as = |wanted: BatchStatus| time(batch.ended_at_ms).filter(|_| status == wanted);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let fault = |fault: &BatchFault| {
        json!({
            "code": fault.code,
            "line": (fault.line != 0).then_some(fault.line),
            "message": fault.message,
            "param": text(&fault.param),
        })
    };
    let faults: Vec<Value> = batch.faults.iter().map(fault).collect();
    let metadata: BTreeMap<_, _> = batch.metadata.iter().collect();
    json!({
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": (!faults.is_empty()).then(|| json!({ "object": "list", "data": faults })),
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": name.to_lowercase(),
        "output_file_id": text(&batch.output_file_id),
        "error_file_id": text(&batch.error_file_id),
        "created_at": batch.created_at_ms / 1000,
        "in_progress_at": time(batch.in_progress_at_ms),
        "expires_at": time(batch.expires_at_ms),
        "finalizing_at": time(batch.finalizing_at_ms),
        "completed_at": ended_as(BatchStatus::Completed),
        "failed_at": ended_as(BatchStatus::Failed),
        "expired_at": ended_as(BatchStatus::Expired),
        "cancelling_at": time(batch.cancelling_at_ms),
        "cancelled_at": ended_as(BatchStatus::Cancelled),
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "metadata": (!metadata.is_empty()).then_some(metadata),
        // Not OpenAI's: what it has cost.
        "cost_usd": NanoUsd::new(batch.cost_nanos).to_usd(),
    })
}
