//! What a model's directory in Hugging Face layout holds.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::{Tokenizer, TruncationParams};

use super::Fault;

/// What `config.json` says of every network.
#[derive(Deserialize)]
pub(crate) struct Sizes {
    #[serde(default)]
    model_type: String,
    hidden_size: Option<usize>,
    /// What DistilBERT calls it.
    dim: Option<usize>,
    max_position_embeddings: usize,
    pad_token_id: Option<u32>,
}

impl Sizes {
    /// Returns how many numbers a token's vector has.
    pub(crate) fn hidden(&self) -> Result<usize, Fault> {
        let told = || Fault::Model("config.json has no hidden_size".to_owned());
        self.hidden_size.or(self.dim).ok_or_else(told)
    }

    /// RoBERTa and what comes of it count positions from behind the padding's id.
    fn counts_behind_padding(&self) -> bool {
        ["roberta", "xlm-roberta", "camembert", "mpnet"].contains(&&*self.model_type)
    }

    /// Returns the token that stands where a text is shorter than another.
    pub(crate) fn padding(&self) -> u32 {
        self.pad_token_id.unwrap_or(self.counts_behind_padding().into())
    }

    /// Returns how many tokens of a text there are positions for.
    pub(crate) fn longest(&self) -> usize {
        let behind = if self.counts_behind_padding() { self.padding() as usize + 1 } else { 0 };
        self.max_position_embeddings.saturating_sub(behind)
    }
}

/// Refuses a directory that lacks files; all of them are named.
pub(crate) fn missing(directory: &Path, needed: &[&str]) -> Result<(), Fault> {
    if !directory.is_dir() {
        return Err(Fault::Model("is not a directory".to_owned()));
    }
    let missing: Vec<&str> =
        needed.iter().copied().filter(|name| !directory.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut told = format!("has no {}", missing.join(", "));
    if missing.contains(&"model.safetensors") && directory.join("pytorch_model.bin").exists() {
        told += "; pytorch_model.bin is not read, convert it to safetensors";
    }
    Err(Fault::Model(told))
}

/// Reads a tokenizer that cuts off what is longer than this. What the file says of padding and truncation is how it
/// was trained, not how it is asked.
pub(crate) fn tokenizer(file: &[u8], max_length: usize) -> Result<Tokenizer, Fault> {
    let broken = |fault: tokenizers::Error| Fault::Model(format!("tokenizer.json: {fault}"));
    let mut tokenizer = Tokenizer::from_bytes(file).map_err(broken)?;
    let truncation = TruncationParams { max_length, ..TruncationParams::default() };
    tokenizer.with_padding(None).with_truncation(Some(truncation)).map_err(broken)?;
    Ok(tokenizer)
}

/// Makes so many threads to compute on; 0: one a core.
pub(crate) fn threads(count: usize, name: &'static str) -> Result<rayon::ThreadPool, Fault> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(move |at| format!("{name}-{at}"))
        .build()
        .map_err(|fault| Fault::Failed(fault.to_string()))
}

pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|fault| Fault::Model(format!("{}: {fault}", named(path))))
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Fault> {
    serde_json::from_slice(&bytes(path)?)
        .map_err(|fault| Fault::Model(format!("{}: {fault}", named(path))))
}

pub(crate) fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Fault> {
    path.exists().then(|| read(path)).transpose()
}

fn named(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
