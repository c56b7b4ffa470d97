//! A part of a batch, from wherever it stands until its answers are stored.
//!
//! What a step may have caused is in the journal before the step: a part that was being submitted when
//! its process ended is looked for at the provider before it is submitted again.

use std::time::{Duration, Instant};

use proto::orchestrator::BatchStatus;
use proto::router::collect_batch_response::Event;
use proto::router::router_service_client::RouterServiceClient;
use proto::router::{
    BatchAnswer, BatchPart, CancelBatchRequest, CollectBatchRequest, PollBatchRequest,
    SubmitBatchRequest,
};
use runtime::transport::Peer;
use tonic::Status;
use types::{CallContext, ErrorKind, NanoUsd, RequestId};

use super::offer::line;
use super::run::{LARGEST, Landed, Runner};
use super::store::{Answer, Claimed, Part, Stage};
use crate::Error;

/// A part under way.
struct Carried<'a> {
    runner: &'a Runner,
    batch: &'a Claimed,
    part: Part,
    /// How often the provider was asked for it in vain.
    failures: u32,
    /// The provider knows that it is to end.
    cancelled: bool,
    /// Of what is stored.
    spent: NanoUsd,
}

/// What comes next.
enum Step {
    Now,
    /// After a pause, of which there were none since something went on.
    Later,
    Done,
}

impl Runner {
    /// Works on a part until it has ended, or until this process is to stop.
    pub(super) async fn carried(&self, batch: &Claimed, part: Part) -> Result<Landed, Error> {
        let (worst, most) = (part.worst, Duration::from_millis(self.config.poll_ms));
        let mut carried = Carried {
            runner: self,
            batch,
            part,
            failures: 0,
            cancelled: false,
            spent: NanoUsd::ZERO,
        };
        let mut pause = most.min(FIRST);
        while !self.stop.is_cancelled() {
            match carried.step().await? {
                Step::Done => return Ok(Landed { worst, spent: carried.spent }),
                Step::Now => pause = most.min(FIRST),
                Step::Later => {
                    carried.wait(pause).await?;
                    pause = (pause * 2).min(most);
                }
            }
        }
        Ok(Landed { worst, spent: carried.spent })
    }

    /// Returns in whose name a part is asked for: its batch's creator's.
    pub(super) fn of_parts(&self, batch: &Claimed) -> CallContext {
        let limit = Duration::from_millis(self.config.request_timeout_ms);
        CallContext {
            request_id: RequestId::generate(),
            deadline: Instant::now().checked_add(limit),
            ..batch.context.clone()
        }
    }
}

/// The first pause between two looks at a part; they double.
const FIRST: Duration = Duration::from_secs(1);

impl Carried<'_> {
    async fn step(&mut self) -> Result<Step, Error> {
        let over = self.is_over().await?;
        let given_up = self.failures >= self.runner.config.attempts;
        match self.part.stage.clone() {
            Stage::Planned if over || given_up => self.leave().await,
            Stage::Doubted if over || given_up => self.look_and_leave().await,
            Stage::Planned => self.submit().await,
            Stage::Doubted => self.look().await,
            Stage::Begun(_) => self.poll(over).await,
        }
    }

    /// Nothing more of the batch is to be answered.
    async fn is_over(&self) -> Result<bool, Error> {
        let store = &self.runner.store;
        let status = store.status(&self.batch.lease).await?;
        Ok(status != BatchStatus::InProgress || store.now() >= self.batch.expires_at)
    }

    /// Waits, but no longer than until the batch is over or this process is to stop.
    async fn wait(&self, pause: Duration) -> Result<(), Error> {
        let mut left = pause;
        while !left.is_zero() && !self.runner.stop.is_cancelled() {
            let wait = left.min(FIRST);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.runner.stop.cancelled() => {}
            }
            left = left.saturating_sub(wait);
            if !self.cancelled && self.is_over().await? {
                break;
            }
        }
        Ok(())
    }

    async fn submit(&mut self) -> Result<Step, Error> {
        self.part.made_at = self.runner.store.now();
        let lines = self.runner.store.of_part(&self.part).await?;
        let message = SubmitBatchRequest {
            part: Some(self.named()),
            lines: lines.into_iter().map(line).collect(),
            dialect: self.batch.endpoint.dialect().into(),
            only_look: false,
        };
        self.note(Stage::Doubted).await?;
        let message = runtime::context::request(&self.context(), message);
        match self.router().submit_batch(message).await {
            Ok(reply) => {
                self.note(Stage::Begun(reply.into_inner().provider_id)).await?;
                Ok(Step::Now)
            }
            Err(status) => {
                let in_doubt = !runtime::error::is_certain(&status);
                tracing::warn!(part = %self.part.id, %status, in_doubt, "a batch was not begun");
                if !in_doubt {
                    self.note(Stage::Planned).await?;
                }
                Ok(self.failed(&status))
            }
        }
    }

    /// Asks whether the provider has it. What it does not have is submitted anew, as of then: the next
    /// look is for what is begun after this one.
    async fn look(&mut self) -> Result<Step, Error> {
        let message = SubmitBatchRequest {
            part: Some(self.sought().await?),
            only_look: true,
            ..SubmitBatchRequest::default()
        };
        let message = runtime::context::request(&self.context(), message);
        match self.router().submit_batch(message).await {
            Ok(reply) => {
                let id = reply.into_inner().provider_id;
                let found = if id.is_empty() { Stage::Planned } else { Stage::Begun(id) };
                self.note(found).await?;
                Ok(Step::Now)
            }
            // Nobody is there who could be asked.
            Err(status) if is_unknown(&status) => self.lose(&status).await,
            Err(status) => {
                tracing::warn!(part = %self.part.id, %status, "it is not known whether a batch was begun");
                Ok(self.failed(&status))
            }
        }
    }

    fn failed(&mut self, status: &Status) -> Step {
        // Asking again would not change some of them.
        let attempts = self.runner.config.attempts;
        self.failures = if is_passing(status) { self.failures + 1 } else { attempts };
        if self.failures < attempts { Step::Later } else { Step::Now }
    }

    /// Gives up a part that the provider does not have.
    async fn leave(&mut self) -> Result<Step, Error> {
        let message = CancelBatchRequest { part: Some(self.named()), never_began: true };
        let message = runtime::context::request(&self.context(), message);
        if let Err(status) = self.router().cancel_batch(message).await {
            tracing::warn!(part = %self.part.id, %status, "money of a part is not free yet");
            return Ok(Step::Later);
        }
        self.end(false).await
    }

    /// Gives up a part that the provider may have.
    async fn look_and_leave(&mut self) -> Result<Step, Error> {
        let message = CancelBatchRequest { part: Some(self.sought().await?), never_began: false };
        let message = runtime::context::request(&self.context(), message);
        match self.router().cancel_batch(message).await {
            Ok(reply) => match reply.into_inner().provider_id {
                none if none.is_empty() => self.end(false).await,
                id => {
                    self.cancelled = true;
                    self.note(Stage::Begun(id)).await?;
                    Ok(Step::Now)
                }
            },
            Err(status) if is_unknown(&status) => self.lose(&status).await,
            Err(status) => {
                tracing::warn!(part = %self.part.id, %status, "a batch is not looked for");
                Ok(Step::Later)
            }
        }
    }

    async fn poll(&mut self, over: bool) -> Result<Step, Error> {
        if over && !self.cancelled {
            let message = CancelBatchRequest { part: Some(self.named()), never_began: false };
            let message = runtime::context::request(&self.context(), message);
            match self.router().cancel_batch(message).await {
                Ok(_) => self.cancelled = true,
                // It may have ended meanwhile.
                Err(status) => tracing::warn!(part = %self.part.id, %status, "a batch goes on"),
            }
        }
        let message = PollBatchRequest { part: Some(self.named()) };
        let message = runtime::context::request(&self.context(), message);
        match self.router().poll_batch(message).await {
            Ok(reply) => {
                let standing = reply.into_inner();
                if !standing.ended {
                    return Ok(Step::Later);
                }
                tracing::info!(part = %self.part.id, standing.status, "a batch API is done");
                self.collect().await
            }
            // Until then its configuration may come back.
            Err(status) if over && is_unknown(&status) => self.lose(&status).await,
            Err(status) => {
                tracing::warn!(part = %self.part.id, %status, "a batch is not seen");
                Ok(Step::Later)
            }
        }
    }

    /// Stores the answers. Those that are stored already are paid once all the same.
    async fn collect(&mut self) -> Result<Step, Error> {
        let store = &self.runner.store;
        let lines = store.of_part(&self.part).await?;
        let message = CollectBatchRequest {
            part: Some(self.named()),
            lines: lines.into_iter().map(line).collect(),
            dialect: self.batch.endpoint.dialect().into(),
        };
        let message = runtime::context::request(&self.context(), message);
        let mut answers = match self.router().collect_batch(message).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return Ok(self.not_collected(&status)),
        };
        loop {
            match answers.message().await {
                Ok(Some(message)) => match message.event {
                    Some(Event::Answer(answer)) => self.answered(answer).await?,
                    Some(Event::Settled(_)) => return self.end(false).await,
                    None => {}
                },
                Ok(None) => return Ok(self.not_collected(&Status::unknown("it ended early"))),
                Err(status) => return Ok(self.not_collected(&status)),
            }
        }
    }

    fn not_collected(&self, status: &Status) -> Step {
        tracing::warn!(part = %self.part.id, %status, "answers are collected again");
        Step::Later
    }

    async fn answered(&mut self, answer: BatchAnswer) -> Result<(), Error> {
        let BatchAnswer { number, body, answered, cost_nanos } = answer;
        let cost = NanoUsd::new(cost_nanos);
        let answer = Answer {
            http: if answered { 200 } else { runtime::error::http_status(ErrorKind::Invalid) },
            request_id: RequestId::generate().to_string(),
            body: body.to_vec(),
            cost,
            lost: NanoUsd::ZERO,
        };
        let (store, lease) = (&self.runner.store, &self.batch.lease);
        if store.end_in_part(lease, &self.part, number, &answer).await? {
            self.spent = self.spent.checked_add(cost).unwrap_or(NanoUsd::new(i64::MAX));
        }
        Ok(())
    }

    /// Ends a part of which nobody will ever tell what it cost; its money is free when its lease ends.
    async fn lose(&mut self, status: &Status) -> Result<Step, Error> {
        tracing::error!(part = %self.part.id, %status, "a batch is lost, and may have cost money");
        self.spent = self.part.worst;
        self.end(true).await
    }

    async fn end(&mut self, lost: bool) -> Result<Step, Error> {
        self.runner.store.part_with(&self.batch.lease, &self.part, lost).await?;
        Ok(Step::Done)
    }

    async fn note(&mut self, stage: Stage) -> Result<(), Error> {
        self.part.stage = stage;
        self.runner.store.note(&self.batch.lease, &self.part).await
    }

    fn named(&self) -> BatchPart {
        let provider_id = match &self.part.stage {
            Stage::Begun(id) => id.clone(),
            Stage::Planned | Stage::Doubted => String::new(),
        };
        BatchPart {
            id: self.part.id.to_string(),
            candidate: self.part.candidate.clone(),
            most_nanos: self.part.worst.nanos(),
            made_at_ms: self.part.made_at,
            provider_id,
            ..BatchPart::default()
        }
    }

    /// The same, with what tells it from others at a provider that does not know its name.
    async fn sought(&self) -> Result<BatchPart, Error> {
        let (size, others) = self.runner.store.beside(&self.part).await?;
        Ok(BatchPart { size, others, ..self.named() })
    }

    fn context(&self) -> CallContext {
        self.runner.of_parts(self.batch)
    }

    fn router(&self) -> RouterServiceClient<Peer> {
        RouterServiceClient::new(self.runner.router.clone())
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(usize::MAX)
    }
}

/// Another attempt may do.
fn is_passing(status: &Status) -> bool {
    let kind = runtime::error::kind_of(status);
    matches!(kind, ErrorKind::Unavailable | ErrorKind::RateLimited)
}

/// The router has no such batch API any more, or the provider no such batch.
fn is_unknown(status: &Status) -> bool {
    matches!(runtime::error::kind_of(status), ErrorKind::NotFound | ErrorKind::Denied)
}
