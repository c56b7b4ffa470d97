//! A call that goes to a provider's batch API, together with others of its batch.

use std::sync::Arc;

use proto::router::Call;
use serde_json::Value;
use types::{CallContext, NanoUsd};

use super::attempt::Besides;
use super::{Begun, Means, Planned, Policy, now};
use crate::Error;
use crate::catalog::Candidate;
use crate::dialects::render::Answer;
use crate::providers::Fault;
use crate::providers::batches::Batches;
use crate::request::ChatRequest;
use crate::usage::{self, Usage};

/// The batch of `auto` that is worth the wait: so many calls, and at most so many percent of the price.
const WORTH: (u32, i128) = (50, 70);

/// The names of routes that may go to tier 4 though another tier stands before it.
const ROUTES: [&str; 2] = ["auto", "batch"];

impl Planned {
    /// Reads a call that `candidate` was chosen for.
    ///
    /// # Errors
    /// [`Error::Invalid`] with a JSON pointer to the fault.
    pub(crate) fn of_batch(
        context: CallContext,
        call: Call,
        candidate: &Arc<Candidate>,
        policy: Policy,
        means: Means,
    ) -> Result<Self, Error> {
        Ok(Self {
            context,
            request: ChatRequest::parse(&call.body, call.dialect())?,
            groundings: Vec::new(),
            candidates: vec![Arc::clone(candidate)],
            reason: "a provider's batch API is cheaper".to_owned(),
            hedges: false,
            policy,
            means,
            place: None,
            begun: Begun::now(),
        })
    }

    /// Returns whose batch API answers it for less than it costs by itself, as one of `total` calls,
    /// and the most that it can cost there.
    ///
    /// That is whoever would be asked first; a route that is about prices may go to tier 4 too. What
    /// the batch API's dialect cannot say is asked by itself.
    pub(crate) fn cheaper_in_batch(&self, total: u32) -> Option<(Arc<Candidate>, NanoUsd)> {
        let first = self.candidates.first()?;
        let route = self.request.model.as_str();
        let goes = |candidate: &&Arc<Candidate>| {
            let may = candidate.tier == 4 && ROUTES.contains(&route);
            candidate.discount.is_some() && (may || Arc::ptr_eq(candidate, first))
        };
        let chosen = self.candidates.iter().find(goes)?;
        let by_itself = i128::from(self.most(first).nanos());
        let most = discounted(self.most(chosen), chosen.discount);
        let cost = i128::from(most.nanos());
        let is_worth = match route {
            "auto" => total >= WORTH.0 && cost * 100 <= by_itself * WORTH.1,
            _ => cost < by_itself,
        };
        let batches = chosen.provider.batches().filter(|_| is_worth)?;
        batches.line("", &chosen.model, &self.request).ok()?;
        Some((Arc::clone(chosen), most))
    }

    /// Writes it as a line of the provider's file.
    pub(crate) fn line(&self, batches: &dyn Batches, id: &str) -> Result<Value, Fault> {
        let candidate = self.candidates.first();
        let candidate = candidate.ok_or_else(|| Fault::Provider("nobody".to_owned()))?;
        batches.line(id, &candidate.model, &self.request)
    }

    /// Returns the most that it can cost in a batch.
    pub(crate) fn most_in_batch(&self) -> NanoUsd {
        let most =
            |candidate: &Arc<Candidate>| discounted(self.most(candidate), candidate.discount);
        self.candidates.first().map_or(NanoUsd::ZERO, most)
    }

    /// Says an answer in the client's dialect, and keeps a row of it under `id`, which is the same
    /// however often the answer is read. The batch settles what it cost, not the row.
    pub(crate) async fn answered_in_batch(
        self,
        id: String,
        made_at_ms: i64,
        answer: Value,
    ) -> (Value, NanoUsd) {
        let Some(candidate) = self.candidates.first() else { return (answer, NanoUsd::ZERO) };
        let rendered = Answer::new(candidate.provider.dialect(), answer, now());
        let counted = Usage::of(&rendered.chat);
        let usage = match counted {
            Some(counted) => counted,
            None => self.guess(candidate, usage::written(&rendered.chat)).await,
        };
        let mut receipt = self.receipt(candidate, Besides::default(), usage, counted.is_none());
        let cost = discounted(NanoUsd::new(receipt.cost_nanos), candidate.discount);
        receipt.cost_nanos = cost.nanos();
        let mut row = self.row(None, "answered", Some(&receipt));
        (row.id, row.started_at_ms, row.latency_micros) = (id, made_at_ms, 0);
        self.means.meter.record(row);
        (rendered.to(&self.request), cost)
    }
}

/// Returns what is left of a price in a batch; never less than it is.
fn discounted(price: NanoUsd, percent: Option<u32>) -> NanoUsd {
    let rest = 100_i128 - i128::from(percent.unwrap_or_default().min(100));
    let whole = i128::from(price.nanos()) * rest;
    NanoUsd::new(i64::try_from((whole + 99) / 100).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discount_is_never_more_than_it_is() {
        let of = |nanos, percent| discounted(NanoUsd::new(nanos), Some(percent)).nanos();
        assert_eq!((of(100, 50), of(101, 50), of(1, 99), of(0, 50)), (50, 51, 1, 0));
        assert_eq!(of(i64::MAX, 50), i64::MAX / 2 + 1);
    }
}
