//! The context of a call in gRPC metadata, and the trace that goes through every service.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::body::Body;
use tonic::metadata::{BinaryMetadataValue, MetadataMap, MetadataValue};
use tonic::{Request, Status};
use tower::Service;
use tracing::Instrument as _;
use types::{
    Caching, CallContext, ErrorKind, IdError, Privacy, RequestId, RunId, TeamId, TenantId, UserId,
};

use crate::{error, trace};

// Binary metadata, because a user's id may hold any character.
const TENANT: &str = "baton-tenant-bin";
const TEAM: &str = "baton-team-bin";
const USER: &str = "baton-user-bin";
const KEY: &str = "baton-key-bin";
const RUN: &str = "baton-run-bin";
const REQUEST: &str = "baton-request-bin";
/// A JSON array of names.
const TOOLS: &str = "baton-tools-bin";
const IDEMPOTENCY: &str = "baton-idempotency-bin";
const PRIVACY: &str = "baton-privacy";
const CACHE: &str = "baton-cache";
const DEADLINE: &str = "baton-deadline-ms";

/// What goes with a request: as it is within this process, as metadata to another.
#[derive(Debug, Clone)]
struct Carried {
    context: CallContext,
    trace: SpanContext,
    /// Whether it goes with a call of gRPC, which has a time limit of its own.
    grpc: bool,
}

/// Returns a request that carries `context`, the time left of its deadline, and the current trace.
pub fn request<T>(context: &CallContext, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let trace = trace::current();
    request.extensions_mut().insert(Carried { context: context.clone(), trace, grpc: true });
    request
}

/// Has an HTTP request carry `context` and the current trace, as [`request`] does for a message.
pub fn attach<T>(context: &CallContext, request: &mut ::http::Request<T>) {
    let trace = trace::current();
    request.extensions_mut().insert(Carried { context: context.clone(), trace, grpc: false });
}

/// Reads the caller's context from an HTTP request between services.
///
/// # Errors
/// As [`read`].
pub fn read_http(parts: &::http::request::Parts) -> Result<CallContext, Status> {
    match parts.extensions.get::<Carried>() {
        Some(carried) => Ok(carried.context.clone()),
        None => read_metadata(&MetadataMap::from_headers(parts.headers.clone())),
    }
}

/// Writes what a request carries to where another process reads it.
pub(crate) fn to_wire(mut request: ::http::Request<Body>) -> ::http::Request<Body> {
    if let Some(carried) = request.extensions_mut().remove::<Carried>() {
        let headers = std::mem::take(request.headers_mut());
        let mut written =
            Request::from_parts(MetadataMap::from_headers(headers), ::http::Extensions::new(), ());
        carried.write(&mut written);
        *request.headers_mut() = written.into_parts().0.into_headers();
    }
    request
}

impl Carried {
    fn write(&self, request: &mut Request<()>) {
        let Self { context, trace, grpc } = self;
        let metadata = request.metadata_mut();
        let mut put = |key: &'static str, value: Option<&str>| {
            if let Some(value) = value {
                metadata.insert_bin(key, BinaryMetadataValue::from_bytes(value.as_bytes()));
            }
        };
        put(TENANT, Some(context.tenant.as_str()));
        put(TEAM, context.team.as_ref().map(TeamId::as_str));
        put(USER, Some(context.user.as_str()));
        put(KEY, context.key.as_ref().map(types::KeyId::as_str));
        put(RUN, context.run.as_ref().map(RunId::as_str));
        put(REQUEST, Some(context.request_id.as_str()));
        put(IDEMPOTENCY, context.idempotency_key.as_deref());
        let tools = context.tools.as_deref().map(|tools| serde_json::json!(tools).to_string());
        put(TOOLS, tools.as_deref());
        metadata.insert(PRIVACY, MetadataValue::from_static(context.privacy.as_str()));
        match context.caching {
            Caching::AsConfigured => None,
            Caching::Asked => metadata.insert(CACHE, MetadataValue::from_static("on")),
            Caching::Never => metadata.insert(CACHE, MetadataValue::from_static("off")),
        };
        let trace = opentelemetry::Context::new().with_remote_span_context(trace.clone());
        TraceContextPropagator::new().inject_context(&trace, &mut Metadata(metadata));
        if let Some(deadline) = context.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            metadata.insert(DEADLINE, MetadataValue::from(ms));
            if *grpc {
                request.set_timeout(left);
            }
        }
    }
}

/// Reads the caller's context.
///
/// # Errors
/// A status of [`ErrorKind::Invalid`] when a field is missing or malformed: a call without a tenant
/// is refused, never guessed.
pub fn read<T>(request: &Request<T>) -> Result<CallContext, Status> {
    // Of this process: nothing from outside gets there.
    if let Some(carried) = request.extensions().get::<Carried>() {
        return Ok(carried.context.clone());
    }
    read_metadata(request.metadata())
}

fn read_metadata(metadata: &MetadataMap) -> Result<CallContext, Status> {
    let invalid = |fault: String| error::status(ErrorKind::Invalid, fault);
    let text = |key: &'static str| -> Result<Option<String>, Status> {
        let Some(value) = metadata.get_bin(key) else { return Ok(None) };
        let bytes = value.to_bytes().map_err(|_| invalid(format!("{key} is malformed")))?;
        let text = String::from_utf8(bytes.to_vec());
        text.map(Some).map_err(|_| invalid(format!("{key} is not UTF-8")))
    };
    let required = |key: &'static str| -> Result<String, Status> {
        text(key)?.ok_or_else(|| invalid(format!("{key} is missing")))
    };
    let id = |fault: IdError| invalid(fault.to_string());
    let deadline = metadata.get(DEADLINE).and_then(|left| left.to_str().ok()?.parse().ok());
    Ok(CallContext {
        tenant: TenantId::new(required(TENANT)?).map_err(id)?,
        team: text(TEAM)?.map(TeamId::new).transpose().map_err(id)?,
        user: UserId::new(required(USER)?).map_err(id)?,
        key: text(KEY)?.map(types::KeyId::new).transpose().map_err(id)?,
        run: text(RUN)?.map(RunId::new).transpose().map_err(id)?,
        tools: match text(TOOLS)? {
            None => None,
            Some(names) => {
                let names: Vec<String> = serde_json::from_str(&names)
                    .map_err(|_| invalid(format!("{TOOLS} is not a list of names")))?;
                Some(names.into())
            }
        },
        caching: match metadata.get(CACHE).map(|caching| caching.to_str()) {
            None => Caching::AsConfigured,
            Some(Ok("on")) => Caching::Asked,
            Some(_) => Caching::Never,
        },
        privacy: privacy_of(metadata.get(PRIVACY).and_then(|privacy| privacy.to_str().ok())),
        deadline: deadline.map(|left: u64| Instant::now() + Duration::from_millis(left)),
        request_id: RequestId::new(required(REQUEST)?).map_err(id)?,
        idempotency_key: text(IDEMPOTENCY)?,
    })
}

/// Anything but the one word, also nothing, is private: privacy fails closed.
fn privacy_of(said: Option<&str>) -> Privacy {
    match said {
        Some("public") => Privacy::Public,
        _ => Privacy::Private,
    }
}

/// Has a new span continue the trace that `headers` carry, or begin one.
pub fn continue_trace(span: &tracing::Span, headers: &::http::HeaderMap) {
    trace::continue_in(span, trace_of(headers));
}

fn trace_of(headers: &::http::HeaderMap) -> SpanContext {
    let none = opentelemetry::Context::new();
    let carried = TraceContextPropagator::new().extract_with_context(&none, &Headers(headers));
    carried.span().span_context().clone()
}

/// Returns the current span's trace id in hexadecimal, all zeros when there is none.
#[must_use]
pub fn trace_id() -> String {
    trace::current().trace_id().to_string()
}

/// Returns the current span as a W3C `traceparent`, when it belongs to a trace.
#[must_use]
pub fn traceparent() -> Option<String> {
    let span = trace::current();
    let (trace, flags) = (span.trace_id(), span.trace_flags());
    span.is_valid().then(|| format!("00-{trace}-{}-{flags:02x}", span.span_id()))
}

/// Runs every call of a server in a span that continues the caller's trace.
#[derive(Debug, Clone)]
pub struct Traced<S> {
    inner: S,
    service: &'static str,
}

impl<S> Traced<S> {
    /// Wraps `inner`; `service` names it in spans and logs.
    pub fn new(inner: S, service: &'static str) -> Self {
        Self { inner, service }
    }
}

impl<S> Service<::http::Request<Body>> for Traced<S>
where
    S: Service<::http::Request<Body>, Response = ::http::Response<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = tracing::instrument::Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: ::http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let carried = request.extensions().get::<Carried>();
        let said = request.headers().get(PRIVACY).and_then(|privacy| privacy.to_str().ok());
        let privacy = carried.map_or_else(|| privacy_of(said), |carried| carried.context.privacy);
        let privacy = privacy.as_str();
        let span = tracing::info_span!("rpc", service = self.service, method, privacy);
        let caller = match carried {
            Some(carried) => carried.trace.clone(),
            None => trace_of(request.headers()),
        };
        trace::continue_in(&span, caller);
        span.in_scope(|| {
            tracing::debug!(service = self.service, method, trace_id = %trace_id(), "call");
        });
        span.in_scope(|| self.inner.call(request)).instrument(span)
    }
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for Traced<S> {
    const NAME: &'static str = S::NAME;
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = tonic::metadata::MetadataKey::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, value.parse()) {
            self.0.insert::<tonic::metadata::MetadataKey<_>>(key, value);
        }
    }
}

struct Headers<'a>(&'a ::http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(::http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What another process gets.
    fn sent(context: &CallContext) -> Request<Body> {
        let request = request(context, Body::empty()).into_parts();
        let mut sent = ::http::Request::new(request.2);
        *sent.extensions_mut() = request.1;
        Request::from_http(to_wire(sent))
    }

    fn context() -> CallContext {
        let mut context =
            CallContext::new(TenantId::new("t").unwrap(), UserId::new("zoë ☂").unwrap());
        context.run = Some(RunId::new("r").unwrap());
        context.tools = Some(["files__*".to_owned()].into());
        context.privacy = Privacy::Private;
        context.caching = Caching::Never;
        context.deadline = Some(Instant::now() + Duration::from_secs(60));
        context
    }

    #[test]
    fn a_context_survives_the_wire_and_the_process() {
        let context = context();
        let (wire, own) = (sent(&context), request(&context, ()));
        assert!(wire.extensions().get::<Carried>().is_none() && own.metadata().is_empty());
        assert!(wire.metadata().contains_key("grpc-timeout"));
        for back in [read(&wire).unwrap(), read(&own).unwrap()] {
            assert!(back.time_left(Duration::MAX) <= Duration::from_secs(60));
            assert_eq!((&back.tenant, &back.user), (&context.tenant, &context.user));
            assert_eq!((&back.run, back.privacy), (&context.run, context.privacy));
            assert_eq!(back.caching, context.caching);
        }
    }

    #[test]
    fn a_call_without_a_context_is_refused() {
        let refused = read(&Request::new(())).unwrap_err();
        assert_eq!(error::kind_of(&refused), ErrorKind::Invalid);
    }

    #[test]
    fn privacy_fails_closed() {
        let mut garbled = sent(&CallContext { privacy: Privacy::Public, ..context() });
        garbled.metadata_mut().insert(PRIVACY, MetadataValue::from_static("?"));
        assert_eq!(read(&garbled).unwrap().privacy, Privacy::Private);
    }
}
