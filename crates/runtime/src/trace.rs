//! The trace that goes through every service.
//!
//! Where spans are collected it is OpenTelemetry's. Elsewhere a span has no more than the trace's ids, so
//! that the lines of all services that a request met are found by one of them: what nobody collects is not
//! made.

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::registry::LookupSpan as _;
use tracing_subscriber::{Layer, Registry};

/// A subscriber with this layer gives spans the trace's ids and nothing else.
#[derive(Debug)]
pub(crate) struct Named;

impl<S: Subscriber> Layer<S> for Named {}

/// What a span has where spans are not collected.
struct Ids(SpanContext);

/// Has a new span continue a trace, or begin one if `caller` is in none.
pub(crate) fn continue_in(span: &Span, caller: SpanContext) {
    let is_named = span.with_subscriber(|(id, subscriber)| {
        let span = subscriber
            .downcast_ref::<Registry>()
            .filter(|_| subscriber.is::<Named>())
            .and_then(|registry| registry.span(id));
        let Some(span) = span else { return false };
        let ids = if caller.is_valid() { caller.clone() } else { new() };
        span.extensions_mut().replace(Ids(ids));
        true
    });
    if is_named == Some(false) {
        let none = opentelemetry::Context::new();
        let parent = if caller.is_valid() { none.with_remote_span_context(caller) } else { none };
        // Fails only where there is no trace to continue.
        let _ = span.set_parent(parent);
    }
}

/// Returns where the current span stands in its trace; invalid when it is in none.
pub(crate) fn current() -> SpanContext {
    let span = Span::current();
    let named = span.with_subscriber(|(id, subscriber)| {
        let registry =
            subscriber.downcast_ref::<Registry>().filter(|_| subscriber.is::<Named>())?;
        registry.span(id)?.scope().find_map(|span| {
            let extensions = span.extensions();
            extensions.get::<Ids>().map(|ids| ids.0.clone())
        })
    });
    named.flatten().unwrap_or_else(|| span.context().span().span_context().clone())
}

/// Begins a trace. Whoever is told of it may collect it.
fn new() -> SpanContext {
    let random = RandomIdGenerator::default();
    let (trace, span): (TraceId, SpanId) = (random.new_trace_id(), random.new_span_id());
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn caller() -> SpanContext {
        let (trace, span) = (TraceId::from(7_u128), SpanId::from(9_u64));
        SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE)
    }

    /// What is true of a trace, whether it is collected or not.
    fn one_trace_from_the_first_span_to_the_last() {
        assert!(!current().is_valid(), "nothing has begun");
        let first = tracing::info_span!("first");
        continue_in(&first, caller());
        let last = first.in_scope(|| tracing::info_span!("last"));
        assert_eq!(last.in_scope(current).trace_id(), caller().trace_id());
        let (own, other) = (tracing::info_span!("own"), tracing::info_span!("other"));
        for span in [&own, &other] {
            continue_in(span, SpanContext::NONE);
        }
        let (own, other) = (own.in_scope(current), other.in_scope(current));
        assert!(own.is_valid() && own.is_sampled() && other.is_valid());
        assert_ne!(own.trace_id(), other.trace_id());
    }

    #[test]
    fn a_trace_goes_on_where_spans_are_named() {
        let subscriber = tracing_subscriber::registry().with(Named);
        tracing::subscriber::with_default(subscriber, one_trace_from_the_first_span_to_the_last);
    }

    #[test]
    fn a_trace_goes_on_where_spans_are_collected() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("t"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, one_trace_from_the_first_span_to_the_last);
    }

    #[test]
    fn without_either_there_is_none() {
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("first");
            continue_in(&span, caller());
            assert!(!span.in_scope(current).is_valid());
        });
    }
}
