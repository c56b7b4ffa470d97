//! What a server says while a call to it goes on, and to whom.

#![allow(deprecated, reason = "older servers use what is deprecated")]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use rmcp::model::{
    ClientJsonRpcMessage, GetExtensions as _, GetMeta as _, JsonRpcMessage,
    LoggingMessageNotificationParam, ProgressNotificationParam, ProgressToken, RequestId,
    ServerJsonRpcMessage, ServerNotification,
};
use rmcp::service::{InboundStreamOrigin, RoleClient};
use rmcp::transport::Transport;
use tokio::sync::mpsc;

use super::client::Client;
use super::{Reason, held};

/// How much of what a server says to one call waits to be passed on; more is left out.
const WAITING: usize = 64;

/// How much a server asks at once that is not answered yet; one that asks more is given up.
const ASKED: usize = 64;

/// What a server says to whom a call is for.
#[derive(Debug)]
pub(crate) enum Notification {
    Progress(ProgressNotificationParam),
    Log(LoggingMessageNotificationParam),
    /// A resource has changed that the client subscribed to, by the server's own address for it.
    Updated(String),
}

/// Who hears what a server says while it works on a call.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    notifications: mpsc::Sender<Notification>,
    pub(super) client: Option<Arc<Client>>,
}

impl Listener {
    pub(crate) fn new(client: Option<Arc<Client>>) -> (Self, mpsc::Receiver<Notification>) {
        let (notifications, heard) = mpsc::channel(WAITING);
        (Self { notifications, client }, heard)
    }

    /// Waits until nobody waits for the call's answer any more.
    pub(super) async fn gone(&self) {
        self.notifications.closed().await;
    }
}

/// The calls in flight on one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls {
    all: Arc<Mutex<InFlight>>,
    /// Where what belongs to no call goes, and the server's name.
    session: Option<(String, mpsc::Sender<(String, Notification)>)>,
}

#[derive(Debug, Default)]
struct InFlight {
    calls: HashMap<RequestId, Listener>,
    tokens: HashMap<ProgressToken, RequestId>,
    /// In the order in which they began.
    order: Vec<RequestId>,
}

impl Calls {
    pub(super) fn of(session: Option<(String, mpsc::Sender<(String, Notification)>)>) -> Self {
        Self { session, ..Self::default() }
    }

    /// Says to the client's session what belongs to no call. What nobody hears, or not as fast as it
    /// is said, is left out.
    fn say(&self, notification: Notification) {
        if let Some((server, session)) = &self.session {
            let _ = session.try_send((server.clone(), notification));
        }
    }

    fn began(&self, id: RequestId, token: Option<ProgressToken>, listener: Listener) {
        let mut all = held(&self.all);
        all.order.push(id.clone());
        if let Some(token) = token {
            all.tokens.insert(token, id.clone());
        }
        all.calls.insert(id, listener);
    }

    pub(super) fn ended(&self, id: &RequestId) {
        let mut all = held(&self.all);
        if all.calls.remove(id).is_some() {
            all.order.retain(|one| one != id);
            all.tokens.retain(|_, of| of != id);
        }
    }

    fn of_token(&self, token: &ProgressToken) -> Option<Listener> {
        let all = held(&self.all);
        all.calls.get(all.tokens.get(token)?).cloned()
    }

    /// The call that something belongs to which names none: the newest where all are of one caller.
    /// Elsewhere it is nobody's, also while there is one call alone: it may be of the one before.
    fn unnamed(&self, one_caller: bool) -> Option<Listener> {
        let all = held(&self.all);
        all.calls.get(all.order.last().filter(|_| one_caller)?).cloned()
    }

    pub(super) fn of_stream(
        &self,
        origin: Option<&InboundStreamOrigin>,
        one_caller: bool,
    ) -> Option<Listener> {
        match origin {
            Some(InboundStreamOrigin::OutboundRequest(id)) => {
                held(&self.all).calls.get(id).cloned()
            }
            Some(InboundStreamOrigin::Unassociated) => None,
            None => self.unnamed(one_caller),
        }
    }
}

/// A connection whose notifications go to the call that they belong to, in order and before its answer.
pub(super) struct Relayed<T> {
    inner: T,
    calls: Calls,
    /// Whether every call on it is of one caller.
    one_caller: bool,
    reason: Reason,
    asked: Arc<Mutex<Asked>>,
}

/// What a server asks and is not answered yet.
#[derive(Debug, Default)]
struct Asked {
    open: HashSet<RequestId>,
    /// How many answers it has yet to take.
    answers: usize,
}

impl<T> Relayed<T> {
    pub(super) fn new(inner: T, calls: Calls, one_caller: bool, reason: Reason) -> Self {
        Self { inner, calls, one_caller, reason, asked: Arc::default() }
    }

    /// Notes that the server asks something; none, and the reason, if that is too much.
    fn is_asked(&self, id: &RequestId) -> Option<()> {
        let mut asked = held(&self.asked);
        let fault = match asked.open.insert(id.clone()) {
            false => "it asks two things under one id".to_owned(),
            true if asked.open.len() + asked.answers > ASKED => {
                format!("it asks more than {ASKED} things at once")
            }
            true => return Some(()),
        };
        self.reason.get_or_init(|| fault);
        None
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Relayed<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(call) = &message
            && let Some(listener) = call.request.extensions().get::<Listener>()
        {
            let token = call.request.get_meta().get_progress_token();
            self.calls.began(call.id.clone(), token, listener.clone());
        }
        let answered = match &message {
            JsonRpcMessage::Response(answer) => Some(&answer.id),
            JsonRpcMessage::Error(fault) => fault.id.as_ref(),
            _ => None,
        };
        let mut asked = held(&self.asked);
        let answers = answered.is_some_and(|id| asked.open.remove(id));
        asked.answers += usize::from(answers);
        drop(asked);
        let (asked, sent) = (Arc::clone(&self.asked), self.inner.send(message));
        async move {
            let sent = sent.await;
            held(&asked).answers -= usize::from(answers);
            sent
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let message = self.inner.receive().await?;
            let (notification, listener) = match message {
                JsonRpcMessage::Notification(said) => match said.notification {
                    ServerNotification::ProgressNotification(said) => {
                        let listener = self.calls.of_token(&said.params.progress_token);
                        (Notification::Progress(said.params), listener)
                    }
                    ServerNotification::LoggingMessageNotification(said) => {
                        let listener = match self.calls.session {
                            Some(_) => None,
                            None => self.calls.unnamed(self.one_caller),
                        };
                        (Notification::Log(said.params), listener)
                    }
                    ServerNotification::ResourceUpdatedNotification(said)
                        if self.calls.session.is_some() =>
                    {
                        (Notification::Updated(said.params.uri), None)
                    }
                    _ => {
                        if let ServerNotification::CancelledNotification(cancelled) =
                            &said.notification
                            && let Some(id) = &cancelled.params.request_id
                        {
                            // It is answered no more.
                            held(&self.asked).open.remove(id);
                        }
                        return Some(JsonRpcMessage::Notification(said));
                    }
                },
                JsonRpcMessage::Request(asked) => {
                    self.is_asked(&asked.id)?;
                    return Some(JsonRpcMessage::Request(asked));
                }
                other => {
                    let answered = match &other {
                        JsonRpcMessage::Response(answer) => Some(&answer.id),
                        JsonRpcMessage::Error(fault) => fault.id.as_ref(),
                        _ => None,
                    };
                    if let Some(id) = answered {
                        self.calls.ended(id);
                    }
                    return Some(other);
                }
            };
            match listener {
                // Faster than its caller reads: left out.
                Some(listener) => drop(listener.notifications.try_send(notification)),
                None => self.calls.say(notification),
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), T::Error>> + Send {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_call_is_nobodys_where_callers_share_a_connection() {
        let calls = Calls::default();
        let (listener, _heard) = Listener::new(None);
        calls.began(RequestId::Number(1), None, listener);
        assert!(calls.unnamed(false).is_none() && calls.of_stream(None, false).is_none());
        assert!(calls.unnamed(true).is_some() && calls.of_stream(None, true).is_some());
        let named = InboundStreamOrigin::OutboundRequest(RequestId::Number(1));
        assert!(calls.of_stream(Some(&named), false).is_some());
    }
}
