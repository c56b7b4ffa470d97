//! What goes between a client and its servers beside question and answer.

#![allow(deprecated, reason = "older clients use what is deprecated")]

use std::sync::Arc;

use rmcp::model::{
    ClientCapabilities, ErrorCode, ErrorData, LoggingLevel, MetaObject, ProtocolVersion,
    RequestMetaObject,
};
use rmcp::service::{RequestContext, RoleServer};
use tokio::sync::mpsc;
use types::CallContext;

use crate::hub::Scope;
use crate::upstream::{Asking, Client, Hearer, Note, Session};

/// What names belong to the protocol itself, and are said anew to a server.
const RESERVED: &str = "io.modelcontextprotocol/";
const PROGRESS: &str = "progressToken";

/// A request that is being answered.
pub(super) struct Talk<'a> {
    request: &'a RequestContext<RoleServer>,
    heard: mpsc::Receiver<Note>,
    /// The least that the client wants to hear of what servers log.
    level: Option<LoggingLevel>,
}

/// Returns who calls.
///
/// # Errors
/// If the request did not come through [`super::Served`].
pub(super) fn caller(request: &RequestContext<RoleServer>) -> Result<&CallContext, ErrorData> {
    let parts = request.extensions.get::<http::request::Parts>();
    let context = parts.and_then(|parts| parts.extensions.get::<CallContext>());
    context.ok_or_else(|| ErrorData::internal_error("it is not known who calls", None))
}

/// Whether a client keeps no session, and asks again with what it was asked for.
pub(super) fn modern(request: &RequestContext<RoleServer>) -> bool {
    request.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

impl<'a> Talk<'a> {
    /// Begins to answer a request: returns what its server is told besides, and what it says back.
    pub(super) fn begin(
        request: &'a RequestContext<RoleServer>,
        session: Option<(Session, LoggingLevel)>,
    ) -> (Asking, Self) {
        let modern = modern(request);
        let said = request.client_capabilities().unwrap_or_default();
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = said.elicitation;
        capabilities.sampling = said.sampling;
        capabilities.roots = said.roots;
        let client = (!modern).then(|| {
            Arc::new(Client {
                peer: request.peer.clone(),
                request: request.id.clone(),
                capabilities: capabilities.clone(),
            })
        });
        let level = match &session {
            Some((_, level)) => Some(*level),
            None => request.meta.log_level(),
        };
        let mut meta = passed_on(&request.meta);
        if let Some(level) = level {
            meta.set_log_level(level);
        }
        let (hearer, heard) = Hearer::new(client.clone());
        let asking = Asking {
            meta,
            capabilities,
            hearer: Some(hearer),
            client,
            session: session.map(|(session, _)| session),
            asks_again: modern,
        };
        (asking, Self { request, heard, level })
    }

    /// Waits for the answer, and passes on what the server says before it. A client that goes away
    /// ends the work.
    pub(super) async fn wait<T>(mut self, work: impl Future<Output = T>) -> Result<T, ErrorData> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                () = self.request.ct.cancelled() => {
                    return Err(ErrorData::new(ErrorCode(-32000), "the request was cancelled", None));
                }
                Some(note) = self.heard.recv() => self.pass(note).await,
                answer = &mut work => {
                    while let Ok(note) = self.heard.try_recv() {
                        self.pass(note).await;
                    }
                    return Ok(answer);
                }
            }
        }
    }

    async fn pass(&self, note: Note) {
        let peer = &self.request.peer;
        let passed = match note {
            Note::Progress(mut progress) => {
                let Some(token) = self.request.meta.get_progress_token() else { return };
                progress.progress_token = token;
                peer.notify_progress(progress).await
            }
            Note::Log(log) if self.level.is_some_and(|least| grave(log.level) >= grave(least)) => {
                peer.notify_logging_message(log).await
            }
            Note::Log(_) | Note::Updated(_) => return,
        };
        if let Err(fault) = passed {
            tracing::debug!(%fault, "a client was not told");
        }
    }
}

/// How grave it is, from 0.
pub(super) fn grave(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}

/// What of a request's metadata its server is told: all but the protocol's own.
fn passed_on(meta: &RequestMetaObject) -> RequestMetaObject {
    let own = |name: &&String| !name.starts_with(RESERVED) && *name != PROGRESS;
    let passed = meta.0.0.iter().filter(|(name, _)| own(name));
    let mut passed =
        MetaObject(passed.map(|(name, value)| (name.clone(), value.clone())).collect());
    // The trace goes on where there is one.
    if let Some(trace) = runtime::context::traceparent() {
        passed.set_traceparent(trace);
    }
    RequestMetaObject(passed)
}

/// Returns the address that a client knows a server's resource by.
pub(super) fn shown(server: Option<&str>, of: &str, uri: &str) -> String {
    crate::hub::Hub::shown(server.map_or(Scope::All, Scope::One), of, uri)
}
