//! Who answers: one file a kind of provider.

pub(crate) mod anthropic;
pub(crate) mod batches;
pub(crate) mod extractive;
pub(crate) mod gemini;
pub(crate) mod http;
pub(crate) mod openai;

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use proto::router::{Dialect, Grounding};
use serde_json::Value;
use types::{CallContext, Clock as _, SystemClock};

use self::batches::Batches;
use crate::config::Model;
use crate::request::ChatRequest;
use crate::tokens::Text;
use crate::usage::{self, Usage};

/// Why a provider did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// It is this request that it does not want; another may.
    #[error("{0}")]
    Request(String),
    /// The request says what this provider's dialect cannot; another may.
    #[error("{0}")]
    Dialect(String),
    /// It asks to be left alone for a while; another may do.
    #[error("{message}")]
    Busy {
        /// What it said.
        message: String,
        /// How long.
        after: Duration,
    },
    /// It is down for the moment: it may do if asked again.
    #[error("{0}")]
    Down(String),
    /// It is slow, or talks nonsense; another may do.
    #[error("{0}")]
    Provider(String),
    /// It was asked, and went silent, broke off or talked nonsense before it had answered: what it
    /// did until then may have its cost; another may do.
    #[error("{message}")]
    Broken {
        /// What it said, or how it failed.
        message: String,
        /// What it had written until then.
        written: Text,
        /// What it had counted until then.
        counted: Option<Usage>,
        /// It was lost rather than late: it may do if asked again, and may have to be paid again.
        lost: bool,
    },
}

impl Fault {
    /// Returns after which time the same provider may do, if soon. One that perhaps served what it was
    /// asked is asked again only if it `is_free`: nobody buys the same twice.
    pub(crate) fn again(&self, is_free: bool) -> Option<Duration> {
        match self {
            Self::Down(_) => Some(Duration::ZERO),
            Self::Broken { lost: true, .. } if is_free => Some(Duration::ZERO),
            Self::Busy { after, .. } => Some(*after),
            Self::Request(_) | Self::Dialect(_) | Self::Provider(_) | Self::Broken { .. } => None,
        }
    }

    /// Says that an answer lacks what makes it one: in the provider's own words, if it says that it
    /// failed, and then has no cost.
    pub(crate) fn without(answer: &Value, part: &str) -> Self {
        match complaint(answer) {
            Some(told) => Self::Provider(told.to_owned()),
            None => Self::Broken {
                message: format!("the answer has no {part}"),
                written: usage::written(answer),
                counted: Usage::of(answer),
                lost: false,
            },
        }
    }

    /// Says that a provider that was asked failed before anything of it was heard.
    pub(crate) fn unheard(message: impl Into<String>) -> Self {
        let (message, written) = (message.into(), Text::default());
        Self::Broken { message, written, counted: None, lost: false }
    }

    /// Says the same of a request that left: whoever got it may have gone on without a word.
    pub(crate) fn once_sent(self) -> Self {
        let (message, lost) = (self.to_string(), matches!(self, Self::Down(_)));
        Self::Broken { message, written: Text::default(), counted: None, lost }
    }

    /// Says that a provider failed that had begun to answer: `heard` is what came.
    pub(crate) fn after(self, heard: &[u8]) -> Self {
        let (message, written) = (self.to_string(), Text::of_bytes(heard));
        Self::Broken { message, written, counted: None, lost: false }
    }
}

/// Returns a provider's own words about what went wrong, wherever it put them.
pub(crate) fn complaint(answer: &Value) -> Option<&str> {
    let places = ["/error/message", "/error", "/0/error/message", "/detail/0/msg", "/detail"];
    let told = places.iter().find_map(|place| answer.pointer(place)?.as_str());
    // Of an answer that went well, a message is something else.
    let is_error = answer.get("object").is_some_and(|kind| kind == "error");
    let message = answer.get("message").and_then(Value::as_str);
    told.or_else(|| message.filter(|_| is_error || answer.get("choices").is_none()))
}

/// Returns when an answer is made, in seconds since 1970: not every provider says so.
fn now() -> i64 {
    SystemClock.now_ms() / 1000
}

/// Chunks or events in JSON, in the provider's dialect, without SSE framing.
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// A whole answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// In the provider's dialect, to be read.
    Value(Value),
    /// In the dialect of its client: it passes as it came, and is known to be good.
    Passing {
        /// JSON.
        body: Bytes,
        /// What it says was used.
        counted: Usage,
    },
}

/// A way to models. The context comes first: nothing leaves without it.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// Returns what it speaks.
    fn dialect(&self) -> Dialect;

    /// Returns its batch API, if it has one that is known here.
    fn batches(&self) -> Option<&dyn Batches> {
        None
    }

    /// Answers whole.
    async fn complete(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        groundings: &[Grounding],
    ) -> Result<Reply, Fault>;

    /// Returns the names of its models. Asked for on nobody's behalf, free, and never an answer.
    async fn list(&self) -> Result<Vec<String>, Fault>;

    /// Embeds what an embeddings request holds; its answer is the same in every dialect.
    async fn embed(
        &self,
        _context: &CallContext,
        _model: &Model,
        _request: &ChatRequest,
    ) -> Result<Value, Fault> {
        Err(Fault::Dialect("/model: its provider embeds nothing".to_owned()))
    }

    /// Answers in chunks; ends after the last, without `[DONE]`. A stream that ends early is a fault.
    /// It is to begin within `patience`.
    async fn stream(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        groundings: &[Grounding],
        patience: Duration,
    ) -> Result<Chunks, Fault>;
}
