//! The real service on a file, and a router that does as it is told.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use orchestrator::{Batch as Limits, Config, Peers, Tools};
use proto::bridge::bridge_service_server::BridgeServiceServer;
use proto::orchestrator::create_file_request::Part;
use proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use proto::orchestrator::{
    Batch, BatchStatus, CancelBatchRequest, ConverseRequest, CreateBatchRequest, CreateFileRequest,
    DeleteFileRequest, Event, File, FileEnd, GetBatchRequest, GetFileRequest, ListBatchesRequest,
    ListEventsRequest, ListFilesRequest, ReadFileRequest,
};
use proto::router::router_service_server::{RouterService, RouterServiceServer};
use proto::router::stream_complete_response::Event as Piece;
use proto::router::{
    Call, CancelBatchResponse, CollectBatchRequest, CollectBatchResponse, CompleteRequest,
    CompleteResponse, CountTokensRequest, CountTokensResponse, DeleteResponseRequest,
    DeleteResponseResponse, Dialect, Estimate, EstimateRequest, EstimateResponse,
    ListInputItemsRequest, ListInputItemsResponse, ListModelsRequest, ListModelsResponse,
    ListProvidersRequest, ListProvidersResponse, PlanBatchRequest, PlanBatchResponse,
    PollBatchRequest, PollBatchResponse, ProbeProviderRequest, ProbeProviderResponse,
    ReadResponseRequest, ReadResponseResponse, Receipt, StreamCompleteRequest,
    StreamCompleteResponse, SubmitBatchRequest, SubmitBatchResponse,
};
use runtime::context::request;
use runtime::transport::{Peer, in_process};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use types::{CallContext, Clock, ErrorKind, KeyId, SystemClock, TeamId, TenantId, UserId};

use crate::bridge::Bridge;

/// A clock that runs, and can be put forward.
#[derive(Default)]
pub(crate) struct Hands(AtomicI64);

impl Hands {
    pub(crate) fn forward(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.0.load(Ordering::SeqCst)
    }
}

/// Waits for `what` to be true.
pub(crate) async fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let wait = async {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("not so after 30 s: {what}"));
}

/// A line that says `said` under the id `id`.
pub(crate) fn line(id: &str, said: &str) -> String {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": said }] });
    let url = "/v1/chat/completions";
    json!({ "custom_id": id, "method": "POST", "url": url, "body": body }).to_string()
}

/// A file of lines that say their own ids.
pub(crate) fn file_of(said: &[&str]) -> String {
    said.iter().map(|said| line(said, said) + "\n").collect()
}

/// What the router was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) said: String,
    pub(crate) context: CallContext,
}

/// Answers `{"said": …}` for 10 nano-USD of at most 30. `refuse …` is a 400, `wait …` answers when it
/// may go on, `busy once` is a 503 at first and `busy always` always, and `cut …` is lost on its way at
/// first. In a conversation it calls the tools that it is told to, turn by turn, and says "done".
#[derive(Clone)]
pub(crate) struct Router(Arc<Inner>);

struct Inner {
    calls: Mutex<Vec<Asked>>,
    now: AtomicUsize,
    most: AtomicUsize,
    gate: Semaphore,
    turns: Mutex<VecDeque<Vec<String>>>,
}

impl Default for Router {
    fn default() -> Self {
        Self(Arc::new(Inner {
            calls: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            turns: Mutex::default(),
        }))
    }
}

impl Router {
    pub(crate) fn calls(&self) -> Vec<Asked> {
        self.0.calls.lock().unwrap().clone()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    pub(crate) fn go_on(&self, count: usize) {
        self.0.gate.add_permits(count);
    }

    /// Has the next turn call these tools.
    pub(crate) fn will_call(&self, tools: &[&str]) {
        let tools = tools.iter().map(|&tool| tool.to_owned()).collect();
        self.0.turns.lock().unwrap().push_back(tools);
    }

    async fn answer(&self, said: &str, before: usize) -> Result<(), Status> {
        let busy = || runtime::error::status(ErrorKind::Unavailable, "no provider answered: busy");
        match said.split(' ').next() {
            Some("refuse") => Err(runtime::error::status(ErrorKind::Invalid, "/model: unheard of")),
            Some("wait") => {
                self.0.gate.acquire().await.unwrap().forget();
                Ok(())
            }
            Some("busy") if said == "busy always" || before == 0 => Err(busy()),
            Some("cut") if before == 0 => Err(Status::unknown("transport error")),
            _ => Ok(()),
        }
    }
}

/// A call is in flight until it is answered or dropped.
struct Flying<'a>(&'a AtomicUsize);

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl RouterService for Router {
    type StreamCompleteStream =
        futures::stream::Iter<std::vec::IntoIter<Result<StreamCompleteResponse, Status>>>;
    type CollectBatchStream = futures::stream::Empty<Result<CollectBatchResponse, Status>>;

    async fn complete(
        &self,
        request: Request<CompleteRequest>,
    ) -> tonic::Result<Response<CompleteResponse>> {
        let context = runtime::context::read(&request)?;
        let body = request.into_inner().call.unwrap().body;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let said = body["messages"][0]["content"].as_str().unwrap().to_owned();
        let before = {
            let mut calls = self.0.calls.lock().unwrap();
            calls.push(Asked { said: said.clone(), context });
            calls.iter().filter(|call| call.said == said).count() - 1
        };
        self.0.most.fetch_max(self.0.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _flying = Flying(&self.0.now);
        self.answer(&said, before).await?;
        let body = json!({ "said": said }).to_string().into_bytes().into();
        let receipt = Some(Receipt { cost_nanos: 10, ..Receipt::default() });
        Ok(Response::new(CompleteResponse { body, receipt }))
    }

    async fn stream_complete(
        &self,
        request: Request<StreamCompleteRequest>,
    ) -> tonic::Result<Response<Self::StreamCompleteStream>> {
        let context = runtime::context::read(&request)?;
        let call = request.into_inner().call.unwrap();
        let dialect = call.dialect();
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        let last = body["messages"].as_array().and_then(|messages| messages.last());
        let said = last.and_then(|last| last["content"].as_str()).unwrap_or_default().to_owned();
        self.0.calls.lock().unwrap().push(Asked { said, context });
        let tools = self.0.turns.lock().unwrap().pop_front().unwrap_or_default();
        let chunks = if dialect == Dialect::Responses { response(&tools) } else { chunk(&tools) };
        let chunks = chunks.into_iter().map(|chunk| Piece::Chunk(chunk.to_string().into()));
        let pieces =
            chunks.chain([Piece::Finished(Receipt { cost_nanos: 10, ..Receipt::default() })]);
        let pieces: Vec<_> =
            pieces.map(|event| Ok(StreamCompleteResponse { event: Some(event) })).collect();
        Ok(Response::new(futures::stream::iter(pieces)))
    }

    async fn estimate(
        &self,
        _: Request<EstimateRequest>,
    ) -> tonic::Result<Response<EstimateResponse>> {
        let candidate = |max_cost_nanos| Estimate { max_cost_nanos, ..Estimate::default() };
        let candidates = vec![candidate(30), candidate(0)];
        Ok(Response::new(EstimateResponse {
            route: "m".to_owned(),
            candidates,
            reason: String::new(),
        }))
    }

    async fn count_tokens(
        &self,
        _: Request<CountTokensRequest>,
    ) -> tonic::Result<Response<CountTokensResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn plan_batch(
        &self,
        _: Request<PlanBatchRequest>,
    ) -> tonic::Result<Response<PlanBatchResponse>> {
        Ok(Response::new(PlanBatchResponse::default()))
    }

    async fn submit_batch(
        &self,
        _: Request<SubmitBatchRequest>,
    ) -> tonic::Result<Response<SubmitBatchResponse>> {
        Err(Status::unimplemented("no batch API is in use"))
    }

    async fn poll_batch(
        &self,
        _: Request<PollBatchRequest>,
    ) -> tonic::Result<Response<PollBatchResponse>> {
        Err(Status::unimplemented("no batch API is in use"))
    }

    async fn cancel_batch(
        &self,
        _: Request<proto::router::CancelBatchRequest>,
    ) -> tonic::Result<Response<CancelBatchResponse>> {
        Err(Status::unimplemented("no batch API is in use"))
    }

    async fn collect_batch(
        &self,
        _: Request<CollectBatchRequest>,
    ) -> tonic::Result<Response<Self::CollectBatchStream>> {
        Err(Status::unimplemented("no batch API is in use"))
    }

    async fn read_response(
        &self,
        request: Request<ReadResponseRequest>,
    ) -> tonic::Result<Response<ReadResponseResponse>> {
        let private = request.into_inner().id == "resp_private";
        let body = json!({ "output": [] }).to_string().into();
        Ok(Response::new(ReadResponseResponse { body, private }))
    }

    async fn keep_response(
        &self,
        _: Request<proto::router::KeepResponseRequest>,
    ) -> tonic::Result<Response<proto::router::KeepResponseResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn delete_response(
        &self,
        _: Request<DeleteResponseRequest>,
    ) -> tonic::Result<Response<DeleteResponseResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list_input_items(
        &self,
        _: Request<ListInputItemsRequest>,
    ) -> tonic::Result<Response<ListInputItemsResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list_providers(
        &self,
        _: Request<ListProvidersRequest>,
    ) -> tonic::Result<Response<ListProvidersResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn probe_provider(
        &self,
        _: Request<ProbeProviderRequest>,
    ) -> tonic::Result<Response<ProbeProviderResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> tonic::Result<Response<ListModelsResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }
}

/// A turn that calls `tools`, or says "done".
fn chunk(tools: &[String]) -> Vec<Value> {
    let calls = tools.iter().enumerate().map(|(index, name)| {
        let function = json!({ "name": name, "arguments": "" });
        json!({ "index": index, "id": format!("c{index}"), "function": function })
    });
    let (delta, finish) = match tools.is_empty() {
        true => (json!({ "content": "done" }), "stop"),
        false => (json!({ "tool_calls": calls.collect::<Vec<_>>() }), "tool_calls"),
    };
    let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    vec![json!({ "id": "1", "model": "m", "choices": choices })]
}

/// The same as events of a response.
fn response(tools: &[String]) -> Vec<Value> {
    let calls = tools.iter().enumerate().map(|(index, name)| {
        let id = format!("c{index}");
        let item = json!({ "type": "function_call", "call_id": id, "name": name, "arguments": "" });
        json!({ "type": "response.output_item.added", "output_index": index, "item": item })
    });
    let done = json!({ "type": "response.completed", "response": { "status": "completed" } });
    calls.chain([done]).collect()
}

/// The service, and in whose name it is asked.
pub(crate) struct Orchestrator {
    pub(crate) context: CallContext,
    pub(crate) clock: Arc<Hands>,
    client: OrchestratorServiceClient<Peer>,
    worker: JoinHandle<()>,
    stop: CancellationToken,
}

impl Orchestrator {
    pub(crate) async fn start(directory: &Path, router: &Router, limits: Limits) -> Self {
        Self::ahead(directory, router, limits, 0).await
    }

    /// One whose clock is ahead.
    pub(crate) async fn ahead(directory: &Path, router: &Router, limits: Limits, ms: i64) -> Self {
        let config =
            Config { journal: directory.join("journal.db"), batch: limits, ..Config::default() };
        Self::over(config, router, &Bridge::default(), ms).await
    }

    /// One whose conversations have tools.
    pub(crate) async fn conversing(
        directory: &Path,
        router: &Router,
        bridge: &Bridge,
        tools: Tools,
    ) -> Self {
        let config = Config { journal: directory.join("journal.db"), tools, ..Config::default() };
        Self::over(config, router, bridge, 0).await
    }

    async fn over(config: Config, router: &Router, bridge: &Bridge, ms: i64) -> Self {
        let router = in_process(RouterServiceServer::new(router.clone()));
        let bridge = in_process(BridgeServiceServer::new(bridge.clone()));
        let peers = Peers { retriever: router.clone(), bridge, router };
        let clock = Arc::new(Hands(AtomicI64::new(ms)));
        let hands: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let (server, worker) = orchestrator::server_at(config, peers, hands).await.unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        let mut context = CallContext::new(TenantId::new("t").unwrap(), UserId::new("u").unwrap());
        context.team = Some(TeamId::new("team").unwrap());
        context.key = Some(KeyId::new("key").unwrap());
        let client = OrchestratorServiceClient::new(in_process(server));
        Self { context, clock, client, worker, stop }
    }

    /// Ends it as kill -9 does: nothing more is written.
    pub(crate) async fn kill(self, router: &Router) {
        self.worker.abort();
        eventually("it is dead", || router.0.now.load(Ordering::SeqCst) == 0).await;
    }

    /// Asks it to stop, and waits for it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
    }

    /// Asks for a whole answer; returns it with its run.
    pub(crate) async fn converse(
        &self,
        dialect: Dialect,
        body: &Value,
    ) -> Result<(String, Value), Status> {
        let body = body.to_string().into();
        let call = Some(Call { body, groundings: Vec::new(), dialect: dialect.into() });
        let converse = request(&self.context, ConverseRequest { call });
        let mut pieces = self.client.clone().converse(converse).await?.into_inner();
        let mut answer = None;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if let Some(Piece::Chunk(chunk)) = piece.piece.and_then(|piece| piece.event) {
                answer = Some((piece.run_id, serde_json::from_slice(&chunk).unwrap()));
            }
        }
        Ok(answer.unwrap())
    }

    pub(crate) async fn events(&self, run: String) -> Vec<Event> {
        let list = request(&self.context, ListEventsRequest { run_id: run });
        self.client.clone().list_events(list).await.unwrap().into_inner().events
    }

    pub(crate) async fn send(&self, parts: Vec<Part>) -> Result<File, Status> {
        let parts = parts.into_iter().map(|part| CreateFileRequest { part: Some(part) });
        self.upload_of(futures::stream::iter(parts.collect::<Vec<_>>())).await
    }

    pub(crate) async fn upload_of(
        &self,
        parts: impl futures::Stream<Item = CreateFileRequest> + Send + 'static,
    ) -> Result<File, Status> {
        let upload = request(&self.context, parts);
        Ok(self.client.clone().create_file(upload).await?.into_inner().file.unwrap())
    }

    pub(crate) async fn upload(&self, name: &str, text: &str) -> Result<File, Status> {
        let mut parts = vec![Part::Purpose("batch".into()), Part::Filename(name.to_owned())];
        let pieces = text.as_bytes().chunks(100_000);
        parts.extend(pieces.map(|piece| Part::Chunk(piece.to_vec().into())));
        parts.push(Part::End(FileEnd {}));
        self.send(parts).await
    }

    pub(crate) async fn file(&self, id: &str) -> Result<File, Status> {
        let get = request(&self.context, GetFileRequest { file_id: id.to_owned() });
        Ok(self.client.clone().get_file(get).await?.into_inner().file.unwrap())
    }

    pub(crate) async fn content(&self, id: &str) -> Result<Vec<u8>, Status> {
        let read = request(&self.context, ReadFileRequest { file_id: id.to_owned() });
        let mut pieces = self.client.clone().read_file(read).await?.into_inner();
        let mut content = Vec::new();
        while let Some(piece) = pieces.next().await {
            content.extend_from_slice(&piece?.chunk);
        }
        Ok(content)
    }

    /// Reads a JSONL file.
    pub(crate) async fn lines(&self, id: &str) -> Vec<Value> {
        let text = String::from_utf8(self.content(id).await.unwrap()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<(), Status> {
        let delete = request(&self.context, DeleteFileRequest { file_id: id.to_owned() });
        self.client.clone().delete_file(delete).await.map(drop)
    }

    pub(crate) async fn files(&self, after: &str, limit: u32) -> (Vec<String>, bool) {
        let list = ListFilesRequest { after: after.to_owned(), limit, ..Default::default() };
        let list = request(&self.context, list);
        let page = self.client.clone().list_files(list).await.unwrap().into_inner();
        (page.files.into_iter().map(|file| file.id).collect(), page.has_more)
    }

    pub(crate) async fn create(
        &self,
        file: &str,
        metadata: &[(&str, &str)],
    ) -> Result<Batch, Status> {
        let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let create = CreateBatchRequest {
            input_file_id: file.to_owned(),
            endpoint: "/v1/chat/completions".to_owned(),
            completion_window: "24h".to_owned(),
            metadata: metadata.collect(),
        };
        let create = request(&self.context, create);
        Ok(self.client.clone().create_batch(create).await?.into_inner().batch.unwrap())
    }

    pub(crate) async fn batch(&self, id: &str) -> Result<Batch, Status> {
        let get = request(&self.context, GetBatchRequest { batch_id: id.to_owned() });
        Ok(self.client.clone().get_batch(get).await?.into_inner().batch.unwrap())
    }

    pub(crate) async fn batches(&self, after: &str, limit: u32) -> (Vec<String>, bool) {
        let list = ListBatchesRequest { after: after.to_owned(), limit };
        let list = request(&self.context, list);
        let page = self.client.clone().list_batches(list).await.unwrap().into_inner();
        (page.batches.into_iter().map(|batch| batch.id).collect(), page.has_more)
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<Batch, Status> {
        let cancel = request(&self.context, CancelBatchRequest { batch_id: id.to_owned() });
        Ok(self.client.clone().cancel_batch(cancel).await?.into_inner().batch.unwrap())
    }

    /// Waits until a batch stands so.
    pub(crate) async fn wait(&self, id: &str, wanted: BatchStatus) -> Batch {
        let reached = async {
            loop {
                let batch = self.batch(id).await.unwrap();
                if batch.status() == wanted {
                    return batch;
                }
                assert_eq!(batch.ended_at_ms, 0, "{batch:?}");
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), reached).await;
        waited.unwrap_or_else(|_| panic!("{id} is not {wanted:?} after 30 s"))
    }
}
