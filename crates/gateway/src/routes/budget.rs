use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{
    GetStatementRequest, ListStatementsRequest, Period, Scope, ScopeKind, SetLimitRequest,
    Statement, StatementOrder,
};
use serde::Deserialize;
use serde_json::{Value, json};
use types::{CallContext, NanoUsd, UserId};

use super::{Json, Path, Query};
use crate::{App, Error};

const PERIODS: [(&str, Period); 4] = [
    ("daily", Period::Daily),
    ("weekly", Period::Weekly),
    ("monthly", Period::Monthly),
    ("total", Period::Total),
];

/// A new limit.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// Whose
    user_id: String,
    /// `daily`, `weekly`, `monthly` or `total`
    period: String,
    /// USD, zero or more, at most nine decimal places
    #[schema(value_type = f64)]
    limit: serde_json::Number,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfPeriod {
    /// `daily`, `weekly`, `monthly` or `total`
    period: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct AtMost {
    /// 1 to 1000
    limit: Option<u32>,
}

/// Tells a user's limit, spend and holds in a period.
#[utoipa::path(get, operation_id = "get_user_budget", path = "/api/v1/budget/user/{id}", tag = "budget",
    params(("id" = String, Path, description = "The user"), OfPeriod),
    responses((status = 200, description = "The state, in USD"), (status = 400, description = "Unknown period")))]
pub(crate) async fn user(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
    Query(query): Query<OfPeriod>,
) -> Result<axum::Json<Value>, Error> {
    let period = period(query.period.as_deref().unwrap_or("daily"))?;
    let request = GetStatementRequest { scope: Some(of_user(id)?), period: period.into() };
    let request = runtime::context::request(&context, request);
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).get_statement(request).await?;
    Ok(axum::Json(shown(&reply.into_inner().statement.unwrap_or_default())))
}

/// Sets or replaces a user's limit for a period.
#[utoipa::path(post, operation_id = "set_user_limit", path = "/api/v1/budget/limit", tag = "budget", request_body = Limit,
    responses((status = 201, description = "The state under the new limit"), (status = 400, description = "Negative, too precise or of an unknown period")))]
pub(crate) async fn set_limit(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Json(limit): Json<Limit>,
) -> Result<(StatusCode, axum::Json<Value>), Error> {
    let period = period(&limit.period)?;
    let invalid = |fault: String| Error::invalid(format!("/limit: {fault}"));
    let usd = limit.limit.as_f64().ok_or_else(|| invalid("is not a number".to_owned()))?;
    let amount = NanoUsd::from_usd(usd).map_err(|fault| invalid(fault.to_string()))?;
    if amount < NanoUsd::ZERO {
        return Err(invalid(format!("{amount} is negative")));
    }
    let (scope, limit_nanos) = (Some(of_user(limit.user_id)?), Some(amount.nanos()));
    let request = SetLimitRequest { scope, period: period.into(), limit_nanos };
    let request = runtime::context::request(&context, request);
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).set_limit(request).await?;
    let statement = reply.into_inner().statement.unwrap_or_default();
    Ok((StatusCode::CREATED, axum::Json(shown(&statement))))
}

/// Lists the users who spent most in a period, most first.
#[utoipa::path(get, operation_id = "list_top_spenders", path = "/api/v1/budget/top-spenders/{period}", tag = "budget",
    params(("period" = String, Path, description = "`daily`, `weekly`, `monthly` or `total`"), AtMost),
    responses((status = 200, description = "States, in USD"), (status = 400, description = "Unknown period")))]
pub(crate) async fn top_spenders(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(name): Path<String>,
    Query(query): Query<AtMost>,
) -> Result<axum::Json<Value>, Error> {
    let period = period(&name)?;
    let limit = query.limit.unwrap_or(10);
    if !(1..=1000).contains(&limit) {
        return Err(Error::invalid(format!("limit: {limit} is not 1 to 1000")));
    }
    let (kind, order) = (ScopeKind::User.into(), StatementOrder::Spent.into());
    let request = ListStatementsRequest { kind, period: period.into(), order, limit };
    let request = runtime::context::request(&context, request);
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).list_statements(request).await?;
    let spenders: Vec<Value> = reply.into_inner().statements.iter().map(shown).collect();
    Ok(axum::Json(json!({ "period": name, "spenders": spenders })))
}

fn of_user(id: String) -> Result<Scope, Error> {
    Ok(Scope { kind: ScopeKind::User.into(), name: UserId::new(id)?.to_string() })
}

fn period(name: &str) -> Result<Period, Error> {
    let known = PERIODS.iter().find(|known| known.0 == name).map(|known| known.1);
    known.ok_or_else(|| {
        Error::invalid(format!("period {name:?} is not daily, weekly, monthly or total"))
    })
}

fn shown(statement: &Statement) -> Value {
    let usd = |nanos: i64| NanoUsd::new(nanos).to_usd();
    let used = statement.spent_nanos.saturating_add(statement.held_nanos);
    #[allow(clippy::cast_precision_loss, reason = "a share, for display")]
    let utilization = statement.limit_nanos.map(|limit| match limit {
        0 => 1.0,
        limit => used as f64 / limit as f64,
    });
    let status = match utilization {
        Some(share) if share > 1.0 || (share >= 1.0 && used > 0) => "exceeded",
        Some(share) if share >= 0.95 => "critical",
        Some(share) if share >= 0.8 => "warning",
        _ => "ok",
    };
    let period = PERIODS.iter().find(|known| i32::from(known.1) == statement.period);
    json!({
        "user_id": statement.scope.as_ref().map_or("", |scope| scope.name.as_str()),
        "period": period.map_or("", |known| known.0),
        "limit": statement.limit_nanos.map(usd),
        "current_spend": usd(statement.spent_nanos),
        "held": usd(statement.held_nanos),
        "remaining": statement.limit_nanos.map(|limit| usd(limit.saturating_sub(used).max(0))),
        "utilization": utilization,
        "status": status,
        "starts_at_ms": statement.starts_at_ms,
        "resets_at_ms": (statement.resets_at_ms != 0).then_some(statement.resets_at_ms),
    })
}
