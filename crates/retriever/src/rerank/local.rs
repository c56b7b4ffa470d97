//! A BERT-family cross-encoder from a directory in Hugging Face layout. Nothing is downloaded.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokio::sync::Semaphore;
use types::CallContext;

use super::{Fault, Reranker};
use crate::embed;
use crate::embed::bert::{Bert, Head, Shape, Text};
use crate::embed::files::{bytes, missing, optional, read, threads, tokenizer};

/// So many pairs are computed at once at most, …
const BATCH: usize = 32;
/// … and so many tokens.
const BATCH_TOKENS: usize = 8192;

/// A model in memory.
#[derive(Debug, Clone)]
pub struct Local(Arc<Model>);

#[derive(Debug)]
struct Model {
    tokenizer: Tokenizer,
    bert: Bert,
    head: Head,
    threads: rayon::ThreadPool,
    /// One question is computed at a time, on all threads, also when nobody waits for it any more.
    turn: Arc<Semaphore>,
}

/// What `config.json` says beside the network's shape.
#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    id2label: serde_json::Map<String, Value>,
}

/// What `tokenizer_config.json` says; some say a number that no text reaches.
#[derive(Default, Deserialize)]
struct Limits {
    model_max_length: Option<f64>,
}

impl Local {
    /// Reads a model: `config.json`, `tokenizer.json` (which joins two texts), `model.safetensors` (with its pooler
    /// and a classifier of one label), and where it is there `tokenizer_config.json` (the longest pair). At most
    /// `count` threads work at once; 0 is as many as there are cores. Reads and computes: not for a thread that
    /// others wait for.
    ///
    /// # Errors
    /// [`Fault::Model`] with every file that is missing, or with what in one of them is not supported.
    pub fn open(directory: &Path, count: usize) -> Result<Self, Fault> {
        let told = |fault: embed::Fault| {
            Fault::Model(format!("reranker {}: {fault}", directory.display()))
        };
        Model::open(directory, count).map(|model| Self(Arc::new(model))).map_err(told)
    }

    /// Returns how likely each passage answers the question, 0 to 1, in their order.
    ///
    /// # Errors
    /// [`Fault::Failed`] when there are none.
    pub async fn score(&self, query: &str, passages: Vec<String>) -> Result<Vec<f32>, Fault> {
        let failed = |fault: String| Fault::Failed(format!("the reranker failed: {fault}"));
        let (model, query) = (Arc::clone(&self.0), query.to_owned());
        let turn = Arc::clone(&model.turn).acquire_owned().await;
        let turn = turn.map_err(|fault| failed(fault.to_string()))?;
        let work = move || {
            let _turn = turn;
            model.threads.install(|| model.score(&query, passages))
        };
        let scores = tokio::task::spawn_blocking(work).await;
        let scores = scores.map_err(|fault| failed(fault.to_string()))?;
        scores.map_err(|fault| failed(fault.to_string()))
    }
}

impl Model {
    fn open(directory: &Path, count: usize) -> Result<Self, embed::Fault> {
        missing(directory, &["config.json", "tokenizer.json", "model.safetensors"])?;
        let config = directory.join("config.json");
        let (shape, labels): (Shape, Labels) = (read(&config)?, read(&config)?);
        let labels = labels.id2label.len();
        if labels > 1 {
            let fault = format!("config.json has {labels} labels, a reranker has one");
            return Err(embed::Fault::Model(fault));
        }
        let limits: Option<Limits> = optional(&directory.join("tokenizer_config.json"))?;
        let limit = limits.and_then(|limits| limits.model_max_length).unwrap_or(f64::MAX);
        let longest = shape.max_position_embeddings;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "is clamped")]
        let longest = limit.clamp(8.0, longest.max(8) as f64) as usize;
        let weights = bytes(&directory.join("model.safetensors"))?;
        Ok(Self {
            tokenizer: tokenizer(&bytes(&directory.join("tokenizer.json"))?, longest)?,
            head: Head::new(&shape, &weights)?,
            bert: Bert::new(shape, &weights)?,
            threads: threads(count, "rerank")?,
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    fn score(&self, query: &str, passages: Vec<String>) -> Result<Vec<f32>, embed::Fault> {
        let pairs: Vec<(String, String)> =
            passages.into_iter().map(|passage| (query.to_owned(), passage)).collect();
        let encoded = self
            .tokenizer
            .encode_batch_fast(pairs, true)
            .map_err(|fault| embed::Fault::Failed(fault.to_string()))?;
        let texts: Vec<Text<'_>> = encoded
            .iter()
            .map(|pair| Text { tokens: pair.get_ids(), types: pair.get_type_ids() })
            .collect();
        let mut scores = Vec::with_capacity(texts.len());
        let mut rest = texts.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = |text: &&Text<'_>| {
                let is_first = tokens == 0;
                tokens += text.tokens.len();
                is_first || tokens <= BATCH_TOKENS
            };
            let count = rest.iter().take(BATCH).take_while(fits).count().max(1);
            let (batch, after) = rest.split_at(count);
            rest = after;
            scores.extend(self.compute(batch)?);
        }
        Ok(scores)
    }

    fn compute(&self, batch: &[Text<'_>]) -> Result<Vec<f32>, embed::Fault> {
        let states = self.bert.forward(batch)?;
        let tokens: usize = batch.iter().map(|text| text.tokens.len()).sum();
        let hidden = states.len() / tokens.max(1);
        let (mut first, mut start) = (Vec::with_capacity(batch.len() * hidden), 0);
        for text in batch {
            first.extend_from_slice(&states[start..start + hidden]);
            start += text.tokens.len() * hidden;
        }
        let logits = self.head.apply(&first)?;
        Ok(logits.into_iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect())
    }
}

#[async_trait]
impl Reranker for Local {
    async fn score(
        &self,
        _: &CallContext,
        query: &str,
        passages: Vec<String>,
    ) -> Result<Vec<f32>, Fault> {
        self.score(query, passages).await
    }
}
