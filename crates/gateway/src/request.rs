//! What happens around every request: its id, its trace, its log line, its count.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::Response;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use runtime::metrics::Metrics;
use tracing::Instrument as _;
use types::RequestId;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

type Labels = Vec<(&'static str, String)>;

/// Requests by route, method and status.
pub(crate) struct Counters {
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
}

impl Counters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let histogram = || Histogram::new(exponential_buckets(0.000_5, 2.0, 18));
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        Self {
            requests: metrics.register("baton_http_requests", "Requests served", Family::default()),
            seconds: metrics.register(
                "baton_http_request_duration_seconds",
                "Time to a response's headers",
                seconds,
            ),
        }
    }
}

/// Gives the request an id (its own if it is good), continues its trace, logs and counts it.
pub(crate) async fn observe(
    counters: &Counters,
    mut request: Request,
    answer: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let started = Instant::now();
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let id = given.and_then(|id| RequestId::new(id).ok()).unwrap_or_else(RequestId::generate);
    request.extensions_mut().insert(id.clone());
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    // The path of an unknown route is anybody's choice and must not become a label.
    let route = route.unwrap_or("other").to_owned();
    // So is a method of one's own.
    let method = match request.method() {
        known @ (&Method::GET
        | &Method::POST
        | &Method::PUT
        | &Method::PATCH
        | &Method::DELETE
        | &Method::HEAD
        | &Method::OPTIONS) => known.to_string(),
        _ => "other".to_owned(),
    };
    let privacy = tracing::field::Empty;
    let span = tracing::info_span!("request", service = "gateway", %method, route, privacy);
    runtime::context::continue_trace(&span, request.headers());
    let mut response = answer(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    span.in_scope(|| {
        let trace_id = runtime::context::trace_id();
        let ms = elapsed.as_secs_f64() * 1e3;
        tracing::info!(service = "gateway", %method, route, status, ms, request_id = %id, trace_id, "request");
    });
    let mut labels = vec![("route", route), ("method", method)];
    counters.seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
    labels.push(("status", status.to_string()));
    counters.requests.get_or_create(&labels).inc();
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
