use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the retriever needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The SQLite file of documents and passages; made when missing.
    pub database: PathBuf,
    /// The largest document, in bytes.
    pub max_document_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { database: "data/documents.db".into(), max_document_bytes: 10 * 1024 * 1024 }
    }
}
