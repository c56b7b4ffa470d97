//! Servers of tools that do as their tools' names say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proto::bridge::bridge_service_server::BridgeService;
use proto::bridge::{
    CallToolRequest, CallToolResponse, DecidePinRequest, DecidePinResponse, ListCallsRequest,
    ListCallsResponse, ListPinsRequest, ListPinsResponse, ListToolsRequest, ListToolsResponse,
    Tool,
};
use serde_json::json;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use types::{ErrorKind, Privacy};

/// What the private server says when it fails.
pub(crate) const SECRET: &str = "the secret is 42";

/// `open__long` gives 1000 bytes, `open__denied` is denied, `open__wait` answers when it may go on;
/// `secret__fault` of a private server fails, and no private call sees `away__ok`.
#[derive(Clone)]
pub(crate) struct Bridge(Arc<Inner>);

struct Inner {
    /// The names of what was called, and how private that was; a list is "".
    asked: Mutex<Vec<(String, Privacy)>>,
    now: AtomicUsize,
    most: AtomicUsize,
    gate: Semaphore,
}

impl Default for Bridge {
    fn default() -> Self {
        Self(Arc::new(Inner {
            asked: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        }))
    }
}

impl Bridge {
    pub(crate) fn asked(&self) -> Vec<(String, Privacy)> {
        self.0.asked.lock().unwrap().clone()
    }

    /// How many wait now.
    pub(crate) fn now(&self) -> usize {
        self.0.now.load(Ordering::SeqCst)
    }

    /// How many waited at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    pub(crate) fn go_on(&self, count: usize) {
        self.0.gate.add_permits(count);
    }
}

#[tonic::async_trait]
impl BridgeService for Bridge {
    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> tonic::Result<Response<ListToolsResponse>> {
        let privacy = runtime::context::read(&request)?.privacy;
        self.0.asked.lock().unwrap().push((String::new(), privacy));
        let all = [
            ("away", "ok"),
            ("open", "denied"),
            ("open", "long"),
            ("open", "wait"),
            ("secret", "fault"),
        ];
        let seen =
            all.into_iter().filter(|(server, _)| privacy == Privacy::Public || *server != "away");
        let tools = seen.map(|(server, own)| Tool {
            name: format!("{server}__{own}"),
            server: server.to_owned(),
            own_name: own.to_owned(),
            private: server == "secret",
            ..Tool::default()
        });
        Ok(Response::new(ListToolsResponse { tools: tools.collect(), ..Default::default() }))
    }

    async fn call_tool(
        &self,
        request: Request<CallToolRequest>,
    ) -> tonic::Result<Response<CallToolResponse>> {
        let privacy = runtime::context::read(&request)?.privacy;
        let name = request.into_inner().name;
        self.0.asked.lock().unwrap().push((name.clone(), privacy));
        let text = match name.as_str() {
            "open__long" => "x".repeat(1_000),
            "open__denied" => {
                return Err(runtime::error::status(ErrorKind::Denied, "a rule denies it"));
            }
            "open__wait" => {
                let now = self.0.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.0.most.fetch_max(now, Ordering::SeqCst);
                self.0.gate.acquire().await.unwrap().forget();
                self.0.now.fetch_sub(1, Ordering::SeqCst);
                "waited".to_owned()
            }
            "secret__fault" => return Err(runtime::error::status(ErrorKind::Unavailable, SECRET)),
            _ => return Err(Status::not_found(name)),
        };
        let content_json = json!([{ "type": "text", "text": text }]).to_string();
        Ok(Response::new(CallToolResponse { content_json, ..CallToolResponse::default() }))
    }

    async fn list_pins(
        &self,
        _: Request<ListPinsRequest>,
    ) -> tonic::Result<Response<ListPinsResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn decide_pin(
        &self,
        _: Request<DecidePinRequest>,
    ) -> tonic::Result<Response<DecidePinResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list_calls(
        &self,
        _: Request<ListCallsRequest>,
    ) -> tonic::Result<Response<ListCallsResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }
}
