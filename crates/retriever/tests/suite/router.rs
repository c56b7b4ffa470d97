//! A router that notes how privately it is asked to embed, and embeds nothing.

use std::sync::{Arc, Mutex};

use proto::router::router_service_server::RouterService;
use proto::router::*;
use tonic::{Request, Response, Status};
use types::Privacy;

#[derive(Clone, Default)]
pub(crate) struct Asked(pub(crate) Arc<Mutex<Vec<Privacy>>>);

#[tonic::async_trait]
impl RouterService for Asked {
    type StreamCompleteStream = futures::stream::Empty<Result<StreamCompleteResponse, Status>>;
    type CollectBatchStream = futures::stream::Empty<Result<CollectBatchResponse, Status>>;

    async fn complete(
        &self,
        request: Request<CompleteRequest>,
    ) -> tonic::Result<Response<CompleteResponse>> {
        self.0.lock().unwrap().push(runtime::context::read(&request)?.privacy);
        Err(Status::permission_denied("no model may read it"))
    }

    async fn estimate(
        &self,
        _: Request<EstimateRequest>,
    ) -> tonic::Result<Response<EstimateResponse>> {
        let candidates = vec![Estimate::default()];
        Ok(Response::new(EstimateResponse { candidates, ..EstimateResponse::default() }))
    }

    async fn stream_complete(
        &self,
        _: Request<StreamCompleteRequest>,
    ) -> tonic::Result<Response<Self::StreamCompleteStream>> {
        Err(Status::unimplemented("nobody asks"))
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
        Err(Status::unimplemented("nobody asks"))
    }

    async fn submit_batch(
        &self,
        _: Request<SubmitBatchRequest>,
    ) -> tonic::Result<Response<SubmitBatchResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn poll_batch(
        &self,
        _: Request<PollBatchRequest>,
    ) -> tonic::Result<Response<PollBatchResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn cancel_batch(
        &self,
        _: Request<CancelBatchRequest>,
    ) -> tonic::Result<Response<CancelBatchResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn collect_batch(
        &self,
        _: Request<CollectBatchRequest>,
    ) -> tonic::Result<Response<Self::CollectBatchStream>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn read_response(
        &self,
        _: Request<ReadResponseRequest>,
    ) -> tonic::Result<Response<ReadResponseResponse>> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn keep_response(
        &self,
        _: Request<KeepResponseRequest>,
    ) -> tonic::Result<Response<KeepResponseResponse>> {
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
