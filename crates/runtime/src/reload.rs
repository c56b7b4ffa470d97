//! A configuration that is read again: on SIGHUP, and when a file that it came from has changed.
//!
//! Files are looked at, not watched: their content is compared twice a second. That sees what an editor
//! writes in place as well as links that are swapped, as Kubernetes does with a ConfigMap, and takes a
//! file only once it is the same twice in a row.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::MissedTickBehavior;

use crate::config::Given;
use crate::metrics::Metrics;

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(500);

type Labels = Vec<(&'static str, &'static str)>;

/// The configuration of a running process.
#[allow(missing_debug_implementations, reason = "a configuration has secrets")]
pub struct Reload {
    file: Option<PathBuf>,
    own: Option<String>,
    given: Given,
    /// What the file held when this was made.
    held: Option<Vec<u8>>,
    hangup: Hangup,
}

impl Reload {
    /// From now on SIGHUP does not end the process, and a change of the file counts: so this comes before
    /// the configuration is loaded. `own` is the section of a service that runs alone:
    /// what changes in those of others is nothing to it.
    ///
    /// # Errors
    /// If the file cannot be read, or the signal cannot be listened to.
    pub fn new(file: Option<&Path>, own: Option<&str>) -> anyhow::Result<Self> {
        let hangup = Hangup::new().context("SIGHUP")?;
        let own = own.map(str::to_owned);
        let held = file.and_then(|file| std::fs::read(file).ok());
        Ok(Self { file: file.map(Path::to_owned), own, given: Given::read(file)?, held, hangup })
    }

    /// Calls `apply` with the file whenever the configuration is to be read again; it returns the files
    /// that were read beside. What it refuses is logged and counted, and the old one stays. Changes to
    /// what is not among the keys `holds` are logged: they need a restart.
    pub async fn run(
        mut self,
        metrics: Metrics,
        holds: Vec<&'static str>,
        mut beside: Vec<PathBuf>,
        mut apply: impl FnMut(Option<&Path>) -> anyhow::Result<Vec<PathBuf>> + Send,
    ) {
        let help = "Configurations that were read again";
        let reloads: Family<Labels, Counter> =
            metrics.register("baton_config_reloads", help, Family::default());
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut changing) = (self.contents(&beside).await, None);
        if let (Some(_), Some(seen)) = (&self.file, seen.first_mut()) {
            *seen = self.held.take();
        }
        loop {
            tokio::select! {
                () = self.hangup.came() => seen = self.contents(&beside).await,
                _ = look.tick() => {
                    let now = self.contents(&beside).await;
                    if now == seen {
                        changing = None;
                        continue;
                    }
                    if changing.as_ref() != Some(&now) {
                        changing = Some(now);
                        continue;
                    }
                    seen = now;
                }
            }
            changing = None;
            let file = self.file.as_ref().map(|file| file.display().to_string());
            let file = file.unwrap_or_default();
            let outcome = match self.again(&holds, &mut apply) {
                Ok((files, unheld)) => {
                    tracing::info!(file, "the configuration was read again");
                    if !unheld.is_empty() {
                        let keys = unheld.join(", ");
                        tracing::warn!(keys, "what changed here needs a restart to hold");
                    }
                    if files != beside {
                        beside = files;
                        seen = self.contents(&beside).await;
                    }
                    "applied"
                }
                Err(fault) => {
                    let fault = format!("{fault:#}");
                    tracing::error!(file, fault, "the configuration is refused, the old one stays");
                    "refused"
                }
            };
            reloads.get_or_create(&vec![("outcome", outcome)]).inc();
        }
    }

    /// Applies what is given now; returns the files beside, and the keys that need a restart.
    fn again(
        &mut self,
        holds: &[&str],
        apply: &mut impl FnMut(Option<&Path>) -> anyhow::Result<Vec<PathBuf>>,
    ) -> anyhow::Result<(Vec<PathBuf>, Vec<String>)> {
        let given = Given::read(self.file.as_deref())?;
        let files = apply(self.file.as_deref())?;
        let mut changed = given.changed_from(&self.given, self.own.as_deref());
        changed.retain(|key| {
            let below = |held: &&str| key.strip_prefix(*held).is_some_and(is_below);
            !holds.iter().any(below)
        });
        self.given = given;
        Ok((files, changed))
    }

    /// Returns what the files hold; nothing for one that is not there for now.
    async fn contents(&self, beside: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
        let mut contents = Vec::new();
        for file in self.file.iter().chain(beside) {
            contents.push(tokio::fs::read(file).await.ok());
        }
        contents
    }
}

fn is_below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('.')
}

#[cfg(unix)]
struct Hangup(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangup {
    fn new() -> std::io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map(Self)
    }

    async fn came(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn came(&mut self) {
        std::future::pending().await
    }
}
