//! What goes between a client and its servers beside question and answer.

#![allow(deprecated, reason = "older clients use what is deprecated")]

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientCapabilities, ErrorCode, ErrorData, LoggingLevel, MetaObject, ProgressToken,
    ProtocolVersion, RequestMetaObject,
};
use rmcp::service::{Peer, RequestContext, RoleServer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::CallContext;

use crate::hub::Scope;
use crate::upstream::{Asking, Client, Listener, Notification, Session};

/// What names belong to the protocol itself, and are said anew to a server.
const RESERVED: &str = "io.modelcontextprotocol/";
const PROGRESS: &str = "progressToken";

/// How long an answer waits for the client to read what was said before it.
const LAST: Duration = Duration::from_secs(1);

/// A request that is being answered.
pub(super) struct Talk<'a> {
    request: &'a RequestContext<RoleServer>,
    heard: mpsc::Receiver<Notification>,
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
        let (listener, heard) = Listener::new(client.clone());
        let asking = Asking {
            meta,
            capabilities,
            listener: Some(listener),
            client,
            session: session.map(|(session, _)| session),
            asks_again: modern,
        };
        (asking, Self { request, heard, level })
    }

    /// Waits for the answer, and passes on what the server says before it. A client that goes away
    /// ends the work, and one that does not read holds it up no longer than [`LAST`].
    pub(super) async fn wait<T>(self, work: impl Future<Output = T>) -> Result<T, ErrorData> {
        let Self { request, heard, level } = self;
        // A call is a large future: those that follow would hold it one in the other.
        let work = Box::pin(work);
        let (peer, token) = (request.peer.clone(), request.meta.get_progress_token());
        let pass = move |notification| pass(peer.clone(), token.clone(), level, notification);
        tokio::select! {
            () = request.ct.cancelled() => {
                Err(ErrorData::new(ErrorCode(-32000), "the request was cancelled", None))
            }
            answer = meanwhile(work, heard, pass) => Ok(answer),
        }
    }
}

/// Does the work, and passes on what is heard meanwhile: all of it before the answer, unless that
/// takes too long.
async fn meanwhile<T, N, P: Future<Output = ()>>(
    work: impl Future<Output = T>,
    mut heard: mpsc::Receiver<N>,
    pass: impl Fn(N) -> P,
) -> T {
    let done = CancellationToken::new();
    let working = async {
        let _done = done.clone().drop_guard();
        work.await
    };
    let passing = async {
        while let Some(notification) = tokio::select! {
            biased;
            notification = heard.recv() => notification,
            () = done.cancelled() => None,
        } {
            pass(notification).await;
        }
    };
    let too_long = async {
        done.cancelled().await;
        tokio::time::sleep(LAST).await;
    };
    let passing = async {
        tokio::select! {
            () = passing => {}
            () = too_long => tracing::debug!("a client did not read what it was told"),
        }
    };
    tokio::join!(working, passing).0
}

async fn pass(
    peer: Peer<RoleServer>,
    token: Option<ProgressToken>,
    level: Option<LoggingLevel>,
    notification: Notification,
) {
    let passed = match notification {
        Notification::Progress(mut progress) => {
            let Some(token) = token else { return };
            progress.progress_token = token;
            peer.notify_progress(progress).await
        }
        Notification::Log(log) if level.is_some_and(|least| grave(log.level) >= grave(least)) => {
            peer.notify_logging_message(log).await
        }
        Notification::Log(_) | Notification::Updated(_) => return,
    };
    if let Err(fault) = passed {
        tracing::debug!(%fault, "a client was not told");
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn what_is_heard_comes_before_the_answer_and_who_does_not_read_holds_nothing_up() {
        let heard = || {
            let (say, heard) = mpsc::channel(2);
            (0..2).for_each(|notification| say.try_send(notification).unwrap());
            // Nobody else ends what is heard.
            (say, heard)
        };
        let (_say, all) = heard();
        let passed = Mutex::new(Vec::new());
        let pass = |notification| {
            passed.lock().unwrap().push(notification);
            std::future::ready(())
        };
        assert_eq!(meanwhile(std::future::ready("done"), all, pass).await, "done");
        assert_eq!(passed.into_inner().unwrap(), [0, 1]);

        let (_say, all) = heard();
        let never = |_| std::future::pending();
        let answer = meanwhile(std::future::ready("done"), all, never);
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await;
        assert_eq!(answer.unwrap(), "done");
    }
}
