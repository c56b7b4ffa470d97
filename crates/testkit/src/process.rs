//! A program of ours, as its users run it.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// A running program; it is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    /// Where it serves.
    pub url: String,
    /// Where its probes and metrics are.
    pub operations: String,
    child: Child,
    pid: Pid,
    log: JoinHandle<String>,
}

impl Process {
    /// Starts a service on free ports and waits until it says where.
    ///
    /// # Errors
    /// If it is not built, or ends before it serves; the message has what it said.
    pub async fn service(name: &str, set_up: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let mut command = Command::new(program(name)?);
        set_up(&mut command);
        command.args(["--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0"]);
        let mut child = spawn(&mut command, Stdio::null())?;
        let mut errors = BufReader::new(child.stderr.take().context("no pipe")?);
        // The log is JSON, as it is not on a terminal; the first line names the addresses.
        let mut first = String::new();
        errors.read_line(&mut first).await?;
        let line: Value =
            serde_json::from_str(&first).with_context(|| format!("{name}: {first}"))?;
        let url = |key: &str| format!("http://{}", line[key].as_str().unwrap_or_default());
        let pid = pid(&child)?;
        let (url, operations) = (url("listen"), url("operations"));
        let log = tokio::spawn(rest(first, errors));
        Ok(Self { url, operations, child, pid, log })
    }

    /// Starts `baton up` on free ports and waits until it says where.
    ///
    /// # Errors
    /// As [`Process::service`].
    pub async fn up(set_up: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let mut command = Command::new(program("baton")?);
        command.args(["up", "--json", "--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0"]);
        set_up(&mut command);
        let mut child = spawn(&mut command, Stdio::piped())?;
        let errors = BufReader::new(child.stderr.take().context("no pipe")?);
        let log = tokio::spawn(rest(String::new(), errors));
        let mut line = String::new();
        let output = child.stdout.take().context("no pipe")?;
        BufReader::new(output).read_line(&mut line).await?;
        if line.is_empty() {
            anyhow::bail!("baton up: {}", log.await?);
        }
        let line: Value = serde_json::from_str(&line).with_context(|| format!("baton: {line}"))?;
        let url = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let pid = pid(&child)?;
        Ok(Self { url: url("url"), operations: url("operations"), child, pid, log })
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Asks it to stop, as an operator does, and returns how it ended and what it logged.
    ///
    /// # Errors
    /// If it had ended before.
    pub async fn stop(mut self) -> anyhow::Result<(ExitStatus, String)> {
        kill_process(self.pid, Signal::TERM)?;
        Ok((self.child.wait().await?, self.log.await?))
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Errors
    /// If it had ended before.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Finds a built program beside the test or program that asks.
///
/// # Errors
/// If it is not built; the message says how to.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // A test lies in `deps` below the programs, a program beside them.
    let mut beside = own.ancestors().skip(1).take(2).map(|place| place.join(name));
    let missing = || format!("{name} is not built: cargo build --workspace --all-targets");
    beside.find(|program| program.is_file()).with_context(missing)
}

fn spawn(command: &mut Command, output: Stdio) -> anyhow::Result<Child> {
    let child = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
    Ok(child.kill_on_drop(true).spawn()?)
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    pid.context("it ended at once")
}

/// Reads on, so that the program never waits for its log to be read.
async fn rest(mut log: String, mut errors: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _ = errors.read_to_end(&mut bytes).await;
    log += &String::from_utf8_lossy(&bytes);
    log
}
