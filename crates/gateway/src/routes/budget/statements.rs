use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Of;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{GetStatementRequest, Scope, Statement};
use serde::Serialize;
use types::CallContext;

use super::state::State;
use super::{OfPeriod, OfScope, PeriodName, ScopeName, Whose, scope, seen};
use crate::auth::Grant;
use crate::routes::{Path, Query};
use crate::{App, Error};

/// A scope's states in every period.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Spend {
    #[serde(flatten)]
    of: Whose,
    /// In the order daily, weekly, monthly, total
    states: Vec<State>,
}

/// Tells a user's limit, spend and holds in a period.
#[utoipa::path(get, operation_id = "get_user_budget", path = "/api/v1/budget/user/{id}", tag = "budget",
    params(("id" = String, Path, description = "The user", min_length = 1, max_length = 256), OfPeriod),
    responses((status = 200, description = "The state, in USD", body = State), (status = 400, description = "Unknown period")))]
pub(crate) async fn user(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
    Query(query): Query<OfPeriod>,
) -> Result<axum::Json<State>, Error> {
    told(app, &context, (ScopeName::User, Some(id)), query).await
}

/// Tells a team's limit, spend and holds in a period.
#[utoipa::path(get, operation_id = "get_team_budget", path = "/api/v1/budget/team/{id}", tag = "budget",
    params(("id" = String, Path, description = "The team", min_length = 1, max_length = 256), OfPeriod),
    responses((status = 200, description = "The state, in USD", body = State), (status = 400, description = "Unknown period")))]
pub(crate) async fn team(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
    Query(query): Query<OfPeriod>,
) -> Result<axum::Json<State>, Error> {
    told(app, &context, (ScopeName::Team, Some(id)), query).await
}

/// Tells an API key's limit, spend and holds in a period.
#[utoipa::path(get, operation_id = "get_key_budget", path = "/api/v1/budget/key/{id}", tag = "budget",
    params(("id" = String, Path, description = "The key's id", min_length = 1, max_length = 256), OfPeriod),
    responses((status = 200, description = "The state, in USD", body = State), (status = 400, description = "Unknown period")))]
pub(crate) async fn key(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
    Query(query): Query<OfPeriod>,
) -> Result<axum::Json<State>, Error> {
    told(app, &context, (ScopeName::Key, Some(id)), query).await
}

/// Tells the limit, spend and holds of the whole tenant in a period.
#[utoipa::path(get, operation_id = "get_tenant_budget", path = "/api/v1/budget/tenant", tag = "budget", params(OfPeriod),
    responses((status = 200, description = "The state, in USD", body = State), (status = 400, description = "Unknown period")))]
pub(crate) async fn tenant(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Query(query): Query<OfPeriod>,
) -> Result<axum::Json<State>, Error> {
    told(app, &context, (ScopeName::Tenant, None), query).await
}

/// Tells a user's limits, spend and holds in every period, or those of another scope.
#[utoipa::path(get, operation_id = "get_spend", path = "/api/v1/budget/spend/{id}", tag = "budget",
    params(("id" = String, Path, description = "The user, or whatever `scope` says", min_length = 1, max_length = 256), OfScope),
    responses((status = 200, description = "Its states, in USD", body = Spend), (status = 400, description = "Unknown scope")))]
pub(crate) async fn spend(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Query(query): Query<OfScope>,
) -> Result<axum::Json<Spend>, Error> {
    let scope = seen((&context, &grant), &query, id)?;
    let statements = every(&app, &context, &scope).await?;
    let states = statements.iter().map(|statement| State::of(&context, statement)).collect();
    Ok(axum::Json(Spend { of: Whose::of(&context, &scope), states }))
}

/// Returns a scope's statements in every period.
pub(super) async fn every(
    app: &App,
    context: &CallContext,
    scope: &Scope,
) -> Result<Vec<Statement>, Error> {
    futures::future::try_join_all(PeriodName::ALL.map(|period| one(app, context, scope, period)))
        .await
}

/// Returns a scope's statement in a period.
pub(super) async fn one(
    app: &App,
    context: &CallContext,
    scope: &Scope,
    period: PeriodName,
) -> Result<Statement, Error> {
    let request = GetStatementRequest { scope: Some(scope.clone()), period: period.wire().into() };
    let request = runtime::context::request(context, request);
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).get_statement(request).await?;
    Ok(reply.into_inner().statement.unwrap_or_default())
}

async fn told(
    app: App,
    context: &CallContext,
    (kind, id): (ScopeName, Option<String>),
    query: OfPeriod,
) -> Result<axum::Json<State>, Error> {
    let period = query.period.unwrap_or(PeriodName::Daily);
    let scope = scope(context, kind, id)?;
    let statement = one(&app, context, &scope, period).await?;
    Ok(axum::Json(State::of(context, &statement)))
}
