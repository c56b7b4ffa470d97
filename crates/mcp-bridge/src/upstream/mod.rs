//! The connections to one MCP server, made when they are needed and made again when they were lost.
//!
//! A server of revision 2026-07-28 keeps nothing between two requests: its callers share a connection.
//! One of before keeps a session: each caller has one of its own, and so has the bridge, for lists.

mod backoff;
mod changes;
mod client;
mod connect;
mod connection;
mod http;
mod lines;
mod lists;
mod program;
mod relay;
mod stdio;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rmcp::model::{ClientCapabilities, ClientRequest, RequestMetaObject, ServerResult};
use rmcp::service::ServiceError;
use tokio::sync::{OwnedMutexGuard, broadcast, mpsc};
use tokio::time::timeout;
use types::{CallContext, TenantId, UserId};

use crate::Error;
use crate::config::{Described, Place};

use backoff::Backoff;
pub(crate) use changes::Change;
use changes::Changes;
pub(crate) use client::Client;
use connection::Connection;
use lists::Lists;
pub(crate) use lists::{Kind, Listed};
pub(crate) use relay::{Listener, Notification};
pub(crate) use stdio::{Apart, Program};

/// How long an address that could not be reached again and again is left alone at first.
const REST: Duration = Duration::from_millis(500);

/// A caller has one in so many of a server's sessions, rounded up.
const SHARE: usize = 4;

/// What is told of a connection that ended, nobody knows why.
const LOST: &str = "the connection was lost";

/// How much of a cause is logged, in characters.
const FAULT: usize = 120;

/// Whose connection it is. Without a user it is everybody's, or the bridge's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: Option<TenantId>,
    user: Option<UserId>,
    /// The client's session, of the era in which there were some: it has one of its own here.
    session: Option<u64>,
    /// What the client can be asked, as JSON: the server was told so when the session began.
    asks: String,
}

impl Key {
    fn hands(&self) -> Hands {
        (self.tenant.clone(), self.user.clone())
    }

    fn own(tenant: Option<TenantId>) -> Self {
        Self { tenant, user: None, session: None, asks: String::new() }
    }
}

/// In whose hands a server failed: a session of theirs is no excuse.
type Hands = (Option<TenantId>, Option<UserId>);

/// What is held against a server there.
type Record = Arc<Mutex<Backoff>>;

/// Why a connection was given up, where that is known.
type Reason = Arc<OnceLock<String>>;

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

/// What a request tells the server besides itself, and who hears what it says meanwhile.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asking {
    pub(crate) meta: RequestMetaObject,
    /// What the client can be asked.
    pub(crate) capabilities: ClientCapabilities,
    pub(crate) listener: Option<Listener>,
    /// The client itself, where it is of the era in which it is asked while its call goes on.
    pub(crate) client: Option<Arc<Client>>,
    /// Its session there.
    pub(crate) session: Option<Session>,
    /// Whether the client asks again with what it was asked for.
    pub(crate) asks_again: bool,
}

/// A client's session: what its servers say apart from any call goes there.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) said: mpsc::Sender<(String, Notification)>,
}

/// One server.
pub(crate) struct Upstream {
    pub(crate) server: Arc<Described>,
    pub(crate) lists: Lists,
    /// For a server that has an address.
    http: Option<reqwest::Client>,
    /// Whether the server is of the modern era, once known.
    modern: Mutex<Option<bool>>,
    /// A modern server that does not speak as those of before.
    modern_alone: AtomicBool,
    slots: Mutex<HashMap<Key, Slot>>,
    /// What failed in one caller's hands is not held against it in another's; what failed in the
    /// bridge's own is.
    records: Mutex<HashMap<Hands, Record>>,
    /// It was waited for long enough, and has not given a list since.
    late: AtomicBool,
    changes: Arc<Changes>,
}

impl Upstream {
    pub(crate) fn new(server: Described) -> anyhow::Result<Arc<Self>> {
        let http = match &server.place {
            Place::Address(_) => Some(http::client(server.reach.clone())?),
            Place::Program(_) => None,
        };
        Ok(Arc::new(Self {
            server: Arc::new(server),
            lists: Lists::default(),
            http,
            modern: Mutex::default(),
            modern_alone: AtomicBool::new(false),
            slots: Mutex::default(),
            records: Mutex::default(),
            late: AtomicBool::new(false),
            changes: Arc::default(),
        }))
    }

    /// Returns what changes at the server from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.follow()
    }

    /// Asks the server for a caller, once: a lost connection does not tell whether it was done.
    ///
    /// # Errors
    /// [`Error::Refused`] with what the server answers, or [`Error::Unavailable`].
    pub(crate) async fn ask(
        self: &Arc<Self>,
        context: &CallContext,
        request: ClientRequest,
        asking: &Asking,
    ) -> Result<ServerResult, Error> {
        let connection = self.connection_for(context, asking).await?;
        self.ask_on(&connection, request, asking).await
    }

    /// Asks on a connection.
    pub(crate) async fn ask_on(
        &self,
        connection: &Arc<Connection>,
        request: ClientRequest,
        asking: &Asking,
    ) -> Result<ServerResult, Error> {
        let mut meta = asking.meta.clone();
        if connection.modern() {
            meta.set_client_capabilities(asking.capabilities.clone());
        }
        let asked = connection.ask(request, meta, asking.listener.clone()).await;
        if asked.as_ref().is_err_and(is_lost) {
            self.forget(connection);
        }
        asked.map_err(|fault| match connection.reason() {
            Some(reason) if is_lost(&fault) => self.unavailable(reason, &fault),
            _ => self.failed(fault),
        })
    }

    /// Returns the caller's connection.
    pub(crate) async fn connection_for(
        self: &Arc<Self>,
        context: &CallContext,
        asking: &Asking,
    ) -> Result<Arc<Connection>, Error> {
        let own = self.own_key(context);
        // The bridge's own connection comes first: it tells the era.
        let known = *held(&self.modern);
        let modern = match known {
            Some(modern) => modern,
            None => self.connection(own.clone(), None).await?.modern(),
        };
        // What a server logs names no call: who wants to hear it has a connection alone.
        let logs = asking.meta.log_level().is_some();
        let session = asking.session.clone().filter(|_| !modern || self.speaks_both());
        if self.server.shared || (modern && !logs && session.is_none()) {
            return self.connection(own, None).await;
        }
        // Who cannot be asked on the way is not said to be.
        let asks = match &asking.client {
            Some(_) if !modern || session.is_some() => {
                serde_json::to_string(&asking.capabilities).unwrap_or_default()
            }
            _ => String::new(),
        };
        let (tenant, user) = (Some(context.tenant.clone()), Some(context.user.clone()));
        let key = Key { tenant, user, session: session.as_ref().map(|one| one.id), asks };
        match self.connection(key.clone(), session.clone()).await {
            Err(fault @ (Error::Refused { .. } | Error::Unavailable { .. }))
                if modern && session.is_some() =>
            {
                let own = Key { session: None, asks: String::new(), ..key };
                let connection = self.connection(own, None).await?;
                // It is there, and says that it does not speak as those of before.
                if matches!(fault, Error::Refused { .. }) {
                    self.modern_alone.store(true, Ordering::Relaxed);
                }
                Ok(connection)
            }
            connection => connection,
        }
    }

    /// Whether a client of before is spoken for as it speaks, though the server is modern: over HTTP,
    /// where a session costs little.
    fn speaks_both(&self) -> bool {
        self.http.is_some() && !self.modern_alone.load(Ordering::Relaxed)
    }

    /// Returns the connection on which the server is asked for its lists.
    pub(crate) async fn own_connection(
        self: &Arc<Self>,
        context: &CallContext,
    ) -> Result<Arc<Connection>, Error> {
        self.connection(self.own_key(context), None).await
    }

    fn own_key(&self, context: &CallContext) -> Key {
        Key::own(self.server.tenant_header.then(|| context.tenant.clone()))
    }

    /// Returns a connection; whoever comes while it is made waits for the same one, and it is made
    /// also when nobody waits for it any more.
    async fn connection(
        self: &Arc<Self>,
        key: Key,
        session: Option<Session>,
    ) -> Result<Arc<Connection>, Error> {
        let slot = self.slot(&key)?;
        let mut kept = slot.lock_owned().await;
        if let Some(connection) = kept.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        // A dead one goes first: its process is killed and reaped.
        kept.take();
        self.may_be_tried(&key)?;
        let this = Arc::clone(self);
        let opened = tokio::spawn(async move { this.open(key, session, kept).await }).await;
        opened.map_err(|fault| self.unavailable("it could not be connected", &fault))?
    }

    async fn open(
        self: Arc<Self>,
        key: Key,
        session: Option<Session>,
        mut slot: OwnedMutexGuard<Option<Arc<Connection>>>,
    ) -> Result<Arc<Connection>, Error> {
        // A session is of the era of before.
        let known = match session {
            Some(_) => Some(false),
            None => *held(&self.modern),
        };
        let wait = self.server.start_timeout;
        let opened = self.within(wait, self.connect(&key, session.as_ref(), known)).await;
        match opened {
            Ok(connection) => {
                // A program is well once it has run for a while: it has yet to be asked for anything.
                if self.http.is_some() {
                    held(&self.records).remove(&key.hands());
                }
                if key.user.is_none() {
                    *held(&self.modern) = Some(connection.modern());
                }
                let connection = Arc::clone(slot.insert(Arc::new(connection)));
                if key.user.is_none() && connection.modern() {
                    let (of, changes) = (Arc::downgrade(&connection), Arc::clone(&self.changes));
                    tokio::spawn(changes::follow(of, changes, self.server.timeout));
                }
                Ok(connection)
            }
            Err(error) => {
                // What it was it may be no longer.
                if key.user.is_none() {
                    *held(&self.modern) = None;
                }
                // That a modern server has no sessions says nothing against it.
                let foreign = session.is_some() && *held(&self.modern) == Some(true);
                if self.http.is_some() && !foreign {
                    let record = self.record(&key);
                    let mut record = held(&record);
                    record.failed(Duration::ZERO, Instant::now(), fastrand::f64());
                    record.fault = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    /// What is held against the server where this connection is. A program notes there itself how it
    /// fails and ends.
    fn record(&self, key: &Key) -> Record {
        let first = match &self.server.place {
            Place::Program(program) => program.restart,
            Place::Address(_) => REST,
        };
        let mut records = held(&self.records);
        let record = records.entry(key.hands());
        Arc::clone(record.or_insert_with(|| Arc::new(Mutex::new(Backoff::new(first)))))
    }

    /// # Errors
    /// If the server has failed too often of late, there or in the bridge's own hands.
    fn may_be_tried(&self, key: &Key) -> Result<(), Error> {
        let own = (key.tenant.clone().filter(|_| self.server.tenant_header), None);
        let records = held(&self.records);
        for record in [&own, &key.hands()].into_iter().filter_map(|one| records.get(one)) {
            let record = held(record);
            if let Some((times, wait)) = record.rest(Instant::now()) {
                return Err(record.fault.clone().unwrap_or_else(|| Error::Unavailable {
                    server: self.server.name.clone(),
                    reason: format!(
                        "it ended {times} times in a row and is started again in {} ms",
                        wait.as_millis()
                    ),
                }));
            }
        }
        Ok(())
    }

    fn slot(&self, key: &Key) -> Result<Slot, Error> {
        let mut slots = held(&self.slots);
        if let Some(slot) = slots.get(key) {
            return Ok(Arc::clone(slot));
        }
        let idle = |slot: &Slot| match slot.try_lock() {
            Ok(connection) => {
                connection.as_ref().map_or(Duration::MAX, |connection| connection.idle_for())
            }
            Err(_) => Duration::ZERO,
        };
        slots.retain(|_, slot| idle(slot) < self.server.idle);
        let longest = |slots: &HashMap<Key, Slot>, hands: Option<Hands>| {
            let of =
                slots.iter().filter(|(key, _)| hands.as_ref().is_none_or(|of| key.hands() == *of));
            let idle = of.map(|(key, slot)| (idle(slot), key)).filter(|(idle, _)| !idle.is_zero());
            idle.max_by_key(|(idle, _)| *idle).map(|(_, key)| key.clone())
        };
        let (limit, share) = (self.server.max_sessions, self.server.max_sessions.div_ceil(SHARE));
        let hands = key.user.is_some().then(|| key.hands());
        let theirs = slots.keys().filter(|one| Some(one.hands()) == hands).count();
        let busy = |limit, whose| Error::Busy { server: self.server.name.clone(), limit, whose };
        if hands.is_some() && theirs >= share {
            // Who has its share gives up one of its own.
            let one = longest(&slots, hands).ok_or_else(|| busy(share, " of this caller's"))?;
            slots.remove(&one);
        } else if slots.len() >= limit {
            let own = hands.and_then(|hands| longest(&slots, Some(hands)));
            let one = own.or_else(|| longest(&slots, None)).ok_or_else(|| busy(limit, ""))?;
            slots.remove(&one);
        }
        Ok(Arc::clone(slots.entry(key.clone()).or_default()))
    }

    /// Lets go of what was a client's session's.
    pub(crate) fn end(&self, session: u64) {
        held(&self.slots).retain(|key, _| key.session != Some(session));
    }

    /// Lets go of connections that nobody has used for long.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        // A program that runs holds its record.
        held(&self.records)
            .retain(|_, record| Arc::strong_count(record) > 1 || !held(record).is_past(now));
        let mut slots = held(&self.slots);
        slots.retain(|_, slot| match slot.try_lock() {
            Ok(connection) => connection.as_ref().is_some_and(|connection| {
                !connection.is_closed() && connection.idle_for() < self.server.idle
            }),
            Err(_) => true,
        });
    }

    /// Lets go of a connection that is lost, unless another took its place.
    fn forget(&self, lost: &Arc<Connection>) {
        let mut slots = held(&self.slots);
        slots.retain(|_, slot| match slot.try_lock() {
            Ok(connection) => {
                !connection.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, lost))
            }
            Err(_) => true,
        });
    }

    pub(crate) async fn within<T>(
        &self,
        wait: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = || Error::Timeout { server: self.server.name.clone(), waited: wait };
        timeout(wait, work).await.map_err(|_| late())?
    }

    /// Says why a request failed.
    pub(crate) fn failed(&self, fault: ServiceError) -> Error {
        match fault {
            ServiceError::McpError(fault) => {
                Error::Refused { server: self.server.name.clone(), fault: Box::new(fault) }
            }
            ServiceError::TransportSend(sent) => {
                let reason = http::reason(sent.error.as_ref());
                self.unavailable(reason.as_deref().unwrap_or(LOST), sent.error.as_ref())
            }
            ServiceError::TransportClosed => self.unavailable(LOST, &fault),
            fault => self.unavailable("it answered what cannot be read", &fault),
        }
    }

    /// Says that the server is still waited for.
    fn unready(&self) -> Error {
        let server = self.server.name.clone();
        Error::Unavailable { server, reason: "it has not answered yet".to_owned() }
    }

    /// Says that the server answered with something else than it was asked for.
    pub(crate) fn strange(&self) -> Error {
        let server = self.server.name.clone();
        Error::Unavailable { server, reason: "it answered something else".to_owned() }
    }

    /// Says that the server failed; the cause may name addresses and goes to the log alone.
    fn unavailable(&self, reason: &str, fault: &dyn std::error::Error) -> Error {
        let server = self.server.name.clone();
        // What a server answered may stand in it, and what it was told in that.
        let fault: String = fault.to_string().chars().take(FAULT).collect();
        tracing::warn!(server, reason, fault, "an MCP server failed");
        Error::Unavailable { server, reason: reason.to_owned() }
    }
}

fn is_lost(fault: &ServiceError) -> bool {
    matches!(fault, ServiceError::TransportClosed | ServiceError::TransportSend(_))
}

/// Takes a lock, whatever became of who held it before.
fn held<T>(one: &Mutex<T>) -> MutexGuard<'_, T> {
    one.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(server: serde_json::Value) -> Arc<Upstream> {
        let server: crate::Server = serde_json::from_value(server).unwrap();
        Upstream::new(server.describe("s", &crate::Config::default()).unwrap()).unwrap()
    }

    fn key(user: &str, session: u64) -> Key {
        let (tenant, user) = (TenantId::new("t").unwrap(), UserId::new(user).unwrap());
        let asks = String::new();
        Key { tenant: Some(tenant), user: Some(user), session: Some(session), asks }
    }

    #[test]
    fn one_caller_has_no_more_than_a_share_of_the_sessions() {
        let upstream = upstream(serde_json::json!({ "command": "x", "max_sessions": 8 }));
        let used = |user, session| {
            let slot = upstream.slot(&key(user, session)).map_err(|fault| fault.to_string())?;
            Ok::<_, String>(slot.try_lock_owned().unwrap())
        };
        let _ann = [used("ann", 0).unwrap(), used("ann", 1).unwrap()];
        let fault =
            "server \"s\" has 2 sessions of this caller's in use, which is all that it may have";
        assert_eq!(used("ann", 2).err().unwrap(), fault);
        let others: Vec<_> = ["bob", "cyd", "dan"]
            .iter()
            .map(|one| [0, 1].map(|it| used(one, it).unwrap()))
            .collect();
        let fault = "server \"s\" has 8 sessions in use, which is all that it may have";
        assert_eq!(used("eve", 0).err().unwrap(), fault);
        drop(others);
        used("eve", 0).unwrap();
    }
}
