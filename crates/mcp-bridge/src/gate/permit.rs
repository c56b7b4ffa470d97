//! A call that goes out, until it has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::model::{CallToolResult, ContentBlock};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Span;
use types::{CallContext, Clock};

use super::Gate;
use super::audit::Audit;
use super::canonical::Digest;
use super::checked::Checked;
use super::metrics::Counts;
use crate::Error;
use crate::store::Call;

/// A call's row of the audit. It is kept however the call ends, also when nobody waits for it.
pub(crate) struct Row {
    call: Option<Call>,
    started: Instant,
    clock: Arc<dyn Clock>,
    audit: Arc<Audit>,
    counts: Counts,
    span: Span,
}

impl Row {
    pub(crate) fn new(
        gate: &Gate,
        context: &CallContext,
        server: &str,
        tool: &str,
        arguments: Digest,
    ) -> Self {
        let privacy = context.privacy.as_str();
        let span = tracing::info_span!(
            "tools/call",
            otel.name = format!("tools/call {tool}"),
            mcp.method.name = "tools/call",
            gen_ai.tool.name = tool,
            error.type = tracing::field::Empty,
            privacy,
        );
        let call = Call {
            at: 0,
            tenant: context.tenant.to_string(),
            team: context.team.as_ref().map(ToString::to_string),
            user: context.user.to_string(),
            key: context.key.as_ref().map(ToString::to_string),
            run: context.run.as_ref().map(ToString::to_string),
            privacy: privacy.to_owned(),
            server: server.to_owned(),
            tool: tool.to_owned(),
            pin: None,
            arguments,
            decision: "undecided".to_owned(),
            rule: String::new(),
            outcome: String::new(),
            micros: 0,
            trace: runtime::context::trace_id(),
            request: context.request_id.to_string(),
        };
        Self {
            call: Some(call),
            started: Instant::now(),
            clock: Arc::clone(&gate.clock),
            audit: Arc::clone(&gate.audit),
            counts: gate.counts.clone(),
            span,
        }
    }

    pub(crate) fn pin(&mut self, pin: Digest) {
        self.with(|call| call.pin = Some(pin));
    }

    pub(crate) fn allowed(&mut self, rule: &str) {
        self.with(|call| (call.decision, call.rule) = ("allowed".to_owned(), rule.to_owned()));
    }

    pub(crate) fn denied(&mut self, rule: &str) {
        self.with(|call| (call.decision, call.rule) = ("denied".to_owned(), rule.to_owned()));
    }

    fn with(&mut self, change: impl FnOnce(&mut Call)) {
        if let Some(call) = &mut self.call {
            change(call);
        }
    }

    /// Ends the call with one of `ok`, `tool_error`, `protocol_error`, `denied`, `timeout`,
    /// `input_required` and `cancelled`.
    pub(crate) fn end(mut self, outcome: &'static str) {
        self.ended(outcome);
    }

    fn ended(&mut self, outcome: &'static str) {
        let Some(mut call) = self.call.take() else { return };
        let took = self.started.elapsed();
        if outcome != "ok" {
            self.span.record("error.type", outcome);
        }
        call.at = self.clock.now_ms();
        call.outcome = outcome.to_owned();
        call.micros = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        // A tool that is not known is anybody's choice and must not become a label.
        if call.pin.is_some() {
            self.counts.ended(&call.tool, outcome, took);
        }
        // Arguments and results may be private; who called what is the audit.
        tracing::info!(
            tenant = call.tenant,
            user = call.user,
            server = call.server,
            tool = call.tool,
            decision = call.decision,
            rule = call.rule,
            outcome,
            ms = took.as_secs_f64() * 1e3,
            "tool call"
        );
        self.audit.keep(call);
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.ended("cancelled");
    }
}

/// A call that may go out. Whoever holds it calls [`Permit::finish`] once the call has ended; a call
/// that is dropped before was cancelled.
pub(crate) struct Permit {
    /// How long the call may take.
    pub(crate) timeout: Duration,
    row: Row,
    max_result_bytes: usize,
    checked: Arc<Checked>,
    /// A place among the caller's calls under way.
    _held: Option<OwnedSemaphorePermit>,
}

impl Permit {
    pub(crate) fn new(
        row: Row,
        timeout: Duration,
        max_result_bytes: usize,
        checked: Arc<Checked>,
        held: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { timeout, row, max_result_bytes, checked, _held: held }
    }

    /// Returns the span that the call is made in.
    pub(crate) fn span(&self) -> Span {
        self.row.span.clone()
    }

    /// Ends the call: returns its outcome, or why a result is not passed on. One that does not fit the
    /// tool's output schema is withheld, and told as the tool's error.
    ///
    /// # Errors
    /// The outcome's own, or [`Error::TooLarge`].
    pub(crate) fn finish(
        self,
        outcome: Result<CallToolResult, Error>,
    ) -> Result<CallToolResult, Error> {
        let checked = outcome.and_then(|result| self.check(result));
        let word = match &checked {
            Ok((result, true)) if result.is_error == Some(true) => "tool_error",
            Ok((_, true)) => "ok",
            Ok((_, false)) => "protocol_error",
            Err(error) => error.outcome(),
        };
        self.row.end(word);
        checked.map(|(result, _)| result)
    }

    /// Ends the call with a question to the client; it is asked for again with the answer.
    pub(crate) fn asked_back(self) {
        self.row.end("input_required");
    }

    /// Returns a result, and whether it is the server's own.
    fn check(&self, result: CallToolResult) -> Result<(CallToolResult, bool), Error> {
        let (bytes, limit) = (size(&result)?, self.max_result_bytes);
        if bytes > limit {
            return Err(Error::TooLarge {
                asked: format!("tool {}", self.checked.tool),
                bytes,
                limit,
            });
        }
        let Some(Ok(schema)) = &self.checked.output else { return Ok((result, true)) };
        if result.is_error == Some(true) {
            return Ok((result, true));
        }
        let misfit = match &result.structured_content {
            Some(value) => schema.check(value).err().map(|misfit| misfit.to_string()),
            None => Some("there is none".to_owned()),
        };
        match misfit {
            None => Ok((result, true)),
            Some(misfit) => {
                let text = format!("the tool's structured result is wrong and withheld: {misfit}");
                Ok((CallToolResult::error(vec![ContentBlock::text(text)]), false))
            }
        }
    }
}

/// Returns how much something is, in bytes of JSON.
pub(crate) fn size(result: &impl serde::Serialize) -> Result<usize, Error> {
    let mut count = Count(0);
    serde_json::to_writer(&mut count, result)
        .map_err(|fault| Error::Invalid(format!("it cannot be written as JSON: {fault}")))?;
    Ok(count.0)
}

/// Counts what is written.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
