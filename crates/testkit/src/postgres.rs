//! A private PostgreSQL.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// PostgreSQL refuses to run as root; then it runs as `nobody`.
const NOBODY: u32 = 65534;

/// Ends the server when this process is gone, however it went: its end of the pipe closes. One that
/// is stopped ends when it goes on.
const WATCHED: &str = r#""$@" & server=$!; echo "$server"; read -r _
kill -QUIT "$server"; kill -CONT "$server"; wait"#;

/// A PostgreSQL server of one's own, reached over a socket in its directory.
///
/// It synchronises nothing to disk unless asked, as it lives no longer than the test.
#[derive(Debug)]
pub struct Postgres {
    directory: TempDir,
    settings: Vec<String>,
    /// Where its socket is; elsewhere than its data once it has moved.
    moved: Option<TempDir>,
    watcher: Child,
    server: Pid,
}

/// What a server is started with, unless it is told otherwise.
const SETTINGS: [&str; 4] =
    ["listen_addresses=", "fsync=off", "max_connections=200", "shared_buffers=32MB"];

impl Postgres {
    /// Starts a server with one empty database.
    ///
    /// # Errors
    /// If PostgreSQL is not installed or does not start; the message says what to do.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with settings of one's own, such as `fsync=on`.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        let settings: Vec<String> =
            SETTINGS.iter().chain(settings).map(|&setting| setting.to_owned()).collect();
        let directory = tempfile::Builder::new().prefix("baton-postgres-").tempdir()?;
        if rustix::process::getuid().is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let data = directory.path().join("data");
        let made = unprivileged(Command::new(program("initdb")?))
            .args(["--username=baton", "--auth=trust", "--no-sync", "--encoding=UTF8"])
            .args(["--locale=C", "--pgdata"])
            .arg(&data)
            .output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let (watcher, server) = launch(directory.path(), directory.path(), &settings)?;
        let postgres = Self { directory, settings, moved: None, watcher, server };
        postgres.wait()?;
        Ok(postgres)
    }

    /// Returns the address of its database.
    #[must_use]
    pub fn url(&self) -> String {
        let host = self.place().display().to_string().replace('/', "%2F");
        format!("postgres://baton@{host}/postgres")
    }

    /// Makes an empty database and returns its address.
    ///
    /// # Errors
    /// If there is one of this name.
    pub fn database(&self, name: &str) -> anyhow::Result<String> {
        let made = Command::new(program("createdb")?)
            .args(["--username=baton", "--host"])
            .arg(self.place())
            .arg(name)
            .output()?;
        ensure!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        let url = self.url();
        Ok(format!("{}/{name}", url.strip_suffix("/postgres").unwrap_or(&url)))
    }

    /// Kills the server at once, as `kill -9` does, and starts it again on the same data.
    ///
    /// # Errors
    /// If it does not start.
    pub fn crash(&mut self) -> anyhow::Result<()> {
        let children = self.children()?;
        kill_process(self.server, Signal::KILL)?;
        self.watcher.wait()?;
        // Their memory is the next server's: it does not start while one of them has it.
        for child in children {
            while kill_process(child, Signal::KILL).is_ok() {
                std::thread::yield_now();
            }
        }
        self.restart()
    }

    /// Ends the server at once, as `pg_ctl -m immediate` does, and starts it again on the same data.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart_at_once(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.restart()
    }

    /// Ends the server at once.
    ///
    /// # Errors
    /// If it is gone.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        kill_process(self.server, Signal::QUIT)?;
        self.watcher.wait()?;
        Ok(())
    }

    /// Starts the server again on the same data.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let (watcher, server) = launch(self.directory.path(), self.place(), &self.settings)?;
        (self.watcher, self.server) = (watcher, server);
        self.wait()
    }

    /// Returns the directory of its socket.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.moved.as_ref().map_or(self.directory.path(), TempDir::path)
    }

    /// Starts the server again on the same data, reached at another place.
    ///
    /// # Errors
    /// If it does not start.
    pub fn move_and_restart(&mut self) -> anyhow::Result<()> {
        let place = tempfile::Builder::new().prefix("baton-postgres-").tempdir()?;
        if rustix::process::getuid().is_root() {
            chown(place.path(), Some(NOBODY), Some(NOBODY))?;
        }
        self.moved = Some(place);
        self.restart()
    }

    /// Freezes it with all that it has started: connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// If it is gone.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// If it is gone.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Signals the server and its children, which are groups of their own.
    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.server, signal)?;
        for child in self.children()? {
            // One that ended meanwhile needs none.
            let _ = kill_process(child, signal);
        }
        Ok(())
    }

    fn children(&self) -> anyhow::Result<Vec<Pid>> {
        let server = self.server.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"))?;
        let pid = |child: &str| child.parse().ok().and_then(Pid::from_raw);
        Ok(children.split_whitespace().filter_map(pid).collect())
    }

    fn wait(&self) -> anyhow::Result<()> {
        let ready = Command::new("timeout")
            .args(["30", "sh", "-c", r#"until "$@"; do sleep 0.02; done"#, "sh"])
            .arg(program("pg_isready")?)
            .args(["--quiet", "--host"])
            .arg(self.place())
            .status()?;
        ensure!(ready.success(), "PostgreSQL did not start: {}", self.log());
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // Its files go with the directory; nobody is left to tell if they cannot.
        let _ = self.watcher.wait();
    }
}

fn launch(directory: &Path, place: &Path, settings: &[String]) -> anyhow::Result<(Child, Pid)> {
    let mut sh = unprivileged(Command::new("sh"));
    sh.args(["-c", WATCHED, "sh"]).arg(program("postgres")?);
    sh.arg("-D").arg(directory.join("data")).arg("-k").arg(place);
    for setting in settings {
        sh.args(["-c", setting]);
    }
    let log = std::fs::File::create(directory.join("log"))?;
    let mut watcher = sh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
    let mut line = String::new();
    let stdout = watcher.stdout.take().context("no pipe")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    let server = line.trim().parse().ok().and_then(Pid::from_raw).context("no process id")?;
    Ok((watcher, server))
}

fn unprivileged(mut command: Command) -> Command {
    if rustix::process::getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // A directory that everybody may be in.
    command.current_dir("/");
    command
}

/// Finds a program of PostgreSQL on the path, or where Debian puts it.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    match places.into_iter().map(|place| place.join(name)).find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => {
            bail!("{name} is not installed: run scripts/test.sh, or apt-get install postgresql")
        }
    }
}
