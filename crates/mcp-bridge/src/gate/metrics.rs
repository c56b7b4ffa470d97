//! What is counted of calls. No tenant, user or key is in a label.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use runtime::metrics::Metrics;

use super::subject::Kind;

type Labels = Vec<(&'static str, String)>;

/// Counters of one bridge; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    seconds: Family<Labels, Histogram>,
    pin_refusals: Family<Labels, Counter>,
    findings: Family<Labels, Counter>,
    denials: Family<Labels, Counter>,
    lost: Counter,
}

impl Counts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let histogram = || {
            let bounds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];
            Histogram::new(bounds)
        };
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        Self {
            seconds: metrics.register(
                "mcp_client_operation_duration_seconds",
                "How long calls of MCP servers took",
                seconds,
            ),
            pin_refusals: metrics.register(
                "baton_mcp_pin_refusals",
                "Calls of tools whose definition is not the one that was approved",
                Family::default(),
            ),
            findings: metrics.register(
                "baton_mcp_definition_findings",
                "Definitions in which something was found, by what",
                Family::default(),
            ),
            denials: metrics.register(
                "baton_mcp_denials",
                "Calls of tools that were refused, by why",
                Family::default(),
            ),
            lost: metrics.register(
                "baton_mcp_audit_lost",
                "Rows of the audit that found no place to wait",
                Counter::default(),
            ),
        }
    }

    /// Counts a call that has ended; `error.type` is there where it did not go well.
    pub(crate) fn ended(
        &self,
        method: &'static str,
        kind: Kind,
        name: &str,
        outcome: &'static str,
        took: Duration,
    ) {
        let mut labels = vec![("mcp_method_name", method.to_owned())];
        match kind {
            Kind::Tool => labels.push(("gen_ai_tool_name", name.to_owned())),
            Kind::Prompt => labels.push(("gen_ai_prompt_name", name.to_owned())),
            Kind::Resource => {}
        }
        if outcome != "ok" {
            labels.push(("error_type", outcome.to_owned()));
        }
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn pin_refused(&self, server: &str) {
        self.pin_refusals.get_or_create(&vec![("server", server.to_owned())]).inc();
    }

    pub(crate) fn found(&self, what: &str) {
        self.findings.get_or_create(&vec![("finding", what.to_owned())]).inc();
    }

    pub(crate) fn denied(&self, reason: &str) {
        self.denials.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    pub(crate) fn lost(&self) {
        self.lost.inc();
    }
}
