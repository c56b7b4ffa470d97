use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the orchestrator needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The SQLite file of journals, files and batches; made when missing.
    pub journal: PathBuf,
    /// How questions are answered.
    pub answers: Answers,
    /// How batches are worked on.
    pub batch: Batch,
    /// How models call tools.
    pub tools: Tools,
    /// Where the other services are, when they are other processes.
    pub peers: PeerAddresses,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            journal: "data/journal.db".into(),
            answers: Answers::default(),
            batch: Batch::default(),
            tools: Tools::default(),
            peers: PeerAddresses::default(),
        }
    }
}

/// How models call tools.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tools {
    /// How often a model is asked at most in one conversation, at least twice; the last time it may ask
    /// for no tool.
    pub steps: u32,
    /// How many calls of one turn are made at once.
    pub concurrency: usize,
    /// How much of a result a model is told, in bytes.
    pub result_bytes: usize,
}

impl Default for Tools {
    fn default() -> Self {
        Self { steps: 8, concurrency: 4, result_bytes: 64 * 1024 }
    }
}

impl Tools {
    /// Refuses what would never call a tool.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let Self { steps, concurrency, .. } = self;
        anyhow::ensure!(*steps >= 2, "orchestrator.tools.steps: {steps} is below 2");
        anyhow::ensure!(*concurrency >= 1, "orchestrator.tools.concurrency: 0 is below 1");
        Ok(())
    }
}

/// How questions are answered.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// About so many tokens the passages have that a model is given, at most; fewer where a candidate takes less.
    pub context_tokens: u64,
    /// What is less sure is no answer, 0 to 1; 0 takes whatever cites something.
    pub least_confidence: f64,
}

impl Default for Answers {
    fn default() -> Self {
        Self { context_tokens: 6000, least_confidence: 0.4 }
    }
}

impl Answers {
    /// Refuses what never could be met.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        let Self { context_tokens, least_confidence } = self;
        anyhow::ensure!(context_tokens > 0, "orchestrator.answers.context_tokens: 0 is below 1");
        anyhow::ensure!(
            (0.0..=1.0).contains(&least_confidence),
            "orchestrator.answers.least_confidence: {least_confidence} is not 0 to 1"
        );
        Ok(())
    }
}

/// How batches are worked on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// How many requests of one batch are in flight at most.
    pub concurrency: usize,
    /// How many batches this process works on at once.
    pub batches: usize,
    /// How often a request is tried that nobody could answer for now; waits double from a second.
    pub attempts: u32,
    /// How long one attempt may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long at most between two looks at a provider's batch, in milliseconds; a second at first.
    pub poll_ms: u64,
    /// How long a batch waits for a process that was killed, in milliseconds; at least 100.
    pub lease_ms: u64,
    /// How long a shutdown waits for requests in flight, in milliseconds.
    pub shutdown_ms: u64,
    /// After how many days files are removed.
    pub files_expire_days: u32,
    /// How many bytes the files of a tenant may have when it uploads another one.
    pub tenant_bytes: u64,
    /// How often what is over is removed, in milliseconds.
    pub sweep_ms: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            concurrency: 4,
            batches: 8,
            attempts: 6,
            request_timeout_ms: 300_000,
            poll_ms: 60_000,
            lease_ms: 10_000,
            shutdown_ms: 30_000,
            files_expire_days: 30,
            tenant_bytes: 10 * 1024 * 1024 * 1024,
            sweep_ms: 60_000,
        }
    }
}

impl Batch {
    /// Refuses what would never get anything done.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let counts = [
            ("concurrency", self.concurrency as u64, 1),
            ("batches", self.batches as u64, 1),
            ("attempts", self.attempts.into(), 1),
            ("request_timeout_ms", self.request_timeout_ms, 1),
            ("poll_ms", self.poll_ms, 1),
            ("lease_ms", self.lease_ms, 100),
            ("files_expire_days", self.files_expire_days.into(), 1),
            ("sweep_ms", self.sweep_ms, 1),
        ];
        for (name, given, least) in counts {
            anyhow::ensure!(given >= least, "orchestrator.batch.{name}: {given} is below {least}");
        }
        Ok(())
    }
}

/// Addresses such as `http://127.0.0.1:50051`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerAddresses {
    /// Models.
    pub router: String,
    /// Documents.
    pub retriever: String,
    /// Tools.
    pub bridge: String,
}

impl Default for PeerAddresses {
    fn default() -> Self {
        Self {
            router: "http://127.0.0.1:50051".to_owned(),
            retriever: "http://127.0.0.1:50052".to_owned(),
            bridge: "http://127.0.0.1:50054".to_owned(),
        }
    }
}
