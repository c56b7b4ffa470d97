//! A session of a client of before 2026-07-28.

#![allow(deprecated, reason = "older clients use what is deprecated")]

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use futures::StreamExt as _;
use futures::stream::{BoxStream, select_all, unfold};
use rmcp::model::{LoggingLevel, ResourceUpdatedNotificationParam};
use rmcp::service::{Peer, RoleServer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use types::CallContext;

use super::talk;
use crate::Error;
use crate::hub::{Hub, Scope};
use crate::upstream::{Change, Notification, Session};

/// How much of what servers say waits to be passed on; more is left out.
const WAITING: usize = 256;

/// How many more sessions one caller may have at one address, of how many.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    limit: usize,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))), limit }
    }

    fn take(&self) -> Result<OwnedSemaphorePermit, Error> {
        let taken = Arc::clone(&self.free).try_acquire_owned();
        taken.map_err(|_| Error::TooManySessions(self.limit))
    }
}

/// What a client's session keeps, and its servers' sessions for it: they end with it.
pub(super) struct Kept {
    hub: Arc<Hub>,
    session: OnceLock<Session>,
    level: AtomicU8,
    ended: CancellationToken,
    places: Places,
    /// Its own, once it has begun.
    place: OnceLock<OwnedSemaphorePermit>,
}

impl Kept {
    pub(super) fn new(hub: Arc<Hub>, places: Places) -> Self {
        let level = talk::grave(LoggingLevel::Info).into();
        let (session, place) = (OnceLock::new(), OnceLock::new());
        Self { hub, session, level, ended: CancellationToken::new(), places, place }
    }

    /// Begins the session: from now on the client hears what changes, and what servers say.
    ///
    /// # Errors
    /// If the caller may not see the servers, or has as many sessions as it may.
    pub(super) fn begin(
        self: &Arc<Self>,
        context: &CallContext,
        server: Option<Arc<str>>,
        peer: Peer<RoleServer>,
    ) -> Result<(), Error> {
        let scope = server.as_deref().map_or(Scope::All, Scope::One);
        let changes = follow(&self.hub, context, scope)?;
        if self.place.get().is_none() {
            // Two at once in one session: the second gives its place back.
            let _ = self.place.set(self.places.take()?);
        }
        let (said, heard) = mpsc::channel(WAITING);
        let session = Session { id: self.hub.next_session(), said };
        if self.session.set(session).is_ok() {
            let kept = Arc::downgrade(self);
            let heard = Box::pin(unfold(heard, |mut heard| async {
                let (server, notification) = heard.recv().await?;
                Some((Heard::Said(server, notification), heard))
            }));
            let changes = changes.map(Heard::Changed).boxed();
            let all = select_all([heard as BoxStream<'static, Heard>, changes]);
            let mut all = all.take_until(self.ended.clone().cancelled_owned()).boxed();
            tokio::spawn(async move {
                while let Some(heard) = all.next().await {
                    let Some(level) = kept.upgrade().map(|kept| kept.level()) else { return };
                    let told = tell(&peer, server.as_deref(), level, heard).await;
                    if told.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(())
    }

    /// Returns the session and what the client wants to hear, once it has begun.
    pub(super) fn session(&self) -> Option<(Session, LoggingLevel)> {
        Some((self.session.get()?.clone(), self.level()))
    }

    pub(super) fn set_level(&self, level: LoggingLevel) {
        self.level.store(talk::grave(level), Ordering::Relaxed);
    }

    fn level(&self) -> LoggingLevel {
        match self.level.load(Ordering::Relaxed) {
            0 => LoggingLevel::Debug,
            1 => LoggingLevel::Info,
            2 => LoggingLevel::Notice,
            3 => LoggingLevel::Warning,
            4 => LoggingLevel::Error,
            5 => LoggingLevel::Critical,
            6 => LoggingLevel::Alert,
            _ => LoggingLevel::Emergency,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.ended.cancel();
        if let Some(session) = self.session.get() {
            self.hub.end(session.id);
        }
    }
}

enum Heard {
    Said(String, Notification),
    Changed(Change),
}

/// Follows the changes of the servers of a scope.
///
/// # Errors
/// If the caller may not see the server.
pub(super) fn follow(
    hub: &Hub,
    context: &CallContext,
    scope: Scope<'_>,
) -> Result<BoxStream<'static, Change>, Error> {
    let all = hub.changes(context, scope)?.into_iter().map(|(_, changes)| {
        let begin = (changes, Vec::new());
        Box::pin(unfold(begin, |(mut changes, mut missed)| async {
            if let Some(change) = missed.pop() {
                return Some((change, (changes, missed)));
            }
            match changes.recv().await {
                Ok(change) => Some((change, (changes, missed))),
                // It may have been any of them.
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some((Change::Tools, (changes, vec![Change::Prompts, Change::Resources])))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        }))
    });
    Ok(select_all(all).boxed())
}

async fn tell(
    peer: &Peer<RoleServer>,
    server: Option<&str>,
    level: LoggingLevel,
    heard: Heard,
) -> Result<(), rmcp::ServiceError> {
    match heard {
        Heard::Changed(Change::Tools) => peer.notify_tool_list_changed().await,
        Heard::Changed(Change::Prompts) => peer.notify_prompt_list_changed().await,
        Heard::Changed(Change::Resources) => peer.notify_resource_list_changed().await,
        Heard::Said(_, Notification::Log(log)) if talk::grave(log.level) >= talk::grave(level) => {
            peer.notify_logging_message(log).await
        }
        Heard::Said(of, Notification::Updated(uri)) => {
            let uri = talk::shown(server, &of, &uri);
            peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await
        }
        Heard::Said(..) => Ok(()),
    }
}
