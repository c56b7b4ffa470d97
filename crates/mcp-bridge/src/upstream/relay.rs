//! What a server says while a call to it goes on, and to whom.

// Sampling, roots and logging are deprecated since 2026-07-28; servers of before still ask for them.
#![allow(deprecated, reason = "older servers use what is deprecated")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, ClientJsonRpcMessage, ClientResult, CreateMessageRequest,
    CreateMessageRequestParams, CreateMessageResult, ElicitRequest, ElicitRequestParams,
    ElicitResult, ErrorData, GetExtensions as _, GetMeta as _, InputRequest, JsonRpcMessage,
    ListRootsRequest, ListRootsResult, LoggingMessageNotificationParam, ProgressNotificationParam,
    ProgressToken, RequestId, ServerCapabilities, ServerJsonRpcMessage, ServerNotification,
    ServerRequest, SubscriptionFilter,
};
use rmcp::service::{
    InboundStreamOrigin, NotificationContext, OriginatingRequestId, Peer, PeerRequestOptions,
    RequestContext, RoleClient, RoleServer, ServiceError,
};
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::sync::{broadcast, mpsc};

use super::{Line, held};

/// How much of what a server says to one call waits to be passed on; more is left out.
const WAITING: usize = 64;

/// How many changes of a server wait for who follows them.
const CHANGES: usize = 256;

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
    client: Option<Arc<Client>>,
}

/// The client that a call is for, of an era in which servers asked their clients.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer<RoleServer>,
    /// The client's own request, on whose stream it is asked.
    pub(crate) request: RequestId,
    pub(crate) capabilities: ClientCapabilities,
}

impl Hearer {
    pub(crate) fn new(client: Option<Arc<Client>>) -> (Self, mpsc::Receiver<Note>) {
        let (notes, heard) = mpsc::channel(WAITING);
        (Self { notes, client }, heard)
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

    /// The call that something belongs to which names none: the only one, or the newest where all
    /// are of one caller.
    fn unnamed(&self, one_caller: bool) -> Option<Hearer> {
        let all = held(&self.all);
        match one_caller || all.order.len() == 1 {
            true => all.calls.get(all.order.last()?).cloned(),
            false => None,
        }
    }

    fn of_stream(&self, origin: Option<&InboundStreamOrigin>, one_caller: bool) -> Option<Hearer> {
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

/// What of a server changed.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
}

/// The changes at a server.
#[derive(Debug)]
pub(crate) struct Changes {
    told: broadcast::Sender<Change>,
    lists: [AtomicU64; 3],
}

impl Default for Changes {
    fn default() -> Self {
        Self { told: broadcast::channel(CHANGES).0, lists: Default::default() }
    }
}

impl Changes {
    pub(super) fn tell(&self, change: Change) {
        self.count(&change).fetch_add(1, Ordering::Relaxed);
        // Nobody may be listening.
        let _ = self.told.send(change);
    }

    pub(super) fn follow(&self) -> broadcast::Receiver<Change> {
        self.told.subscribe()
    }

    /// Returns how often such a list has changed so far.
    pub(super) fn so_far(&self, list: &Change) -> u64 {
        self.count(list).load(Ordering::Relaxed)
    }

    fn count(&self, change: &Change) -> &AtomicU64 {
        let [tools, prompts, resources] = &self.lists;
        match change {
            Change::Tools => tools,
            Change::Prompts => prompts,
            Change::Resources => resources,
        }
    }
}

/// Follows the changes of a server's lists where it says that it tells of them, until the connection
/// ends.
pub(super) async fn follow(line: Weak<Line>, changes: Arc<Changes>) {
    let Some(filter) = line.upgrade().map(|line| changing(&line.info.capabilities)) else { return };
    let Some(peer) = line.upgrade().map(|line| line.peer().clone()) else { return };
    if filter == SubscriptionFilter::default() {
        return;
    }
    let Ok(mut told) = peer.listen(filter).await else { return };
    while let Ok(Some(change)) = told.next().await {
        match change {
            ServerNotification::ToolListChangedNotification(_) => changes.tell(Change::Tools),
            ServerNotification::PromptListChangedNotification(_) => changes.tell(Change::Prompts),
            ServerNotification::ResourceListChangedNotification(_) => {
                changes.tell(Change::Resources);
            }
            _ => {}
        }
    }
}

fn changing(server: &ServerCapabilities) -> SubscriptionFilter {
    let mut filter = SubscriptionFilter::default();
    let says = |said: Option<Option<bool>>| said.flatten().filter(|said| *said);
    filter.tools_list_changed = says(server.tools.as_ref().map(|one| one.list_changed));
    filter.prompts_list_changed = says(server.prompts.as_ref().map(|one| one.list_changed));
    filter.resources_list_changed = says(server.resources.as_ref().map(|one| one.list_changed));
    filter
}

/// Answers what a server asks, by asking the client that its call is for.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) info: ClientConfig,
    pub(super) calls: Calls,
    pub(super) one_caller: bool,
    pub(super) changes: Arc<Changes>,
}

impl Client {
    /// Asks the client, where it said that it can be asked such a thing.
    async fn ask(&self, mut request: ServerRequest) -> Result<ClientResult, ErrorData> {
        let Self { capabilities, .. } = self;
        let may = match &request {
            ServerRequest::ElicitRequest(_) => capabilities.elicitation.is_some(),
            ServerRequest::CreateMessageRequest(_) => capabilities.sampling.is_some(),
            ServerRequest::ListRootsRequest(_) => capabilities.roots.is_some(),
            _ => false,
        };
        if !may {
            return Err(cannot_be_asked());
        }
        request.extensions_mut().insert(OriginatingRequestId(self.request.clone()));
        let options = PeerRequestOptions::no_options();
        let asked = match self.peer.send_cancellable_request(request, options).await {
            Ok(handle) => handle.await_response().await,
            Err(fault) => Err(fault),
        };
        asked.map_err(|fault| match fault {
            ServiceError::McpError(fault) => fault,
            fault => ErrorData::internal_error(format!("the client did not answer: {fault}"), None),
        })
    }

    /// Answers what a server of the modern era wants to know before it goes on.
    ///
    /// # Errors
    /// What the client answers, or that it cannot be asked for it.
    pub(crate) async fn answer(&self, wanted: InputRequest) -> Result<Value, ErrorData> {
        let request = match wanted {
            InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
            InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
            InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
            _ => return Err(cannot_be_asked()),
        };
        serde_json::to_value(self.ask(request).await?).map_err(|_| unexpected())
    }
}

fn cannot_be_asked() -> ErrorData {
    ErrorData::invalid_request("the client of this call cannot be asked for it", None)
}

impl Relay {
    async fn ask(
        &self,
        request: ServerRequest,
        context: &RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        let origin = context.extensions.get::<InboundStreamOrigin>();
        let hearer = self.calls.of_stream(origin, self.one_caller);
        let client = hearer.and_then(|hearer| hearer.client).ok_or_else(cannot_be_asked)?;
        client.ask(request).await
    }
}

fn unexpected() -> ErrorData {
    ErrorData::internal_error("the client answered something else", None)
}

impl ClientHandler for Relay {
    fn get_info(&self) -> ClientConfig {
        self.info.clone()
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let request = ServerRequest::ElicitRequest(ElicitRequest::new(request));
        match self.ask(request, &context).await? {
            ClientResult::ElicitResult(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let request = ServerRequest::CreateMessageRequest(CreateMessageRequest::new(request));
        match self.ask(request, &context).await? {
            ClientResult::CreateMessageResult(result) => Ok(*result),
            _ => Err(unexpected()),
        }
    }

    async fn list_roots(
        &self,
        context: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        let request = ServerRequest::ListRootsRequest(ListRootsRequest {
            method: Default::default(),
            extensions: Default::default(),
        });
        match self.ask(request, &context).await? {
            ClientResult::ListRootsResult(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changes.tell(Change::Tools);
    }

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changes.tell(Change::Prompts);
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changes.tell(Change::Resources);
    }
}
