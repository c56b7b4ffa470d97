//! A Qdrant for tests: the server whose address is in `BATON_TEST_QDRANT`, or else its gRPC interface before the
//! local mode of Qdrant's own Python client.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

const PACKAGES: [&str; 2] = ["qdrant-client==1.20.0", "grpcio==1.85.3"];

/// A server; what we started ends with this.
#[derive(Debug)]
pub struct Qdrant {
    /// Where its gRPC interface is.
    pub url: String,
    child: Option<Child>,
}

impl Qdrant {
    /// Returns the server that is given, or starts one.
    ///
    /// # Errors
    /// If there is no Python, or its packages cannot be installed.
    #[allow(clippy::disallowed_methods, reason = "where tests run says what they may use")]
    pub async fn start() -> anyhow::Result<Self> {
        match std::env::var("BATON_TEST_QDRANT") {
            Ok(url) => Ok(Self { url, child: None }),
            Err(_) => Self::stand_in("127.0.0.1:0").await,
        }
    }

    /// Starts one of our own at an address, empty.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn stand_in(address: &str) -> anyhow::Result<Self> {
        static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
        let python = PYTHON.get_or_try_init(install).await?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/qdrant.py");
        let mut command = Command::new(python);
        command.arg(script).arg(address).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let said = child.stdout.take().context("no pipe")?;
        let url = BufReader::new(said).lines().next_line().await?;
        Ok(Self { url: url.context("the stand-in for Qdrant did not start")?, child: Some(child) })
    }

    /// Kills it; an error if it is not ours.
    ///
    /// # Errors
    /// If it is not ours, or cannot be killed.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.take().context("it is not ours")?.kill().await?)
    }
}

async fn install() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).context("tests run in a target directory")?;
    let place = target.join("tmp/qdrant");
    let python = place.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&place)).await?;
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(arguments).args(PACKAGES)).await?;
    Ok(python)
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().await?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
