//! One call, from its plan to its row: who may serve it, what it may cost, what became of it.

mod attempt;
mod batched;
mod chunk;
mod embed;
mod flow;
mod form;
mod hedge;
mod kept;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::router::stream_complete_response::Event;
use proto::router::{Estimate, EstimateResponse, Grounding, Kept, Receipt};
use runtime::transport::Peer;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use types::{
    CallContext, Classify as _, Clock as _, ErrorKind, KeyId, NanoUsd, Privacy, ReservationId,
    RunId, SystemClock, TeamId,
};

use self::attempt::{Answered, Besides};
use self::flow::{Flow, Reader};
use self::form::{Pieces, Whole};
use crate::Error;
use crate::cache::{Form, Place};
use crate::catalog::{Candidate, Catalog, Chosen};
use crate::config::{OnDisconnect, Retries};
use crate::conversation::Keep;
use crate::meter::Meter;
use crate::money::{self, Held};
use crate::providers::Reply;
use crate::request::ChatRequest;
use crate::tokens::{Text, Tokens};
use crate::usage::Usage;

/// A call that is known to be good, and who may serve it.
pub(crate) struct Planned {
    context: CallContext,
    request: ChatRequest,
    groundings: Vec<Grounding>,
    candidates: Vec<Arc<Candidate>>,
    /// Why they stand in this order.
    reason: String,
    /// A second is asked while the first is late.
    hedges: bool,
    policy: Policy,
    means: Means,
    /// Where its answer is kept, if it is.
    place: Option<Place>,
    begun: Begun,
}

/// What every call needs. Clones share all of it.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) budget: Peer,
    pub(crate) meter: Meter,
    pub(crate) tokens: Tokens,
    /// What goes on though nobody waits for it: it is paid before the process ends.
    pub(crate) calls: TaskTracker,
}

/// When a call began.
#[derive(Clone, Copy)]
struct Begun {
    at_ms: i64,
    at: Instant,
}

impl Begun {
    fn now() -> Self {
        Self { at_ms: SystemClock.now_ms(), at: Instant::now() }
    }
}

/// What an operator decides for every call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) on_disconnect: OnDisconnect,
    pub(crate) free_when_down: bool,
    pub(crate) retries: Retries,
}

/// Chooses candidates, before any money is held.
pub(crate) async fn plan(
    context: CallContext,
    request: ChatRequest,
    groundings: Vec<Grounding>,
    catalog: &Catalog,
    means: Means,
) -> Result<Planned, Error> {
    let begun = Begun::now();
    let (chosen, refused) = match catalog.select(&request.model, &context, || request.need()) {
        Ok(chosen) => (chosen, None),
        Err(refused) => (Chosen::default(), Some(refused)),
    };
    let Chosen { candidates, reason, hedges } = chosen;
    let mut planned = Planned {
        context,
        request,
        groundings,
        candidates,
        reason,
        hedges,
        policy: catalog.policy,
        means,
        place: None,
        begun,
    };
    if let Some(refused) = refused {
        if matches!(refused, Error::NothingLocal(_)) {
            planned.ended("refused", None, None);
        }
        return Err(refused);
    }
    if let (Privacy::Private, Some(place)) = (planned.context.privacy, &planned.request.elsewhere) {
        // Who answers would fetch it, and say by its address whatever that says.
        let fault = format!("{place}: what stands elsewhere is not fetched for a private request");
        return Err(Error::Invalid(fault));
    }
    fitting(&mut planned.candidates, &planned.request)?;
    planned.fit_context().await?;
    Ok(planned)
}

/// Keeps the candidates that take what the request holds.
fn fitting(candidates: &mut Vec<Arc<Candidate>>, request: &ChatRequest) -> Result<(), Error> {
    let none = |fault: String| Err(Error::Invalid(fault));
    candidates.retain(|candidate| candidate.model.embeddings == request.embeds());
    if candidates.is_empty() {
        let does = if request.embeds() { "embeds nothing" } else { "only embeds" };
        return none(format!("/model: {:?} {does}", request.model));
    }
    if let Some(image) = &request.image {
        candidates.retain(|candidate| candidate.model.vision);
        if candidates.is_empty() {
            return none(format!("{image}: a picture, and {:?} takes none", request.model));
        }
    }
    for asked in &request.extras {
        let takes = |candidate: &Arc<Candidate>| candidate.takes(asked.extra);
        candidates.retain(takes);
        if candidates.is_empty() {
            return none(asked.refusal(&request.model));
        }
    }
    Ok(())
}

impl Planned {
    /// Keeps the candidates whose context takes the request. It is counted only when its bytes do not
    /// say that all do.
    async fn fit_context(&mut self) -> Result<(), Error> {
        let takes = |candidate: &Candidate| candidate.model.context_tokens.unwrap_or(u64::MAX);
        let size = &self.request.size;
        if self.candidates.iter().all(|one| takes(one) >= size.most(&one.model.name)) {
            return Ok(());
        }
        let tokens = self.input().await;
        // Some vocabularies make less of a text: nothing is refused that would have gone.
        let least = tokens - tokens / 8;
        let most = self.candidates.iter().map(|one| takes(one)).max().unwrap_or_default();
        self.candidates.retain(|one| takes(one) >= least);
        if self.candidates.is_empty() {
            let (at, model) = (self.request.place(), &self.request.model);
            let fault = format!("{at}: about {tokens} tokens, and {model:?} takes {most}");
            return Err(Error::Invalid(fault));
        }
        Ok(())
    }

    /// Answers whole, and keeps the response.
    pub(crate) async fn complete(
        self: Arc<Self>,
        keep: Option<Keep>,
    ) -> Result<(Bytes, Receipt), Error> {
        if let Some(kept) = self.kept(Form::Whole).await {
            return Ok((kept.chunks.concat().into(), kept.receipt));
        }
        let (candidate, answer, receipt) = self.fresh().await?;
        let body = match answer {
            Reply::Passing { body, .. } => body,
            Reply::Value(mut answer) => {
                if let Some(keep) = keep {
                    keep.keep(&mut answer).await;
                }
                answer.to_string().into()
            }
        };
        if let Some(mut recording) = self.record(Form::Whole, &candidate) {
            recording.push(&body);
            recording.keep(&receipt).await;
        }
        Ok((body, receipt))
    }

    /// Returns the whole answer of a model that is asked now, with a row of it.
    async fn fresh(self: &Arc<Self>) -> Result<(Arc<Candidate>, Reply, Receipt), Error> {
        let (answered, besides) = self.answered::<Whole>().await?;
        let Answered { candidate, held, answer } = answered;
        let (answer, receipt) = self.account(&candidate, answer, besides).await;
        self.ended("answered", Some(&receipt), Some(held));
        Ok((candidate, answer, receipt))
    }

    /// Answers in pieces: waits for the first, so that until then the next candidate can be tried,
    /// and leaves the rest to a task that goes on when the client goes away.
    pub(crate) async fn stream(
        self: Arc<Self>,
        keep: Option<Keep>,
        pieces: mpsc::Sender<Vec<Event>>,
    ) -> Result<(), Error> {
        if let Some(kept) = self.kept(Form::Pieces).await {
            let patience = self.candidates.first().map_or(Duration::MAX, |c| c.timeouts.idle());
            self.means.calls.spawn(kept::replay(kept, Reader::new(pieces, patience)));
            return Ok(());
        }
        let (answered, besides) = self.answered::<Pieces>().await?;
        let Answered { candidate, held, answer: (first, rest) } = answered;
        let first_token = Some(self.begun.at.elapsed());
        let started = self.receipt(&candidate, besides.clone(), Usage::default(), false);
        let mut client = Reader::new(pieces, candidate.timeouts.idle());
        client.recording = self.record(Form::Pieces, &candidate);
        client.send(vec![Event::Started(started)]).await;
        let outcome = "answered";
        let calls = self.means.calls.clone();
        let flow = Flow { call: self, candidate, held, besides, first_token, outcome, keep };
        calls.spawn(flow.run(first, rest, client));
        Ok(())
    }

    /// Tells what each candidate could cost, and asks nobody.
    pub(crate) async fn estimate_all(&self) -> EstimateResponse {
        let input = Usage { input: self.input().await, ..Usage::default() };
        let estimate = |candidate: &Arc<Candidate>| Estimate {
            provider: candidate.provider_name.clone(),
            model: candidate.model.name.clone(),
            tier: candidate.tier,
            input_tokens: input.input,
            max_output_tokens: self.request.all_output_tokens(candidate.model.max_output_tokens),
            min_cost_nanos: input.cost(&candidate.price).nanos(),
            max_cost_nanos: self.most(candidate).nanos(),
            circuit: candidate.circuit().into(),
            context_tokens: candidate.model.context_tokens.unwrap_or_default(),
        };
        let candidates = self.candidates.iter().map(estimate).collect();
        let (route, reason) = (self.request.model.clone(), self.reason.clone());
        EstimateResponse { route, candidates, reason }
    }

    /// Sets the most that the candidate can cost aside.
    async fn reserve(&self, candidate: &Candidate) -> Result<Held, Error> {
        let (amount, at_most) = (self.most(candidate), candidate.timeouts.total());
        let free = self.policy.free_when_down && candidate.is_free_here();
        let reserved = money::reserve(&self.context, &self.means.budget, amount, at_most).await;
        match reserved {
            Err(fault) if free && fault.kind() == ErrorKind::Unavailable => {
                tracing::warn!(%fault, candidate = candidate.name(), "answered without the ledger");
                Ok(Held::nothing(&self.context, &self.means.budget))
            }
            reserved => reserved,
        }
    }

    /// Returns the most that the candidate can cost.
    fn most(&self, candidate: &Candidate) -> NanoUsd {
        let (size, price) = (&self.request.size, &candidate.price);
        let input = size.most(&candidate.model.name);
        let output = self.request.all_output_tokens(candidate.model.max_output_tokens);
        // All that is read may be written to a cache, and all that is written a thought.
        let long = size.for_an_hour;
        let stored = if long || price.stored > price.input { input } else { 0 };
        let stored_long = if long { stored } else { 0 };
        let reasoning = if price.reasoning > price.output { output } else { 0 };
        Usage { input, cached: 0, stored, stored_long, output, reasoning }.cost(price)
    }

    /// Returns about how many tokens the request has.
    async fn input(&self) -> u64 {
        self.request.count(&self.means.tokens).await
    }

    /// Estimates what a provider did not say, of what it wrote: no more than was set aside for it.
    async fn guess(&self, candidate: &Candidate, written: Text) -> Usage {
        let most = self.request.all_output_tokens(candidate.model.max_output_tokens);
        let output = self.means.tokens.count(written).await.min(most);
        let input = self.input().await.min(self.request.size.most(&candidate.model.name));
        Usage { input, output, ..Usage::default() }
    }

    /// Estimates, without asking a tokenizer, what a provider has read that wrote nothing.
    fn guess_unheard(&self, candidate: &Candidate) -> Usage {
        let size = &self.request.size;
        Usage { input: size.guess().min(size.most(&candidate.model.name)), ..Usage::default() }
    }

    fn receipt(
        &self,
        candidate: &Candidate,
        besides: Besides,
        usage: Usage,
        estimated: bool,
    ) -> Receipt {
        Receipt {
            route: self.request.model.clone(),
            provider: candidate.provider_name.clone(),
            model: candidate.model.name.clone(),
            tier: candidate.tier,
            input_tokens: usage.input,
            output_tokens: usage.output,
            estimated,
            cost_nanos: usage.cost(&candidate.price).nanos(),
            failures: besides.failures,
            spent_besides_nanos: besides.spent.nanos(),
            at_stake_nanos: besides.at_stake.nanos(),
            cached_tokens: usage.cached,
            cache_write_tokens: usage.stored,
            reasoning_tokens: usage.reasoning,
            similarity: 0.0,
            reason: self.reason.clone(),
            kept: self.place.as_ref().map_or(Kept::Unspecified, |_| Kept::Miss).into(),
        }
    }

    /// Keeps a row of how it ended; what was held is settled with it.
    fn ended(&self, outcome: &str, receipt: Option<&Receipt>, held: Option<Held>) {
        self.ended_after(None, outcome, receipt, held);
    }

    /// As [`Planned::ended`], of a stream whose first token came after so long.
    fn ended_after(
        &self,
        first_token: Option<Duration>,
        outcome: &str,
        receipt: Option<&Receipt>,
        held: Option<Held>,
    ) {
        let mut row = self.row(first_token, outcome, receipt);
        row.reservation_id = held.map(|held| held.hand_over().to_string()).unwrap_or_default();
        self.means.meter.record(row);
    }

    /// Returns a row of how it ended, which settles nothing.
    fn row(
        &self,
        first_token: Option<Duration>,
        outcome: &str,
        receipt: Option<&Receipt>,
    ) -> proto::budget::Usage {
        let context = &self.context;
        let text = |id: Option<&str>| id.unwrap_or_default().to_owned();
        let receipt = receipt.cloned().unwrap_or_default();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        proto::budget::Usage {
            id: ReservationId::generate().to_string(),
            tenant: context.tenant.to_string(),
            team: text(context.team.as_ref().map(TeamId::as_str)),
            user: context.user.to_string(),
            key: text(context.key.as_ref().map(KeyId::as_str)),
            run: text(context.run.as_ref().map(RunId::as_str)),
            route: self.request.model.clone(),
            provider: receipt.provider,
            model: receipt.model,
            tier: receipt.tier,
            input_tokens: receipt.input_tokens,
            cached_tokens: receipt.cached_tokens,
            cache_write_tokens: receipt.cache_write_tokens,
            output_tokens: receipt.output_tokens,
            reasoning_tokens: receipt.reasoning_tokens,
            estimated: receipt.estimated,
            cost_nanos: receipt.cost_nanos,
            started_at_ms: self.begun.at_ms,
            latency_micros: micros(self.begun.at.elapsed()),
            first_token_micros: first_token.map_or(0, micros),
            outcome: outcome.to_owned(),
            privacy: context.privacy.as_str().to_owned(),
            prompt_version: self.request.prompt_version.clone(),
            reason: self.reason.clone(),
            request_id: context.request_id.to_string(),
            reservation_id: String::new(),
        }
    }
}

/// Returns the time in seconds since 1970.
fn now() -> i64 {
    SystemClock.now_ms() / 1000
}
