//! Who answers: one file a kind of provider.

pub(crate) mod extractive;
pub(crate) mod http;

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use proto::router::Grounding;
use serde_json::Value;
use types::CallContext;

use crate::request::ChatRequest;

/// Why a provider did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// It is this request that it does not want; another provider would not either.
    #[error("{0}")]
    Request(String),
    /// It is down, slow, busy or talks nonsense; another may do.
    #[error("{0}")]
    Provider(String),
}

/// Chat completion chunks in JSON, without SSE framing.
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// A way to models. The context comes first: nothing leaves without it.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// Answers whole: a chat completion in JSON.
    async fn complete(
        &self,
        context: &CallContext,
        model: &str,
        request: &ChatRequest,
        groundings: &[Grounding],
    ) -> Result<Value, Fault>;

    /// Answers in chunks; ends after the last, without `[DONE]`. A stream that ends early is a fault.
    async fn stream(
        &self,
        context: &CallContext,
        model: &str,
        request: &ChatRequest,
        groundings: &[Grounding],
    ) -> Result<Chunks, Fault>;
}
