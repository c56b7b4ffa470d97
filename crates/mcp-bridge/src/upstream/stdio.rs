//! A server that is a program of its own, kept apart from everything else (docs/configuration.md).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::lines::{self, Bounded};
use super::program::Group;
use super::{Reason, Record, held};
use crate::{Error, Sandbox};

/// What a program needs to find others; everything else of ours stays ours.
const INHERITED: &str = "PATH";

/// How long is waited for the last words of a program that has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A program to start.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) server: String,
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) sandbox: Sandbox,
    pub(crate) apart: Option<Apart>,
    /// How long it is left alone at first, once it keeps ending.
    pub(crate) restart: Duration,
    /// The largest message that is read, in bytes.
    pub(crate) max_message_bytes: usize,
}

/// How a program is kept apart.
#[derive(Debug, Clone)]
pub(crate) struct Apart {
    /// A program whose `main` calls [`crate::launch_tool`].
    pub(crate) launcher: PathBuf,
    /// A directory of its own: its HOME, where it starts, and the one that it may write.
    pub(crate) home: PathBuf,
}

impl Program {
    /// Starts it; that it fails or ends is held against it in the record.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it cannot be started.
    pub(super) fn start(
        &self,
        record: &Record,
        reason: Reason,
    ) -> Result<(StdioTransport, Arc<Life>), Error> {
        let life = Arc::new(Life {
            record: Arc::clone(record),
            begun: Instant::now(),
            well: AtomicBool::new(false),
            counted: AtomicBool::new(false),
        });
        let spawned = self.spawn(Arc::clone(&life), reason).map_err(|fault| {
            life.failed();
            let reason = "it cannot be started".to_owned();
            tracing::warn!(
                server = self.server,
                fault = format!("{fault:#}"),
                reason,
                "an MCP server failed"
            );
            Error::Unavailable { server: self.server.clone(), reason }
        });
        Ok((spawned?, life))
    }

    fn spawn(&self, life: Arc<Life>, reason: Reason) -> anyhow::Result<StdioTransport> {
        let mut command = self.command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group::start(&mut command)?;
        let pipes = group.child.stdin.take().zip(group.child.stdout.take());
        let ((input, output), errors) =
            pipes.zip(group.child.stderr.take()).ok_or_else(|| io::Error::other("no pipe"))?;
        let output = Bounded::new(output, reason, self.max_message_bytes);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let connection = StdioTransport {
            inner: AsyncRwTransport::new(output, input).with_max_line_length(usize::MAX),
            ended: ended.clone(),
            _stop: stop.clone().drop_guard(),
        };
        let mut log = tokio::spawn(lines::log(self.server.clone(), errors));
        let program = self.clone();
        tokio::spawn(async move {
            let kept = group.keep(&stop).await;
            ended.cancel();
            // What left the group may hold the pipe for ever.
            if timeout(LAST_WORDS, &mut log).await.is_err() {
                log.abort();
            }
            program.ended(kept, &life);
        });
        Ok(connection)
    }

    fn command(&self) -> anyhow::Result<Command> {
        let own = |name: &str| std::env::var_os(name).map(|value| (name.to_owned(), value));
        let mut command = match &self.apart {
            None => {
                let mut command = Command::new(&self.command);
                command.env_clear().envs(own("HOME"));
                command
            }
            Some(Apart { launcher, home }) => {
                let temporary = home.join("tmp");
                std::fs::create_dir_all(&temporary)?;
                let (home, name) = (home.canonicalize()?, absolute(&self.command)?);
                let mut command = Command::new(launcher);
                command.args(self.sandbox.command_line(&home, name.as_os_str())?);
                command.env_clear().env("HOME", &home).env("TMPDIR", home.join("tmp"));
                command.current_dir(home);
                command
            }
        };
        command.args(&self.args).envs(own(INHERITED)).envs(&self.env);
        Ok(command)
    }

    /// Notes how it ended. That it was let go of while it was well says nothing against it.
    fn ended(&self, kept: io::Result<(std::process::ExitStatus, bool)>, life: &Life) {
        let server = &self.server;
        let by_itself = match kept {
            Ok((status, by_itself)) => {
                tracing::info!(server, %status, by_itself, "an MCP server's program has ended");
                by_itself
            }
            Err(fault) => {
                tracing::warn!(server, %fault, "an MCP server's program cannot be waited for");
                true
            }
        };
        if by_itself || !life.well.load(Ordering::Relaxed) {
            life.failed();
        }
    }
}

/// One run of a program, and whose record it is held against.
#[derive(Debug)]
pub(super) struct Life {
    record: Record,
    begun: Instant,
    /// It has answered as a server does.
    pub(super) well: AtomicBool,
    counted: AtomicBool,
}

impl Life {
    /// Holds it against the program that this run failed, once.
    pub(super) fn failed(&self) {
        if !self.counted.swap(true, Ordering::Relaxed) {
            let (ran, now) = (self.begun.elapsed(), Instant::now());
            held(&self.record).failed(ran, now, fastrand::f64());
        }
    }
}

/// Returns a command as it is found from any directory: one without a slash is looked for in `PATH`.
fn absolute(command: &str) -> io::Result<PathBuf> {
    match Path::new(command).components().count() {
        0 | 1 => Ok(PathBuf::from(OsStr::new(command))),
        _ => std::path::absolute(command),
    }
}

/// What is said to a program and what it says; the program ends with this value.
pub(super) struct StdioTransport {
    inner: AsyncRwTransport<RoleClient, Bounded<ChildStdout>, ChildStdin>,
    /// The program is gone, whoever still holds its output.
    ended: CancellationToken,
    _stop: DropGuard,
}

impl Transport<RoleClient> for StdioTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        tokio::select! {
            biased;
            message = self.inner.receive() => message,
            () = self.ended.cancelled() => None,
        }
    }

    /// Ends the program's input; nobody waits for what it then does.
    async fn close(&mut self) -> io::Result<()> {
        self.inner.close().await
    }
}
