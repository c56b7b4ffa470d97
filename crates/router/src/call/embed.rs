//! A question's vector, bought as every answer is.

use std::sync::Arc;

use futures::FutureExt as _;

use super::{Planned, plan};
use crate::cache::Question;
use crate::outlive::outlive;
use crate::providers::Reply;

impl Planned {
    /// Asks for a question's vector, and waits for it no longer than the operator says: without one
    /// there is merely no answer of another question. One that comes later is paid for, and the answer
    /// may still be noted beside it.
    pub(super) async fn embed(&self, question: &Arc<Question>) {
        let Some(turn) = question.turn() else { return };
        let Some(call) = self.embedding(question).await else { return };
        let asked = Arc::clone(question);
        let ask = async move {
            if let Ok((candidate, Reply::Value(answer), _)) = call.fresh().await {
                asked.learn(candidate.name(), &answer);
            }
            drop(turn);
        };
        // What is late goes on, and is paid.
        let asked = outlive(&self.means.calls, ask.boxed());
        let _ = tokio::time::timeout(self.context.time_left(question.wait()), asked).await;
    }

    /// Plans the call for a question's vector: in the caller's name, and as private.
    async fn embedding(&self, question: &Question) -> Option<Arc<Self>> {
        let (request, catalog) = question.embeddings().ok()?;
        let context = self.context.clone();
        // Nobody asked for it: where none may be asked, there is no call, and none that was refused.
        catalog.select(&request.model, &context, || request.need()).ok()?;
        let call = plan(context, request, Vec::new(), catalog, self.means.clone()).await;
        call.inspect_err(|fault| tracing::warn!(%fault, "a question is not embedded"))
            .ok()
            .map(Arc::new)
    }
}
