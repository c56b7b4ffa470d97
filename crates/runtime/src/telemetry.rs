//! Logs on stderr and traces over OTLP.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::lines::Json;
use crate::spans::{self, PublicOnly};
use crate::trace::Named;

/// What is told to whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Which log lines: `info`, `warn,router=debug`, …
    pub log: String,
    /// Where traces go over gRPC, such as `http://127.0.0.1:4317`; nowhere when absent.
    pub otlp_endpoint: Option<String>,
    /// The collector is as good as one on this machine: spans of private calls go there too.
    pub otlp_is_local: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".to_owned(), otlp_endpoint: None, otlp_is_local: false }
    }
}

/// Sends what is left when it is dropped, if spans are collected.
#[derive(Debug)]
pub struct Flush(Option<SdkTracerProvider>);

impl Drop for Flush {
    fn drop(&mut self) {
        if let Some(provider) = &self.0 {
            // Nobody is left to be told of a failure.
            let _ = provider.shutdown();
        }
    }
}

/// Installs logs and traces for the process, once, from `main`. Logs are text on a terminal and
/// JSON lines elsewhere.
///
/// # Errors
/// If the filter or the endpoint is malformed, or telemetry is installed already.
pub fn init(service: &'static str, config: &Telemetry) -> anyhow::Result<Flush> {
    // Spans exist whatever the log level, so that a trace is whole.
    let others = ["h2", "hyper", "rmcp", "tonic"].map(|name| (name, LevelFilter::OFF));
    let whole = Targets::new().with_default(LevelFilter::INFO).with_targets(others);
    let Some(endpoint) = &config.otlp_endpoint else {
        let named = Named.with_filter(whole.and(filter_fn(|about| about.is_span())));
        tracing_subscriber::registry().with(named).with(lines(config)?).try_init()?;
        return Ok(Flush(None));
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("telemetry.otlp_endpoint: {endpoint:?}"))?;
    let batches = BatchSpanProcessor::builder(exporter).build();
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(service).build());
    let provider = match config.otlp_is_local || spans::is_here(endpoint) {
        true => provider.with_span_processor(batches),
        false => provider.with_span_processor(PublicOnly(batches)),
    };
    let provider = provider.build();
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        // Nobody asks OpenTelemetry itself for the current span, and a thread says nothing of a task.
        .with_context_activation(false)
        // Nobody asks how long a span was idle, and it would be counted at every poll.
        .with_tracked_inactivity(false)
        .with_threads(false)
        .with_filter(whole);
    tracing_subscriber::registry().with(traces).with(lines(config)?).try_init()?;
    Ok(Flush(Some(provider)))
}

fn lines<S>(config: &Telemetry) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = filter(&config.log)
        .with_context(|| format!("telemetry.log: {:?} is not a filter", config.log))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match std::io::stderr().is_terminal() {
        true => lines.compact().with_filter(filter).boxed(),
        false => {
            let lines = lines.with_ansi(false).fmt_fields(Json).event_format(Json);
            lines.with_filter(filter).boxed()
        }
    })
}

/// Reads which lines are wanted. Only a filter of spans needs to be asked whenever one is entered.
fn filter<S: Subscriber + for<'a> LookupSpan<'a>>(
    log: &str,
) -> anyhow::Result<Box<dyn Filter<S> + Send + Sync>> {
    let log = &quieted(log);
    let whole = EnvFilter::try_new(log)?;
    match log.parse::<Targets>() {
        Ok(targets) if !log.contains('[') => Ok(Box::new(targets)),
        _ => Ok(Box::new(whole)),
    }
}

/// Has lines left out that would tell what tools are told and say, unless they are asked for by name, and of level error
/// those about a server that cannot be reached, which whoever asked it tells.
fn quieted(log: &str) -> String {
    format!("rmcp=error,rmcp::transport::worker=off,{log}")
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_tools_say_is_logged_to_whoever_asks_for_it_by_name_alone() {
        for (log, logged) in
            [("info", false), ("debug,router=warn", false), ("info,rmcp=info", true)]
        {
            let targets: Targets = quieted(log).parse().unwrap();
            assert_eq!(targets.would_enable("rmcp::service", &Level::INFO), logged, "{log}");
            assert!(targets.would_enable("rmcp::service", &Level::ERROR), "{log}");
            assert!(!targets.would_enable("rmcp::transport::worker", &Level::ERROR), "{log}");
            assert!(targets.would_enable("mcp_bridge", &Level::INFO), "{log}");
        }
    }
}
