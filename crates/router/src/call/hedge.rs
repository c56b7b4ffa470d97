//! A second candidate is asked while the first is late; whoever answers first is heard.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tracing::Instrument as _;

use super::Planned;
use super::attempt::{Answered, Missed};
use super::form::Form;
use crate::catalog::Candidate;

/// Asks `first`, and `rival` besides when `first` has not answered after `wait`. Whoever answers later
/// is paid for and not heard.
///
/// # Errors
/// Those that were asked, when none of them answered.
pub(super) async fn race<F: Form>(
    call: &Arc<Planned>,
    first: Arc<Candidate>,
    rival: Arc<Candidate>,
    wait: Duration,
) -> Result<Answered<F::Answer>, Vec<Missed>> {
    let mut asked = FuturesUnordered::new();
    asked.push(attempt::<F>(call, first));
    let (mut rival, mut missed) = (Some(rival), Vec::new());
    let mut late = pin!(tokio::time::sleep(wait));
    loop {
        tokio::select! {
            done = asked.next() => match done {
                Some(Ok(answered)) => {
                    for loser in asked {
                        tokio::spawn(lose::<F>(Arc::clone(call), loser).in_current_span());
                    }
                    return Ok(answered);
                }
                Some(Err(one)) => missed.push(one),
                None => return Err(missed),
            },
            () = &mut late, if rival.is_some() => {
                asked.extend(rival.take().map(|rival| attempt::<F>(call, rival)));
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
