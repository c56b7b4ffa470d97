//! Candidates in turn, until one answers; money is set aside before each is asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use types::NanoUsd;

use super::Planned;
use super::form::Form;
use super::hedge::{self, Race};
use crate::Error;
use crate::breaker::Permit;
use crate::catalog::Candidate;
use crate::config::Price;
use crate::money::Held;
use crate::providers::Fault;
use crate::retry;
use crate::tokens::Text;
use crate::usage::Usage;

/// A candidate's answer, and the money that waits for its cost.
pub(super) struct Answered<Answer> {
    pub(super) candidate: Arc<Candidate>,
    pub(super) held: Held,
    pub(super) answer: Answer,
}

/// A candidate that did not answer.
pub(super) struct Missed {
    pub(super) candidate: Arc<Candidate>,
    pub(super) why: Why,
}

/// Why a candidate did not answer.
pub(super) enum Why {
    /// Its circuit breaker is open.
    LeftAlone,
    /// The money does not suffice.
    Refused(Error),
    Failed {
        fault: Fault,
        /// What it is paid for all the same.
        spent: NanoUsd,
    },
}

impl Planned {
    /// Returns the first answer, asked for in this form, and why candidates before did not answer:
    /// of the models in their order, of those that were down for the moment once more, and of the
    /// last resort.
    ///
    /// # Errors
    /// If nobody answered, the money does not suffice, or the request is wrong.
    pub(super) async fn answered<F: Form>(
        self: &Arc<Self>,
    ) -> Result<(Answered<F::Answer>, Besides), Error> {
        let mut failures = Failures::default();
        let answered = self.of_all::<F>(&mut failures).await;
        let spent = failures.besides.spent;
        let answered = answered.map_err(|refused| refused.after_spending(spent))?;
        if let Some(answered) = answered {
            return Ok((answered, failures.besides));
        }
        let outcome = if failures.untold.is_some() { "invalid" } else { "failed" };
        self.ended(outcome, None, None);
        Err(Error::from(failures).after_spending(spent))
    }

    async fn of_all<F: Form>(
        self: &Arc<Self>,
        failures: &mut Failures,
    ) -> Result<Option<Answered<F::Answer>>, Error> {
        let (last, models): (Vec<_>, Vec<_>) =
            self.candidates.iter().cloned().partition(|candidate| candidate.is_last_resort());
        let mut turn: VecDeque<_> = models.into();
        for time in 0.. {
            if let Some(answered) = self.each::<F>(turn, failures).await? {
                return Ok(Some(answered));
            }
            let (retries, spent) = (&self.policy.retries, self.begun.at.elapsed());
            let pause = retry::pause(retries, time, spent, failures.come_back, fastrand::f64());
            let Some(pause) = pause else { break };
            tokio::time::sleep(pause).await;
            failures.come_back = Duration::MAX;
            turn = std::mem::take(&mut failures.down).into();
        }
        self.each::<F>(last.into(), failures).await
    }

    /// Asks candidates in turn, each once.
    async fn each<F: Form>(
        self: &Arc<Self>,
        mut turn: VecDeque<Arc<Candidate>>,
        failures: &mut Failures,
    ) -> Result<Option<Answered<F::Answer>>, Error> {
        while let Some(candidate) = turn.pop_front() {
            let (answered, missed) = match self.rival(&candidate, turn.front()) {
                Some((rival, wait)) => {
                    let Race { winner, missed, at_stake } =
                        Box::pin(hedge::race::<F>(self, candidate, rival, wait)).await;
                    failures.besides.at_stake = at_stake;
                    (winner, missed)
                }
                None => match self.attempt::<F>(&candidate).await {
                    Ok(answered) => (Some(answered), Vec::new()),
                    Err(missed) => (None, vec![missed]),
                },
            };
            turn.retain(|one| !missed.iter().any(|missed| Arc::ptr_eq(&missed.candidate, one)));
            for missed in missed {
                // Whoever answered did not need the money that another one lacked.
                if answered.is_none() || !matches!(missed.why, Why::Refused(_)) {
                    self.note(missed, failures)?;
                }
            }
            if answered.is_some() {
                return Ok(answered);
            }
        }
        Ok(None)
    }

    /// Asks one candidate, if its circuit breaker lets it.
    pub(super) async fn attempt<F: Form>(
        &self,
        candidate: &Arc<Candidate>,
    ) -> Result<Answered<F::Answer>, Missed> {
        let candidate = Arc::clone(candidate);
        let Some(permit) = candidate.allows().await else {
            return Err(Missed { candidate, why: Why::LeftAlone });
        };
        let mut yes = Yes { candidate: &candidate, permit, is_told: false };
        let held = match self.reserve(&candidate).await {
            Ok(held) => held,
            Err(refused) => {
                drop(yes);
                return Err(Missed { candidate, why: Why::Refused(refused) });
            }
        };
        let asked_at = Instant::now();
        let asked = F::ask(self, &candidate).await;
        yes.is_told = true;
        drop(yes);
        match asked {
            Ok(answer) => {
                candidate.breaker().succeeded(permit);
                candidate.stats().answered(asked_at.elapsed(), F::IN_PIECES);
                Ok(Answered { candidate, held, answer })
            }
            Err(fault) => {
                self.failed(&candidate, permit, &fault);
                let spent = match &fault {
                    Fault::Broken { written, counted, .. } => {
                        self.broken(&candidate, held, written, *counted).await
                    }
                    _ => {
                        held.release().await;
                        NanoUsd::ZERO
                    }
                };
                Err(Missed { candidate, why: Why::Failed { fault, spent } })
            }
        }
    }

    /// Pays a candidate that was asked and did not answer for what it did all the same, and returns how
    /// much that is.
    ///
    /// Nobody says what it is, so that it is estimated: it has read the request, because that comes
    /// first, and has written what came of its answer and nothing more, because most of them stop when
    /// their client goes away. So nobody is charged for what nobody saw, and what is owed for sure is in
    /// the books.
    async fn broken(
        &self,
        candidate: &Candidate,
        held: Held,
        written: &Text,
        counted: Option<Usage>,
    ) -> NanoUsd {
        let guess = match written.is_empty() {
            // The next candidate waits: no tokenizer is asked for what is uncertain anyway.
            true => self.guess_unheard(candidate),
            false => self.guess(candidate, written.clone()).await,
        };
        let receipt = self.receipt(candidate, Besides::default(), guess.unless_more(counted), true);
        let cost = NanoUsd::new(receipt.cost_nanos);
        // What is left of the hold is free before the next candidate needs it. The row settles the
        // same, and is what is left if nobody hears this.
        let settled = held.settle(cost);
        self.ended("broken", Some(&receipt), Some(held));
        settled.await;
        cost
    }

    /// Notes with a candidate that it failed.
    fn failed(&self, candidate: &Candidate, permit: Permit, fault: &Fault) {
        tracing::warn!(candidate = candidate.name(), %fault, "a candidate failed");
        let now = Instant::now();
        if !matches!(fault, Fault::Dialect(_) | Fault::Request(_)) {
            candidate.stats().failed();
        }
        match fault {
            // It was not asked, or answers; whether it serves is not known. What is said to be wrong
            // with a request may be an empty account.
            Fault::Dialect(_) | Fault::Request(_) => candidate.breaker().let_go(permit),
            Fault::Busy { after, .. } => candidate.breaker().failed(permit, now, Some(*after)),
            // Its caller had no time left for it.
            _ if self.context.deadline.is_some_and(|until| until <= now) => {
                candidate.breaker().let_go(permit);
            }
            Fault::Down(_) | Fault::Provider(_) | Fault::Broken { .. } => {
                candidate.breaker().failed(permit, now, None);
            }
        }
    }

    /// Notes why a candidate did not answer.
    ///
    /// # Errors
    /// If no other need be asked: the money does not suffice.
    fn note(&self, missed: Missed, failures: &mut Failures) -> Result<(), Error> {
        match missed.why {
            Why::LeftAlone => failures.left_alone(&missed.candidate),
            Why::Refused(refused) => {
                self.ended("refused", None, None);
                return Err(refused);
            }
            Why::Failed { fault, spent } => failures.note(missed.candidate, fault, spent),
        }
        Ok(())
    }
}

/// A circuit breaker's permit. Dropped before the breaker is told how it went, also by a fault of ours,
/// it is taken back: a probe must not stay out for ever.
struct Yes<'a> {
    candidate: &'a Candidate,
    permit: Permit,
    is_told: bool,
}

impl Drop for Yes<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.candidate.breaker().let_go(self.permit);
        }
    }
}

/// What came before an answer, or goes on beside it.
#[derive(Debug, Clone)]
pub(super) struct Besides {
    /// Why candidates did not answer.
    pub(super) failures: Vec<String>,
    /// What they are paid for all the same.
    pub(super) spent: NanoUsd,
    /// The most that those can cost which are not done yet.
    pub(super) at_stake: NanoUsd,
}

impl Default for Besides {
    fn default() -> Self {
        Self { failures: Vec::new(), spent: NanoUsd::ZERO, at_stake: NanoUsd::ZERO }
    }
}

/// What went wrong so far.
struct Failures {
    besides: Besides,
    /// What a candidate's dialect cannot say, or a provider does not take.
    untold: Option<String>,
    /// Those that may do if they are asked again.
    down: Vec<Arc<Candidate>>,
    /// After which time the first of them may.
    come_back: Duration,
}

impl Default for Failures {
    fn default() -> Self {
        let (besides, down) = (Besides::default(), Vec::new());
        Self { besides, untold: None, down, come_back: Duration::MAX }
    }
}

impl Failures {
    /// One whose circuit breaker is open is a failure that takes no time.
    fn left_alone(&mut self, candidate: &Candidate) {
        let name = candidate.name();
        // Whoever asked it before knows more of it.
        let told = &mut self.besides.failures;
        if !told.iter().any(|failure| failure.starts_with(&name)) {
            told.push(format!("{name}: not asked, it is left alone for now"));
        }
    }

    fn note(&mut self, candidate: Arc<Candidate>, fault: Fault, spent: NanoUsd) {
        let failure = format!("{}: {fault}", candidate.name());
        let Besides { failures, spent: all, .. } = &mut self.besides;
        if !failures.contains(&failure) {
            failures.push(failure);
        }
        *all = all.checked_add(spent).unwrap_or(NanoUsd::new(i64::MAX));
        if let Some(after) = fault.again(candidate.price == Price::default()) {
            self.down.push(candidate);
            self.come_back = self.come_back.min(after);
        }
        if let Fault::Dialect(refused) | Fault::Request(refused) = fault {
            self.untold.get_or_insert(refused);
        }
    }
}

impl From<Failures> for Error {
    /// A request that a candidate does not take, and no other does, is the client's fault.
    fn from(failures: Failures) -> Self {
        failures.untold.map_or(Self::AllFailed(failures.besides.failures), Self::Invalid)
    }
}
