use std::path::PathBuf;

use mcp_server::Access;
use serde::{Deserialize, Serialize};

/// What the server needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directory that is served; nothing outside it can be reached.
    pub root: PathBuf,
    /// The largest file that is read, in bytes.
    pub max_file_bytes: u64,
    /// The most entries that one listing has.
    pub max_entries: usize,
    /// Who may reach it over HTTP.
    pub access: Access,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: ".".into(),
            max_file_bytes: 10 * 1024 * 1024,
            max_entries: 10_000,
            access: Access::default(),
        }
    }
}
