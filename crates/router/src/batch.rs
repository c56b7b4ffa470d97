//! Parts of batches at providers' batch APIs. Nothing is remembered here: whoever asks keeps a part's
//! journal, and asks until it has ended.

use std::collections::HashMap;
use std::sync::Arc;

use proto::router::collect_batch_response::Event;
use proto::router::{
    BatchAnswer, BatchLine, BatchPart, BatchSettled, Call, CancelBatchRequest, CollectBatchRequest,
    CollectBatchResponse, Dialect, PlanBatchRequest, PlanBatchResponse, PlannedLine,
    SubmitBatchRequest,
};
use tokio::sync::mpsc;
use tonic::Status;
use types::{CallContext, ErrorKind, NanoUsd, Privacy, ReservationId};

use crate::Error;
use crate::call::Planned;
use crate::catalog::Candidate;
use crate::conversation::needs_store;
use crate::money;
use crate::providers::Fault;
use crate::providers::batches::{Batches, NotBegun, Outcome, Sought, Standing};
use crate::service::Service;

/// A part that is known to be good.
struct Part {
    id: ReservationId,
    candidate: Arc<Candidate>,
    most: NanoUsd,
    made_at_ms: i64,
    provider_id: String,
    size: u32,
    others: Vec<String>,
}

impl Part {
    fn batches(&self) -> Result<&dyn Batches, Error> {
        let unknown = || Error::NoBatch(self.candidate.name());
        self.candidate.provider.batches().ok_or_else(unknown)
    }
}

/// Answers of a part on their way.
pub(crate) type Answers = mpsc::Sender<Result<CollectBatchResponse, Status>>;

impl Service {
    /// Tells where each line is cheapest.
    pub(crate) async fn plan_batch(
        &self,
        context: &CallContext,
        request: PlanBatchRequest,
    ) -> PlanBatchResponse {
        let private = context.privacy == Privacy::Private;
        if private || !self.live.now().has_batches() {
            return PlanBatchResponse::default();
        }
        let (dialect, total) = (request.dialect(), request.total);
        let mut lines = Vec::with_capacity(request.lines.len());
        for line in request.lines {
            let planned = match dialect == Dialect::Responses && needs_store(&line.body) {
                true => None,
                // What is wrong with a line it is told when it is asked by itself.
                false => self.plan(context.clone(), Some(call(line, dialect))).await.ok(),
            };
            let found = planned.and_then(|(planned, _)| planned.cheaper_in_batch(total));
            lines.push(found.map_or_else(PlannedLine::default, |(candidate, most)| PlannedLine {
                candidate: candidate.name(),
                most_nanos: most.nanos(),
            }));
        }
        PlanBatchResponse { any: true, lines }
    }

    /// Gives a part to its provider, or only looks for it there; returns what the provider calls it.
    pub(crate) async fn submit_batch(
        &self,
        context: &CallContext,
        request: SubmitBatchRequest,
    ) -> Result<String, Error> {
        let dialect = request.dialect();
        let part = self.part(context, request.part)?;
        let batches = part.batches()?;
        if request.only_look {
            let found = found(context, &part).await.map_err(in_doubt)?;
            return Ok(found.unwrap_or_default());
        }
        let (mut lines, mut most) = (Vec::new(), NanoUsd::ZERO);
        for line in request.lines {
            let number = line.number.to_string();
            let planned = self.planned(context, line, dialect, &part)?;
            let sum = most.checked_add(planned.most_in_batch());
            most = sum.ok_or_else(|| Error::Invalid("the part costs too much".to_owned()))?;
            let line = planned.line(batches, &number).map_err(refused)?;
            lines.extend_from_slice(line.to_string().as_bytes());
            lines.push(b'\n');
        }
        if most > part.most {
            let fault = format!("the part can cost {most}, and {} is planned", part.most);
            return Err(Error::Invalid(fault));
        }
        money::keep(context, &self.means.budget, &part.id, part.most).await?;
        match batches.begin(context, part.id.as_str(), lines).await {
            Ok(id) => Ok(id),
            Err(NotBegun::Surely(fault)) => Err(refused(fault)),
            Err(NotBegun::Perhaps(fault)) => Err(in_doubt(refused(fault))),
        }
    }

    /// Tells how a part stands, and keeps its money.
    pub(crate) async fn poll_batch(
        &self,
        context: &CallContext,
        part: Option<BatchPart>,
    ) -> Result<(bool, String), Error> {
        let part = self.part(context, part)?;
        match money::keep(context, &self.means.budget, &part.id, part.most).await {
            Ok(_) => {}
            // What was spent is settled all the same.
            Err(Error::Budget(status))
                if runtime::error::kind_of(&status) == ErrorKind::Conflict =>
            {
                tracing::error!(part = %part.id, %status, "a batch runs, and nothing is reserved for it");
            }
            Err(fault) => tracing::warn!(%fault, "a part's money may not be kept"),
        }
        let standing = standing(context, &part).await?;
        Ok((standing.ended, standing.status))
    }

    /// Stops a part; returns what the provider calls it, unless it has none, and no more money.
    pub(crate) async fn cancel_batch(
        &self,
        context: &CallContext,
        request: CancelBatchRequest,
    ) -> Result<Option<String>, Error> {
        let budget = &self.means.budget;
        if request.never_began {
            let part = request.part.unwrap_or_default();
            money::free(context, budget, &ReservationId::new(part.id).map_err(named)?).await?;
            return Ok(None);
        }
        let mut part = self.part(context, request.part)?;
        if part.provider_id.is_empty() {
            match found(context, &part).await? {
                Some(id) => part.provider_id = id,
                None => {
                    money::free(context, budget, &part.id).await?;
                    return Ok(None);
                }
            }
        }
        part.batches()?.cancel(context, &part.provider_id).await.map_err(refused)?;
        Ok(Some(part.provider_id))
    }

    /// Sends the answers of a part that has ended, and pays them.
    pub(crate) async fn collect_batch(
        &self,
        context: &CallContext,
        request: CollectBatchRequest,
        answers: &Answers,
    ) -> Result<(), Error> {
        let dialect = request.dialect();
        let part = self.part(context, request.part)?;
        let batches = part.batches()?;
        let standing = standing(context, &part).await?;
        if !standing.ended {
            return Err(Error::AllFailed(vec![format!("the batch is {}", standing.status)]));
        }
        let lines = request.lines.into_iter().map(|line| (line.number.to_string(), line));
        let (mut lines, mut paid): (HashMap<_, _>, _) = (lines.collect(), NanoUsd::ZERO);
        for file in standing.files {
            let mut download = batches.download(context, &file).await.map_err(refused)?;
            while let Some(said) = download.next().await.map_err(refused)? {
                if said.trim_ascii().is_empty() {
                    continue;
                }
                let Some((id, outcome)) = batches.outcome(&said) else {
                    tracing::warn!(part = %part.id, "a line of a batch's answers is none");
                    continue;
                };
                // One of another's, or another one of the same, is nobody's.
                let Some(line) = lines.remove(&id) else { continue };
                let number = line.number;
                let (body, answered, cost) = match outcome {
                    Outcome::Unanswered => continue,
                    Outcome::Refused(message) => {
                        let body = runtime::error::body(dialect, ErrorKind::Invalid, &message);
                        (body, false, NanoUsd::ZERO)
                    }
                    Outcome::Answered(answer) => {
                        let planned = self.planned(context, line, dialect, &part)?;
                        let row = format!("{}/{number}", part.id);
                        let (body, cost) =
                            planned.answered_in_batch(row, part.made_at_ms, answer).await;
                        (body, true, cost)
                    }
                };
                paid = paid.checked_add(cost).unwrap_or(NanoUsd::new(i64::MAX));
                let body = body.to_string().into_bytes().into();
                let cost_nanos = cost.nanos();
                let answer = BatchAnswer { number, body, answered, cost_nanos };
                send(answers, Event::Answer(answer)).await?;
            }
        }
        money::settle(context, &self.means.budget, &part.id, paid).await?;
        send(answers, Event::Settled(BatchSettled { cost_nanos: paid.nanos() })).await
    }

    fn part(&self, context: &CallContext, part: Option<BatchPart>) -> Result<Part, Error> {
        let part = part.unwrap_or_default();
        if context.privacy == Privacy::Private {
            return Err(Error::NothingLocal(part.candidate));
        }
        let candidate = self.live.now().with_batches(&part.candidate).cloned();
        Ok(Part {
            id: ReservationId::new(part.id).map_err(named)?,
            candidate: candidate.ok_or(Error::NoBatch(part.candidate))?,
            most: NanoUsd::new(part.most_nanos.max(0)),
            made_at_ms: part.made_at_ms,
            provider_id: part.provider_id,
            size: part.size,
            others: part.others,
        })
    }

    fn planned(
        &self,
        context: &CallContext,
        line: BatchLine,
        dialect: Dialect,
        part: &Part,
    ) -> Result<Planned, Error> {
        Planned::of_batch(
            context.clone(),
            call(line, dialect),
            &part.candidate,
            self.live.now().policy,
            self.means.clone(),
        )
    }
}

async fn found(context: &CallContext, part: &Part) -> Result<Option<String>, Error> {
    let sought = Sought {
        name: part.id.as_str(),
        since_ms: part.made_at_ms,
        size: part.size.into(),
        others: &part.others,
    };
    part.batches()?.find(context, &sought).await.map_err(refused)
}

async fn standing(context: &CallContext, part: &Part) -> Result<Standing, Error> {
    let standing = part.batches()?.look(context, &part.provider_id).await.map_err(refused)?;
    standing.ok_or_else(|| Error::NoBatch(part.provider_id.clone()))
}

async fn send(answers: &Answers, event: Event) -> Result<(), Error> {
    let gone = |_| Error::AllFailed(vec!["whoever collects is gone".to_owned()]);
    answers.send(Ok(CollectBatchResponse { event: Some(event) })).await.map_err(gone)
}

fn call(line: BatchLine, dialect: Dialect) -> Call {
    Call { body: line.body, groundings: Vec::new(), dialect: dialect.into() }
}

fn named(fault: types::IdError) -> Error {
    Error::Invalid(format!("/part/id: {fault}"))
}

fn refused(fault: Fault) -> Error {
    match fault {
        Fault::Request(message) | Fault::Dialect(message) => Error::Invalid(message),
        fault => Error::AllFailed(vec![fault.to_string()]),
    }
}

fn in_doubt(error: Error) -> Error {
    match error {
        // Nobody can look there any more.
        error @ Error::NoBatch(_) => error,
        error => Error::InDoubt(error.to_string()),
    }
}
