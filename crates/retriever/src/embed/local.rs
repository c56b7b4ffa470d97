//! A sentence-transformers model from a directory in Hugging Face layout: of the BERT family, or any that is there in
//! ONNX. Nothing is downloaded.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokenizers::Tokenizer;
use types::CallContext;

use super::batch::batches;
use super::bert::{Bert, Shape, Text};
use super::files::{Sizes, bytes, missing, optional, read, tokenizer};
use super::onnx::{self, Onnx, Wanted};
use super::{Embedder, Fault, Side};

/// So many texts are taken at once: some batches, so that no core waits for the last of each.
const AT_ONCE: usize = 256;

/// A model in memory.
#[derive(Debug, Clone)]
pub struct Local(Arc<Model>);

#[derive(Debug)]
struct Model {
    identity: String,
    dimension: usize,
    tokenizer: Tokenizer,
    network: Network,
    pooling: Pooling,
    normalised: bool,
    prompts: Prompts,
    threads: rayon::ThreadPool,
}

/// What makes vectors of tokens.
#[derive(Debug)]
enum Network {
    /// Ours.
    Bert(Box<Bert>),
    Onnx(Box<Onnx>),
}

/// How the vectors of a text's tokens become its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    /// The first token's.
    First,
    Mean,
    Max,
}

/// What some models want to stand before a text.
#[derive(Debug, Default, Deserialize)]
struct Prompts {
    #[serde(default)]
    query: String,
    #[serde(default, alias = "passage")]
    document: String,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

#[derive(Deserialize)]
struct PoolingConfig {
    word_embedding_dimension: usize,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

#[derive(Deserialize)]
struct Limits {
    max_seq_length: Option<usize>,
}

#[derive(Default, Deserialize)]
struct Extras {
    #[serde(default)]
    prompts: Prompts,
}

impl Local {
    /// Reads a model: `config.json`, `tokenizer.json`, `model.safetensors`, `modules.json`, the pooling module's
    /// `config.json`, and where they are there `sentence_bert_config.json` (the longest text) and
    /// `config_sentence_transformers.json` (prompts). With a library of ONNX Runtime it computes `onnx/model.onnx`
    /// or `model.onnx`, and `model.safetensors` is not read. At most `threads` work at once; 0 is as many as there
    /// are cores. Reads and computes: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`Fault::Model`] with every file that is missing, or with what in one of them is not supported.
    pub fn open(
        directory: &Path,
        onnxruntime: Option<&Path>,
        threads: usize,
    ) -> Result<Self, Fault> {
        let fault = |fault: Fault| match fault {
            Fault::Model(what) => Fault::Model(format!("model {}: {what}", directory.display())),
            failed => failed,
        };
        let model = Model::open(directory, onnxruntime, threads);
        model.map(|model| Self(Arc::new(model))).map_err(fault)
    }

    /// Returns the hash of weights, tokenizer and pooling; that of a network in ONNX says so.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.0.identity
    }

    /// Returns how many numbers a vector has.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.0.dimension
    }

    /// Returns each text's vector, in their order: `[texts][dimension]`. What is longer than the model reads is
    /// cut off.
    ///
    /// # Errors
    /// [`Fault::Failed`] when there are none.
    pub async fn embed(&self, texts: Vec<String>, side: Side) -> Result<Vec<Vec<f32>>, Fault> {
        let model = Arc::clone(&self.0);
        let work = move || model.embed(&texts, side);
        tokio::task::spawn_blocking(work).await.map_err(|fault| Fault::Failed(fault.to_string()))?
    }
}

impl Model {
    fn open(directory: &Path, onnxruntime: Option<&Path>, threads: usize) -> Result<Self, Fault> {
        let onnx = onnxruntime.map(|library| (library, onnx::File::find(directory)));
        let weights = onnx.as_ref().map_or("model.safetensors", |(_, file)| file.name);
        missing(directory, &["config.json", "tokenizer.json", weights, "modules.json"])?;
        let modules = read::<Vec<Module>>(&directory.join("modules.json"))?;
        let pooling = modules.iter().find(|module| module.kind() == "Pooling");
        if let Some(pooling) = pooling {
            missing(directory, &[&format!("{}/config.json", pooling.path)])?;
        }
        let sizes: Sizes = read(&directory.join("config.json"))?;
        let dimension = sizes.hidden()?;
        let (pooling, normalised) = layout(directory, &modules, dimension)?;
        let limits = optional::<Limits>(&directory.join("sentence_bert_config.json"))?;
        let limit = limits.and_then(|limits| limits.max_seq_length).unwrap_or(usize::MAX);
        let max_length = limit.min(sizes.longest());

        let threads = super::files::threads(threads, "embed")?;
        let mut hash = Sha256::new();
        let network = match onnx {
            None => {
                let shape: Shape = read(&directory.join("config.json"))?;
                let weights = bytes(&directory.join(weights))?;
                hash.update(&weights);
                Network::Bert(Box::new(Bert::new(shape, &weights)?))
            }
            Some((library, file)) => {
                file.hash(&mut hash)?;
                let limits = onnx::Limits { longest: max_length, padding: sizes.padding() };
                let (count, wanted) = (threads.current_num_threads(), Wanted::Vectors(dimension));
                Network::Onnx(Box::new(Onnx::open(&file, library, count, wanted, limits)?))
            }
        };
        let words = bytes(&directory.join("tokenizer.json"))?;
        hash.update(&words);
        hash.update(format!("{pooling:?} {normalised} {max_length}"));
        let identity = network.identity(&crate::hash::hex(&hash.finalize()));
        let tokenizer = tokenizer(&words, max_length)?;
        let extras = directory.join("config_sentence_transformers.json");
        let prompts = optional::<Extras>(&extras)?.unwrap_or_default().prompts;
        Ok(Self { identity, dimension, tokenizer, network, pooling, normalised, prompts, threads })
    }

    fn embed(&self, texts: &[String], side: Side) -> Result<Vec<Vec<f32>>, Fault> {
        let prompt = match side {
            Side::Query => &self.prompts.query,
            Side::Document => &self.prompts.document,
        };
        let prompted: Vec<String> = texts.iter().map(|text| format!("{prompt}{text}")).collect();
        let encoded = self
            .threads
            .install(|| self.tokenizer.encode_batch_fast(prompted, true))
            .map_err(|fault| Fault::Failed(fault.to_string()))?;
        let tokens: Vec<Vec<u32>> = encoded.iter().map(|text| text.get_ids().to_vec()).collect();
        let mut vectors = vec![Vec::new(); tokens.len()];
        let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
        for batch in batches(&lengths) {
            self.compute(&tokens, &batch, &mut vectors)?;
        }
        Ok(vectors)
    }

    fn compute(
        &self,
        tokens: &[Vec<u32>],
        batch: &[usize],
        vectors: &mut [Vec<f32>],
    ) -> Result<(), Fault> {
        let texts: Vec<Text<'_>> = batch.iter().map(|at| tokens[*at].as_slice().into()).collect();
        let states = match &self.network {
            Network::Bert(bert) => self.threads.install(|| bert.forward(&texts)),
            Network::Onnx(onnx) => onnx.forward(&texts),
        }?;
        let mut rest = states.as_slice();
        for (at, text) in batch.iter().zip(texts) {
            let (own, after) = rest.split_at(text.tokens.len() * self.dimension);
            rest = after;
            let mut vector = self.pooling.apply(own, self.dimension);
            if self.normalised {
                super::normalise(&mut vector);
            }
            vectors[*at] = vector;
        }
        Ok(())
    }
}

#[async_trait]
impl Embedder for Local {
    async fn identity(&self, _: &CallContext) -> Result<Arc<str>, Fault> {
        Ok(self.identity().into())
    }

    async fn embed(
        &self,
        _: &CallContext,
        texts: Vec<String>,
        side: Side,
    ) -> Result<Vec<Vec<f32>>, Fault> {
        self.embed(texts, side).await
    }

    fn is_bought(&self) -> bool {
        false
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }
}

impl Network {
    /// Other networks' vectors of the same text are other vectors.
    fn identity(&self, hash: &str) -> String {
        match self {
            Self::Bert(_) => hash.to_owned(),
            Self::Onnx(_) => format!("onnx:{hash}"),
        }
    }
}

impl Module {
    /// `sentence_transformers.models.Pooling` is a `Pooling`.
    fn kind(&self) -> &str {
        self.r#type.rsplit('.').next().unwrap_or_default()
    }
}

/// Reads how a model's modules follow each other.
fn layout(directory: &Path, modules: &[Module], hidden: usize) -> Result<(Pooling, bool), Fault> {
    let kinds: Vec<&str> = modules.iter().map(Module::kind).collect();
    let (pooling, normalised) = match kinds[..] {
        ["Transformer", "Pooling"] => (&modules[1], false),
        ["Transformer", "Pooling", "Normalize"] => (&modules[1], true),
        _ => {
            let kinds = kinds.join(", ");
            let told = format!(
                "modules.json has {kinds}; supported are Transformer, Pooling and Normalize"
            );
            return Err(Fault::Model(told));
        }
    };
    let name = format!("{}/config.json", pooling.path);
    let config: PoolingConfig = read(&directory.join(&name))?;
    if config.word_embedding_dimension != hidden {
        let is = config.word_embedding_dimension;
        return Err(Fault::Model(format!("{name} is for {is} numbers, config.json for {hidden}")));
    }
    let others = config.pooling_mode_mean_sqrt_len_tokens
        || config.pooling_mode_weightedmean_tokens
        || config.pooling_mode_lasttoken;
    let modes = (
        config.pooling_mode_cls_token,
        config.pooling_mode_mean_tokens,
        config.pooling_mode_max_tokens,
    );
    let pooling = match modes {
        _ if others => None,
        (true, false, false) => Some(Pooling::First),
        (false, true, false) => Some(Pooling::Mean),
        (false, false, true) => Some(Pooling::Max),
        _ => None,
    };
    let told = || Fault::Model(format!("{name}: exactly one of cls, mean and max is supported"));
    Ok((pooling.ok_or_else(told)?, normalised))
}

impl Pooling {
    /// Makes one vector of a text's: `[tokens][dimension]`.
    fn apply(self, states: &[f32], dimension: usize) -> Vec<f32> {
        let mut rows = states.chunks_exact(dimension);
        let mut vector = rows.next().unwrap_or_default().to_vec();
        let count = states.len() / dimension;
        for row in rows {
            for (all, one) in vector.iter_mut().zip(row) {
                match self {
                    Self::First => {}
                    Self::Mean => *all += one,
                    Self::Max => *all = all.max(*one),
                }
            }
        }
        if self == Self::Mean {
            vector.iter_mut().for_each(|number| *number /= count as f32);
        }
        vector
    }
}
