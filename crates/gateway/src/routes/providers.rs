use std::collections::HashMap;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{Cost, CostGroup, ListCostsRequest};
use proto::router::router_service_client::RouterServiceClient;
use proto::router::{
    Call, Circuit, Dialect, Estimate, EstimateRequest, ListProvidersRequest, ModelState, Price,
    ProbeProviderRequest, ProviderState,
};
use runtime::transport::Peer;
use serde_json::{Value, json};
use time::{OffsetDateTime, Time};
use types::{CallContext, NanoUsd};

use super::Path;
use crate::{App, Error};

/// Lists providers, their models, how each does, what it costs, and what the tenant spent there today
/// (UTC). Asks no provider.
#[utoipa::path(get, operation_id = "list_providers", path = "/api/v1/providers", tag = "models",
    responses((status = 200, description = "Providers by name")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
) -> Result<axum::Json<Value>, Error> {
    let request = runtime::context::request(&context, ListProvidersRequest {});
    let mut router = RouterServiceClient::new(app.peers.router.clone());
    let (reply, spent) = futures::join!(
        router.list_providers(request),
        spent_today(app.peers.budget.clone(), &context)
    );
    let providers = reply?.into_inner().providers;
    let providers: Vec<Value> = providers.iter().map(|one| provider(one, spent.as_ref())).collect();
    Ok(axum::Json(json!({ "providers": providers })))
}

/// Asks a provider which models it has, and for nothing else: it costs nothing.
///
/// Whoever asks within a second of another is told what that one was.
#[utoipa::path(post, operation_id = "probe_provider", path = "/api/v1/providers/{name}/probe",
    tag = "models", params(("name" = String, Path, description = "As the providers are listed")),
    responses((status = 200, description = "Whether it is reachable, how fast, and which models it has"),
        (status = 403, description = "The call is private and the provider is not local"),
        (status = 404, description = "An unknown provider, with the nearest names")))]
pub(crate) async fn probe(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(name): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let request = ProbeProviderRequest { name: name.clone() };
    let request = runtime::context::request(&context, request);
    let reply = RouterServiceClient::new(app.peers.router.clone()).probe_provider(request).await?;
    let found = reply.into_inner();
    let fault = Some(found.fault).filter(|fault| !fault.is_empty());
    Ok(axum::Json(json!({
        "provider": name,
        "reachable": found.reachable,
        "latency_ms": ms(found.latency_micros),
        "found": found.found,
        "missing": found.missing,
        "listed": found.listed,
        "fault": fault,
    })))
}

/// Returns what the tenant spent today by "provider/model"; nothing while the budget service is away.
async fn spent_today(budget: Peer, context: &CallContext) -> Option<HashMap<String, NanoUsd>> {
    let midnight = OffsetDateTime::now_utc().replace_time(Time::MIDNIGHT);
    let request = ListCostsRequest {
        group_by: vec![CostGroup::Model.into()],
        from_ms: midnight.unix_timestamp() * 1000,
        to_ms: i64::MAX,
        scope: None,
    };
    let request = runtime::context::request(context, request);
    let reply = BudgetServiceClient::new(budget).list_costs(request).await.ok()?;
    let costs = reply.into_inner().costs.into_iter();
    let named = |mut cost: Cost| Some((cost.group.pop()?, NanoUsd::new(cost.cost_nanos)));
    Some(costs.filter_map(named).collect())
}

fn provider(provider: &ProviderState, spent: Option<&HashMap<String, NanoUsd>>) -> Value {
    let (name, models) = (&provider.name, &provider.models);
    let calls: u64 = models.iter().map(|model| model.calls).sum();
    let answered: u64 = models.iter().map(|model| model.answered).sum();
    let own = |key: &&String| key.split_once('/').is_some_and(|(provider, _)| provider == name);
    let all = spent.map(|spent| {
        let own = spent.iter().filter(|(key, _)| own(key)).map(|(_, nanos)| nanos.nanos());
        NanoUsd::new(own.fold(0, i64::saturating_add)).to_usd()
    });
    let model = |model: &ModelState| {
        let cost = spent.map(|spent| {
            let cost = spent.get(&format!("{name}/{}", model.name)).copied();
            cost.unwrap_or(NanoUsd::ZERO).to_usd()
        });
        json!({
            "name": model.name, "circuit": circuit(model.circuit()), "calls": model.calls,
            "answered": model.answered, "success_rate": rate(model.answered, model.calls),
            "p50_ms": ms(model.p50_micros), "p95_ms": ms(model.p95_micros),
            "embeddings": model.embeddings, "cost_today_usd": cost,
            "price": model.price.as_ref().map(price),
        })
    };
    let fault = Some(&provider.fault).filter(|fault| !fault.is_empty());
    // It is known of those that are asked for their models; what went wrong there is a fault.
    let running = (provider.lists && fault.is_none()).then_some(!provider.absent);
    json!({
        "name": name, "tier": provider.tier, "lists_models": provider.lists, "fault": fault,
        "running": running,
        "calls": calls, "answered": answered, "success_rate": rate(answered, calls),
        "cost_today_usd": all, "models": models.iter().map(model).collect::<Vec<_>>(),
    })
}

/// Shows what a million tokens cost. Nano-USD a token are thousandths of a USD a million tokens.
fn price(price: &Price) -> Value {
    let usd = |nanos: i64| NanoUsd::new(nanos.saturating_mul(1_000_000)).to_usd();
    let from_table = !price.source.is_empty();
    json!({
        "input_usd_per_million": usd(price.input_nanos),
        "cached_input_usd_per_million": usd(price.cached_input_nanos),
        "cache_write_usd_per_million": usd(price.cache_write_nanos),
        "output_usd_per_million": usd(price.output_nanos),
        "reasoning_usd_per_million": usd(price.reasoning_nanos),
        "source": if from_table { price.source.as_str() } else { "configuration" },
        "date": from_table.then_some(&price.date),
    })
}

/// Returns the part of the calls that were answered; nothing without any.
fn rate(answered: u64, calls: u64) -> Option<f64> {
    let thousandths = answered.saturating_mul(1000).checked_div(calls)?;
    u32::try_from(thousandths).ok().map(|thousandths| f64::from(thousandths) / 1000.0)
}

/// Tells who would answer a conversation, in which order, and what it could cost; asks nobody.
#[utoipa::path(post, operation_id = "estimate", path = "/api/v1/estimate", tag = "models",
    request_body(content = Object, description = "OpenAI's chat completions request",
        example = json!({ "model": "auto", "messages": [{ "role": "user", "content": "Hello" }] })),
    responses((status = 200, description = "Candidates in the order of trying"),
        (status = 400, description = "A malformed request or an unknown model")))]
pub(crate) async fn estimate(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    body: Result<Bytes, BytesRejection>,
) -> Result<axum::Json<Value>, Error> {
    let body = body.map_err(|fault| Error::with_status(fault.status(), fault.body_text()))?;
    estimated(app, &context, body, Dialect::ChatCompletions).await
}

/// Tells of a request in any dialect what [`estimate`] tells.
pub(crate) async fn estimated(
    app: App,
    context: &CallContext,
    body: Bytes,
    dialect: Dialect,
) -> Result<axum::Json<Value>, Error> {
    let call = Some(Call { body, groundings: Vec::new(), dialect: dialect.into() });
    let request = runtime::context::request(context, EstimateRequest { call });
    let mut router =
        RouterServiceClient::new(app.peers.router.clone()).max_encoding_message_size(usize::MAX);
    let reply = router.estimate(request).await?.into_inner();
    let candidates: Vec<Value> = reply.candidates.iter().map(shown).collect();
    Ok(axum::Json(json!({
        "route": reply.route,
        "reason": reply.reason,
        "privacy": context.privacy.as_str(),
        "candidates": candidates,
    })))
}

fn shown(estimate: &Estimate) -> Value {
    json!({
        "provider": estimate.provider,
        "model": estimate.model,
        "tier": estimate.tier,
        "circuit": circuit(estimate.circuit()),
        "input_tokens": estimate.input_tokens,
        "max_output_tokens": estimate.max_output_tokens,
        "min_cost_usd": NanoUsd::new(estimate.min_cost_nanos).to_usd(),
        "max_cost_usd": NanoUsd::new(estimate.max_cost_nanos).to_usd(),
    })
}

fn ms(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1e3
}

fn circuit(circuit: Circuit) -> &'static str {
    match circuit {
        Circuit::Closed | Circuit::Unspecified => "closed",
        Circuit::Open => "open",
        Circuit::HalfOpen => "half_open",
    }
}
