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
use super::metrics::Counts;
use super::subject::{Kind, Subject};
use crate::Error;
use crate::store::Call;

/// How much of an address is kept, in characters.
const LONGEST: usize = 1024;

/// A call's row of the audit. It is kept however the call ends, also when nobody waits for it.
pub(crate) struct Row {
    call: Option<Call>,
    method: &'static str,
    kind: Kind,
    /// The server's name for it.
    own: String,
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
        method: &'static str,
        kind: Kind,
        server: &str,
        own: &str,
        arguments: Digest,
    ) -> Self {
        let privacy = context.privacy.as_str();
        // An address may hold what was asked for.
        let shown = if kind == Kind::Resource { server } else { own };
        let span = tracing::info_span!(
            "mcp",
            otel.name = format!("{method} {shown}"),
            mcp.method.name = method,
            gen_ai.tool.name = (kind == Kind::Tool).then_some(own),
            gen_ai.prompt.name = (kind == Kind::Prompt).then_some(own),
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
            tool: kind.named(own).chars().take(LONGEST).collect(),
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
            method,
            kind,
            own: own.to_owned(),
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
        // A tool that is not known is anybody's choice and must not become a label; nor must an address.
        if call.pin.is_some() || self.kind == Kind::Resource {
            self.counts.ended(self.method, self.kind, &self.own, outcome, took);
        }
        // Arguments and results may be private; who called what is the audit.
        tracing::info!(
            tenant = call.tenant,
            user = call.user,
            server = call.server,
            method = self.method,
            name = if self.kind == Kind::Resource { "" } else { self.own.as_str() },
            decision = call.decision,
            rule = call.rule,
            outcome,
            ms = took.as_secs_f64() * 1e3,
            "call"
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
    subject: Subject,
    place: Place,
}

/// A place among the caller's calls under way, as long as it is kept; where a rule counts them.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "it is held")] Option<OwnedSemaphorePermit>);

impl Permit {
    pub(crate) fn new(
        row: Row,
        timeout: Duration,
        max_result_bytes: usize,
        subject: Subject,
        held: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { timeout, row, max_result_bytes, subject, place: Place(held) }
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

    /// Ends a call of something else than a tool: returns its outcome, or why it is not passed on.
    ///
    /// # Errors
    /// The outcome's own, or [`Error::TooLarge`].
    pub(crate) fn pass<T: serde::Serialize>(self, outcome: Result<T, Error>) -> Result<T, Error> {
        let checked = outcome.and_then(|given| self.fits(&given).map(|()| given));
        self.done(checked)
    }

    /// Ends a call that gives nothing by itself, and returns its outcome.
    ///
    /// # Errors
    /// The outcome's own.
    pub(crate) fn done<T>(self, outcome: Result<T, Error>) -> Result<T, Error> {
        self.begun(outcome).map(|(given, _)| given)
    }

    /// Ends a call that has begun something, and returns what; who keeps the place is under way.
    ///
    /// # Errors
    /// The outcome's own.
    pub(crate) fn begun<T>(self, outcome: Result<T, Error>) -> Result<(T, Place), Error> {
        self.row.end(outcome.as_ref().map_or_else(Error::outcome, |_| "ok"));
        Ok((outcome?, self.place))
    }

    /// Ends the call with a question to the client; it is asked for again with the answer.
    pub(crate) fn asked_back(self) {
        self.row.end("input_required");
    }

    /// Checks how much was given.
    fn fits(&self, given: &impl serde::Serialize) -> Result<(), Error> {
        let (bytes, limit) = (size(given)?, self.max_result_bytes);
        let asked = || format!("{} {}", self.subject.kind.as_str(), self.subject.own);
        match bytes > limit {
            true => Err(Error::TooLarge { asked: asked(), bytes, limit }),
            false => Ok(()),
        }
    }

    /// Returns a result, and whether it is the server's own.
    fn check(&self, result: CallToolResult) -> Result<(CallToolResult, bool), Error> {
        self.fits(&result)?;
        let output = self.subject.checked.as_ref().and_then(|checked| checked.output.as_ref());
        let Some(Ok(schema)) = output else { return Ok((result, true)) };
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
