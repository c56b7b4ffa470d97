//! A second candidate is asked while the first is late; whoever answers first is heard.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tracing::Instrument as _;
use types::NanoUsd;

use super::Planned;
use super::attempt::{Answered, Missed, Why};
use super::form::Form;
use crate::catalog::Candidate;

/// How a race ended.
pub(super) struct Race<Answer> {
    /// Who answered first, if anybody did.
    pub(super) winner: Option<Answered<Answer>>,
    /// Those that did not answer before.
    pub(super) missed: Vec<Missed>,
    /// The most that the loser can cost, which is not done yet.
    pub(super) at_stake: NanoUsd,
}

/// Asks `first`, and `rival` besides when `first` has not answered after `wait`. Whoever answers later
/// is paid for and not heard.
///
/// A rival that there is no money for while `first` runs was not asked: it has its turn behind it.
pub(super) async fn race<F: Form>(
    call: &Arc<Planned>,
    first: Arc<Candidate>,
    rival: Arc<Candidate>,
    wait: Duration,
) -> Race<F::Answer> {
    let mut asked = FuturesUnordered::new();
    asked.push(attempt::<F>(call, Arc::clone(&first)));
    let (mut waiting, mut missed) = (Some(Arc::clone(&rival)), Vec::new());
    let mut late = pin!(tokio::time::sleep(wait));
    loop {
        tokio::select! {
            done = asked.next() => match done {
                Some(Ok(answered)) => {
                    let is_first = Arc::ptr_eq(&answered.candidate, &first);
                    let loser = if is_first { &rival } else { &first };
                    let at_stake = if asked.is_empty() { NanoUsd::ZERO } else { call.most(loser) };
                    for loser in asked {
                        let lost = lose::<F>(Arc::clone(call), loser).in_current_span();
                        call.means.calls.spawn(lost);
                    }
                    return Race { winner: Some(answered), missed, at_stake };
                }
                Some(Err(Missed { candidate, why: Why::Refused(_) }))
                    if !asked.is_empty() && Arc::ptr_eq(&candidate, &rival) => {}
                Some(Err(one)) => missed.push(one),
                None => return Race { winner: None, missed, at_stake: NanoUsd::ZERO },
            },
            () = &mut late, if waiting.is_some() => {
                asked.extend(waiting.take().map(|rival| attempt::<F>(call, rival)));
            }
        }
    }
}

type Attempt<F> = BoxFuture<'static, Result<Answered<<F as Form>::Answer>, Missed>>;

fn attempt<F: Form>(call: &Arc<Planned>, candidate: Arc<Candidate>) -> Attempt<F> {
    let call = Arc::clone(call);
    Box::pin(async move { call.attempt::<F>(&candidate).await })
}

/// Waits for an answer that nobody waits for, because it has its cost.
async fn lose<F: Form>(call: Arc<Planned>, loser: Attempt<F>) {
    if let Ok(answered) = loser.await {
        F::lose(call, answered).await;
    }
}
