//! A cross-encoder from a directory in Hugging Face layout: of the BERT family, or any that is there in ONNX. Nothing is
//! downloaded.

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
use crate::embed::batch::batches;
use crate::embed::bert::{Bert, Head, Shape, Text};
use crate::embed::files::{Sizes, bytes, missing, optional, read, threads, tokenizer};
use crate::embed::onnx::{self, Onnx, Wanted};

/// A model in memory.
#[derive(Debug, Clone)]
pub struct Local(Arc<Model>);

#[derive(Debug)]
struct Model {
    tokenizer: Tokenizer,
    network: Network,
    threads: rayon::ThreadPool,
    /// One question is computed at a time, on all threads, also when nobody waits for it any more.
    turn: Arc<Semaphore>,
}

/// What makes one number of a pair.
#[derive(Debug)]
enum Network {
    /// Ours.
    Bert(Box<(Bert, Head)>),
    Onnx(Box<Onnx>),
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
    /// and a classifier of one label), and where it is there `tokenizer_config.json` (the longest pair). With
    /// a library of ONNX Runtime it computes `onnx/model.onnx` or `model.onnx`, and `model.safetensors` is not read. At
    /// most `count` threads work at once; 0 is as many as there are cores. Reads and computes: not for a thread that
    /// others wait for.
    ///
    /// # Errors
    /// [`Fault::Model`] with every file that is missing, or with what in one of them is not supported.
    pub fn open(directory: &Path, onnxruntime: Option<&Path>, count: usize) -> Result<Self, Fault> {
        let told = |fault: embed::Fault| {
            Fault::Model(format!("reranker {}: {fault}", directory.display()))
        };
        let model = Model::open(directory, onnxruntime, count);
        model.map(|model| Self(Arc::new(model))).map_err(told)
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
            model.score(&query, passages)
        };
        let scores = tokio::task::spawn_blocking(work).await;
        let scores = scores.map_err(|fault| failed(fault.to_string()))?;
        scores.map_err(|fault| failed(fault.to_string()))
    }
}

impl Model {
    fn open(
        directory: &Path,
        onnxruntime: Option<&Path>,
        count: usize,
    ) -> Result<Self, embed::Fault> {
        let onnx = onnxruntime.map(|library| (library, onnx::File::find(directory)));
        let weights = onnx.as_ref().map_or("model.safetensors", |(_, file)| file.name);
        missing(directory, &["config.json", "tokenizer.json", weights])?;
        let config = directory.join("config.json");
        let (sizes, labels): (Sizes, Labels) = (read(&config)?, read(&config)?);
        let labels = labels.id2label.len();
        if labels > 1 {
            let fault = format!("config.json has {labels} labels, a reranker has one");
            return Err(embed::Fault::Model(fault));
        }
        let limits: Option<Limits> = optional(&directory.join("tokenizer_config.json"))?;
        let limit = limits.and_then(|limits| limits.model_max_length).unwrap_or(f64::MAX);
        let longest = sizes.longest();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "is clamped")]
        let longest = limit.clamp(8.0, longest.max(8) as f64) as usize;
        let threads = threads(count, "rerank")?;
        let network = match onnx {
            None => {
                let (shape, weights) = (read::<Shape>(&config)?, bytes(&directory.join(weights))?);
                let head = Head::new(&shape, &weights)?;
                Network::Bert(Box::new((Bert::new(shape, &weights)?, head)))
            }
            Some((library, file)) => {
                let limits = onnx::Limits { longest, padding: sizes.padding() };
                let count = threads.current_num_threads();
                let network = Onnx::open(&file, library, count, Wanted::Score, limits)?;
                Network::Onnx(Box::new(network))
            }
        };
        Ok(Self {
            tokenizer: tokenizer(&bytes(&directory.join("tokenizer.json"))?, longest)?,
            network,
            threads,
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    fn score(&self, query: &str, passages: Vec<String>) -> Result<Vec<f32>, embed::Fault> {
        let pairs: Vec<(String, String)> =
            passages.into_iter().map(|passage| (query.to_owned(), passage)).collect();
        let encoded = self
            .threads
            .install(|| self.tokenizer.encode_batch_fast(pairs, true))
            .map_err(|fault| embed::Fault::Failed(fault.to_string()))?;
        let texts: Vec<Text<'_>> = encoded
            .iter()
            .map(|pair| Text { tokens: pair.get_ids(), types: pair.get_type_ids() })
            .collect();
        let lengths: Vec<usize> = texts.iter().map(|text| text.tokens.len()).collect();
        let mut scores = vec![0.0; texts.len()];
        for batch in batches(&lengths) {
            let texts: Vec<Text<'_>> = batch.iter().map(|at| texts[*at]).collect();
            let logits = match &self.network {
                Network::Bert(both) => self.threads.install(|| compute(&both.0, &both.1, &texts)),
                Network::Onnx(onnx) => onnx.forward(&texts),
            }?;
            for (at, logit) in batch.into_iter().zip(logits) {
                scores[at] = 1.0 / (1.0 + (-logit).exp());
            }
        }
        Ok(scores)
    }
}

fn compute(bert: &Bert, head: &Head, batch: &[Text<'_>]) -> Result<Vec<f32>, embed::Fault> {
    let states = bert.forward(batch)?;
    let tokens: usize = batch.iter().map(|text| text.tokens.len()).sum();
    let hidden = states.len() / tokens.max(1);
    let (mut first, mut start) = (Vec::with_capacity(batch.len() * hidden), 0);
    for text in batch {
        first.extend_from_slice(&states[start..start + hidden]);
        start += text.tokens.len() * hidden;
    }
    head.apply(&first)
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
