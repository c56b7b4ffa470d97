use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use proto::router::router_service_client::RouterServiceClient;
use proto::router::{Call, Circuit, Dialect, Estimate, EstimateRequest, ListProvidersRequest};
use serde_json::{Value, json};
use types::{CallContext, NanoUsd};

use crate::{App, Error};

/// Lists providers, their models, and how each does. Asks no provider.
#[utoipa::path(get, operation_id = "list_providers", path = "/api/v1/providers", tag = "models",
    responses((status = 200, description = "Providers by name")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
) -> Result<axum::Json<Value>, Error> {
    let request = runtime::context::request(&context, ListProvidersRequest {});
    let reply = RouterServiceClient::new(app.peers.router).list_providers(request).await?;
    let providers = reply.into_inner().providers.into_iter().map(|provider| {
        let models = provider.models.iter();
        let models = models.map(|m| {
            json!({
                "name": m.name, "circuit": circuit(m.circuit()), "calls": m.calls,
                "answered": m.answered, "p50_ms": ms(m.p50_micros), "p95_ms": ms(m.p95_micros),
            })
        });
        let models: Vec<Value> = models.collect();
        json!({ "name": provider.name, "tier": provider.tier, "models": models })
    });
    Ok(axum::Json(json!({ "providers": providers.collect::<Vec<_>>() })))
}

/// Tells who would answer a conversation, in which order, and what it could cost; asks nobody.
#[utoipa::path(post, operation_id = "estimate", path = "/api/v1/estimate", tag = "models",
    request_body(content = Object, description = "OpenAI's chat completions request"),
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
        RouterServiceClient::new(app.peers.router).max_encoding_message_size(usize::MAX);
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
