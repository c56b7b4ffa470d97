//! One call: candidates in turn, money around each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use proto::router::stream_complete_response::Event;
use proto::router::{Call, Circuit, Estimate, EstimateResponse, Grounding, Receipt};
use runtime::transport::Peer;
use serde_json::Value;
use tokio::sync::mpsc;
use types::{CallContext, Clock as _, KeyId, NanoUsd, ReservationId, RunId, SystemClock, TeamId};

use crate::Error;
use crate::catalog::{Candidate, Catalog};
use crate::dialects::render::{Answer, Rendering};
use crate::meter::Meter;
use crate::money::{self, Held};
use crate::providers::{Chunks, Fault};
use crate::request::ChatRequest;
use crate::usage::{self, Usage};

/// A call that is known to be good, and who may serve it.
pub(crate) struct Planned {
    context: CallContext,
    request: ChatRequest,
    groundings: Vec<Grounding>,
    candidates: Vec<Arc<Candidate>>,
    /// Why they stand in this order.
    reason: String,
    budget: Peer,
    meter: Meter,
    begun: Begun,
}

/// When a call began, and when its first token came.
#[derive(Clone, Copy)]
struct Begun {
    at_ms: i64,
    at: Instant,
    first_token: Option<Duration>,
}

impl Begun {
    fn now() -> Self {
        Self { at_ms: SystemClock.now_ms(), at: Instant::now(), first_token: None }
    }
}

/// How streams are served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    pub(crate) first_token: Duration,
    /// Instead of it, where it is cheap to ask somebody else.
    pub(crate) failover: Duration,
    pub(crate) idle: Duration,
    /// A stream whose client went away is given up.
    pub(crate) cancels: bool,
}

/// Reads the call and chooses candidates, before any money is held.
pub(crate) fn plan(
    context: CallContext,
    call: Option<Call>,
    catalog: &Catalog,
    budget: Peer,
    meter: Meter,
) -> Result<Planned, Error> {
    let begun = Begun::now();
    let call = call.unwrap_or_default();
    let request = ChatRequest::parse(&call.body, call.dialect())?;
    let groundings = call.groundings;
    let chosen = catalog.select(&request.model, context.privacy, || request.need());
    let (candidates, reason, refused) = match chosen {
        Ok((candidates, reason)) => (candidates, reason, None),
        Err(refused) => (Vec::new(), String::new(), Some(refused)),
    };
    let mut planned =
        Planned { context, request, groundings, candidates, reason, budget, meter, begun };
    if let Some(refused) = refused {
        if matches!(refused, Error::NothingLocal(_)) {
            planned.ended("refused", None, None);
        }
        return Err(refused);
    }
    fitting(&mut planned.candidates, &planned.request)?;
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
    // Of the guess only, so that nothing is refused that would have gone.
    let tokens = request.input_tokens_about();
    let context = |candidate: &Arc<Candidate>| candidate.model.context_tokens.unwrap_or(u64::MAX);
    let most = candidates.iter().map(context).max().unwrap_or_default();
    candidates.retain(|candidate| context(candidate) >= tokens);
    if candidates.is_empty() {
        let model = &request.model;
        return none(format!("/messages: about {tokens} tokens, and {model:?} takes {most}"));
    }
    Ok(())
}

impl Planned {
    /// Answers whole.
    pub(crate) async fn complete(self) -> Result<(Value, Receipt), Error> {
        let (mut failures, mut untold) = (Vec::new(), None);
        for candidate in &self.candidates {
            if !allowed(candidate, &mut failures) {
                continue;
            }
            let held = match self.reserve(candidate).await {
                Ok(held) => held,
                Err(refused) => {
                    candidate.breaker().let_go();
                    self.ended("refused", None, None);
                    return Err(refused);
                }
            };
            let asked_at = Instant::now();
            match self.ask(candidate).await {
                Ok(answer) => {
                    candidate.breaker().succeeded();
                    candidate.stats().answered(asked_at.elapsed());
                    let rendered = Answer::new(candidate.provider.dialect(), answer);
                    let counted = Usage::of(&rendered.chat);
                    let usage = counted.unwrap_or_else(|| self.estimate(rendered.bytes()));
                    let receipt = self.receipt(candidate, failures, usage, counted.is_none());
                    self.ended("answered", Some(&receipt), Some(held));
                    return Ok((rendered.to(&self.request, now()), receipt));
                }
                Err(Fault::Request(message)) => {
                    candidate.breaker().succeeded();
                    self.ended("invalid", None, None);
                    return Err(Error::Invalid(message));
                }
                Err(fault) => {
                    self.failed(candidate, fault, &mut failures, &mut untold);
                    held.release().await;
                }
            }
        }
        self.ended("failed", None, None);
        Err(nobody(failures, untold))
    }

    async fn ask(&self, candidate: &Candidate) -> Result<Value, Fault> {
        let (provider, model) = (&candidate.provider, &candidate.model);
        match self.request.embeds() {
            true => provider.embed(&self.context, model, &self.request).await,
            false => provider.complete(&self.context, model, &self.request, &self.groundings).await,
        }
    }

    /// Answers in pieces: waits for the first, so that until then the next candidate can be tried,
    /// and leaves the rest to a task that goes on when the client goes away.
    pub(crate) async fn stream(
        mut self,
        streams: Streams,
        pieces: mpsc::Sender<Event>,
    ) -> Result<(), Error> {
        let (mut failures, mut untold) = (Vec::new(), None);
        for candidate in self.candidates.clone() {
            if !allowed(&candidate, &mut failures) {
                continue;
            }
            let held = match self.reserve(&candidate).await {
                Ok(held) => held,
                Err(refused) => {
                    candidate.breaker().let_go();
                    self.ended("refused", None, None);
                    return Err(refused);
                }
            };
            let asked_at = Instant::now();
            let hurries = candidate.tier <= 1 && self.another_model(&candidate);
            let patience = match hurries {
                true => streams.failover.min(streams.first_token),
                false => streams.first_token,
            };
            let wait = self.context.time_left(patience);
            let first = tokio::time::timeout(wait, self.first(&candidate)).await;
            let late = || Fault::Provider(format!("no token within {} ms", wait.as_millis()));
            match first.unwrap_or_else(|_| Err(late())) {
                Ok((first, rest)) => {
                    candidate.breaker().succeeded();
                    candidate.stats().answered(asked_at.elapsed());
                    let started = self.receipt(&candidate, failures, Usage::default(), false);
                    self.begun.first_token = Some(self.begun.at.elapsed());
                    let patience = streams.idle;
                    let mut client = Reader { pieces, patience, gone: false };
                    client.send(Event::Started(started.clone())).await;
                    let cancels = streams.cancels;
                    let flow = Flow { planned: self, candidate, held, started, cancels };
                    tokio::spawn(flow.run(first, rest, client));
                    return Ok(());
                }
                Err(Fault::Request(message)) => {
                    candidate.breaker().succeeded();
                    self.ended("invalid", None, None);
                    return Err(Error::Invalid(message));
                }
                Err(fault) => {
                    self.failed(&candidate, fault, &mut failures, &mut untold);
                    held.release().await;
                }
            }
        }
        self.ended("failed", None, None);
        Err(nobody(failures, untold))
    }

    /// Notes why a candidate failed; a request that its dialect cannot say is the client's to know.
    fn failed(
        &self,
        candidate: &Candidate,
        fault: Fault,
        failures: &mut Vec<String>,
        untold: &mut Option<String>,
    ) {
        let failure = format!("{}: {fault}", candidate.name());
        tracing::warn!(failure, "a candidate failed");
        failures.push(failure);
        let now = Instant::now();
        if !matches!(fault, Fault::Dialect(_)) {
            candidate.stats().failed();
        }
        match fault {
            // It was not asked, so nothing is known of it.
            Fault::Dialect(refused) => {
                untold.get_or_insert(refused);
                candidate.breaker().let_go();
            }
            Fault::Busy { after, .. } => candidate.breaker().failed(now, Some(after)),
            // Its caller had no time left for it.
            Fault::Provider(_) if self.context.deadline.is_some_and(|until| until <= now) => {
                candidate.breaker().let_go();
            }
            Fault::Provider(_) | Fault::Request(_) => candidate.breaker().failed(now, None),
        }
    }

    /// Tells whether a model stands behind `candidate` that may be asked instead.
    fn another_model(&self, candidate: &Arc<Candidate>) -> bool {
        let behind = self.candidates.iter().skip_while(|one| !Arc::ptr_eq(one, candidate)).skip(1);
        behind.into_iter().any(|one| !one.is_last_resort() && one.circuit() == Circuit::Closed)
    }

    async fn first(&self, candidate: &Candidate) -> Result<(Bytes, Chunks), Fault> {
        let asked = candidate.provider.stream(
            &self.context,
            &candidate.model,
            &self.request,
            &self.groundings,
        );
        let mut chunks = asked.await?;
        match chunks.next().await {
            Some(Ok(chunk)) => {
                read(&chunk)?;
                Ok((chunk, chunks))
            }
            Some(Err(fault)) => Err(fault),
            None => Err(Fault::Provider("the stream is empty".to_owned())),
        }
    }

    /// Tells what each candidate could cost, and asks nobody.
    pub(crate) fn estimate_all(&self) -> EstimateResponse {
        let estimate = |candidate: &Arc<Candidate>| Estimate {
            provider: candidate.provider_name.clone(),
            model: candidate.model.name.clone(),
            tier: candidate.tier,
            input_tokens: self.estimate(0).input,
            max_output_tokens: self.request.all_output_tokens(candidate.model.max_output_tokens),
            min_cost_nanos: self.estimate(0).cost(&candidate.price).nanos(),
            max_cost_nanos: self.most(candidate).nanos(),
            circuit: candidate.circuit().into(),
        };
        let candidates = self.candidates.iter().map(estimate).collect();
        let (route, reason) = (self.request.model.clone(), self.reason.clone());
        EstimateResponse { route, candidates, reason }
    }

    /// Sets the most that the candidate can cost aside.
    async fn reserve(&self, candidate: &Candidate) -> Result<Held, Error> {
        money::reserve(&self.context, &self.budget, self.most(candidate)).await
    }

    /// Returns the most that the candidate can cost.
    fn most(&self, candidate: &Candidate) -> NanoUsd {
        let (input, price) = (self.request.input_tokens, &candidate.price);
        let output = self.request.all_output_tokens(candidate.model.max_output_tokens);
        // All that is read may be written to a cache, and all that is written a thought.
        let stored = if price.stored > price.input { input } else { 0 };
        let reasoning = if price.reasoning > price.output { output } else { 0 };
        Usage { input, cached: 0, stored, output, reasoning }.cost(price)
    }

    /// Guesses what a provider did not say.
    fn estimate(&self, output_bytes: usize) -> Usage {
        let input = self.request.input_tokens_about();
        Usage { input, output: usage::guess(output_bytes), ..Usage::default() }
    }

    fn receipt(
        &self,
        candidate: &Candidate,
        failures: Vec<String>,
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
            failures,
            cached_tokens: usage.cached,
            cache_write_tokens: usage.stored,
            reasoning_tokens: usage.reasoning,
            reason: self.reason.clone(),
        }
    }

    /// Keeps a row of how it ended; what was held is settled with it.
    fn ended(&self, outcome: &str, receipt: Option<&Receipt>, held: Option<Held>) {
        let context = &self.context;
        let text = |id: Option<&str>| id.unwrap_or_default().to_owned();
        let receipt = receipt.cloned().unwrap_or_default();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.meter.record(proto::budget::Usage {
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
            first_token_micros: self.begun.first_token.map_or(0, micros),
            outcome: outcome.to_owned(),
            privacy: context.privacy.as_str().to_owned(),
            prompt_version: self.request.prompt_version.clone(),
            reason: self.reason.clone(),
            request_id: context.request_id.to_string(),
            reservation_id: held.map(|held| held.hand_over().to_string()).unwrap_or_default(),
        });
    }
}

/// The client's end of a stream.
struct Reader {
    pieces: mpsc::Sender<Event>,
    patience: Duration,
    gone: bool,
}

impl Reader {
    /// Passes a piece on. A client that is gone, or takes nothing for as long as a provider may say
    /// nothing, gets no more of it.
    async fn send(&mut self, piece: Event) {
        if !self.gone {
            self.gone = self.pieces.send_timeout(piece, self.patience).await.is_err();
        }
    }
}

/// A stream under way.
struct Flow {
    planned: Planned,
    candidate: Arc<Candidate>,
    held: Held,
    started: Receipt,
    /// It is given up when the client goes away.
    cancels: bool,
}

impl Flow {
    /// Passes chunks on until the end. The client may be gone: the rest is read all the same, for
    /// the usage that comes last.
    async fn run(self, first: Bytes, mut rest: Chunks, mut client: Reader) {
        let (mut counted, mut bytes, mut broken, mut cancelled) = (None, 0, None, false);
        let speaks = self.candidate.provider.dialect();
        let mut rendering = Rendering::new(speaks, &self.planned.request, now());
        let mut next = Some(Ok(first));
        while let Some(chunk) = next {
            let read = chunk.and_then(|chunk| Ok((read(&chunk)?, chunk)));
            match read {
                Ok((value, chunk)) => {
                    let chat = rendering.chat(value);
                    let told = Usage::of(&chat);
                    counted = told.or(counted);
                    bytes += usage::written(&chat);
                    let only_usage =
                        told.is_some() && chat["choices"].as_array().is_none_or(Vec::is_empty);
                    let hidden = only_usage && !self.planned.request.wants_usage;
                    for chunk in rendering.push(chunk, &chat, hidden) {
                        client.send(Event::Chunk(chunk)).await;
                    }
                }
                Err(fault) => {
                    broken = Some(format!("{} failed: {fault}", self.candidate.name()));
                    break;
                }
            }
            if client.gone && self.cancels {
                cancelled = true;
                break;
            }
            next = rest.next().await;
        }
        let usage = counted.unwrap_or_else(|| self.planned.estimate(bytes));
        let failures = self.started.failures;
        let receipt = self.planned.receipt(&self.candidate, failures, usage, counted.is_none());
        let outcome = match (&broken, cancelled) {
            (Some(_), _) => "broken",
            (None, true) => "cancelled",
            (None, false) => "answered",
        };
        self.planned.ended(outcome, Some(&receipt), Some(self.held));
        if broken.is_none() {
            for chunk in rendering.finish() {
                client.send(Event::Chunk(chunk)).await;
            }
        }
        let last = broken.map_or(Event::Finished(receipt), Event::Failed);
        client.send(last).await;
    }
}

/// Returns the time in seconds since 1970.
fn now() -> i64 {
    SystemClock.now_ms() / 1000
}

fn read(chunk: &[u8]) -> Result<Value, Fault> {
    let value: Value = serde_json::from_slice(chunk)
        .map_err(|fault| Fault::Provider(format!("a chunk is not JSON: {fault}")))?;
    match value.get("error") {
        None | Some(Value::Null) => Ok(value),
        Some(error) => {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("an error");
            Err(Fault::Provider(message.to_owned()))
        }
    }
}

/// Asks a candidate's circuit breaker; one that is open is a failure that takes no time.
fn allowed(candidate: &Candidate, failures: &mut Vec<String>) -> bool {
    let allowed = candidate.breaker().allow(Instant::now());
    if !allowed {
        failures.push(format!("{}: not asked, it is left alone for now", candidate.name()));
    }
    allowed
}

/// Says why nobody answered: a request that no candidate's dialect can say is the client's fault.
fn nobody(failures: Vec<String>, untold: Option<String>) -> Error {
    untold.map_or(Error::AllFailed(failures), Error::Invalid)
}
