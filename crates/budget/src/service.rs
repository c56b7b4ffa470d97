use std::sync::Arc;

use proto::budget as wire;
use proto::budget::budget_service_server::BudgetService;
use tonic::{Request, Response};
use types::{CallContext, NanoUsd, ReservationId};

use crate::keys::Keys;
use crate::keys::calls::Desk;
use crate::ledger::{Correction, Entry, Ledger, Maintenance, Order, Reservation, Statement};
use crate::usage::{Audited, Calls, Group, Usage};
use crate::{Error, Kind, Period, Scope};

/// How long a hold lasts when its caller does not say.
const TTL_MS: u32 = 600_000;

/// The gRPC service.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a ledger has nothing to show")]
pub struct Service {
    ledger: Arc<dyn Ledger>,
    keys: Arc<dyn Keys>,
}

impl Service {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, keys: Arc<dyn Keys>) -> Self {
        Self { ledger, keys }
    }

    fn desk(&self) -> Desk<'_> {
        Desk { keys: self.keys.as_ref(), ledger: self.ledger.as_ref() }
    }

    fn shown(&self, statement: &Statement) -> wire::Statement {
        let (starts_at_ms, resets_at_ms) = statement.period.bounds(self.ledger.now_ms());
        wire::Statement {
            scope: Some(scope_to_wire(&statement.scope)),
            period: to_wire(statement.period).into(),
            limit_nanos: statement.limit.map(NanoUsd::nanos),
            spent_nanos: statement.spent.nanos(),
            held_nanos: statement.held.nanos(),
            starts_at_ms,
            resets_at_ms: resets_at_ms.unwrap_or_default(),
        }
    }

    async fn state(
        &self,
        context: &CallContext,
        scope: &Scope,
        period: Period,
    ) -> Result<Option<wire::Statement>, Error> {
        let statement = self.ledger.statement(&context.tenant, scope, period).await?;
        Ok(Some(self.shown(&statement)))
    }
}

#[tonic::async_trait]
impl BudgetService for Service {
    async fn reserve(
        &self,
        request: Request<wire::ReserveRequest>,
    ) -> tonic::Result<Response<wire::ReserveResponse>> {
        let context = runtime::context::read(&request)?;
        let request = request.into_inner();
        let reservation = Reservation {
            id: ReservationId::new(request.reservation_id).map_err(Error::from)?,
            scopes: Scope::chain(&context),
            tenant: context.tenant,
            amount: amount("amount_nanos", request.amount_nanos)?,
            ttl_ms: if request.ttl_ms == 0 { TTL_MS } else { request.ttl_ms },
        };
        let expires_at_ms = self.ledger.reserve(&reservation).await?;
        Ok(Response::new(wire::ReserveResponse { expires_at_ms }))
    }

    async fn settle(
        &self,
        request: Request<wire::SettleRequest>,
    ) -> tonic::Result<Response<wire::SettleResponse>> {
        let context = runtime::context::read(&request)?;
        let request = request.into_inner();
        let id = ReservationId::new(request.reservation_id).map_err(Error::from)?;
        let amount = amount("amount_nanos", request.amount_nanos)?;
        self.ledger.settle(&context.tenant, &id, amount).await?;
        Ok(Response::new(wire::SettleResponse {}))
    }

    async fn release(
        &self,
        request: Request<wire::ReleaseRequest>,
    ) -> tonic::Result<Response<wire::ReleaseResponse>> {
        let context = runtime::context::read(&request)?;
        let id = ReservationId::new(request.into_inner().reservation_id).map_err(Error::from)?;
        self.ledger.release(&context.tenant, &id).await?;
        Ok(Response::new(wire::ReleaseResponse {}))
    }

    async fn set_limit(
        &self,
        request: Request<wire::SetLimitRequest>,
    ) -> tonic::Result<Response<wire::SetLimitResponse>> {
        let context = runtime::context::read(&request)?;
        let period = from_wire(request.get_ref().period())?;
        let request = request.into_inner();
        let scope = scope(request.scope)?;
        let limit = request.limit_nanos.map(|nanos| amount("limit_nanos", nanos)).transpose()?;
        self.ledger.set_limit(&context.tenant, &scope, period, limit).await?;
        let statement = self.state(&context, &scope, period).await?;
        Ok(Response::new(wire::SetLimitResponse { statement }))
    }

    async fn get_statement(
        &self,
        request: Request<wire::GetStatementRequest>,
    ) -> tonic::Result<Response<wire::GetStatementResponse>> {
        let context = runtime::context::read(&request)?;
        let period = from_wire(request.get_ref().period())?;
        let scope = scope(request.into_inner().scope)?;
        let statement = self.state(&context, &scope, period).await?;
        Ok(Response::new(wire::GetStatementResponse { statement }))
    }

    async fn list_statements(
        &self,
        request: Request<wire::ListStatementsRequest>,
    ) -> tonic::Result<Response<wire::ListStatementsResponse>> {
        let context = runtime::context::read(&request)?;
        let wanted = request.get_ref();
        let (kind, period) = (kind(wanted.kind())?, from_wire(wanted.period())?);
        let order = match wanted.order() {
            wire::StatementOrder::Unspecified | wire::StatementOrder::Spent => Order::Spent,
            wire::StatementOrder::Used => Order::Used,
        };
        let limit = at_most(wanted.limit, 10, 1000)?;
        let statements =
            self.ledger.statements(&context.tenant, kind, period, order, limit).await?;
        let statements = statements.iter().map(|statement| self.shown(statement)).collect();
        Ok(Response::new(wire::ListStatementsResponse { statements }))
    }

    async fn correct(
        &self,
        request: Request<wire::CorrectRequest>,
    ) -> tonic::Result<Response<wire::CorrectResponse>> {
        let context = runtime::context::read(&request)?;
        let request = request.into_inner();
        if !(1..=16).contains(&request.scopes.len()) {
            let fault = format!("{} scopes, 1 to 16 are taken", request.scopes.len());
            return Err(Error::Invalid(fault).into());
        }
        if !(1..=1000).contains(&request.reason.trim().len()) {
            return Err(Error::Invalid("reason: 1 to 1000 bytes".to_owned()).into());
        }
        let mut scopes: Vec<Scope> =
            request.scopes.into_iter().map(|one| scope(Some(one))).collect::<Result<_, _>>()?;
        scopes.push(Scope::tenant());
        scopes.sort();
        scopes.dedup();
        let author = match &context.key {
            Some(key) => format!("{} (key {key})", context.user),
            None => context.user.to_string(),
        };
        let correction = Correction {
            id: ReservationId::new(request.correction_id).map_err(Error::from)?,
            tenant: context.tenant,
            scopes,
            amount: NanoUsd::new(request.amount_nanos),
            reason: request.reason.replace('\0', ""),
            author,
        };
        self.ledger.correct(&correction).await?;
        Ok(Response::new(wire::CorrectResponse {}))
    }

    async fn list_history(
        &self,
        request: Request<wire::ListHistoryRequest>,
    ) -> tonic::Result<Response<wire::ListHistoryResponse>> {
        let context = runtime::context::read(&request)?;
        let limit = at_most(request.get_ref().limit, 1000, 10_000)?;
        let after = request.get_ref().after;
        let entries = self.ledger.history(&context.tenant, after, limit).await?;
        let shown = |entry: Entry| wire::Entry {
            number: entry.number,
            reservation_id: entry.reservation,
            kind: entry.kind,
            spent_nanos: entry.spent,
            held_nanos: entry.held,
            scopes: entry.scopes.iter().map(scope_to_wire).collect(),
            counts_at_ms: entry.counts_at_ms,
            at_ms: entry.at_ms,
            reason: entry.reason,
            author: entry.author,
        };
        let entries = entries.into_iter().map(shown).collect();
        Ok(Response::new(wire::ListHistoryResponse { entries }))
    }

    async fn verify(
        &self,
        request: Request<wire::VerifyRequest>,
    ) -> tonic::Result<Response<wire::VerifyResponse>> {
        let context = runtime::context::read(&request)?;
        let differences = self.ledger.verify(&context.tenant).await?;
        Ok(Response::new(wire::VerifyResponse { differences }))
    }

    async fn set_maintenance(
        &self,
        request: Request<wire::SetMaintenanceRequest>,
    ) -> tonic::Result<Response<wire::SetMaintenanceResponse>> {
        let wanted = request.into_inner().maintenance;
        let since_ms = self.ledger.now_ms();
        let wanted = wanted.map(|wanted| maintenance(wanted, since_ms)).transpose()?;
        self.ledger.set_maintenance(wanted.as_ref()).await?;
        let maintenance = wanted.map(maintenance_to_wire);
        Ok(Response::new(wire::SetMaintenanceResponse { maintenance }))
    }

    async fn get_maintenance(
        &self,
        _: Request<wire::GetMaintenanceRequest>,
    ) -> tonic::Result<Response<wire::GetMaintenanceResponse>> {
        let maintenance = self.ledger.maintenance().await?.map(maintenance_to_wire);
        Ok(Response::new(wire::GetMaintenanceResponse { maintenance }))
    }

    async fn record_usage(
        &self,
        request: Request<wire::RecordUsageRequest>,
    ) -> tonic::Result<Response<wire::RecordUsageResponse>> {
        let usages = request.into_inner().usages;
        if usages.len() > 1000 {
            return Err(Error::Invalid(format!("{} usages, at most 1000", usages.len())).into());
        }
        let usages: Vec<Usage> = usages.into_iter().map(Usage::read).collect::<Result<_, _>>()?;
        self.ledger.record(&usages).await?;
        Ok(Response::new(wire::RecordUsageResponse {}))
    }

    async fn list_costs(
        &self,
        request: Request<wire::ListCostsRequest>,
    ) -> tonic::Result<Response<wire::ListCostsResponse>> {
        let context = runtime::context::read(&request)?;
        let groups: Vec<Group> =
            request.get_ref().group_by().map(group).collect::<Result<_, _>>()?;
        if !(1..=3).contains(&groups.len())
            || groups.iter().enumerate().any(|(at, group)| groups[..at].contains(group))
        {
            return Err(Error::Invalid("group_by: one to three, each once".to_owned()).into());
        }
        let request = request.into_inner();
        let calls = Calls {
            tenant: context.tenant,
            scope: request.scope.map_or_else(|| Ok(Scope::tenant()), |one| scope(Some(one)))?,
            from_ms: request.from_ms,
            to_ms: request.to_ms,
        };
        let costs = self.ledger.costs(&calls, &groups).await?;
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        let costs = costs.into_iter().map(|cost| wire::Cost {
            group: cost.group,
            calls: count(cost.calls),
            failed: count(cost.failed),
            input_tokens: count(cost.input_tokens),
            output_tokens: count(cost.output_tokens),
            cost_nanos: cost.cost,
            mean_latency_micros: count(cost.mean_latency_micros),
            mean_first_token_micros: count(cost.mean_first_token_micros),
        });
        Ok(Response::new(wire::ListCostsResponse { costs: costs.collect() }))
    }

    async fn list_audit(
        &self,
        request: Request<wire::ListAuditRequest>,
    ) -> tonic::Result<Response<wire::ListAuditResponse>> {
        let context = runtime::context::read(&request)?;
        let limit = at_most(request.get_ref().limit, 1000, 1000)?;
        let after = request.get_ref().after;
        let records = self.ledger.audited(&context.tenant, after, limit).await?;
        let shown = |one: Audited| wire::AuditRecord {
            number: one.number,
            record: one.record,
            hash: one.hash.into(),
        };
        let records = records.into_iter().map(shown).collect();
        Ok(Response::new(wire::ListAuditResponse { records }))
    }

    async fn create_key(
        &self,
        request: Request<wire::CreateKeyRequest>,
    ) -> tonic::Result<Response<wire::CreateKeyResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.desk().create(&context, request.into_inner()).await?))
    }

    async fn list_keys(
        &self,
        request: Request<wire::ListKeysRequest>,
    ) -> tonic::Result<Response<wire::ListKeysResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.desk().list(&context, request.into_inner()).await?))
    }

    async fn get_key(
        &self,
        request: Request<wire::GetKeyRequest>,
    ) -> tonic::Result<Response<wire::GetKeyResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.desk().read(&context, request.into_inner()).await?))
    }

    async fn change_key(
        &self,
        request: Request<wire::ChangeKeyRequest>,
    ) -> tonic::Result<Response<wire::ChangeKeyResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.desk().change(&context, request.into_inner()).await?))
    }

    async fn rotate_key(
        &self,
        request: Request<wire::RotateKeyRequest>,
    ) -> tonic::Result<Response<wire::RotateKeyResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.desk().rotate(&context, request.into_inner()).await?))
    }

    async fn revoke_key(
        &self,
        request: Request<wire::RevokeKeyRequest>,
    ) -> tonic::Result<Response<wire::RevokeKeyResponse>> {
        let context = runtime::context::read(&request)?;
        Ok(Response::new(self.desk().revoke(&context, request.into_inner()).await?))
    }

    async fn look_up_key(
        &self,
        request: Request<wire::LookUpKeyRequest>,
    ) -> tonic::Result<Response<wire::LookUpKeyResponse>> {
        Ok(Response::new(self.desk().look_up(request.into_inner()).await?))
    }
}

fn maintenance(wanted: wire::Maintenance, since_ms: i64) -> Result<Maintenance, Error> {
    let wire::Maintenance { message, retry_after_s, since_ms: _ } = wanted;
    let message = message.replace('\0', "");
    if !(1..=1000).contains(&message.trim().len()) {
        return Err(Error::Invalid("message: 1 to 1000 bytes".to_owned()));
    }
    if !(1..=86_400).contains(&retry_after_s) {
        return Err(Error::Invalid(format!("retry_after_s: {retry_after_s} is not 1 to 86400")));
    }
    Ok(Maintenance { message, retry_after_s, since_ms })
}

fn maintenance_to_wire(kept: Maintenance) -> wire::Maintenance {
    let Maintenance { message, retry_after_s, since_ms } = kept;
    wire::Maintenance { message, retry_after_s, since_ms }
}

fn group(group: wire::CostGroup) -> Result<Group, Error> {
    Ok(match group {
        wire::CostGroup::Model => Group::Model,
        wire::CostGroup::Provider => Group::Provider,
        wire::CostGroup::Tier => Group::Tier,
        wire::CostGroup::User => Group::User,
        wire::CostGroup::Team => Group::Team,
        wire::CostGroup::Route => Group::Route,
        wire::CostGroup::Day => Group::Day,
        wire::CostGroup::Key => Group::Key,
        wire::CostGroup::PromptVersion => Group::PromptVersion,
        wire::CostGroup::Unspecified => {
            return Err(Error::Invalid("group_by is missing".to_owned()));
        }
    })
}

pub(crate) fn amount(field: &str, nanos: i64) -> Result<NanoUsd, Error> {
    match nanos {
        0.. => Ok(NanoUsd::new(nanos)),
        _ => Err(Error::Invalid(format!("{field}: {nanos} is negative"))),
    }
}

/// Reads how many are wanted; 0 is `usual`.
pub(crate) fn at_most(limit: u32, usual: u32, most: u32) -> Result<u32, Error> {
    match limit {
        0 => Ok(usual),
        limit if limit <= most => Ok(limit),
        limit => Err(Error::Invalid(format!("limit {limit} is not 1 to {most}"))),
    }
}

fn kind(kind: wire::ScopeKind) -> Result<Kind, Error> {
    match kind {
        wire::ScopeKind::Tenant => Ok(Kind::Tenant),
        wire::ScopeKind::Team => Ok(Kind::Team),
        wire::ScopeKind::User => Ok(Kind::User),
        wire::ScopeKind::Key => Ok(Kind::Key),
        wire::ScopeKind::Run => Ok(Kind::Run),
        wire::ScopeKind::Unspecified => Err(Error::Invalid("scope is missing".to_owned())),
    }
}

fn scope(scope: Option<wire::Scope>) -> Result<Scope, Error> {
    let scope = scope.unwrap_or_default();
    Scope::new(kind(scope.kind())?, scope.name)
}

fn scope_to_wire(scope: &Scope) -> wire::Scope {
    let kind = match scope.kind() {
        Kind::Tenant => wire::ScopeKind::Tenant,
        Kind::Team => wire::ScopeKind::Team,
        Kind::User => wire::ScopeKind::User,
        Kind::Key => wire::ScopeKind::Key,
        Kind::Run => wire::ScopeKind::Run,
    };
    wire::Scope { kind: kind.into(), name: scope.name().to_owned() }
}

pub(crate) fn from_wire(period: wire::Period) -> Result<Period, Error> {
    match period {
        wire::Period::Daily => Ok(Period::Daily),
        wire::Period::Weekly => Ok(Period::Weekly),
        wire::Period::Monthly => Ok(Period::Monthly),
        wire::Period::Total => Ok(Period::Total),
        wire::Period::Unspecified => Err(Error::Invalid("period is missing".to_owned())),
    }
}

fn to_wire(period: Period) -> wire::Period {
    match period {
        Period::Daily => wire::Period::Daily,
        Period::Weekly => wire::Period::Weekly,
        Period::Monthly => wire::Period::Monthly,
        Period::Total => wire::Period::Total,
    }
}
