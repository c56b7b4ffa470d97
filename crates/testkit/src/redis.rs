//! A private Redis.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Nobody in particular, when a test runs as root.
const NOBODY: u32 = 65534;

/// Ends the server when this process is gone, however it went: its end of the pipe closes. One that
/// is stopped ends by no other signal.
const WATCHED: &str = r#""$@" & server=$!; echo "$server"; read -r _; kill -KILL "$server"; wait"#;

/// A Redis server of one's own, reached over a socket in its directory; it keeps nothing on disk.
#[derive(Debug)]
pub struct Redis {
    directory: TempDir,
    watcher: Child,
    server: Pid,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Errors
    /// If Redis is not installed or does not start; the message says what to do.
    pub fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("baton-redis-").tempdir()?;
        if rustix::process::getuid().is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let (watcher, server) = launch(directory.path())?;
        let redis = Self { directory, watcher, server };
        redis.wait()?;
        Ok(redis)
    }

    /// Returns its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", socket(self.directory.path()))
    }

    /// Sends a command and returns what it says, as `redis-cli` prints it.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn command(&self, words: &[&str]) -> anyhow::Result<String> {
        let said = client(self.directory.path()).args(words).output()?;
        ensure!(said.status.success(), "redis-cli: {}", String::from_utf8_lossy(&said.stderr));
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }

    /// Freezes it: connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// If it is gone.
    pub fn freeze(&self) -> anyhow::Result<()> {
        Ok(kill_process(self.server, Signal::STOP)?)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// If it is gone.
    pub fn thaw(&self) -> anyhow::Result<()> {
        Ok(kill_process(self.server, Signal::CONT)?)
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Errors
    /// If it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        kill_process(self.server, Signal::KILL)?;
        drop(self.watcher.stdin.take());
        self.watcher.wait()?;
        Ok(())
    }

    /// Starts it again after [`Redis::kill`], empty.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        (self.watcher, self.server) = launch(self.directory.path())?;
        self.wait()
    }

    fn wait(&self) -> anyhow::Result<()> {
        let mut ready = Command::new("timeout");
        ready.args(["30", "sh", "-c", r#"until [ "$("$@")" = PONG ]; do sleep 0.02; done"#, "sh"]);
        let cli = client(self.directory.path());
        ready.arg(cli.get_program()).args(cli.get_args()).arg("ping").stderr(Stdio::null());
        ensure!(ready.status()?.success(), "Redis did not start: {}", self.log());
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // Its files go with the directory; nobody is left to tell if they cannot.
        let _ = self.watcher.wait();
    }
}

fn socket(directory: &Path) -> String {
    directory.join("socket").display().to_string()
}

fn client(directory: &Path) -> Command {
    let mut command = Command::new("redis-cli");
    command.arg("-s").arg(socket(directory));
    command
}

fn launch(directory: &Path) -> anyhow::Result<(Child, Pid)> {
    let mut sh = Command::new("sh");
    if rustix::process::getuid().is_root() {
        sh.uid(NOBODY).gid(NOBODY);
    }
    // A directory that everybody may be in.
    sh.current_dir("/").args(["-c", WATCHED, "sh", "redis-server", "--port", "0"]);
    sh.args(["--save", "", "--appendonly", "no", "--unixsocketperm", "777"]);
    sh.arg("--unixsocket").arg(socket(directory)).arg("--logfile").arg(directory.join("log"));
    let missing = "redis-server is not installed: run scripts/test.sh, or apt-get install redis";
    ensure!(is_installed("redis-server") && is_installed("redis-cli"), missing);
    let mut watcher = sh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let stdout = watcher.stdout.take().context("no pipe")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let server = line.trim().parse().ok().and_then(Pid::from_raw).context("no process id")?;
    Ok((watcher, server))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|place| place.join(program).is_file())
}
