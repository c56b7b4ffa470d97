//! What a server says while a call to it goes on, and to whom.

#![allow(deprecated, reason = "older servers use what is deprecated")]

use std::collections::HashMap;
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
use super::held;

/// How much of what a server says to one call waits to be passed on; more is left out.
const WAITING: usize = 64;

/// What a server says to whom a call is for.
#[derive(Debug)]
pub(crate) enum Note {
    Progress(ProgressNotificationParam),
    Log(LoggingMessageNotificationParam),
    /// A resource has changed that the client subscribed to, by the server's own address for it.
    Updated(String),
}

/// Who hears what a server says while it works on a call.
#[derive(Debug, Clone)]
pub(crate) struct Hearer {
    notes: mpsc::Sender<Note>,
    pub(super) client: Option<Arc<Client>>,
}

impl Hearer {
    pub(crate) fn new(client: Option<Arc<Client>>) -> (Self, mpsc::Receiver<Note>) {
        let (notes, heard) = mpsc::channel(WAITING);
        (Self { notes, client }, heard)
    }

    /// Waits until nobody waits for the call's answer any more.
    pub(super) async fn gone(&self) {
        self.notes.closed().await;
    }
}

/// The calls in flight on one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls {
    all: Arc<Mutex<InFlight>>,
    /// Where what belongs to no call goes, and the server's name.
    session: Option<(String, mpsc::Sender<(String, Note)>)>,
}

#[derive(Debug, Default)]
struct InFlight {
    calls: HashMap<RequestId, Hearer>,
    tokens: HashMap<ProgressToken, RequestId>,
    /// In the order in which they began.
    order: Vec<RequestId>,
}

impl Calls {
    pub(super) fn of(session: Option<(String, mpsc::Sender<(String, Note)>)>) -> Self {
        Self { session, ..Self::default() }
    }

    /// Says to the client's session what belongs to no call. What nobody hears, or not as fast as it
    /// is said, is left out.
    fn say(&self, note: Note) {
        if let Some((server, session)) = &self.session {
            let _ = session.try_send((server.clone(), note));
        }
    }

    fn began(&self, id: RequestId, token: Option<ProgressToken>, hearer: Hearer) {
        let mut all = held(&self.all);
        all.order.push(id.clone());
        if let Some(token) = token {
            all.tokens.insert(token, id.clone());
        }
        all.calls.insert(id, hearer);
    }

    pub(super) fn ended(&self, id: &RequestId) {
        let mut all = held(&self.all);
        if all.calls.remove(id).is_some() {
            all.order.retain(|one| one != id);
            all.tokens.retain(|_, of| of != id);
        }
    }

    fn of_token(&self, token: &ProgressToken) -> Option<Hearer> {
        let all = held(&self.all);
        all.calls.get(all.tokens.get(token)?).cloned()
    }

    /// The call that something belongs to which names none: the newest where all are of one caller.
    /// Elsewhere it is nobody's, also while there is one call alone: it may be of the one before.
    fn unnamed(&self, one_caller: bool) -> Option<Hearer> {
        let all = held(&self.all);
        all.calls.get(all.order.last().filter(|_| one_caller)?).cloned()
    }

    pub(super) fn of_stream(
        &self,
        origin: Option<&InboundStreamOrigin>,
        one_caller: bool,
    ) -> Option<Hearer> {
        match origin {
            Some(InboundStreamOrigin::OutboundRequest(id)) => {
                held(&self.all).calls.get(id).cloned()
            }
            Some(InboundStreamOrigin::Unassociated) => None,
            None => self.unnamed(one_caller),
        }
    }
}

/// A connection whose notes go to the call that they belong to, in order and before its answer.
pub(super) struct Relayed<T> {
    pub(super) inner: T,
    pub(super) calls: Calls,
    /// Whether every call on it is of one caller.
    pub(super) one_caller: bool,
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Relayed<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(call) = &message
            && let Some(hearer) = call.request.extensions().get::<Hearer>()
        {
            let token = call.request.get_meta().get_progress_token();
            self.calls.began(call.id.clone(), token, hearer.clone());
        }
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let message = self.inner.receive().await?;
            let (note, hearer) = match message {
                JsonRpcMessage::Notification(said) => match said.notification {
                    ServerNotification::ProgressNotification(said) => {
                        let hearer = self.calls.of_token(&said.params.progress_token);
                        (Note::Progress(said.params), hearer)
                    }
                    ServerNotification::LoggingMessageNotification(said) => {
                        let hearer = match self.calls.session {
                            Some(_) => None,
                            None => self.calls.unnamed(self.one_caller),
                        };
                        (Note::Log(said.params), hearer)
                    }
                    ServerNotification::ResourceUpdatedNotification(said)
                        if self.calls.session.is_some() =>
                    {
                        (Note::Updated(said.params.uri), None)
                    }
                    _ => return Some(JsonRpcMessage::Notification(said)),
                },
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
            match hearer {
                // Faster than its caller reads: left out.
                Some(hearer) => drop(hearer.notes.try_send(note)),
                None => self.calls.say(note),
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
        let (hearer, _heard) = Hearer::new(None);
        calls.began(RequestId::Number(1), None, hearer);
        assert!(calls.unnamed(false).is_none() && calls.of_stream(None, false).is_none());
        assert!(calls.unnamed(true).is_some() && calls.of_stream(None, true).is_some());
        let named = InboundStreamOrigin::OutboundRequest(RequestId::Number(1));
        assert!(calls.of_stream(Some(&named), false).is_some());
    }
}
