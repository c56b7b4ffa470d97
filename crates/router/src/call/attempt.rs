//! Candidates in turn, until one answers; money is set aside before each is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use proto::router::Circuit;
use serde_json::Value;

use super::{Planned, flow};
use crate::Error;
use crate::catalog::Candidate;
use crate::money::Held;
use crate::providers::{Chunks, Fault};
use crate::retry;

/// A candidate's answer, and the money that waits for its cost.
pub(super) struct Answered<Answer> {
    pub(super) candidate: Arc<Candidate>,
    pub(super) held: Held,
    pub(super) answer: Answer,
    /// Why candidates before it did not answer.
    pub(super) failures: Vec<String>,
}

/// What came of asking a candidate.
enum Attempt<Answer> {
    Answered(Answered<Answer>),
    /// It may do after a time.
    Down(Duration),
    Failed,
}

/// How an answer is asked for.
pub(super) trait Form {
    /// What comes first, after which no other candidate is asked.
    type Answer: Send;

    fn ask(
        call: &Planned,
        candidate: &Arc<Candidate>,
    ) -> impl Future<Output = Result<Self::Answer, Fault>> + Send;
}

/// All of it at once.
pub(super) struct Whole;

/// Its first chunk, and those to come.
pub(super) struct Pieces;

impl Form for Whole {
    type Answer = Value;

    async fn ask(call: &Planned, candidate: &Arc<Candidate>) -> Result<Value, Fault> {
        let (provider, model) = (&candidate.provider, &candidate.model);
        match call.request.embeds() {
            true => provider.embed(&call.context, model, &call.request).await,
            false => provider.complete(&call.context, model, &call.request, &call.groundings).await,
        }
    }
}

impl Form for Pieces {
    type Answer = (Bytes, Chunks);

    async fn ask(call: &Planned, candidate: &Arc<Candidate>) -> Result<(Bytes, Chunks), Fault> {
        let hurries = candidate.tier <= 1 && call.another_model(candidate);
        let timeouts = &candidate.timeouts;
        let patience = match hurries {
            true => timeouts.failover().min(timeouts.first_token()),
            false => timeouts.first_token(),
        };
        let wait = call.context.time_left(patience);
        let late = |_| Fault::Provider(format!("no token within {} ms", wait.as_millis()));
        let (provider, model) = (&candidate.provider, &candidate.model);
        let first = async {
            let asked = provider.stream(&call.context, model, &call.request, &call.groundings);
            let mut chunks = asked.await?;
            let none = || Fault::Provider("the stream is empty".to_owned());
            let first = chunks.next().await.ok_or_else(none)??;
            flow::read(&first)?;
            Ok((first, chunks))
        };
        tokio::time::timeout(wait, first).await.map_err(late)?
    }
}

impl Planned {
    /// Returns the first answer, asked for in this form: of the models in their order, those that
    /// were down for the moment once more, and of the last resort.
    ///
    /// # Errors
    /// If nobody answered, the money does not suffice, or the request is wrong.
    pub(super) async fn answered<F: Form>(&self) -> Result<Answered<F::Answer>, Error> {
        let mut failures = Failures::default();
        let mut turn: Vec<_> = self.candidates.iter().filter(|c| !c.is_last_resort()).collect();
        for time in 0.. {
            let (mut down, mut come_back) = (Vec::new(), Duration::MAX);
            for candidate in turn {
                match self.attempt::<F>(candidate, &mut failures).await? {
                    Attempt::Answered(answered) => return Ok(answered),
                    Attempt::Down(after) => {
                        down.push(candidate);
                        come_back = come_back.min(after);
                    }
                    Attempt::Failed => {}
                }
            }
            let (retries, spent) = (&self.policy.retries, self.begun.at.elapsed());
            let pause = retry::pause(retries, time, spent, come_back, fastrand::f64());
            let Some(pause) = pause else { break };
            tokio::time::sleep(pause).await;
            turn = down;
        }
        for candidate in self.candidates.iter().filter(|c| c.is_last_resort()) {
            if let Attempt::Answered(answered) = self.attempt::<F>(candidate, &mut failures).await?
            {
                return Ok(answered);
            }
        }
        self.ended("failed", None, None);
        Err(failures.into())
    }

    /// Asks one candidate, if its circuit breaker lets it.
    ///
    /// # Errors
    /// If no other need be asked: the money does not suffice, or the request is wrong.
    async fn attempt<F: Form>(
        &self,
        candidate: &Arc<Candidate>,
        failures: &mut Failures,
    ) -> Result<Attempt<F::Answer>, Error> {
        if !candidate.breaker().allow(Instant::now()) {
            failures.left_alone(candidate);
            return Ok(Attempt::Failed);
        }
        let held = self.reserve(candidate).await.inspect_err(|_| {
            candidate.breaker().let_go();
            self.ended("refused", None, None);
        })?;
        let asked_at = Instant::now();
        match F::ask(self, candidate).await {
            Ok(answer) => {
                candidate.breaker().succeeded();
                candidate.stats().answered(asked_at.elapsed());
                let failures = std::mem::take(&mut failures.told);
                let candidate = Arc::clone(candidate);
                Ok(Attempt::Answered(Answered { candidate, held, answer, failures }))
            }
            Err(Fault::Request(message)) => {
                candidate.breaker().succeeded();
                self.ended("invalid", None, None);
                Err(Error::Invalid(message))
            }
            Err(fault) => {
                self.failed(candidate, &fault);
                let again = fault.again();
                failures.note(candidate, fault);
                held.release().await;
                Ok(again.map_or(Attempt::Failed, Attempt::Down))
            }
        }
    }

    /// Notes with a candidate that it failed.
    fn failed(&self, candidate: &Candidate, fault: &Fault) {
        tracing::warn!(candidate = candidate.name(), %fault, "a candidate failed");
        let now = Instant::now();
        if !matches!(fault, Fault::Dialect(_)) {
            candidate.stats().failed();
        }
        match fault {
            // It was not asked, so nothing is known of it.
            Fault::Dialect(_) => candidate.breaker().let_go(),
            Fault::Busy { after, .. } => candidate.breaker().failed(now, Some(*after)),
            // Its caller had no time left for it.
            Fault::Down(_) | Fault::Provider(_)
                if self.context.deadline.is_some_and(|until| until <= now) =>
            {
                candidate.breaker().let_go();
            }
            Fault::Down(_) | Fault::Provider(_) | Fault::Request(_) => {
                candidate.breaker().failed(now, None);
            }
        }
    }

    /// Tells whether a model stands behind `candidate` that may be asked instead.
    fn another_model(&self, candidate: &Arc<Candidate>) -> bool {
        let behind = self.candidates.iter().skip_while(|one| !Arc::ptr_eq(one, candidate)).skip(1);
        behind.into_iter().any(|one| !one.is_last_resort() && one.circuit() == Circuit::Closed)
    }
}

/// Why candidates did not answer.
#[derive(Default)]
struct Failures {
    told: Vec<String>,
    /// What a candidate's dialect cannot say.
    untold: Option<String>,
}

impl Failures {
    /// One whose circuit breaker is open is a failure that takes no time.
    fn left_alone(&mut self, candidate: &Candidate) {
        let name = candidate.name();
        // Whoever asked it before knows more of it.
        if !self.told.iter().any(|failure| failure.starts_with(&name)) {
            self.told.push(format!("{name}: not asked, it is left alone for now"));
        }
    }

    fn note(&mut self, candidate: &Candidate, fault: Fault) {
        let failure = format!("{}: {fault}", candidate.name());
        if !self.told.contains(&failure) {
            self.told.push(failure);
        }
        if let Fault::Dialect(refused) = fault {
            self.untold.get_or_insert(refused);
        }
    }
}

impl From<Failures> for Error {
    /// A request that no candidate's dialect can say is the client's fault.
    fn from(failures: Failures) -> Self {
        failures.untold.map_or(Self::AllFailed(failures.told), Self::Invalid)
    }
}
