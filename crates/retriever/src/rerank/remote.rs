//! A server of rerankers on this machine, or in a network that the operator calls as good: what it reads does not
//! leave, and costs nothing that a ledger would have to know.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use egress::Reach;
use egress::body::Unread;
use reqwest::{Client, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use types::CallContext;

use super::{Fault, Reranker};
use crate::config::Endpoint;

/// The largest answer that is read: scores alone.
const LARGEST: usize = 1024 * 1024;

/// An endpoint that answers as Cohere's and Jina's do.
#[derive(Debug)]
pub(crate) struct Remote {
    client: Client,
    url: Url,
    model: String,
    api_key: Option<SecretString>,
    patience: Duration,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    index: usize,
    relevance_score: f32,
}

impl Remote {
    /// Makes a client; it connects when it is needed.
    ///
    /// # Errors
    /// If the address is none, or is written as one that is not local.
    pub(crate) fn new(endpoint: &Endpoint, patience: Duration) -> anyhow::Result<Self> {
        let Endpoint { url, model, api_key, local_networks } = endpoint.clone();
        let reach = Reach::Local(local_networks.into());
        let url =
            Url::parse(&url).with_context(|| format!("retriever.rerank.endpoint.url: {url:?}"))?;
        reach.check(&url).context("retriever.rerank.endpoint.url")?;
        let client = egress::client(reach).connect_timeout(Duration::from_secs(2)).build()?;
        Ok(Self { client, url, model, api_key, patience })
    }

    async fn ask(&self, query: &str, passages: &[String]) -> Result<Vec<f32>, Fault> {
        let body = json!({ "model": self.model, "query": query, "documents": passages });
        let mut request = self.client.post(self.url.clone()).json(&body);
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().await.map_err(|fault| {
            // What it is called stays here: a client has no use for it.
            tracing::warn!(%fault, "the reranker is not reached");
            Fault::Failed("the reranker is not reached".to_owned())
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(Fault::Failed(format!("the reranker answered {}", status.as_u16())));
        }
        let whole = egress::body::read(response, LARGEST).await.map_err(|fault| match fault {
            Unread::TooLarge(_) => broken("it is too large"),
            Unread::Broken(_) => broken("it broke off"),
        })?;
        scores(&whole, passages.len())
    }
}

#[async_trait]
impl Reranker for Remote {
    async fn score(
        &self,
        context: &CallContext,
        query: &str,
        passages: Vec<String>,
    ) -> Result<Vec<f32>, Fault> {
        let patience = context.time_left(self.patience);
        tokio::time::timeout(patience, self.ask(query, &passages))
            .await
            .unwrap_or_else(|_| Err(Fault::Failed("the reranker was too slow".to_owned())))
    }
}

/// Reads one finite score for each passage. Pure.
fn scores(body: &[u8], count: usize) -> Result<Vec<f32>, Fault> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|fault| broken(&fault.to_string()))?;
    let mut scores = vec![None; count];
    for Scored { index, relevance_score } in answer.results {
        match scores.get_mut(index) {
            Some(place) if place.is_none() && relevance_score.is_finite() => {
                *place = Some(relevance_score);
            }
            _ => return Err(broken(&format!("no good score of passage {index}"))),
        }
    }
    let all: Option<Vec<f32>> = scores.into_iter().collect();
    all.ok_or_else(|| broken("not every passage has a score"))
}

fn broken(what: &str) -> Fault {
    Fault::Failed(format!("the reranker's answer cannot be read: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_passage_has_one_score_or_none_is_believed() {
        let read = |results| scores(json!({ "results": results }).to_string().as_bytes(), 2);
        let one = |index: usize, score: f64| json!({ "index": index, "relevance_score": score });
        assert_eq!(read(json!([one(1, 0.5), one(0, -2.0)])).unwrap(), [-2.0, 0.5]);
        for results in [
            json!([one(0, 1.0)]),
            json!([one(0, 1.0), one(0, 1.0)]),
            json!([one(0, 1.0), one(2, 1.0)]),
            json!([one(0, 1.0), one(1, 1e300)]),
            json!({}),
        ] {
            assert!(read(results).is_err());
        }
    }
}
