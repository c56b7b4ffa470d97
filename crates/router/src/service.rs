use std::sync::Arc;

use proto::router::router_service_server::RouterService;
use proto::router::stream_complete_response::Event;
use proto::router::{
    Call, CancelBatchRequest, CancelBatchResponse, CollectBatchRequest, CollectBatchResponse,
    CompleteRequest, CompleteResponse, EstimateRequest, EstimateResponse, ListModelsRequest,
    ListModelsResponse, ListProvidersRequest, ListProvidersResponse, Model, PlanBatchRequest,
    PlanBatchResponse, PollBatchRequest, PollBatchResponse, ProbeProviderRequest,
    ProbeProviderResponse, StreamCompleteRequest, StreamCompleteResponse, SubmitBatchRequest,
    SubmitBatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use types::CallContext;

use crate::cache::Cache;
use crate::call::{Planned, plan};
use crate::live::Live;
use crate::meter::Meter;
use crate::{Error, Peers};

/// The gRPC service.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Service {
    pub(crate) live: Arc<Live>,
    pub(crate) peers: Peers,
    pub(crate) meter: Meter,
    cache: Option<Cache>,
}

impl Service {
    pub(crate) fn new(live: Arc<Live>, peers: Peers, meter: Meter, cache: Option<Cache>) -> Self {
        Self { live, peers, meter, cache }
    }

    pub(crate) fn plan(
        &self,
        context: CallContext,
        call: Option<Call>,
    ) -> Result<Arc<Planned>, Error> {
        let (budget, meter) = (self.peers.budget.clone(), self.meter.clone());
        let catalog = self.live.now();
        let planned = plan(context, call, &catalog, catalog.policy, budget, meter)?;
        Ok(Arc::new(planned.with(self.cache.as_ref())))
    }
}

#[tonic::async_trait]
impl RouterService for Service {
    type StreamCompleteStream = tokio_stream::adapters::Map<
        ReceiverStream<Event>,
        fn(Event) -> Result<StreamCompleteResponse, Status>,
    >;
    type CollectBatchStream = ReceiverStream<Result<CollectBatchResponse, Status>>;

    async fn complete(
        &self,
        request: Request<CompleteRequest>,
    ) -> tonic::Result<Response<CompleteResponse>> {
        let context = runtime::context::read(&request)?;
        let planned = self.plan(context, request.into_inner().call)?;
        // A task of its own: a caller that goes away must not leave what it caused unpaid.
        let asked = tokio::spawn(planned.complete().in_current_span());
        let (body, receipt) = asked.await.map_err(lost)??;
        Ok(Response::new(CompleteResponse { body, receipt: Some(receipt) }))
    }

    async fn stream_complete(
        &self,
        request: Request<StreamCompleteRequest>,
    ) -> tonic::Result<Response<Self::StreamCompleteStream>> {
        let context = runtime::context::read(&request)?;
        let planned = self.plan(context, request.into_inner().call)?;
        let (sender, pieces) = mpsc::channel(32);
        let asked = planned.stream(sender);
        tokio::spawn(asked.in_current_span()).await.map_err(lost)??;
        let wrap: fn(Event) -> _ = |event| Ok(StreamCompleteResponse { event: Some(event) });
        Ok(Response::new(ReceiverStream::new(pieces).map(wrap)))
    }

    async fn estimate(
        &self,
        request: Request<EstimateRequest>,
    ) -> tonic::Result<Response<EstimateResponse>> {
        let context = runtime::context::read(&request)?;
        let planned = self.plan(context, request.into_inner().call)?;
        Ok(Response::new(planned.estimate_all()))
    }

    async fn plan_batch(
        &self,
        request: Request<PlanBatchRequest>,
    ) -> tonic::Result<Response<PlanBatchResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.plan_batch(&context, request.into_inner())))
    }

    async fn submit_batch(
        &self,
        request: Request<SubmitBatchRequest>,
    ) -> tonic::Result<Response<SubmitBatchResponse>> {
        let context = runtime::context::read(&request)?;
        let provider_id = self.submit_batch(&context, request.into_inner()).await?;
        Ok(Response::new(SubmitBatchResponse { provider_id }))
    }

    async fn poll_batch(
        &self,
        request: Request<PollBatchRequest>,
    ) -> tonic::Result<Response<PollBatchResponse>> {
        let context = runtime::context::read(&request)?;
        let (ended, status) = self.poll_batch(&context, request.into_inner().part).await?;
        Ok(Response::new(PollBatchResponse { ended, status }))
    }

    async fn cancel_batch(
        &self,
        request: Request<CancelBatchRequest>,
    ) -> tonic::Result<Response<CancelBatchResponse>> {
        let context = runtime::context::read(&request)?;
        let provider_id = self.cancel_batch(&context, request.into_inner()).await?;
        Ok(Response::new(CancelBatchResponse { provider_id: provider_id.unwrap_or_default() }))
    }

    async fn collect_batch(
        &self,
        request: Request<CollectBatchRequest>,
    ) -> tonic::Result<Response<Self::CollectBatchStream>> {
        let context = runtime::context::read(&request)?;
        let (sender, answers) = mpsc::channel(32);
        let service = self.clone();
        let collect = async move {
            let collected = service.collect_batch(&context, request.into_inner(), &sender).await;
            if let Err(fault) = collected {
                let _ = sender.send(Err(fault.into())).await;
            }
        };
        tokio::spawn(collect.in_current_span());
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn list_providers(
        &self,
        request: Request<ListProvidersRequest>,
    ) -> tonic::Result<Response<ListProvidersResponse>> {
        runtime::context::read(&request)?;
        Ok(Response::new(ListProvidersResponse { providers: self.live.now().providers() }))
    }

    async fn probe_provider(
        &self,
        request: Request<ProbeProviderRequest>,
    ) -> tonic::Result<Response<ProbeProviderResponse>> {
        let context = runtime::context::read(&request)?;
        let found = self.live.now().probe(&request.into_inner().name, context.privacy).await?;
        Ok(Response::new(found))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> tonic::Result<Response<ListModelsResponse>> {
        runtime::context::read(&request)?;
        let catalog = self.live.now();
        let names = catalog.names();
        let models = names.map(|(id, owned_by, tier)| Model { id, owned_by, tier }).collect();
        Ok(Response::new(ListModelsResponse { models }))
    }
}

/// Says that a call's task ended without an answer, which only a fault of ours does.
fn lost(_: tokio::task::JoinError) -> Error {
    Error::AllFailed(vec!["the call was lost".to_owned()])
}
