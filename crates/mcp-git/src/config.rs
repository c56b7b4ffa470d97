use std::path::PathBuf;
use std::time::Duration;

use mcp_server::Access;
use serde::{Deserialize, Serialize};

/// What the server needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directory in which repositories lie; nothing outside it is read or written.
    pub root: PathBuf,
    /// Whether the tools that change a repository are there.
    pub write: bool,
    /// Who commits: a name; git's own configuration says when empty.
    pub author_name: String,
    /// Who commits: an address of electronic mail; git's own configuration says when empty.
    pub author_email: String,
    /// How many bytes an answer or a file that is shown may have.
    pub max_bytes: usize,
    /// How many commits, branches or lines found one answer may have.
    pub max_count: u32,
    /// How long a call may take, in milliseconds, with its wait for the repository.
    pub time_limit_ms: u64,
    /// How much memory a call may use, in bytes.
    pub max_memory_bytes: u64,
    /// How many repositories are worked on at once.
    pub workers: usize,
    /// Who may reach it over HTTP.
    pub access: Access,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: ".".into(),
            write: false,
            author_name: String::new(),
            author_email: String::new(),
            max_bytes: 1024 * 1024,
            max_count: 1000,
            time_limit_ms: 10_000,
            max_memory_bytes: 1024 * 1024 * 1024,
            workers: 8,
            access: Access::default(),
        }
    }
}

impl Config {
    /// Refuses what would answer nothing, and finds the root.
    pub(crate) fn checked(mut self) -> anyhow::Result<Self> {
        let counts = [
            ("max_bytes", self.max_bytes as u64),
            ("max_count", self.max_count.into()),
            ("time_limit_ms", self.time_limit_ms),
            ("max_memory_bytes", self.max_memory_bytes),
            ("workers", self.workers as u64),
        ];
        for (name, given) in counts {
            anyhow::ensure!(given > 0, "mcp_git.{name}: 0 is too few");
        }
        anyhow::ensure!(
            self.author_name.is_empty() == self.author_email.is_empty(),
            "mcp_git.author_name and mcp_git.author_email: give both or neither"
        );
        let root = self.root.canonicalize();
        let root = root.and_then(|root| std::fs::read_dir(&root).map(|_| root));
        let place = || format!("mcp_git.root: {}", self.root.display());
        self.root = anyhow::Context::with_context(root, place)?;
        Ok(self)
    }

    pub(crate) fn time_limit(&self) -> Duration {
        Duration::from_millis(self.time_limit_ms)
    }
}
