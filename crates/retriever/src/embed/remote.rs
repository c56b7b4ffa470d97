//! A model behind the router, which knows its provider, its price, and whether it is on this machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use proto::router::router_service_client::RouterServiceClient;
use proto::router::{Call, CompleteRequest, Dialect, EstimateRequest};
use runtime::transport::Peer;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tonic::Status;
use types::{CallContext, ErrorKind};

use super::{Embedder, Fault, Side};

/// The longest vector that is believed.
const MOST_NUMBERS: usize = 16_384;

/// A route or a model of the router that embeds.
pub(crate) struct Remote {
    router: Peer,
    route: String,
    /// So many texts are asked for at once.
    batch: usize,
    /// The one model that the route leads to, `provider/model`.
    model: OnceCell<Arc<str>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Remote {
    pub(crate) fn new(router: Peer, route: String, batch: usize) -> Self {
        Self { router, route, batch, model: OnceCell::new() }
    }

    fn router(&self) -> RouterServiceClient<Peer> {
        RouterServiceClient::new(self.router.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Asks the router which model the route leads to. Two would give two kinds of vectors, so that no other model
    /// can step in for one that is away.
    async fn ask_for_model(&self, context: &CallContext) -> Result<Arc<str>, Fault> {
        let body = json!({ "model": self.route, "input": "x" });
        // Nothing of the caller's is in it, and the router asks nobody: what the operator configured does not
        // depend on how private a call is.
        let own = CallContext::new(context.tenant.clone(), context.user.clone());
        let estimate = runtime::context::request(&own, EstimateRequest { call: call(&body) });
        let told = self.router().estimate(estimate).await.map_err(|status| {
            // The request is good: what is wrong is the configuration, or the router's being away.
            self.refused(match runtime::error::kind_of(&status) {
                ErrorKind::Unavailable => status,
                _ => runtime::error::status(ErrorKind::Unavailable, status.message()),
            })
        })?;
        let candidates = told.into_inner().candidates;
        let names: BTreeSet<String> =
            candidates.iter().map(|one| format!("{}/{}", one.provider, one.model)).collect();
        match names.len() {
            1 => Ok(names.into_iter().collect::<String>().into()),
            _ => {
                let names = names.into_iter().collect::<Vec<_>>().join(", ");
                let fault = format!(
                    "leads to more than one model ({names}), whose vectors cannot be compared: name one of them"
                );
                Err(self.refused(runtime::error::status(ErrorKind::Unavailable, fault)))
            }
        }
    }

    async fn ask(
        &self,
        context: &CallContext,
        model: &str,
        texts: &[String],
    ) -> Result<Vec<Vec<f32>>, Fault> {
        let body = json!({ "model": model, "input": texts, "encoding_format": "float" });
        // One request of a client may need many of these: its name for itself is not theirs.
        let own = CallContext { idempotency_key: None, ..context.clone() };
        let complete = runtime::context::request(&own, CompleteRequest { call: call(&body) });
        let answer = self.router().complete(complete).await;
        let answer = answer.map_err(|status| self.refused(status))?.into_inner();
        let receipt = answer.receipt.unwrap_or_default();
        let asked = format!("{}/{}", receipt.provider, receipt.model);
        if asked != model {
            return Err(self.broken(format!("{asked:?} answered, {model:?} was asked")));
        }
        vectors(&answer.body, texts.len()).map_err(|what| self.broken(what))
    }

    fn broken(&self, what: String) -> Fault {
        Fault::Broken { model: self.route.clone(), what }
    }

    fn refused(&self, status: Status) -> Fault {
        Fault::Refused { model: self.route.clone(), status }
    }
}

#[async_trait]
impl Embedder for Remote {
    async fn identity(&self, context: &CallContext) -> Result<Arc<str>, Fault> {
        self.model.get_or_try_init(|| self.ask_for_model(context)).await.cloned()
    }

    async fn embed(
        &self,
        context: &CallContext,
        texts: Vec<String>,
        _side: Side,
    ) -> Result<Vec<Vec<f32>>, Fault> {
        let model = self.identity(context).await?;
        let mut vectors = Vec::with_capacity(texts.len());
        for some in texts.chunks(self.batch) {
            vectors.extend(self.ask(context, &model, some).await?);
        }
        Ok(vectors)
    }

    fn is_bought(&self) -> bool {
        true
    }

    fn at_once(&self) -> usize {
        self.batch
    }
}

fn call(body: &Value) -> Option<Call> {
    let body = body.to_string().into();
    Some(Call { body, groundings: Vec::new(), dialect: Dialect::Embeddings.into() })
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// Reads the vectors of so many texts: all of one length, of finite numbers, each text's own. Pure.
fn vectors(body: &[u8], texts: usize) -> Result<Vec<Vec<f32>>, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|fault| fault.to_string())?;
    let mut vectors = vec![Vec::new(); texts];
    let dimension = answer.data.first().map_or(0, |item| item.embedding.len());
    if answer.data.len() != texts || !(1..=MOST_NUMBERS).contains(&dimension) {
        let count = answer.data.len();
        return Err(format!("{count} vectors of {dimension} numbers came for {texts} texts"));
    }
    for (item, at) in answer.data.into_iter().zip(0..) {
        let at = item.index.unwrap_or(at);
        let vector = item.embedding;
        if vector.len() != dimension || !vector.iter().all(|number| number.is_finite()) {
            return Err(format!("the vector of text {at} has not {dimension} finite numbers"));
        }
        match vectors.get_mut(at) {
            Some(place) if place.is_empty() => *place = vector,
            _ => return Err(format!("there is no text {at}, or it has two vectors")),
        }
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_own_vector_or_nothing_is_believed() {
        let read =
            |data: Value, texts| vectors(json!({ "data": data }).to_string().as_bytes(), texts);
        let item =
            |index: usize, embedding: Value| json!({ "index": index, "embedding": embedding });
        let swapped = json!([item(1, json!([3, 4])), item(0, json!([1, 2]))]);
        assert_eq!(read(swapped, 2).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        let unnumbered = json!([{ "embedding": [1] }, { "embedding": [2] }]);
        assert_eq!(read(unnumbered, 2).unwrap(), [[1.0], [2.0]]);
        for (data, texts, fault) in [
            (json!([item(0, json!([1]))]), 2, "1 vectors"),
            (json!([item(0, json!([]))]), 1, "of 0 numbers"),
            (json!([item(0, json!([1])), item(0, json!([1]))]), 2, "two vectors"),
            (json!([item(0, json!([1])), item(2, json!([1]))]), 2, "no text 2"),
            (json!([item(0, json!([1])), item(1, json!([1, 2]))]), 2, "has not 1 finite"),
            (json!([item(0, json!("AAAA"))]), 1, "invalid type"),
        ] {
            let told = read(data, texts).unwrap_err();
            assert!(told.contains(fault), "{told}");
        }
        // What no vector's number can be is refused, by whoever reads it first.
        read(json!([item(0, json!([1e300]))]), 1).unwrap_err();
    }
}
