use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State as Of;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{BoxError, Extension};
use futures::stream;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{Entry, ListHistoryRequest, VerifyRequest};
use serde::{Deserialize, Serialize};
use types::CallContext;

use super::{Whose, at_most};
use crate::money::Usd;
use crate::routes::Query;
use crate::routes::csv::cell;
use crate::{App, Error};

/// So many lines are asked for at once where all of them are wanted.
const PAGE: u32 = 1000;
const HEAD: &str =
    "number,kind,reservation_id,spent_usd,held_usd,scopes,counts_at_ms,at_ms,reason,author\r\n";

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Behind {
    /// Lines after this number; 0 when absent
    after: Option<i64>,
    /// 1 to 10000; as JSON 1000 when absent, otherwise all
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
    /// `json`, or `ndjson` or `csv` to be streamed; `json` when absent
    format: Option<String>,
}

/// A page of the history.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct History {
    /// By number
    entries: Vec<HistoryLine>,
    /// What to ask for `after` for the next page; null when this one was not full
    next: Option<i64>,
}

/// One line of the history: what is spent and held is the sum of them.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct HistoryLine {
    /// Later lines have higher numbers
    number: i64,
    /// `hold`, `settle`, `release`, `expire` or `correct`
    kind: String,
    /// Of which reservation or correction
    reservation_id: String,
    /// By how much what is spent changed
    #[schema(value_type = f64)]
    spent_usd: Usd,
    /// By how much what is held changed
    #[schema(value_type = f64)]
    held_usd: Usd,
    /// Where it counts
    scopes: Vec<Whose>,
    /// The moment in whose periods it counts, in milliseconds since 1970
    counts_at_ms: i64,
    /// When it was written, in milliseconds since 1970
    at_ms: i64,
    /// Why, of a correction
    reason: Option<String>,
    /// By whom, of a correction
    author: Option<String>,
}

/// Whether the accounts are the sum of the history.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Verified {
    consistent: bool,
    /// What differs, in words; nothing, unless somebody else changed the store
    differences: Vec<String>,
}

#[derive(Clone, Copy)]
enum Form {
    Lines,
    Table,
}

/// Lists what moved the tenant's money, oldest first: a page, or all of it as a stream of lines.
#[utoipa::path(get, operation_id = "list_history", path = "/api/v1/budget/history", tag = "budget", params(Behind),
    responses((status = 200, description = "Lines in their order, in USD",
            content((History = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"))),
        (status = 400, description = "An unknown format or a limit that is none")))]
pub(crate) async fn list(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Query(behind): Query<Behind>,
) -> Result<Response, Error> {
    let after = behind.after.unwrap_or_default();
    let (form, kind) = match behind.format.as_deref() {
        None | Some("json") => {
            let limit = at_most(behind.limit, PAGE, 10_000)?;
            let entries = page(&app, &context, after, limit).await?;
            let full = entries.len() == limit as usize;
            let next = entries.last().filter(|_| full).map(|line| line.number);
            return Ok(axum::Json(History { entries, next }).into_response());
        }
        Some("ndjson") => (Form::Lines, "application/x-ndjson"),
        Some("csv") => (Form::Table, "text/csv; charset=utf-8"),
        Some(other) => {
            let fault = format!("format: {other:?} is not json, ndjson or csv");
            return Err(Error::invalid(fault));
        }
    };
    let most = behind.limit.map(|limit| at_most(Some(limit), PAGE, 10_000)).transpose()?;
    // A store that does not answer is told with a status; one that stops within breaks the stream off.
    let left = most.unwrap_or(u32::MAX);
    let first = page(&app, &context, after, left.min(PAGE)).await?;
    let body = Body::from_stream(pages(app, context, form, first, left));
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Compares what the tenant's scopes have spent and hold with the sum of the history.
#[utoipa::path(get, operation_id = "verify_history", path = "/api/v1/budget/verify", tag = "budget",
    responses((status = 200, description = "Whether they are one", body = Verified)))]
pub(crate) async fn verify(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
) -> Result<axum::Json<Verified>, Error> {
    let request = runtime::context::request(&context, VerifyRequest {});
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).verify(request).await?;
    let differences = reply.into_inner().differences;
    Ok(axum::Json(Verified { consistent: differences.is_empty(), differences }))
}

/// Streams lines from a first page on, until there are no more or `left` were written.
fn pages(
    app: App,
    context: CallContext,
    form: Form,
    first: Vec<HistoryLine>,
    left: u32,
) -> impl futures::Stream<Item = Result<String, BoxError>> + Send {
    let head = match form {
        Form::Lines => String::new(),
        Form::Table => HEAD.to_owned(),
    };
    let begin = (Some(first), left, head);
    stream::try_unfold(begin, move |(lines, left, mut text)| {
        let (app, context) = (app.clone(), context.clone());
        async move {
            let Some(lines) = lines else { return Ok(None) };
            for line in &lines {
                form.write(line, &mut text)?;
            }
            let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
            let left = left.saturating_sub(count);
            let next = match lines.last() {
                Some(last) if count == PAGE && left > 0 => {
                    Some(page(&app, &context, last.number, left.min(PAGE)).await?)
                }
                _ => None,
            };
            Ok::<_, BoxError>(Some((text, (next, left, String::new()))))
        }
    })
}

async fn page(
    app: &App,
    context: &CallContext,
    after: i64,
    limit: u32,
) -> Result<Vec<HistoryLine>, Error> {
    // Each page has the time of a request: all of them may take as long as their reader.
    let timeout = Duration::from_millis(app.config.request_timeout_ms);
    let mut context = context.clone();
    context.deadline = Some(Instant::now() + timeout);
    let request = runtime::context::request(&context, ListHistoryRequest { after, limit });
    let reply = BudgetServiceClient::new(app.peers.budget.clone())
        .max_decoding_message_size(usize::MAX)
        .list_history(request)
        .await?;
    let entries = reply.into_inner().entries.into_iter();
    Ok(entries.map(|entry| HistoryLine::of(&context, entry)).collect())
}

impl HistoryLine {
    fn of(context: &CallContext, entry: Entry) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            number: entry.number,
            kind: entry.kind,
            reservation_id: entry.reservation_id,
            spent_usd: Usd::of(entry.spent_nanos),
            held_usd: Usd::of(entry.held_nanos),
            scopes: entry.scopes.iter().map(|scope| Whose::of(context, scope)).collect(),
            counts_at_ms: entry.counts_at_ms,
            at_ms: entry.at_ms,
            reason: some(entry.reason),
            author: some(entry.author),
        }
    }
}

impl Form {
    fn write(self, line: &HistoryLine, text: &mut String) -> Result<(), serde_json::Error> {
        match self {
            Self::Lines => *text += &(serde_json::to_string(line)? + "\n"),
            Self::Table => {
                let scopes = cell(&serde_json::to_string(&line.scopes)?);
                let HistoryLine { number, kind, counts_at_ms, at_ms, .. } = line;
                let (id, spent, held) =
                    (cell(&line.reservation_id), line.spent_usd.0, line.held_usd.0);
                let optional = |text: &Option<String>| cell(text.as_deref().unwrap_or_default());
                let (reason, author) = (optional(&line.reason), optional(&line.author));
                *text += &format!(
                    "{number},{kind},{id},{spent},{held},{scopes},{counts_at_ms},{at_ms},{reason},{author}\r\n"
                );
            }
        }
        Ok(())
    }
}
