//! One batch, from wherever it stands to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::orchestrator::BatchStatus;
use proto::router::router_service_client::RouterServiceClient;
use proto::router::{Call, CompleteRequest, EstimateRequest};
use runtime::transport::Peer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument as _;
use types::{Caching, CallContext, ErrorKind, NanoUsd, RequestId};

use super::files::{Closed, Files, OUTPUT};
use super::lines::Reader;
use super::output;
use super::purse::Purse;
use super::store::{Answer, Claimed, Request, Store};
use super::{Fault, status_name};
use crate::Error;
use crate::config::Batch as Config;

/// As much as the router takes.
pub(super) const LARGEST: usize = 64 * 1024 * 1024;
/// How long a batch that only waits goes without a look at how it stands.
const LOOK: Duration = Duration::from_secs(1);

/// What every batch of a process needs.
pub(crate) struct Runner {
    pub(crate) store: Store,
    pub(crate) files: Files,
    pub(crate) router: Peer,
    pub(crate) config: Config,
    /// When no more requests are to begin.
    pub(crate) stop: CancellationToken,
}

/// A request or part that is no longer under way, and its money.
pub(super) struct Landed {
    pub(super) worst: NanoUsd,
    pub(super) spent: NanoUsd,
}

/// What is under way.
#[derive(Default)]
pub(super) struct Flying {
    /// Calls in flight.
    requests: JoinSet<Result<Landed, Error>>,
    /// Parts that are at a provider's batch API.
    pub(super) parts: JoinSet<Result<Landed, Error>>,
}

impl Flying {
    fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.parts.is_empty()
    }

    /// Returns what is first to end; none when nothing is under way.
    async fn next(&mut self) -> Option<Result<Landed, Error>> {
        let landed = tokio::select! {
            Some(landed) = self.requests.join_next() => landed,
            Some(landed) = self.parts.join_next() => landed,
            else => return None,
        };
        Some(landed.unwrap_or(Err(Error::Dropped)))
    }
}

/// Why a request has no answer.
struct Refusal {
    status: Status,
    /// It is known that the call did not go on all the same.
    certain: bool,
    /// The most that it can have cost.
    lost: NanoUsd,
}

impl Runner {
    /// Works on a batch until it has ended, or until this process is to stop.
    pub(crate) async fn run(self: &Arc<Self>, batch: Arc<Claimed>) -> Result<(), Error> {
        if self.store.status(&batch.lease).await? == BatchStatus::Validating
            && !self.validate(&batch).await?
        {
            return Ok(());
        }
        if self.store.status(&batch.lease).await? != BatchStatus::Finalizing {
            let spent = self.store.resume(&batch.lease).await?;
            let mut purse = Purse::new(batch.max_cost, spent);
            let mut flying = Flying::default();
            for part in self.store.parts(&batch.lease).await? {
                purse.take_over(part.worst);
                self.carry(&batch, part, &mut flying);
            }
            self.offer(&batch, &mut purse, &mut flying).await?;
            if !self.ask_all(&batch, purse, flying).await? {
                return self.store.release(&batch.lease).await;
            }
        }
        self.store.finalize(&batch.lease).await?;
        // What is left was cancelled: a batch that was not has nothing left here.
        let message = "the request was not executed because the batch was cancelled";
        self.store.end_waiting(&batch.lease, "batch_cancelled", message).await?;
        let output = self.write(&batch, "completed").await?;
        let errors = self.write(&batch, "failed").await?;
        let ended = self.store.finish(&batch.lease, output.as_ref(), errors.as_ref()).await?;
        tracing::info!(status = status_name(ended), "a batch has ended");
        self.store.purge().await
    }

    /// Reads the lines into requests; false when the batch has failed for what is wrong with them.
    async fn validate(&self, batch: &Claimed) -> Result<bool, Error> {
        let lease = &batch.lease;
        self.store.clear(lease).await?;
        let mut reader = Reader::new(batch.endpoint);
        let mut left = match self.files.find(&batch.context.tenant, &batch.input).await {
            Ok(file) => Some(file.bytes),
            Err(Error::NoSuchFile(_)) => None,
            Err(error) => return Err(error),
        };
        for position in 0.. {
            let Some(piece) = self.files.piece(&batch.input, position).await? else { break };
            left = left.and_then(|left| left.checked_sub(piece.len() as u64));
            let lines = reader.push(&piece);
            self.store.add(lease, lines).await?;
            if reader.is_hopeless() {
                left = Some(0);
                break;
            }
        }
        // It may have been deleted before it was read, or meanwhile.
        if left != Some(0) {
            let fault = Fault {
                code: "file_not_found".to_owned(),
                line: None,
                message: format!("file {:?} does not exist any more", batch.input.as_str()),
                param: Some("input_file_id".to_owned()),
            };
            self.store.fail(lease, &[fault]).await?;
            self.store.purge().await?;
            return Ok(false);
        }
        self.store.add(lease, reader.last().into_iter().collect()).await?;
        if !reader.faults().is_empty() {
            self.store.fail(lease, reader.faults()).await?;
            tracing::info!(faults = reader.faults().len(), "a batch's lines are wrong");
            self.store.purge().await?;
            return Ok(false);
        }
        self.store.start(lease).await?;
        Ok(true)
    }

    /// Asks what waits, and waits for what is in flight; false when this process is to stop first.
    async fn ask_all(
        self: &Arc<Self>,
        batch: &Arc<Claimed>,
        mut purse: Purse,
        mut flying: Flying,
    ) -> Result<bool, Error> {
        let lease = &batch.lease;
        while !self.stop.is_cancelled() {
            if self.store.now() >= batch.expires_at {
                let message = "the request was not executed before its batch expired";
                if self.store.end_waiting(lease, "batch_expired", message).await? > 0 {
                    self.store.expire(lease).await?;
                }
            }
            if flying.requests.len() >= self.config.concurrency {
                self.land(&mut flying, &mut purse, LOOK).await?;
                continue;
            }
            let Some(request) = self.store.next(lease).await? else {
                if flying.is_empty() {
                    return Ok(true);
                }
                // It may come back for another attempt.
                self.land(&mut flying, &mut purse, LOOK).await?;
                continue;
            };
            let early = request.not_before.saturating_sub(self.store.now());
            if let Some(early) = u64::try_from(early).ok().filter(|early| *early > 0) {
                let wait = Duration::from_millis(early).min(LOOK);
                self.land(&mut flying, &mut purse, wait).await?;
                continue;
            }
            if request.attempts >= self.config.attempts {
                self.give_up(batch, &request).await?;
                continue;
            }
            let worst = match self.worst(batch, &request, &purse).await {
                Ok(worst) => worst,
                Err(status) => {
                    let certain = runtime::error::is_certain(&status);
                    let refusal = Refusal { status, certain, lost: NanoUsd::ZERO };
                    self.refused(batch, &request, RequestId::generate(), refusal).await?;
                    continue;
                }
            };
            if !purse.covers(worst) {
                if flying.is_empty() {
                    let limit = batch.max_cost.unwrap_or_default();
                    let message = format!("the batch's max_cost_usd of {limit} does not cover it");
                    self.store.end_waiting(lease, "budget_exceeded", &message).await?;
                } else {
                    // Most cost less than they can.
                    self.land(&mut flying, &mut purse, LOOK).await?;
                }
                continue;
            }
            if self.store.begin(lease, &request, worst).await? {
                purse.hold(worst);
                let (runner, batch) = (Arc::clone(self), Arc::clone(batch));
                let asked = async move { runner.ask(&batch, request, worst).await };
                flying.requests.spawn(asked.in_current_span());
            }
        }
        while !flying.is_empty() {
            self.land(&mut flying, &mut purse, LOOK).await?;
        }
        Ok(false)
    }

    /// Waits for one request in flight, for a while, or for the end of this process.
    async fn land(
        &self,
        flying: &mut Flying,
        purse: &mut Purse,
        wait: Duration,
    ) -> Result<(), Error> {
        let landed = tokio::select! {
            Some(landed) = flying.next() => landed?,
            () = tokio::time::sleep(wait) => return Ok(()),
            () = self.stop.cancelled(), if flying.is_empty() => return Ok(()),
        };
        purse.end(landed.worst, landed.spent);
        Ok(())
    }

    /// Returns the most that a request can cost; nothing when nobody wants to know.
    async fn worst(
        &self,
        batch: &Claimed,
        request: &Request,
        purse: &Purse,
    ) -> Result<NanoUsd, Status> {
        if !purse.is_limited() {
            return Ok(NanoUsd::ZERO);
        }
        let context = self.context(batch, request);
        let message = EstimateRequest { call: Some(call(batch, request)) };
        let estimate = runtime::context::request(&context, message);
        let mut router =
            RouterServiceClient::new(self.router.clone()).max_encoding_message_size(usize::MAX);
        let reply = router.estimate(estimate).await?.into_inner();
        // Those that break off are paid for what they did, and another one is asked.
        let most = reply.candidates.iter().map(|candidate| candidate.max_cost_nanos.max(0));
        Ok(NanoUsd::new(most.fold(0, i64::saturating_add)))
    }

    /// Asks one request and stores what came of it.
    async fn ask(
        &self,
        batch: &Claimed,
        request: Request,
        worst: NanoUsd,
    ) -> Result<Landed, Error> {
        let context = self.context(batch, &request);
        let message = CompleteRequest { call: Some(call(batch, &request)) };
        let complete = runtime::context::request(&context, message);
        let mut router = RouterServiceClient::new(self.router.clone())
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(usize::MAX);
        let limit = Duration::from_millis(self.config.request_timeout_ms);
        // The deadline is the router's too, but in one process nobody else keeps it.
        let asked = tokio::time::timeout(limit, router.complete(complete)).await;
        let late =
            || Status::deadline_exceeded(format!("no answer within {} ms", limit.as_millis()));
        match asked.unwrap_or_else(|_| Err(late())) {
            Ok(reply) => {
                let reply = reply.into_inner();
                let receipt = reply.receipt.unwrap_or_default();
                let sum = receipt.cost_nanos.saturating_add(receipt.spent_besides_nanos);
                let (cost, lost) = (NanoUsd::new(sum), NanoUsd::new(receipt.at_stake_nanos));
                let answer = Answer {
                    http: 200,
                    request_id: context.request_id.to_string(),
                    body: reply.body.to_vec(),
                    cost,
                    lost,
                };
                self.store.end(&batch.lease, &request, &answer).await?;
                let spent = cost.checked_add(lost).unwrap_or(NanoUsd::new(i64::MAX));
                Ok(Landed { worst, spent })
            }
            Err(status) => {
                let certain = runtime::error::is_certain(&status);
                let lost = if certain { runtime::error::spent(&status) } else { worst };
                let refusal = Refusal { status, certain, lost };
                self.refused(batch, &request, context.request_id, refusal).await?;
                Ok(Landed { worst, spent: lost })
            }
        }
    }

    /// Stores that a request has no answer, or lets it wait for another attempt.
    async fn refused(
        &self,
        batch: &Claimed,
        request: &Request,
        request_id: RequestId,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let Refusal { status, certain, lost } = refusal;
        let (kind, message) = runtime::error::told(&status);
        let attempts = request.attempts.saturating_add(1);
        let passes = !certain || matches!(kind, ErrorKind::Unavailable | ErrorKind::RateLimited);
        if passes && attempts < self.config.attempts {
            let not_before = self.store.now().saturating_add(pause_ms(attempts, request.line));
            return self.store.again(&batch.lease, request, not_before, lost).await;
        }
        let body = runtime::error::body(batch.endpoint.dialect(), kind, &message);
        let answer = Answer {
            http: runtime::error::http_status(kind),
            request_id: request_id.to_string(),
            body: body.to_string().into_bytes(),
            cost: NanoUsd::ZERO,
            lost,
        };
        self.store.end(&batch.lease, request, &answer).await
    }

    /// Ends a request that was begun as often as one may be: it may be what ends the process each time.
    async fn give_up(&self, batch: &Claimed, request: &Request) -> Result<(), Error> {
        let attempts = request.attempts;
        tracing::warn!(line = request.line, attempts, "a request of a batch is given up");
        let message = format!("the request was begun {attempts} times and never ended");
        let kind = ErrorKind::Unavailable;
        let body = runtime::error::body(batch.endpoint.dialect(), kind, &message);
        let answer = Answer {
            http: runtime::error::http_status(kind),
            request_id: RequestId::generate().to_string(),
            body: body.to_string().into_bytes(),
            cost: NanoUsd::ZERO,
            lost: NanoUsd::ZERO,
        };
        self.store.end(&batch.lease, request, &answer).await
    }

    /// Returns in whose name a request is asked: its batch's creator's.
    fn context(&self, batch: &Claimed, request: &Request) -> CallContext {
        let limit = Duration::from_millis(self.config.request_timeout_ms);
        CallContext {
            request_id: RequestId::generate(),
            // Its creator's key may forbid it, which a batch does not know.
            caching: Caching::Never,
            deadline: Instant::now().checked_add(limit),
            idempotency_key: Some(output::request_name(&batch.lease.batch, request.line)),
            ..batch.context.clone()
        }
    }

    /// Writes a file of the requests that ended as `state`; none when there are none.
    async fn write(&self, batch: &Claimed, state: &'static str) -> Result<Option<Closed>, Error> {
        let (lease, context) = (&batch.lease, &batch.context);
        let mut page = self.store.ended(lease, state, 0).await?;
        if page.is_empty() {
            return Ok(None);
        }
        let mut file = self.files.draft(&context.tenant, OUTPUT, context.privacy).await?;
        while let Some(last) = page.last().map(|ended| ended.line) {
            for ended in &page {
                file.write(&output::line(&lease.batch, ended)?).await?;
            }
            page = self.store.ended(lease, state, last).await?;
        }
        Ok(Some(file.close().await?))
    }
}

fn call(batch: &Claimed, request: &Request) -> Call {
    Call {
        body: request.body.clone().into(),
        groundings: Vec::new(),
        dialect: batch.endpoint.dialect().into(),
    }
}

/// Returns how long a request waits after `attempts`: twice as long each time, from a second to a
/// minute, and neighbours not all until the same moment.
fn pause_ms(attempts: u32, line: u32) -> i64 {
    let pause = 1000_i64.saturating_mul(1 << attempts.saturating_sub(1).min(6)).min(60_000);
    pause - pause / 4 * i64::from(line % 4) / 4
}

#[cfg(test)]
mod tests {
    use super::pause_ms;

    #[test]
    fn pauses_double_up_to_a_minute_and_neighbours_part() {
        assert_eq!([1, 2, 3, 7, 99].map(|n| pause_ms(n, 0)), [1000, 2000, 4000, 60_000, 60_000]);
        assert_eq!([0, 1, 2, 3, 4].map(|line| pause_ms(1, line)), [1000, 938, 875, 813, 1000]);
    }
}
