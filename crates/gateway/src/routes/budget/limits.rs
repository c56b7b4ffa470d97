use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Of;
use axum::http::StatusCode;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{Scope, SetLimitRequest, Statement};
use serde::{Deserialize, Serialize};
use types::{CallContext, ErrorKind};

use super::state::State;
use super::statements::{every, one};
use super::{Named, OfScope, PeriodName, ScopeName, Whose, seen};
use crate::auth::Grant;
use crate::money::{Amount, check_currency};
use crate::routes::{Json, Path, Query};
use crate::{App, Error};

/// A new limit: of a user, or of the scope that `scope` and `id` name.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// Whose, of a user
    #[schema(min_length = 1, max_length = 256)]
    user_id: Option<String>,
    /// What `id` is of
    scope: Option<ScopeName>,
    /// The scope's name; of a tenant it may be absent
    #[schema(min_length = 1, max_length = 256)]
    id: Option<String>,
    period: PeriodName,
    /// USD, more than zero, at most nine decimal places
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 9_223_372_036_u64)]
    limit: Amount,
    /// `USD`, which it is too when absent
    currency: Option<String>,
}

impl Limit {
    fn scope(&mut self, context: &CallContext) -> Result<Scope, Error> {
        let named = match (self.user_id.take(), self.scope.take(), self.id.take()) {
            (Some(user), None, None) => Named { scope: ScopeName::User, id: Some(user) },
            (None, Some(scope), id) => Named { scope, id },
            _ => return Err(Error::invalid("name either user_id, or scope and id")),
        };
        named.read(context)
    }
}

/// A scope's limits.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Limits {
    #[serde(flatten)]
    of: Whose,
    /// Its states in the periods that have a limit
    limits: Vec<State>,
}

/// Sets or replaces a limit for a period. One below what is spent already is taken, and exceeded.
#[utoipa::path(post, operation_id = "set_limit", path = "/api/v1/budget/limit", tag = "budget", request_body = Limit,
    responses((status = 201, description = "The state under the new limit", body = State),
        (status = 400, description = "Not above zero, too precise, too large, in another currency, or of an unknown period or scope"),
        (status = 403, description = "Another tenant's")))]
pub(crate) async fn set(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Json(mut limit): Json<Limit>,
) -> Result<(StatusCode, axum::Json<State>), Error> {
    check_currency(limit.currency.as_deref())?;
    let (scope, period) = (limit.scope(&context)?, limit.period);
    let nanos = limit.limit.limit("/limit")?.nanos();
    let statement = change(&app, &context, scope, period, Some(nanos)).await?;
    Ok((StatusCode::CREATED, axum::Json(State::of(&context, &statement))))
}

/// Tells a user's limits, or those of another scope.
#[utoipa::path(get, operation_id = "list_limits", path = "/api/v1/budget/limit/{id}", tag = "budget",
    params(("id" = String, Path, description = "The user, or whatever `scope` says", min_length = 1, max_length = 256), OfScope),
    responses((status = 200, description = "Its limits, in USD", body = Limits), (status = 400, description = "Unknown scope")))]
pub(crate) async fn list(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Query(query): Query<OfScope>,
) -> Result<axum::Json<Limits>, Error> {
    let scope = seen((&context, &grant), &query, id)?;
    let statements = every(&app, &context, &scope).await?;
    let limited = statements.iter().filter(|statement| statement.limit_nanos.is_some());
    let limits = limited.map(|statement| State::of(&context, statement)).collect();
    Ok(axum::Json(Limits { of: Whose::of(&context, &scope), limits }))
}

/// Tells a user's limit for a period, or that of another scope.
#[utoipa::path(get, operation_id = "get_limit", path = "/api/v1/budget/limit/{id}/{period}", tag = "budget",
    params(("id" = String, Path, description = "The user, or whatever `scope` says", min_length = 1, max_length = 256),
        ("period" = inline(PeriodName), Path), OfScope),
    responses((status = 200, description = "The state under it, in USD", body = State),
        (status = 400, description = "Unknown scope or period"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, period)): Path<(String, PeriodName)>,
    Query(query): Query<OfScope>,
) -> Result<axum::Json<State>, Error> {
    let scope = seen((&context, &grant), &query, id)?;
    let statement = one(&app, &context, &scope, period).await?;
    if statement.limit_nanos.is_none() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no {} limit", period.as_str()),
        ));
    }
    Ok(axum::Json(State::of(&context, &statement)))
}

/// Takes a user's limits away, or those of another scope. Idempotent.
#[utoipa::path(delete, operation_id = "remove_limits", path = "/api/v1/budget/limit/{id}", tag = "budget",
    params(("id" = String, Path, description = "The user, or whatever `scope` says", min_length = 1, max_length = 256), OfScope),
    responses((status = 204, description = "There is none now"), (status = 400, description = "Unknown scope")))]
pub(crate) async fn remove_all(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Query(query): Query<OfScope>,
) -> Result<StatusCode, Error> {
    let scope = seen((&context, &grant), &query, id)?;
    for period in PeriodName::ALL {
        change(&app, &context, scope.clone(), period, None).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a user's limit for a period away, or that of another scope. Idempotent.
#[utoipa::path(delete, operation_id = "remove_limit", path = "/api/v1/budget/limit/{id}/{period}", tag = "budget",
    params(("id" = String, Path, description = "The user, or whatever `scope` says", min_length = 1, max_length = 256),
        ("period" = inline(PeriodName), Path), OfScope),
    responses((status = 204, description = "There is none now"), (status = 400, description = "Unknown scope or period")))]
pub(crate) async fn remove(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path((id, period)): Path<(String, PeriodName)>,
    Query(query): Query<OfScope>,
) -> Result<StatusCode, Error> {
    let scope = seen((&context, &grant), &query, id)?;
    change(&app, &context, scope, period, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a limit, or takes it away, and returns the state under it.
async fn change(
    app: &App,
    context: &CallContext,
    scope: Scope,
    period: PeriodName,
    limit_nanos: Option<i64>,
) -> Result<Statement, Error> {
    let request = SetLimitRequest { scope: Some(scope), period: period.wire().into(), limit_nanos };
    let request = runtime::context::request(context, request);
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).set_limit(request).await?;
    Ok(reply.into_inner().statement.unwrap_or_default())
}
