//! A process for each call: what a repository does to libgit2 ends with it.
//!
//! It is killed when its time is over, may use so much memory and no more, and cannot leave the
//! root. Calls for one repository go one after the other; those for others do not wait for them.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::place::Place;
use crate::tool::Entry;
use crate::{Config, Error, sandbox};

/// This program, also when its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// What a worker exits with when it says why it did not do its work.
const FAILED: u8 = 3;

/// What an answer has besides the text of at most so many bytes: heads and notices.
const SLACK_BYTES: u64 = 64 * 1024;

type Alone = tokio::sync::Mutex<()>;

/// Who does the work.
#[derive(Debug)]
pub(crate) struct Workers {
    config: Config,
    permits: Semaphore,
    repositories: Mutex<HashMap<PathBuf, Weak<Alone>>>,
}

/// One call's work.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    config: Config,
    tool: String,
    arguments: Value,
}

impl Workers {
    pub(crate) fn new(config: Config) -> Self {
        let permits = Semaphore::new(config.workers);
        Self { config, permits, repositories: Mutex::default() }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Does a call's work on the repository at `repo_path`, within the time limit.
    pub(crate) async fn run(
        &self,
        tool: &Entry,
        repo_path: String,
        arguments: Value,
    ) -> Result<String, Error> {
        let work = async {
            let root = self.config.root.clone();
            let find = move || Place::find(&root, &repo_path);
            let found = tokio::task::spawn_blocking(find).await;
            let place = found.map_err(|fault| Error::Died(fault.to_string()))??;
            let repository = self.repository(&place.common);
            let _alone = repository.lock().await;
            let _permit = self.permits.acquire().await;
            self.start(tool, arguments).await
        };
        let limit = self.config.time_limit();
        tokio::time::timeout(limit, work).await.map_err(|_| Error::Late(limit))?
    }

    /// Returns the lock of a repository, the same for all of its work trees.
    fn repository(&self, common: &Path) -> Arc<Alone> {
        let mut known = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = known.get(common).and_then(Weak::upgrade) {
            return lock;
        }
        known.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(Alone::default());
        known.insert(common.to_owned(), Arc::downgrade(&lock));
        lock
    }

    async fn start(&self, tool: &Entry, arguments: Value) -> Result<String, Error> {
        let died = |fault: std::io::Error| Error::Died(fault.to_string());
        let task = Task { config: self.config.clone(), tool: tool.name.to_owned(), arguments };
        let task = serde_json::to_vec(&task).map_err(|fault| Error::Died(fault.to_string()))?;
        let mut child = Command::new(PROGRAM)
            .arg("worker")
            .env_clear()
            // Where its user's configuration of git is.
            .envs(std::env::var_os("HOME").map(|home| ("HOME", home)))
            .current_dir(&self.config.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(died)?;
        if let Some(mut input) = child.stdin.take() {
            // One that ended before it had read all says why.
            let _ = input.write_all(&task).await;
        }
        let mut answer = Vec::new();
        if let Some(output) = child.stdout.take() {
            let most = self.config.max_bytes as u64 + SLACK_BYTES;
            output.take(most).read_to_end(&mut answer).await.map_err(died)?;
        }
        let status = child.wait().await.map_err(died)?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        match status.code() {
            Some(0) => Ok(text),
            Some(code) if code == i32::from(FAILED) => Err(Error::Git(text)),
            // As a program ends that gets no memory, or whose calls are nested too deeply.
            None if status.signal() == Some(Signal::ABORT.as_raw()) => Err(Error::Died(format!(
                "{status}; it may have needed more memory (mcp_git.max_memory_bytes)"
            ))),
            _ => Err(Error::Died(status.to_string())),
        }
    }
}

/// Does the work that standard input describes, and writes the answer to standard output.
pub(crate) fn work() -> ExitCode {
    let (text, code) = match answer() {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(fault) => (fault.to_string(), ExitCode::from(FAILED)),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer() -> Result<String, Error> {
    let task: Task = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|fault| Error::Died(fault.to_string()))?;
    sandbox::enter(&task.config).map_err(|fault| Error::Died(fault.to_string()))?;
    let tool = Entry::find(&task.tool).ok_or_else(|| Error::Missing(task.tool.clone()))?;
    (tool.run)(&task.arguments, &task.config)
}
