//! What a model's directory in Hugging Face layout holds.

use std::path::Path;

use serde::de::DeserializeOwned;
use tokenizers::{Tokenizer, TruncationParams};

use super::Fault;

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
    if directory.join("pytorch_model.bin").exists() {
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
