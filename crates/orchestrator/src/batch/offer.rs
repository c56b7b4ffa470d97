//! What of a batch goes to a provider's batch API, because that costs less.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::router::router_service_client::RouterServiceClient;
use proto::router::{BatchLine, PlanBatchRequest, PlanBatchResponse};
use tracing::Instrument as _;
use types::{NanoUsd, Privacy, ReservationId};

use super::purse::Purse;
use super::run::{Flying, Runner};
use super::store::{Body, Claimed, Part, Stage};
use crate::Error;

/// A provider takes a day; who cannot wait as long does not wait at all.
const PATIENT_HOURS: u32 = 24;
/// How many requests, and bytes of them, are a part at most: it travels in one message.
const MOST: (usize, usize) = (10_000, 8 * 1024 * 1024);

/// Requests for one candidate that are not a part yet.
#[derive(Default)]
struct Heap {
    lines: Vec<(u32, NanoUsd)>,
    bytes: usize,
    worst: NanoUsd,
}

impl Runner {
    /// Sends what is cheaper there to batch APIs, as far as the batch's own money goes.
    pub(super) async fn offer(
        self: &Arc<Self>,
        batch: &Arc<Claimed>,
        purse: &mut Purse,
        flying: &mut Flying,
    ) -> Result<(), Error> {
        if batch.context.privacy == Privacy::Private || batch.hours < PATIENT_HOURS {
            return Ok(());
        }
        let (lease, mut heaps, mut after) = (&batch.lease, BTreeMap::<_, Heap>::new(), 0);
        let total = self.store.total(lease).await?;
        while !self.stop.is_cancelled() {
            let page = self.store.unoffered(lease, after, MOST.1).await?;
            let Some(last) = page.last() else { break };
            after = last.line;
            let lengths: Vec<_> = page.iter().map(|one| (one.line, one.body.len())).collect();
            let Some(planned) = self.planned(batch, page, total).await else { break };
            for ((line, length), plan) in lengths.into_iter().zip(planned.lines) {
                let worst = NanoUsd::new(plan.most_nanos.max(0));
                if plan.candidate.is_empty() || length > MOST.1 || !purse.covers(worst) {
                    continue;
                }
                let heap = heaps.entry(plan.candidate.clone()).or_default();
                if heap.lines.len() >= MOST.0 || heap.bytes + length > MOST.1 {
                    let full = std::mem::take(heap);
                    self.send(batch, plan.candidate, full, purse, flying).await?;
                }
                purse.hold(worst);
                heap.add(line, length, worst);
            }
        }
        for (candidate, heap) in heaps {
            self.send(batch, candidate, heap, purse, flying).await?;
        }
        Ok(())
    }

    /// Asks where requests are cheapest; none when that is not to be had, or nowhere.
    async fn planned(
        &self,
        batch: &Claimed,
        page: Vec<Body>,
        total: u32,
    ) -> Option<PlanBatchResponse> {
        let lines = page.into_iter().map(line).collect();
        let message = PlanBatchRequest { lines, dialect: batch.endpoint.dialect().into(), total };
        let plan = runtime::context::request(&self.of_parts(batch), message);
        let mut router =
            RouterServiceClient::new(self.router.clone()).max_encoding_message_size(usize::MAX);
        match router.plan_batch(plan).await {
            Ok(planned) => Some(planned.into_inner()).filter(|planned| planned.any),
            Err(status) => {
                tracing::warn!(%status, "no batch API is used");
                None
            }
        }
    }

    /// Makes a part, and sends it on its way.
    async fn send(
        self: &Arc<Self>,
        batch: &Arc<Claimed>,
        candidate: String,
        heap: Heap,
        purse: &mut Purse,
        flying: &mut Flying,
    ) -> Result<(), Error> {
        let (id, stage, made_at) = (ReservationId::generate(), Stage::Planned, self.store.now());
        let part = Part { id, candidate, worst: heap.worst, made_at, stage };
        if self.store.part(&batch.lease, &part, &heap.lines).await? {
            tracing::info!(part = %part.id, part.candidate, lines = heap.lines.len(), "a batch API is used");
            self.carry(batch, part, flying);
        } else {
            purse.end(heap.worst, NanoUsd::ZERO);
        }
        Ok(())
    }

    /// Works on a part beside the requests in flight.
    pub(super) fn carry(self: &Arc<Self>, batch: &Arc<Claimed>, part: Part, flying: &mut Flying) {
        let (runner, batch) = (Arc::clone(self), Arc::clone(batch));
        let carried = async move { runner.carried(&batch, part).await };
        flying.parts.spawn(carried.in_current_span());
    }
}

impl Heap {
    fn add(&mut self, line: u32, bytes: usize, worst: NanoUsd) {
        self.lines.push((line, worst));
        self.bytes += bytes;
        self.worst = self.worst.checked_add(worst).unwrap_or(NanoUsd::new(i64::MAX));
    }
}

pub(super) fn line(body: Body) -> BatchLine {
    BatchLine { number: body.line, body: body.body.into() }
}
