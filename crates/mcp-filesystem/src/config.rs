use std::path::PathBuf;

use mcp_server::Access;
use serde::{Deserialize, Serialize};

/// What the server needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directories that are served; nothing outside them can be reached.
    pub root: Roots,
    /// Whether the tools that write are left out.
    pub read_only: bool,
    /// Names, as globs without a slash, that are not read, written or entered, in whatever case:
    /// `.env`, `*.pem`.
    pub forbidden: Vec<String>,
    /// Whether a file that has more than one name, of which others may lie outside, is read and written.
    pub hard_links: bool,
    /// The largest file that is read or written, and the most that one answer has of files, in bytes.
    pub max_file_bytes: u64,
    /// The most entries that one answer has.
    pub max_entries: usize,
    /// How deep below where they start trees are walked; at most 256, as each level is held open.
    pub max_depth: usize,
    /// The longest that one call may take, in milliseconds.
    pub timeout_ms: u64,
    /// How many calls ask the file system at once; others wait.
    pub max_concurrent: usize,
    /// Who may reach it over HTTP.
    pub access: Access,
}

/// One directory or several; relative paths are looked up in the first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "a directory or a list of directories")]
pub enum Roots {
    /// One.
    One(PathBuf),
    /// Several.
    Many(Vec<PathBuf>),
}

impl Roots {
    pub(crate) fn paths(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

impl From<PathBuf> for Roots {
    fn from(path: PathBuf) -> Self {
        Self::One(path)
    }
}

impl Default for Config {
    fn default() -> Self {
        let forbidden = [
            ".env",
            ".env.*",
            "*.pem",
            "*.key",
            "*.p12",
            "*.pfx",
            "*.kdbx",
            "id_rsa",
            "id_dsa",
            "id_ecdsa",
            "id_ed25519",
            ".netrc",
            ".pgpass",
            ".git-credentials",
            ".ssh",
            ".gnupg",
            ".aws",
        ];
        Self {
            root: Roots::One(".".into()),
            read_only: false,
            forbidden: forbidden.map(str::to_owned).to_vec(),
            hard_links: false,
            max_file_bytes: 10 * 1024 * 1024,
            max_entries: 10_000,
            max_depth: 64,
            timeout_ms: 30_000,
            max_concurrent: 16,
            access: Access::default(),
        }
    }
}
