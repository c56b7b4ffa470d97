//! Ingest jobs: documents that are stored while nobody waits.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use proto::retriever::{
    AddToJobRequest, CreateJobRequest, DeleteJobRequest, GetJobRequest, Job, ListJobsRequest,
    ListJobsResponse, PutDocumentRequest, RetryJobRequest, Task, TaskState,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::{CallContext, JobId};

use super::documents::{Named, read_attributes, read_upload};
use super::{Json, Path, Query, documents};
use crate::auth::Grant;
use crate::{App, Error};

/// So many addresses a job begins with at most.
const MOST_URLS: usize = 1000;

/// A job to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewJob {
    /// Where its documents go, `default` when absent
    collection: Option<String>,
    /// Addresses to be fetched, at most 1000 of http or https: each is a document, of which it is the source
    #[serde(default)]
    urls: Vec<String>,
    /// What the documents of `urls` are filtered by, each value a text, a number, true, false, or a list of them
    #[schema(value_type = Option<Object>)]
    attributes: Option<Map<String, Value>>,
    /// Of the documents of `urls`. `private`: whatever reads them may not leave the machine, and they are fetched only
    /// from where the configuration says. When absent, what the document of the same source is, or else `public`
    privacy: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// 1 to 1000, 100 when absent
    page_size: Option<u32>,
    /// `next_page_token` of the page before
    page_token: Option<String>,
    /// `queued`, `running`, `done` or `failed`: only documents that are so
    state: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobsPage {
    /// 1 to 1000, 100 when absent
    page_size: Option<u32>,
    /// `next_page_token` of the page before
    page_token: Option<String>,
}

/// Begins an ingest job, maybe of addresses that are fetched.
///
/// Each address is a document of the job, with the reason when it could not be fetched; other documents are added to it.
#[utoipa::path(post, operation_id = "create_ingest_job", path = "/api/v1/ingest", tag = "documents", request_body = NewJob,
    responses((status = 201, description = "Begun"), (status = 400, description = "Not an address, or too many"),
        (status = 404, description = "There is no such collection"), (status = 429, description = "Too many documents wait")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Json(new): Json<NewJob>,
) -> Result<(StatusCode, axum::Json<Value>), Error> {
    let NewJob { collection, urls, attributes, privacy } = new;
    if urls.is_empty() && (attributes.is_some() || privacy.is_some()) {
        return Err(Error::invalid("attributes and privacy are of urls, of which there are none"));
    }
    if urls.len() > MOST_URLS {
        let fault = format!("/urls: has {}, at most {MOST_URLS} are allowed", urls.len());
        return Err(Error::invalid(fault));
    }
    let document = PutDocumentRequest {
        attributes: read_attributes(attributes.unwrap_or_default())?,
        private: documents::privacy(privacy.as_deref())?,
        fetch: true,
        ..PutDocumentRequest::default()
    };
    let documents =
        urls.into_iter().map(|source| PutDocumentRequest { source, ..document.clone() });
    let documents = documents.collect();
    let request = CreateJobRequest { collection: grant.collection(collection)?, documents };
    let request = runtime::context::request(&context, request);
    let reply = app.retriever().create_job(request).await?;
    Ok((StatusCode::CREATED, axum::Json(shown(&reply.into_inner().job.unwrap_or_default()))))
}

/// Adds a document to a job: the body is the file itself. What was accepted is not lost.
///
/// The same source again replaces the document, also when it was worked on already.
#[utoipa::path(post, operation_id = "add_to_ingest_job", path = "/api/v1/ingest/{job}/documents", tag = "documents",
    params(("job" = String, Path, description = "The job"), Named),
    request_body(content = String, content_type = "text/markdown"),
    responses((status = 202, description = "Accepted: it is stored and indexed while nobody waits"),
        (status = 404, description = "There is no such job"), (status = 413, description = "Too large"),
        (status = 429, description = "Too many documents wait")))]
pub(crate) async fn add(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(job): Path<String>,
    Query(named): Query<Named>,
    headers: HeaderMap,
    content: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Error> {
    let document = read_upload(&app, named, &headers, content)?;
    let job = match document.collection.as_str() {
        // Whoever may use every collection need not be told which it is.
        "" if grant.collections.is_none() => JobId::new(job)?.to_string(),
        collection => {
            let job = allowed(&app, &context, &grant, job).await?;
            if !collection.is_empty() && collection != job.collection {
                let fault = format!("collection: the job's documents go to {:?}", job.collection);
                return Err(Error::invalid(fault));
            }
            job.id
        }
    };
    let request = AddToJobRequest { job, document: Some(document) };
    let request = runtime::context::request(&context, request);
    app.retriever().add_to_job(request).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Lists ingest jobs, the newest first.
#[utoipa::path(get, operation_id = "list_ingest_jobs", path = "/api/v1/ingest", tag = "documents", params(JobsPage),
    responses((status = 200, description = "A page of jobs, of the collections that the key may use")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Query(page): Query<JobsPage>,
) -> Result<axum::Json<Value>, Error> {
    let listed = match grant.collections.as_deref() {
        // To the retriever no collection is every one.
        Some([]) => ListJobsResponse::default(),
        collections => {
            let request = ListJobsRequest {
                page_size: page.page_size.unwrap_or_default(),
                page_token: page.page_token.unwrap_or_default(),
                collections: collections.unwrap_or_default().to_vec(),
            };
            let request = runtime::context::request(&context, request);
            app.retriever().list_jobs(request).await?.into_inner()
        }
    };
    let next = Some(listed.next_page_token).filter(|token| !token.is_empty());
    let jobs = listed.jobs.iter().map(shown).collect::<Vec<_>>();
    Ok(axum::Json(json!({ "jobs": jobs, "next_page_token": next })))
}

/// Tells where a job is, and each of its documents.
#[utoipa::path(get, operation_id = "get_ingest_job", path = "/api/v1/ingest/{job}", tag = "documents",
    params(("job" = String, Path, description = "The job"), Page),
    responses((status = 200, description = "The job and a page of its documents, by source"),
        (status = 404, description = "There is no such job")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(job): Path<String>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let state = match page.state.as_deref() {
        None => TaskState::Unspecified,
        Some(name) => {
            *STATES.iter().find(|state| state_name(**state) == name).ok_or_else(|| {
                Error::invalid(format!("state: {name:?} is none of queued, running, done, failed"))
            })?
        }
    };
    let request = GetJobRequest {
        job: JobId::new(job)?.to_string(),
        page_size: page.page_size.unwrap_or_default(),
        page_token: page.page_token.unwrap_or_default(),
        state: state.into(),
        bare: false,
    };
    let request = runtime::context::request(&context, request);
    let reply = app.retriever().get_job(request).await?;
    let reply = reply.into_inner();
    let job = reply.job.unwrap_or_default();
    grant.collection(Some(job.collection.clone()))?;
    let mut body = shown(&job);
    body["documents"] = reply.tasks.iter().map(document).collect();
    body["next_page_token"] = Some(reply.next_page_token).filter(|token| !token.is_empty()).into();
    Ok(axum::Json(body))
}

/// Has the documents of a job that failed worked on again.
#[utoipa::path(post, operation_id = "retry_ingest_job", path = "/api/v1/ingest/{job}/retry", tag = "documents",
    params(("job" = String, Path, description = "The job")),
    responses((status = 200, description = "How many documents wait again"), (status = 404, description = "There is no such job")))]
pub(crate) async fn retry(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(job): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let job = allowed(&app, &context, &grant, job).await?;
    let request = runtime::context::request(&context, RetryJobRequest { job: job.id });
    let reply = app.retriever().retry_job(request).await?;
    Ok(axum::Json(json!({ "queued": reply.into_inner().queued })))
}

/// Forgets a job, and what its documents that failed were.
///
/// What waits is not done, nor is what is worked on; documents that are stored stay.
#[utoipa::path(delete, operation_id = "delete_ingest_job", path = "/api/v1/ingest/{job}", tag = "documents",
    params(("job" = String, Path, description = "The job")),
    responses((status = 204, description = "Forgotten"), (status = 404, description = "There is no such job")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(job): Path<String>,
) -> Result<StatusCode, Error> {
    let job = allowed(&app, &context, &grant, job).await?;
    let request = runtime::context::request(&context, DeleteJobRequest { job: job.id });
    app.retriever().delete_job(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns a job, without its counts, whose collection the key may use.
async fn allowed(
    app: &App,
    context: &CallContext,
    grant: &Grant,
    job: String,
) -> Result<Job, Error> {
    let (job, bare) = (JobId::new(job)?.to_string(), true);
    let request = GetJobRequest { job, bare, ..GetJobRequest::default() };
    let request = runtime::context::request(context, request);
    let reply = app.retriever().get_job(request).await?;
    let job = reply.into_inner().job.unwrap_or_default();
    grant.collection(Some(job.collection.clone()))?;
    Ok(job)
}

const STATES: [TaskState; 4] =
    [TaskState::Queued, TaskState::Running, TaskState::Done, TaskState::Failed];

fn state_name(state: TaskState) -> &'static str {
    match state {
        TaskState::Queued => "queued",
        TaskState::Running => "running",
        TaskState::Done => "done",
        TaskState::Failed => "failed",
        TaskState::Unspecified => "",
    }
}

pub(super) fn shown(job: &Job) -> Value {
    let is_switching = job.model.is_some() && !job.switched && job.failed == 0;
    let goes_on = job.queued + job.running > 0 || is_switching;
    json!({
        "id": job.id,
        "collection": job.collection,
        "kind": if job.model.is_some() { "reindex" } else { "ingest" },
        "model": job.model.as_ref().filter(|model| !model.is_empty()),
        "state": if goes_on { "running" } else { "ended" },
        "counts": { "queued": job.queued, "running": job.running, "done": job.done, "failed": job.failed },
        "created_at_ms": job.created_at_ms,
    })
}

fn document(task: &Task) -> Value {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    json!({
        "source": task.source,
        "state": state_name(task.state()),
        "reason": text(&task.reason),
        "document_id": text(&task.document_id),
        "attempts": task.attempts,
        "updated_at_ms": task.updated_at_ms,
    })
}
