use std::sync::Arc;

use proto::orchestrator::orchestrator_service_server::OrchestratorService;
use proto::orchestrator::{AskRequest, AskResponse, ListEventsRequest, ListEventsResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use types::RunId;

use crate::ask::{Question, ask};
use crate::journal::Journal;
use crate::{Error, Peers};

/// The gRPC service.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Service {
    journal: Arc<Journal>,
    peers: Peers,
}

impl Service {
    pub(crate) fn new(journal: Arc<Journal>, peers: Peers) -> Self {
        Self { journal, peers }
    }
}

#[tonic::async_trait]
impl OrchestratorService for Service {
    type AskStream = ReceiverStream<Result<AskResponse, Status>>;

    async fn ask(&self, request: Request<AskRequest>) -> tonic::Result<Response<Self::AskStream>> {
        let context = runtime::context::read(&request)?;
        let question = Question::try_from(request.into_inner())?;
        let (events, stream) = mpsc::channel(32);
        let (journal, peers) = (Arc::clone(&self.journal), self.peers.clone());
        // A run of its own: it goes on to its journaled end when the client goes away.
        tokio::spawn(ask(context, question, journal, peers, events).in_current_span());
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> tonic::Result<Response<ListEventsResponse>> {
        let context = runtime::context::read(&request)?;
        let run = RunId::new(request.into_inner().run_id).map_err(Error::from)?;
        let events = self.journal.events(&context.tenant, &run).await?;
        if events.is_empty() {
            return Err(Error::NoSuchRun(run.to_string()).into());
        }
        Ok(Response::new(ListEventsResponse { events }))
    }
}
