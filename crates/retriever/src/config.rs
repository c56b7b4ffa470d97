use std::path::{Path, PathBuf};

use ipnet::IpNet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::fuse;

/// What the retriever needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where documents, passages and jobs are: a path or `sqlite:PATH`, made when missing, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE`, which any number of retrievers share if they share a Qdrant; printed
    /// without its password.
    #[serde(serialize_with = "runtime::address::without_password")]
    pub database: SecretString,
    /// How many connections to PostgreSQL are held at most, 4 or more: half of them by those who change collections, of
    /// which each is changed by one at a time; to re-index takes two.
    pub connections: u32,
    /// How long a call waits for a connection, in milliseconds.
    pub acquire_ms: u64,
    /// The largest document, in bytes.
    pub max_document_bytes: usize,
    /// The most passages that a document is cut into.
    pub max_document_passages: usize,
    /// What turns texts into vectors; without it documents are found by their words alone.
    pub embedding: Option<Embedding>,
    /// Models that were configured before: a collection with their vectors goes on with them until it is re-indexed.
    pub former_embeddings: Vec<Embedding>,
    /// Where passages are found; without it in this process's memory, filled at every start.
    pub qdrant: Option<Qdrant>,
    /// So many documents of ingest jobs are worked on at once.
    pub ingest_workers: usize,
    /// So many days the bytes of a document that failed in a job are kept for another attempt; 0: they are not.
    pub ingest_failed_days: u32,
    /// How documents are parsed.
    pub parsing: Parsing,
    /// How documents are fetched from addresses.
    pub fetch: Fetch,
    /// How the two scores of a passage become one; `baton eval` names the best weight for judged queries.
    pub fusion: Fusion,
    /// What reads the best passages together with the question; without it their scores decide.
    pub rerank: Option<Rerank>,
    /// What words questions differently; without it they are searched as they are.
    pub rewriting: Option<Rewriting>,
    /// Where the other services are, when they are other processes.
    pub peers: PeerAddresses,
}

/// Addresses such as `http://127.0.0.1:50051`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerAddresses {
    /// Models.
    pub router: String,
}

impl Default for PeerAddresses {
    fn default() -> Self {
        Self { router: "http://127.0.0.1:50051".to_owned() }
    }
}

/// How the two scores of a passage become one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fusion {
    /// Which way.
    pub method: Method,
    /// For `convex`: the cosine's weight, 0 to 1; the keyword score has the rest.
    pub dense_weight: f32,
    /// For `rrf`: how little the first ranks stand out, more than 0.
    pub k: f32,
}

/// A way to make one score of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Their weighted sum.
    Convex,
    /// The sum of reciprocal ranks.
    Rrf,
}

impl Default for Fusion {
    fn default() -> Self {
        Self { method: Method::Convex, dense_weight: fuse::DENSE_WEIGHT, k: fuse::K }
    }
}

impl Fusion {
    /// Returns the way that is chosen.
    pub(crate) fn chosen(self) -> fuse::Fusion {
        match self.method {
            Method::Convex => fuse::Fusion::Convex { dense_weight: self.dense_weight },
            Method::Rrf => fuse::Fusion::Rrf { k: self.k },
        }
    }

    fn check(self) -> anyhow::Result<()> {
        let Self { dense_weight, k, .. } = self;
        anyhow::ensure!(
            (0.0..=1.0).contains(&dense_weight),
            "retriever.fusion.dense_weight: {dense_weight} is not 0 to 1"
        );
        anyhow::ensure!(k.is_finite() && k > 0.0, "retriever.fusion.k: {k} is not more than 0");
        Ok(())
    }
}

/// An embedding model: a directory or a route, one of both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embedding {
    /// A directory in Hugging Face layout.
    pub model: Option<PathBuf>,
    /// A shared library of ONNX Runtime, which computes the directory's ONNX model; without it `model.safetensors` is
    /// computed here.
    pub onnxruntime: Option<PathBuf>,
    /// So many cores work at once at most; 0: all.
    pub threads: usize,
    /// A route of the router, or a model of it, that leads to one embedding model.
    pub route: Option<String>,
    /// So many texts it is asked for at once, 1 to 2048.
    pub batch: usize,
}

impl Default for Embedding {
    fn default() -> Self {
        Self { model: None, onnxruntime: None, threads: 0, route: None, batch: 64 }
    }
}

impl Embedding {
    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.model.is_some() != self.route.is_some(),
            "retriever.embedding: needs model (a directory) or route (one of the router), and not both"
        );
        anyhow::ensure!(
            self.onnxruntime.is_none() || self.model.is_some(),
            "retriever.embedding.onnxruntime: computes a model (a directory), and there is none"
        );
        let batch = self.batch;
        anyhow::ensure!(
            (1..=2048).contains(&batch),
            "retriever.embedding.batch: {batch} is not 1 to 2048"
        );
        Ok(())
    }
}

/// A reranker: a directory or an endpoint, one of both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rerank {
    /// A directory of a cross-encoder in Hugging Face layout, of the BERT family or in ONNX.
    pub model: Option<PathBuf>,
    /// A shared library of ONNX Runtime, as for an embedding model.
    pub onnxruntime: Option<PathBuf>,
    /// So many cores work at once at most; 0: all.
    pub threads: usize,
    /// A server on this machine, or in a network that is as good.
    pub endpoint: Option<Endpoint>,
    /// So many of the best passages are read; more when more are asked for.
    pub candidates: usize,
    /// So long it may take, in milliseconds; then the order stays what it was.
    pub deadline_ms: u64,
}

/// A server of rerankers that answers as Cohere's and Jina's do. It is local: what it reads does not leave, and
/// costs nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Such as `http://127.0.0.1:8081/v1/rerank`.
    pub url: String,
    /// What it calls its model.
    #[serde(default)]
    pub model: String,
    /// Sent as a bearer token.
    #[serde(default, skip_serializing)]
    pub api_key: Option<SecretString>,
    /// Networks that are as good as this machine, such as `10.1.0.0/16`.
    #[serde(default)]
    pub local_networks: Vec<IpNet>,
}

impl Default for Rerank {
    fn default() -> Self {
        Self {
            model: None,
            onnxruntime: None,
            threads: 0,
            endpoint: None,
            candidates: 50,
            deadline_ms: 10_000,
        }
    }
}

impl Rerank {
    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.model.is_some() != self.endpoint.is_some(),
            "retriever.rerank: needs model (a directory) or endpoint, and not both"
        );
        anyhow::ensure!(
            self.onnxruntime.is_none() || self.model.is_some(),
            "retriever.rerank.onnxruntime: computes a model (a directory), and there is none"
        );
        let (candidates, most) = (self.candidates, 1000);
        anyhow::ensure!(
            (1..=most).contains(&candidates),
            "retriever.rerank.candidates: {candidates} is not 1 to {most}"
        );
        anyhow::ensure!(self.deadline_ms > 0, "retriever.rerank.deadline_ms: 0 is less than 1");
        Ok(())
    }
}

/// A model behind the router that words questions differently.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewriting {
    /// A route of the router, or a model of it.
    pub route: String,
    /// So many other wordings are searched at most, 1 to 8.
    #[serde(default = "three")]
    pub queries: usize,
    /// Whether every search is worded differently that does not say otherwise.
    #[serde(default)]
    pub always: bool,
    /// So long it may take, in milliseconds; then the question is searched as it is.
    #[serde(default = "five_seconds")]
    pub deadline_ms: u64,
}

fn three() -> usize {
    3
}

fn five_seconds() -> u64 {
    5000
}

impl Rewriting {
    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.route.is_empty(), "retriever.rewriting.route: is empty");
        let queries = self.queries;
        anyhow::ensure!(
            (1..=8).contains(&queries),
            "retriever.rewriting.queries: {queries} is not 1 to 8"
        );
        anyhow::ensure!(self.deadline_ms > 0, "retriever.rewriting.deadline_ms: 0 is less than 1");
        Ok(())
    }
}

/// A Qdrant server or cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qdrant {
    /// Where its gRPC interface is, such as `http://qdrant:6334`.
    pub url: String,
    /// Its key, if it asks for one.
    #[serde(default, skip_serializing)]
    pub api_key: Option<SecretString>,
}

/// The processes that documents are parsed in, each for one of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parsing {
    /// The program that is started, whose `main` calls [`crate::parse_worker`]; none: documents are parsed
    /// in this process, unlimited. No configuration says it: see [`Config::isolated`].
    #[serde(skip)]
    pub program: Option<PathBuf>,
    /// So many documents are parsed at once.
    pub workers: usize,
    /// So much memory each may take, in bytes.
    pub memory_bytes: u64,
    /// So long each may keep a processor, in seconds.
    pub cpu_seconds: u64,
    /// So long each may take in all, in milliseconds.
    pub deadline_ms: u64,
}

/// How documents are fetched from addresses that users name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// Whether public addresses may be fetched from; otherwise only `local_networks`.
    pub public: bool,
    /// Networks that are as good as this machine, such as `10.1.0.0/16`: private documents, too, are fetched from there.
    /// This machine itself is none of them unless it stands here.
    pub local_networks: Vec<IpNet>,
    /// So long a document may take in all, in milliseconds.
    pub deadline_ms: u64,
}

impl Default for Fetch {
    fn default() -> Self {
        Self { public: true, local_networks: Vec::new(), deadline_ms: 30_000 }
    }
}

impl Default for Parsing {
    fn default() -> Self {
        Self {
            program: None,
            workers: 2,
            memory_bytes: 512 * 1024 * 1024,
            cpu_seconds: 30,
            deadline_ms: 120_000,
        }
    }
}

impl Parsing {
    fn check(&self) -> anyhow::Result<()> {
        let Self { workers, memory_bytes, cpu_seconds, deadline_ms, .. } = *self;
        for (name, value, least) in [
            ("workers", workers as u64, 1),
            ("memory_bytes", memory_bytes, 64 * 1024 * 1024),
            ("cpu_seconds", cpu_seconds, 1),
            ("deadline_ms", deadline_ms, 1),
        ] {
            anyhow::ensure!(
                value >= least,
                "retriever.parsing.{name}: {value} is less than {least}"
            );
        }
        anyhow::ensure!(workers <= 1024, "retriever.parsing.workers: {workers} is more than 1024");
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: "data/documents.db".into(),
            connections: 16,
            acquire_ms: 2_000,
            max_document_bytes: 10 * 1024 * 1024,
            max_document_passages: 50_000,
            embedding: None,
            former_embeddings: Vec::new(),
            qdrant: None,
            ingest_workers: 4,
            ingest_failed_days: 30,
            parsing: Parsing::default(),
            fetch: Fetch::default(),
            fusion: Fusion::default(),
            rerank: None,
            rewriting: None,
            peers: PeerAddresses::default(),
        }
    }
}

impl Config {
    /// Returns the defaults, with the documents in a SQLite file.
    #[must_use]
    pub fn at(database: &Path) -> Self {
        Self { database: database.display().to_string().into(), ..Self::default() }
    }

    /// Has this very program parse documents, each in a process of its own: for programs whose `main` calls
    /// [`crate::parse_worker`]. It is found also after its file was replaced.
    #[must_use]
    pub fn isolated(mut self) -> Self {
        self.parsing.program = Some("/proc/self/exe".into());
        self
    }

    /// Checks what types cannot say.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.parsing.check()?;
        anyhow::ensure!(
            self.fetch.deadline_ms > 0,
            "retriever.fetch.deadline_ms: 0 is less than 1"
        );
        anyhow::ensure!(self.ingest_workers > 0, "retriever.ingest_workers: 0 is less than 1");
        let connections = self.connections;
        anyhow::ensure!(
            connections > 3,
            "retriever.connections: {connections} is less than 4: half of them are for those who change collections, and \
             to re-index takes two of that half"
        );
        for embedding in self.embedding.iter().chain(&self.former_embeddings) {
            embedding.check()?;
        }
        if let Some(rerank) = &self.rerank {
            rerank.check()?;
        }
        if let Some(rewriting) = &self.rewriting {
            rewriting.check()?;
        }
        self.fusion.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_enough_to_re_index() {
        for (connections, is_enough) in [(0, false), (3, false), (4, true)] {
            let checked = Config { connections, ..Config::default() }.check();
            assert_eq!(checked.is_ok(), is_enough, "{connections}: {checked:?}");
        }
    }
}
