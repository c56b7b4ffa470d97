use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{Cost, CostGroup, ListAuditRequest, ListCostsRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use types::{CallContext, NanoUsd};

use super::Query;
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

/// Sums what model calls cost, by what they have in common; the most expensive first.
#[utoipa::path(get, operation_id = "list_costs", path = "/api/v1/costs", tag = "budget", params(Wanted),
    responses((status = 200, description = "Calls, tokens and USD a group, as JSON or CSV"), (status = 400, description = "An unknown group or a malformed time")))]
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
    let request = ListCostsRequest {
        group_by: names.iter().map(group).collect::<Result<_, _>>()?,
        from_ms: wanted.from.as_deref().map_or(Ok(0), |text| moment("from", text))?,
        to_ms: wanted.to.as_deref().map_or(Ok(i64::MAX), |text| moment("to", text))?,
    };
    let request = runtime::context::request(&context, request);
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).list_costs(request).await?;
    let costs = reply.into_inner().costs;
    match wanted.format.as_deref() {
        None | Some("json") => {
            let costs: Vec<Value> = costs.iter().map(|cost| shown(&names, cost)).collect();
            Ok(axum::Json(json!({ "costs": costs })).into_response())
        }
        Some("csv") => {
            let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
            Ok((kind, csv(&names, &costs)).into_response())
        }
        Some(other) => Err(Error::invalid(format!("format: {other:?} is neither json nor csv"))),
    }
}

fn shown(names: &[&str], cost: &Cost) -> Value {
    let groups = names.iter().zip(&cost.group);
    let mut fields: Map<String, Value> =
        groups.map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    fields.insert("calls".to_owned(), cost.calls.into());
    fields.insert("failed".to_owned(), cost.failed.into());
    fields.insert("input_tokens".to_owned(), cost.input_tokens.into());
    fields.insert("output_tokens".to_owned(), cost.output_tokens.into());
    fields.insert("cost_usd".to_owned(), NanoUsd::new(cost.cost_nanos).to_usd().into());
    Value::Object(fields)
}

fn csv(names: &[&str], costs: &[Cost]) -> String {
    let head = names.join(",") + ",calls,failed,input_tokens,output_tokens,cost_usd\r\n";
    let line = |cost: &Cost| {
        let groups: Vec<String> = cost.group.iter().map(|text| cell(text)).collect();
        let (groups, usd) = (groups.join(","), NanoUsd::new(cost.cost_nanos));
        let (calls, failed) = (cost.calls, cost.failed);
        let (input, output) = (cost.input_tokens, cost.output_tokens);
        format!("{groups},{calls},{failed},{input},{output},{usd}\r\n")
    };
    head + &costs.iter().map(line).collect::<String>()
}

/// Quotes what a spreadsheet would take for something else: names are anybody's choice.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name_in_a_spreadsheet() {
        for (text, wanted) in
            [("plain", "plain"), ("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("=1+1", "'=1+1")]
        {
            assert_eq!(cell(text), wanted);
        }
    }
}
