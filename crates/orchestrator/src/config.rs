use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the orchestrator needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The journal's SQLite file; made when missing.
    pub journal: PathBuf,
    /// Where the other services are, when they are other processes.
    pub peers: PeerAddresses,
}

impl Default for Config {
    fn default() -> Self {
        Self { journal: "data/journal.db".into(), peers: PeerAddresses::default() }
    }
}

/// Addresses such as `http://127.0.0.1:50051`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerAddresses {
    /// Models.
    pub router: String,
    /// Documents.
    pub retriever: String,
}

impl Default for PeerAddresses {
    fn default() -> Self {
        Self {
            router: "http://127.0.0.1:50051".to_owned(),
            retriever: "http://127.0.0.1:50052".to_owned(),
        }
    }
}
