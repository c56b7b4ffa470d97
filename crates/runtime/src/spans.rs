//! Which spans may leave this machine: those of public calls.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use types::Privacy;

/// The field of a span that says how private its call is.
pub const PRIVACY: &str = "privacy";

/// Passes on the spans that are said to be of public calls, and no other: what says nothing may be of
/// a private one.
#[derive(Debug)]
pub(crate) struct PublicOnly<P>(pub(crate) P);

impl<P: SpanProcessor> SpanProcessor for PublicOnly<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        // A call that became more private says so again.
        let mut said = span.attributes.iter().filter(|field| field.key.as_str() == PRIVACY);
        let public = |value: &str| value == Privacy::Public.as_str();
        let is_public = said.next().is_some_and(|first| public(&first.value.as_str()))
            && said.all(|next| public(&next.value.as_str()));
        if is_public {
            self.0.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Tells whether a collector is on this machine, as its address is written: a name may be anybody's.
pub(crate) fn is_here(endpoint: &str) -> bool {
    let uri: Result<http::Uri, _> = endpoint.parse();
    let host = uri.ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::KeyValue;
    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    #[derive(Debug, Default, Clone)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl SpanProcessor for Seen {
        fn on_start(&self, _: &mut Span, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span.name.into_owned());
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[test]
    fn only_what_is_said_to_be_public_is_passed_on() {
        let seen = Seen::default();
        let provider =
            SdkTracerProvider::builder().with_span_processor(PublicOnly(seen.clone())).build();
        for (name, said) in [
            ("public", &["public"][..]),
            ("private", &["private"]),
            ("nothing", &[]),
            ("raised", &["public", "private"]),
            ("garbled", &["?"]),
        ] {
            let mut span = provider.tracer("t").start(name);
            for privacy in said {
                span.set_attribute(KeyValue::new(PRIVACY, *privacy));
            }
            span.end();
        }
        assert_eq!(*seen.0.lock().unwrap(), ["public"]);
    }

    #[test]
    fn a_collector_is_here_or_it_may_be_anywhere() {
        for (endpoint, here) in [
            ("http://127.0.0.1:4317", true),
            ("http://[::1]:4317", true),
            ("http://localhost:4317", true),
            ("http://203.0.113.7:4317", false),
            ("http://localhost.example.com:4317", false),
            ("http://127.0.0.1.example.com", false),
            ("otel", false),
        ] {
            assert_eq!(is_here(endpoint), here, "{endpoint}");
        }
    }
}
