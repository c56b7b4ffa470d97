use std::any::Any;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use proto::router::router_service_server::RouterService;
use proto::router::{
    Call, CancelBatchRequest, CancelBatchResponse, CollectBatchRequest, CollectBatchResponse,
    CompleteRequest, CompleteResponse, CountTokensRequest, CountTokensResponse,
    DeleteResponseRequest, DeleteResponseResponse, Dialect, EstimateRequest, EstimateResponse,
    KeepResponseRequest, KeepResponseResponse, ListInputItemsRequest, ListInputItemsResponse,
    ListModelsRequest, ListModelsResponse, ListProvidersRequest, ListProvidersResponse, Model,
    PlanBatchRequest, PlanBatchResponse, PollBatchRequest, PollBatchResponse, ProbeProviderRequest,
    ProbeProviderResponse, ReadResponseRequest, ReadResponseResponse, StreamCompleteRequest,
    StreamCompleteResponse, SubmitBatchRequest, SubmitBatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use types::{CallContext, Privacy};

use crate::Error;
use crate::cache::Cache;
use crate::call::{Means, Planned, plan};
use crate::conversation::{Conversations, Keep};
use crate::live::Live;
use crate::outlive::outlive;
use crate::request::ChatRequest;

/// The gRPC service.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Service {
    pub(crate) live: Arc<Live>,
    pub(crate) means: Means,
    cache: Option<Cache>,
    conversations: Conversations,
}

/// How many items of a response's input a page has, when nobody says, and at most.
const ITEMS: (u32, u32) = (20, 100);

impl Service {
    pub(crate) fn new(
        live: Arc<Live>,
        means: Means,
        cache: Option<Cache>,
        conversations: Conversations,
    ) -> Self {
        Self { live, means, cache, conversations }
    }

    /// Reads a call; returns besides what is to be kept of its answer.
    pub(crate) async fn plan(
        &self,
        mut context: CallContext,
        call: Option<Call>,
    ) -> Result<(Arc<Planned>, Option<Keep>), Error> {
        let call = call.unwrap_or_default();
        let (request, keep) = match call.dialect() {
            Dialect::Responses => self.conversations.read(&mut context, &call.body).await?,
            dialect => (ChatRequest::parse(&call.body, dialect)?, None),
        };
        let groundings = call.groundings;
        let catalog = self.live.now();
        let planned = plan(context, request, groundings, &catalog, self.means.clone()).await?;
        // A response that is kept has an id of its own, so that its answer is its own too.
        let cache = self.cache.as_ref().filter(|_| keep.is_none());
        Ok((Arc::new(planned.with(cache, &catalog)), keep))
    }
}

#[tonic::async_trait]
impl RouterService for Service {
    type StreamCompleteStream = BoxStream<'static, Result<StreamCompleteResponse, Status>>;
    type CollectBatchStream = ReceiverStream<Result<CollectBatchResponse, Status>>;

    async fn complete(
        &self,
        request: Request<CompleteRequest>,
    ) -> tonic::Result<Response<CompleteResponse>> {
        let context = runtime::context::read(&request)?;
        let (planned, keep) = self.plan(context, request.into_inner().call).await?;
        let asked = outlive(&self.means.calls, planned.complete(keep).boxed());
        let (body, receipt) = asked.await.map_err(lost)??;
        Ok(Response::new(CompleteResponse { body, receipt: Some(receipt) }))
    }

    async fn stream_complete(
        &self,
        request: Request<StreamCompleteRequest>,
    ) -> tonic::Result<Response<Self::StreamCompleteStream>> {
        let context = runtime::context::read(&request)?;
        let (planned, keep) = self.plan(context, request.into_inner().call).await?;
        let (sender, pieces) = mpsc::channel(32);
        let asked = outlive(&self.means.calls, planned.stream(keep, sender).boxed());
        asked.await.map_err(lost)??;
        let pieces = ReceiverStream::new(pieces).flat_map(stream::iter);
        let wrapped = pieces.map(|event| Ok(StreamCompleteResponse { event: Some(event) }));
        Ok(Response::new(wrapped.boxed()))
    }

    async fn estimate(
        &self,
        request: Request<EstimateRequest>,
    ) -> tonic::Result<Response<EstimateResponse>> {
        let context = runtime::context::read(&request)?;
        let (planned, _) = self.plan(context, request.into_inner().call).await?;
        Ok(Response::new(planned.estimate_all().await))
    }

    async fn count_tokens(
        &self,
        request: Request<CountTokensRequest>,
    ) -> tonic::Result<Response<CountTokensResponse>> {
        let context = runtime::context::read(&request)?;
        let call = request.into_inner().call.unwrap_or_default();
        let request = ChatRequest::parse(&call.body, call.dialect())?;
        // A model that would not be asked is refused as by the call itself.
        self.live.now().select(&request.model, &context, || request.need())?;
        let tokens = request.count(&self.means.tokens).await;
        Ok(Response::new(CountTokensResponse { tokens }))
    }

    async fn plan_batch(
        &self,
        request: Request<PlanBatchRequest>,
    ) -> tonic::Result<Response<PlanBatchResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.plan_batch(&context, request.into_inner()).await))
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
        self.means.calls.spawn(collect.in_current_span());
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn read_response(
        &self,
        request: Request<ReadResponseRequest>,
    ) -> tonic::Result<Response<ReadResponseResponse>> {
        let context = runtime::context::read(&request)?;
        let id = request.into_inner().id;
        let stored = self.conversations.one(&context.tenant, &id).await?;
        let private = stored.privacy == Privacy::Private;
        Ok(Response::new(ReadResponseResponse { body: stored.response.into(), private }))
    }

    async fn keep_response(
        &self,
        request: Request<KeepResponseRequest>,
    ) -> tonic::Result<Response<KeepResponseResponse>> {
        let context = runtime::context::read(&request)?;
        let KeepResponseRequest { request, response } = request.into_inner();
        let kept = self.conversations.keep(&context, &request, &response).await?;
        Ok(Response::new(KeepResponseResponse { kept }))
    }

    async fn delete_response(
        &self,
        request: Request<DeleteResponseRequest>,
    ) -> tonic::Result<Response<DeleteResponseResponse>> {
        let context = runtime::context::read(&request)?;
        self.conversations.delete(&context.tenant, &request.into_inner().id).await?;
        Ok(Response::new(DeleteResponseResponse {}))
    }

    async fn list_input_items(
        &self,
        request: Request<ListInputItemsRequest>,
    ) -> tonic::Result<Response<ListInputItemsResponse>> {
        let context = runtime::context::read(&request)?;
        let wanted = request.into_inner();
        let limit = match wanted.limit {
            0 => ITEMS.0,
            limit if limit <= ITEMS.1 => limit,
            limit => Err(Error::Invalid(format!("limit: {limit} is more than {}", ITEMS.1)))?,
        };
        let page = (wanted.oldest_first, wanted.after.as_str(), limit as usize);
        let page = self.conversations.input(&context.tenant, &wanted.id, page).await?;
        let items = page.items.into_iter().map(Into::into).collect();
        Ok(Response::new(ListInputItemsResponse { items, has_more: page.has_more }))
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

/// Says that a call panicked, which only a fault of ours does.
fn lost(_: Box<dyn Any + Send>) -> Error {
    Error::AllFailed(vec!["the call was lost".to_owned()])
}
