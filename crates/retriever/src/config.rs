use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::fuse::Fusion;

/// What the retriever needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The SQLite file of documents and passages; made when missing.
    pub database: PathBuf,
    /// The largest document, in bytes.
    pub max_document_bytes: usize,
    /// What turns texts into vectors; without it documents are found by their words alone.
    pub embedding: Option<Embedding>,
    /// Where passages are found; without it in this process's memory, filled at every start.
    pub qdrant: Option<Qdrant>,
    /// So many documents of ingest jobs are worked on at once.
    pub ingest_workers: usize,
    /// How the two scores of a passage become one; `baton eval` names the best weight for judged queries.
    pub fusion: Fusion,
}

/// An embedding model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// A directory in Hugging Face layout.
    pub model: PathBuf,
    /// So many cores work at once at most; 0: all.
    #[serde(default)]
    pub threads: usize,
}

/// A Qdrant server or cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qdrant {
    /// Where its gRPC interface is, such as `http://qdrant:6334`.
    pub url: String,
    /// Its key, if it asks for one.
    #[serde(default, skip_serializing)]
    pub api_key: Option<SecretString>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: "data/documents.db".into(),
            max_document_bytes: 10 * 1024 * 1024,
            embedding: None,
            qdrant: None,
            ingest_workers: 2,
            fusion: Fusion::default(),
        }
    }
}

impl Config {
    /// Checks what types cannot say.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.fusion {
            Fusion::Convex { dense_weight } if !(0.0..=1.0).contains(&dense_weight) => {
                anyhow::bail!("retriever.fusion.convex.dense_weight: {dense_weight} is not 0 to 1")
            }
            Fusion::Rrf { k } if !(k.is_finite() && k > 0.0) => {
                anyhow::bail!("retriever.fusion.rrf.k: {k} is not more than 0")
            }
            _ => Ok(()),
        }
    }
}
