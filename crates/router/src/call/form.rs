//! The forms that an answer is asked for in: whole, or in pieces.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use proto::router::{Circuit, Dialect, Receipt};
use serde_json::Value;

use super::attempt::{Answered, Besides};
use super::flow::{Flow, Reader};
use super::{Planned, chunk, now};
use crate::catalog::Candidate;
use crate::dialects::render::Answer;
use crate::dialects::whole;
use crate::providers::{Chunks, Fault, Reply, http};
use crate::tokens::Text;
use crate::usage::{self, Usage};

/// How an answer is asked for.
pub(super) trait Form: 'static {
    /// What comes first, after which no other candidate is asked.
    type Answer: Send;

    const IN_PIECES: bool;

    fn ask(
        call: &Planned,
        candidate: &Arc<Candidate>,
    ) -> impl Future<Output = Result<Self::Answer, Fault>> + Send;

    /// Pays for an answer that came too late to be given.
    fn lose(
        call: Arc<Planned>,
        answered: Answered<Self::Answer>,
    ) -> impl Future<Output = ()> + Send;
}

/// All of it at once.
pub(super) struct Whole;

/// Its first chunk, and those to come.
pub(super) struct Pieces;

impl Form for Whole {
    type Answer = Reply;

    const IN_PIECES: bool = false;

    async fn ask(call: &Planned, candidate: &Arc<Candidate>) -> Result<Reply, Fault> {
        let (provider, model) = (&candidate.provider, &candidate.model);
        if call.request.embeds() {
            let embedded = provider.embed(&call.context, model, &call.request).await;
            return embedded.map(Reply::Value);
        }
        // What comes whole says nothing until it is: only in pieces a model that thinks can be told
        // from one that hangs, early enough to ask another.
        let chunks = provider.dialect() == Dialect::ChatCompletions;
        if chunks && call.hurries(candidate) && call.request.can_come_in_chunks() {
            // Boxed: most calls carry no room for it.
            return Box::pin(put_together(call, candidate)).await.map(Reply::Value);
        }
        provider.complete(&call.context, model, &call.request, &call.groundings).await
    }

    async fn lose(call: Arc<Planned>, answered: Answered<Reply>) {
        let Answered { candidate, held, answer } = answered;
        let (_, receipt) = call.account(&candidate, answer, Besides::default()).await;
        call.ended("hedged", Some(&receipt), Some(held));
    }
}

impl Form for Pieces {
    type Answer = (Bytes, Chunks);

    const IN_PIECES: bool = true;

    async fn ask(call: &Planned, candidate: &Arc<Candidate>) -> Result<(Bytes, Chunks), Fault> {
        let timeouts = &candidate.timeouts;
        let patience = match call.hurries(candidate) {
            true => timeouts.failover().min(timeouts.first_token()),
            false => timeouts.first_token(),
        };
        let wait = call.context.time_left(patience);
        let begun = tokio::time::Instant::now();
        let (provider, model) = (&candidate.provider, &candidate.model);
        let (request, groundings) = (&call.request, &call.groundings);
        let mut chunks =
            provider.stream(&call.context, model, request, groundings, patience).await?;
        let late = |_| Fault::unheard(format!("no token within {} ms", wait.as_millis()));
        let left = wait.saturating_sub(begun.elapsed());
        let first = tokio::time::timeout(left, chunks.next()).await.map_err(late)?;
        let first = first.ok_or_else(|| Fault::unheard("the stream is empty"))??;
        chunk::Said::read(&first)?;
        Ok((first, chunks))
    }

    async fn lose(call: Arc<Planned>, answered: Answered<(Bytes, Chunks)>) {
        let Answered { candidate, held, answer: (first, rest) } = answered;
        let (besides, first_token, keep) = (Besides::default(), None, None);
        let outcome = "hedged";
        let flow = Flow { call, candidate, held, besides, first_token, outcome, keep };
        flow.run(first, rest, Reader::gone()).await;
    }
}

/// Asks for pieces, and waits for the last: nothing has gone out until then.
async fn put_together(call: &Planned, candidate: &Arc<Candidate>) -> Result<Value, Fault> {
    let (first, mut rest) = Pieces::ask(call, candidate).await?;
    let (mut whole, mut said) = (whole::Whole::default(), Text::default());
    let mut next = Some(Ok(first));
    let (mut ends, mut length, mut counted) = (0, 0, None);
    while let Some(chunk) = next {
        if chunk.is_err() && ends > 0 {
            // Not every server marks the end of a stream.
            break;
        }
        let read = chunk.and_then(|chunk| {
            length += chunk.len();
            match length > http::LARGEST {
                true => Err(Fault::Provider(http::too_large())),
                false => chunk::read(&chunk),
            }
        });
        let chunk = match read {
            Ok(chunk) => chunk,
            Err(fault) => {
                let message = fault.to_string();
                return Err(Fault::Broken { message, written: said, counted, lost: false });
            }
        };
        said.append(&usage::written(&chunk));
        counted = Usage::of(&chunk).or(counted);
        ends += usage::ends(&chunk);
        whole.push(chunk);
        next = rest.next().await;
    }
    let message = "the answer has no choices";
    whole.finish().ok_or_else(|| Fault::Broken {
        message: message.to_owned(),
        written: said,
        counted,
        lost: false,
    })
}

impl Planned {
    /// Tells whether a candidate's first token is waited for briefly only: of tiers 0 and 1, where
    /// another model can answer instead, unless one is asked besides anyway.
    fn hurries(&self, candidate: &Arc<Candidate>) -> bool {
        candidate.tier <= 1 && !self.hedges && self.another_model(candidate)
    }

    /// Tells whether a model stands behind `candidate` that may be asked instead.
    fn another_model(&self, candidate: &Arc<Candidate>) -> bool {
        let behind = self.candidates.iter().skip_while(|one| !Arc::ptr_eq(one, candidate)).skip(1);
        behind.into_iter().any(|one| !one.is_last_resort() && one.circuit() == Circuit::Closed)
    }

    /// Returns who is asked besides a candidate, after which time.
    pub(super) fn rival(
        &self,
        candidate: &Candidate,
        next: Option<&Arc<Candidate>>,
    ) -> Option<(Arc<Candidate>, Duration)> {
        if !self.hedges || candidate.is_last_resort() {
            return None;
        }
        let rival = next.filter(|next| next.circuit() == Circuit::Closed)?;
        let usual = candidate.stats().usual_first_token();
        Some((Arc::clone(rival), usual.unwrap_or(candidate.timeouts.failover())))
    }

    /// Returns a whole answer for its client, and what it cost.
    pub(super) async fn account(
        &self,
        candidate: &Candidate,
        answer: Reply,
        besides: Besides,
    ) -> (Reply, Receipt) {
        let answer = match answer {
            Reply::Value(answer) => answer,
            Reply::Passing { counted, .. } => {
                return (answer, self.receipt(candidate, besides, counted, false));
            }
        };
        let answer = Answer::new(candidate.provider.dialect(), answer, now());
        let counted = Usage::of(&answer.chat);
        let usage = match counted {
            Some(counted) => counted,
            None => self.guess(candidate, usage::written(&answer.chat)).await,
        };
        let receipt = self.receipt(candidate, besides, usage, counted.is_none());
        (Reply::Value(answer.to(&self.request)), receipt)
    }
}
