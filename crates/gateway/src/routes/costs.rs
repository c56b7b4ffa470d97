use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{Cost, CostGroup, ListAuditRequest, ListCostsRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use types::{CallContext, NanoUsd};

use super::Query;
use super::csv::cell;
use crate::money::Usd;
use crate::{App, Error};

const GROUPS: [(&str, CostGroup); 9] = [
    ("model", CostGroup::Model),
    ("provider", CostGroup::Provider),
    ("tier", CostGroup::Tier),
    ("user", CostGroup::User),
    ("team", CostGroup::Team),
    ("route", CostGroup::Route),
    ("day", CostGroup::Day),
    ("key", CostGroup::Key),
    ("prompt_version", CostGroup::PromptVersion),
];

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// One to three of `model`, `provider`, `tier`, `user`, `team`, `route`, `day`, `key`, `prompt_version`, with commas; `model` when absent
    group_by: Option<String>,
    /// From when on, as `2026-01-31` or `2026-01-31T12:00:00Z`; the beginning when absent
    from: Option<String>,
    /// Until when, itself not included; now when absent
    to: Option<String>,
    /// `json` or `csv`
    format: Option<String>,
}

/// What calls of a group cost. Named are the groups that were asked for.
#[derive(Default, Serialize, utoipa::ToSchema)]
#[schema(as = GroupCost)]
pub(crate) struct Row {
    /// As provider/model
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    /// In UTC, as `2026-01-31`
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_version: Option<String>,
    calls: u64,
    /// How many of them were not answered whole
    failed: u64,
    input_tokens: u64,
    output_tokens: u64,
    #[schema(value_type = f64)]
    cost_usd: Usd,
    /// How long those that were answered took on average, in milliseconds; null without any
    mean_latency_ms: Option<f64>,
    /// How long until their first token on average, of those that came in pieces; null without any
    mean_first_token_ms: Option<f64>,
}

/// What calls cost.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Costs {
    /// The most expensive first, at most ten thousand
    costs: Vec<Row>,
}

/// Sums what model calls cost, by what they have in common; the most expensive first.
#[utoipa::path(get, operation_id = "list_costs", path = "/api/v1/costs", tag = "budget", params(Wanted),
    responses((status = 200, description = "Calls, tokens and USD a group",
            content((Costs = "application/json"), (String = "text/csv"))),
        (status = 400, description = "An unknown group, a malformed time, or one that ends before it begins")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Error> {
    let names: Vec<&str> = wanted.group_by.as_deref().unwrap_or("model").split(',').collect();
    let group = |name: &&str| -> Result<i32, Error> {
        let known = GROUPS.iter().find(|known| known.0 == *name);
        let fault = || Error::invalid(format!("group_by: {name:?} is no group"));
        Ok(known.ok_or_else(fault)?.1.into())
    };
    let from_ms = wanted.from.as_deref().map_or(Ok(0), |text| moment("from", text))?;
    let to_ms = wanted.to.as_deref().map_or(Ok(i64::MAX), |text| moment("to", text))?;
    if from_ms >= to_ms {
        return Err(Error::invalid("from: it is not before to"));
    }
    let request = ListCostsRequest {
        group_by: names.iter().map(group).collect::<Result<_, _>>()?,
        from_ms,
        to_ms,
        scope: None,
    };
    let request = runtime::context::request(&context, request);
    // Ten thousand rows of long names are more than a message usually has.
    let mut budget =
        BudgetServiceClient::new(app.peers.budget.clone()).max_decoding_message_size(usize::MAX);
    let reply = budget.list_costs(request).await?;
    let costs = reply.into_inner().costs;
    match wanted.format.as_deref() {
        None | Some("json") => {
            let costs = costs.into_iter().map(|cost| row(&names, cost)).collect();
            Ok(axum::Json(Costs { costs }).into_response())
        }
        Some("csv") => {
            let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
            Ok((kind, table(&names, &costs)).into_response())
        }
        Some(other) => Err(Error::invalid(format!("format: {other:?} is neither json nor csv"))),
    }
}

fn row(names: &[&str], cost: Cost) -> Row {
    let mut row = Row {
        calls: cost.calls,
        failed: cost.failed,
        input_tokens: cost.input_tokens,
        output_tokens: cost.output_tokens,
        cost_usd: Usd::of(cost.cost_nanos),
        mean_latency_ms: ms(cost.mean_latency_micros),
        mean_first_token_ms: ms(cost.mean_first_token_micros),
        ..Row::default()
    };
    for (name, value) in names.iter().zip(cost.group) {
        let place = match *name {
            "model" => &mut row.model,
            "provider" => &mut row.provider,
            "tier" => &mut row.tier,
            "user" => &mut row.user,
            "team" => &mut row.team,
            "route" => &mut row.route,
            "day" => &mut row.day,
            "key" => &mut row.key,
            _ => &mut row.prompt_version,
        };
        *place = Some(value);
    }
    row
}

fn table(names: &[&str], costs: &[Cost]) -> String {
    let head = names.join(",")
        + ",calls,failed,input_tokens,output_tokens,cost_usd,mean_latency_ms,mean_first_token_ms\r\n";
    let line = |cost: &Cost| {
        let groups: Vec<String> = cost.group.iter().map(|text| cell(text)).collect();
        let (groups, usd) = (groups.join(","), NanoUsd::new(cost.cost_nanos));
        let (calls, failed) = (cost.calls, cost.failed);
        let (input, output) = (cost.input_tokens, cost.output_tokens);
        let time = |micros| ms(micros).map_or_else(String::new, |ms| ms.to_string());
        let (latency, first) = (time(cost.mean_latency_micros), time(cost.mean_first_token_micros));
        format!("{groups},{calls},{failed},{input},{output},{usd},{latency},{first}\r\n")
    };
    head + &costs.iter().map(line).collect::<String>()
}

/// Returns a mean in milliseconds; there is none of no calls.
#[allow(clippy::cast_precision_loss, reason = "for display")]
fn ms(micros: u64) -> Option<f64> {
    (micros != 0).then(|| micros as f64 / 1e3)
}

fn moment(field: &str, text: &str) -> Result<i64, Error> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let fault = |_| Error::invalid(format!("{field}: {text:?} is no time such as 2026-01-31"));
    Ok(OffsetDateTime::parse(&whole, &Rfc3339).map_err(fault)?.unix_timestamp() * 1000)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Behind {
    /// Records after this number; 0 when absent
    after: Option<i64>,
    /// 1 to 1000
    limit: Option<u32>,
}

/// Lists the audit log of private calls, oldest first.
///
/// Each record's hash is the SHA-256 of the hash before it (32 zero bytes for the first) and its text.
#[utoipa::path(get, operation_id = "list_audit", path = "/api/v1/audit", tag = "budget", params(Behind),
    responses((status = 200, description = "Records with their hashes in hexadecimal")))]
pub(crate) async fn audit(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Query(behind): Query<Behind>,
) -> Result<axum::Json<Value>, Error> {
    let (after, limit) = (behind.after.unwrap_or_default(), behind.limit.unwrap_or(1000));
    if !(1..=1000).contains(&limit) {
        return Err(Error::invalid(format!("limit: {limit} is not 1 to 1000")));
    }
    let request = runtime::context::request(&context, ListAuditRequest { after, limit });
    let mut budget = BudgetServiceClient::new(app.peers.budget.clone());
    let reply = budget.list_audit(request).await?.into_inner();
    let hex = |hash: &[u8]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let records = reply.records.iter();
    let records = records
        .map(|one| json!({ "number": one.number, "record": one.record, "hash": hex(&one.hash) }));
    Ok(axum::Json(json!({ "records": records.collect::<Vec<_>>() })))
}
