//! A budget service that lends everything and keeps the rows: what the router says that calls took.

use proto::budget::budget_service_server::{BudgetService, BudgetServiceServer};
use proto::budget::{
    ChangeKeyRequest, ChangeKeyResponse, CorrectRequest, CorrectResponse, CreateKeyRequest,
    CreateKeyResponse, GetKeyRequest, GetKeyResponse, GetMaintenanceRequest,
    GetMaintenanceResponse, GetStatementRequest, GetStatementResponse, ListAuditRequest,
    ListAuditResponse, ListCostsRequest, ListCostsResponse, ListHistoryRequest,
    ListHistoryResponse, ListKeysRequest, ListKeysResponse, ListStatementsRequest,
    ListStatementsResponse, LookUpKeyRequest, LookUpKeyResponse, RecordUsageRequest,
    RecordUsageResponse, ReleaseRequest, ReleaseResponse, ReserveRequest, ReserveResponse,
    RevokeKeyRequest, RevokeKeyResponse, RotateKeyRequest, RotateKeyResponse, SetLimitRequest,
    SetLimitResponse, SetMaintenanceRequest, SetMaintenanceResponse, SettleRequest, SettleResponse,
    Usage, VerifyRequest, VerifyResponse,
};
use runtime::transport::{Peer, in_process};
use tokio::sync::mpsc;
use tonic::{Request, Response, Result, Status};

pub(crate) struct Budget(mpsc::UnboundedSender<Usage>);

/// Returns one, and its rows.
pub(crate) fn start() -> (Peer, mpsc::UnboundedReceiver<Usage>) {
    let (sender, rows) = mpsc::unbounded_channel();
    (in_process(BudgetServiceServer::new(Budget(sender))), rows)
}

#[tonic::async_trait]
impl BudgetService for Budget {
    async fn reserve(&self, _: Request<ReserveRequest>) -> Result<Response<ReserveResponse>> {
        Ok(Response::new(ReserveResponse::default()))
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>> {
        Ok(Response::new(ReleaseResponse::default()))
    }

    async fn record_usage(
        &self,
        request: Request<RecordUsageRequest>,
    ) -> Result<Response<RecordUsageResponse>> {
        for row in request.into_inner().usages {
            // A test that has ended wants no more rows.
            let _ = self.0.send(row);
        }
        Ok(Response::new(RecordUsageResponse::default()))
    }

    async fn settle(&self, _: Request<SettleRequest>) -> Result<Response<SettleResponse>> {
        Err(Status::unimplemented("rows settle"))
    }

    async fn set_limit(&self, _: Request<SetLimitRequest>) -> Result<Response<SetLimitResponse>> {
        Err(Status::unimplemented("nothing is limited"))
    }

    async fn get_statement(
        &self,
        _: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>> {
        Err(Status::unimplemented("nothing is counted"))
    }

    async fn list_statements(
        &self,
        _: Request<ListStatementsRequest>,
    ) -> Result<Response<ListStatementsResponse>> {
        Err(Status::unimplemented("nothing is counted"))
    }

    async fn correct(&self, _: Request<CorrectRequest>) -> Result<Response<CorrectResponse>> {
        Err(Status::unimplemented("nothing is counted"))
    }

    async fn list_history(
        &self,
        _: Request<ListHistoryRequest>,
    ) -> Result<Response<ListHistoryResponse>> {
        Err(Status::unimplemented("nothing is counted"))
    }

    async fn verify(&self, _: Request<VerifyRequest>) -> Result<Response<VerifyResponse>> {
        Err(Status::unimplemented("nothing is counted"))
    }

    async fn set_maintenance(
        &self,
        _: Request<SetMaintenanceRequest>,
    ) -> Result<Response<SetMaintenanceResponse>> {
        Err(Status::unimplemented("nothing is counted"))
    }

    async fn get_maintenance(
        &self,
        _: Request<GetMaintenanceRequest>,
    ) -> Result<Response<GetMaintenanceResponse>> {
        Err(Status::unimplemented("nothing is counted"))
    }

    async fn list_costs(
        &self,
        _: Request<ListCostsRequest>,
    ) -> Result<Response<ListCostsResponse>> {
        Err(Status::unimplemented("nothing is counted"))
    }

    async fn list_audit(
        &self,
        _: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>> {
        Err(Status::unimplemented("nothing is kept"))
    }

    async fn create_key(
        &self,
        _: Request<CreateKeyRequest>,
    ) -> Result<Response<CreateKeyResponse>> {
        Err(Status::unimplemented("nobody has a key"))
    }

    async fn list_keys(&self, _: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>> {
        Err(Status::unimplemented("nobody has a key"))
    }

    async fn get_key(&self, _: Request<GetKeyRequest>) -> Result<Response<GetKeyResponse>> {
        Err(Status::unimplemented("nobody has a key"))
    }

    async fn change_key(
        &self,
        _: Request<ChangeKeyRequest>,
    ) -> Result<Response<ChangeKeyResponse>> {
        Err(Status::unimplemented("nobody has a key"))
    }

    async fn rotate_key(
        &self,
        _: Request<RotateKeyRequest>,
    ) -> Result<Response<RotateKeyResponse>> {
        Err(Status::unimplemented("nobody has a key"))
    }

    async fn revoke_key(
        &self,
        _: Request<RevokeKeyRequest>,
    ) -> Result<Response<RevokeKeyResponse>> {
        Err(Status::unimplemented("nobody has a key"))
    }

    async fn look_up_key(
        &self,
        _: Request<LookUpKeyRequest>,
    ) -> Result<Response<LookUpKeyResponse>> {
        Err(Status::unimplemented("nobody has a key"))
    }
}
