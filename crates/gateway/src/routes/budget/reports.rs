use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State as Of;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{Cost, CostGroup, ListCostsRequest, ListStatementsRequest, StatementOrder};
use serde::{Deserialize, Serialize};
use types::CallContext;

use super::state::{State, Status};
use super::statements::one;
use super::{PeriodName, ScopeName, Whose, at_most, scope};
use crate::money::Usd;
use crate::routes::{Path, Query};
use crate::{App, Error};

/// More than so many scopes are never listed at once.
const MOST: u32 = 1000;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// What they are; `user` when absent
    #[param(inline)]
    scope: Option<ScopeName>,
    /// At most so many, 1 to 1000
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Within {
    /// Whose calls; the whole tenant's when absent
    #[param(inline)]
    scope: Option<ScopeName>,
    /// The scope's name; of a tenant it may be absent
    id: Option<String>,
}

/// Who spent most.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Spenders {
    period: PeriodName,
    /// What they are
    scope: ScopeName,
    /// Most first; who spent nothing is left out
    spenders: Vec<State>,
}

/// How near scopes are to their limits.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Utilization {
    period: PeriodName,
    /// What they are
    scope: ScopeName,
    /// How many are in which state, of the thousand nearest to their limits
    counts: Counts,
    /// False when more than a thousand have a limit; those that are left out are farther from it
    complete: bool,
    /// Nearest first; who has no limit is left out
    scopes: Vec<State>,
}

/// How many scopes are in which state.
#[derive(Default, Serialize, utoipa::ToSchema)]
pub(crate) struct Counts {
    /// Below 80 %
    ok: usize,
    /// At 80 % or more
    warning: usize,
    /// At 95 % or more
    critical: usize,
    /// At the limit or above
    exceeded: usize,
}

/// What a period's calls cost by tier.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct TierCosts {
    period: PeriodName,
    #[serde(flatten)]
    of: Whose,
    /// When the period began, in milliseconds since 1970
    starts_at_ms: i64,
    /// When the period ends, in milliseconds since 1970; null for the total
    resets_at_ms: Option<i64>,
    /// Of all of them, in USD
    #[schema(value_type = f64)]
    cost_usd: Usd,
    /// The most expensive first; a tier that was not asked is left out
    tiers: Vec<TierCost>,
}

/// What calls of one tier cost.
#[derive(Default, Serialize, utoipa::ToSchema)]
pub(crate) struct TierCost {
    /// 0 to 4
    tier: u8,
    calls: u64,
    /// How many of them were not answered whole
    failed: u64,
    input_tokens: u64,
    output_tokens: u64,
    #[schema(value_type = f64)]
    cost_usd: Usd,
}

/// Lists who spent most in a period, most first.
#[utoipa::path(get, operation_id = "list_top_spenders", path = "/api/v1/budget/top-spenders/{period}", tag = "budget",
    params(("period" = inline(PeriodName), Path), Wanted),
    responses((status = 200, description = "States, in USD; ten unless asked otherwise", body = Spenders), (status = 400, description = "Unknown period or scope")))]
pub(crate) async fn top_spenders(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Path(period): Path<PeriodName>,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<Spenders>, Error> {
    let limit = at_most(wanted.limit, 10, MOST)?;
    let kind = wanted.scope.unwrap_or(ScopeName::User);
    let spenders = states(&app, &context, (kind, period), StatementOrder::Spent, limit).await?;
    Ok(axum::Json(Spenders { period, scope: kind, spenders }))
}

/// Lists who is nearest to its limit in a period, and counts how many are how near.
#[utoipa::path(get, operation_id = "get_utilization", path = "/api/v1/budget/utilization/{period}", tag = "budget",
    params(("period" = inline(PeriodName), Path), Wanted),
    responses((status = 200, description = "Counts and states, in USD; a hundred unless asked otherwise", body = Utilization), (status = 400, description = "Unknown period or scope")))]
pub(crate) async fn utilization(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Path(period): Path<PeriodName>,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<Utilization>, Error> {
    let limit = at_most(wanted.limit, 100, MOST)?;
    let kind = wanted.scope.unwrap_or(ScopeName::User);
    let mut scopes = states(&app, &context, (kind, period), StatementOrder::Used, MOST).await?;
    let mut counts = Counts::default();
    for state in &scopes {
        match state.status() {
            Status::Ok => counts.ok += 1,
            Status::Warning => counts.warning += 1,
            Status::Critical => counts.critical += 1,
            Status::Exceeded => counts.exceeded += 1,
        }
    }
    let complete = scopes.len() < MOST as usize;
    scopes.truncate(limit as usize);
    Ok(axum::Json(Utilization { period, scope: kind, counts, complete, scopes }))
}

/// Tells what the calls of the period until now cost, by tier.
#[utoipa::path(get, operation_id = "get_tier_costs", path = "/api/v1/budget/tier-costs/{period}", tag = "budget",
    params(("period" = inline(PeriodName), Path), Within),
    responses((status = 200, description = "Calls, tokens and USD a tier", body = TierCosts), (status = 400, description = "Unknown period or scope")))]
pub(crate) async fn tier_costs(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Path(period): Path<PeriodName>,
    Query(within): Query<Within>,
) -> Result<axum::Json<TierCosts>, Error> {
    let kind = within.scope.unwrap_or(ScopeName::Tenant);
    let scope = scope(&context, kind, within.id)?;
    // The ledger's clock says when the period began.
    let statement = one(&app, &context, &scope, period).await?;
    let of = Whose::of(&context, &scope);
    let request = ListCostsRequest {
        group_by: vec![CostGroup::Tier.into(), CostGroup::Provider.into()],
        from_ms: statement.starts_at_ms,
        to_ms: i64::MAX,
        scope: Some(scope),
    };
    let request = runtime::context::request(&context, request);
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).list_costs(request).await?;
    let tiers = by_tier(&reply.into_inner().costs);
    let sum = tiers.iter().fold(0, |sum: i64, tier| sum.saturating_add(tier.cost_usd.0.nanos()));
    Ok(axum::Json(TierCosts {
        period,
        of,
        starts_at_ms: statement.starts_at_ms,
        resets_at_ms: (statement.resets_at_ms != 0).then_some(statement.resets_at_ms),
        cost_usd: Usd::of(sum),
        tiers,
    }))
}

/// Adds up what was grouped by tier and provider; where no provider was asked, there was no tier either.
fn by_tier(costs: &[Cost]) -> Vec<TierCost> {
    let mut tiers: BTreeMap<u8, TierCost> = BTreeMap::new();
    for cost in costs {
        let [tier, provider] = cost.group.as_slice() else { continue };
        let (Ok(tier), false) = (tier.parse(), provider.is_empty()) else { continue };
        let sum = tiers.entry(tier).or_insert_with(|| TierCost { tier, ..TierCost::default() });
        sum.calls += cost.calls;
        sum.failed += cost.failed;
        sum.input_tokens += cost.input_tokens;
        sum.output_tokens += cost.output_tokens;
        sum.cost_usd = Usd::of(sum.cost_usd.0.nanos().saturating_add(cost.cost_nanos));
    }
    let mut tiers: Vec<TierCost> = tiers.into_values().collect();
    tiers.sort_by_key(|tier| Reverse(tier.cost_usd.0));
    tiers
}

async fn states(
    app: &App,
    context: &CallContext,
    (kind, period): (ScopeName, PeriodName),
    order: StatementOrder,
    limit: u32,
) -> Result<Vec<State>, Error> {
    let (kind, period) = (kind.wire().into(), period.wire().into());
    let request = ListStatementsRequest { kind, period, order: order.into(), limit };
    let request = runtime::context::request(context, request);
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).list_statements(request).await?;
    let statements = reply.into_inner().statements;
    Ok(statements.iter().map(|statement| State::of(context, statement)).collect())
}
