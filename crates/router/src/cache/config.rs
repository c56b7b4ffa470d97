use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;

/// Which answers are kept and given again, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// For what `routes` does not name.
    pub mode: CacheMode,
    /// How long an answer is kept, in milliseconds.
    pub ttl_ms: u64,
    /// How many bytes are kept in memory.
    pub max_bytes: u64,
    /// The largest answer that is kept, in bytes.
    pub max_entry_bytes: usize,
    /// By what a request calls its `model`: a route or a model.
    pub routes: BTreeMap<String, CacheMode>,
    /// Which are given again to questions in other words.
    pub semantic: SemanticConfig,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            mode: CacheMode::Off,
            ttl_ms: 3_600_000,
            max_bytes: 64 * 1024 * 1024,
            max_entry_bytes: 1024 * 1024,
            routes: BTreeMap::new(),
            semantic: SemanticConfig::default(),
        }
    }
}

/// Which answers are given again to questions in other words.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SemanticConfig {
    /// Those of calls whose `model` is one of these; of none by default.
    pub routes: BTreeSet<String>,
    /// The route or model that embeds questions.
    pub embeddings: String,
    /// How near two questions must be at least: the cosine of their vectors, 0.5 to 1.
    pub threshold: f64,
    /// How long a call waits for its question's vector, in milliseconds.
    pub wait_ms: u64,
    /// The longest question in bytes. A model that embeds reads no more than it can, and says nothing
    /// of the rest: longer ones that begin alike would be the same to it.
    pub max_text_bytes: usize,
    /// How many bytes the questions take in memory, with their vectors.
    pub max_bytes: u64,
    /// How many questions are compared: those of calls that differ in nothing else.
    pub max_questions: usize,
}

impl Default for SemanticConfig {
    fn default() -> Self {
        Self {
            routes: BTreeSet::new(),
            embeddings: String::new(),
            threshold: 0.97,
            wait_ms: 250,
            max_text_bytes: 1_024,
            max_bytes: 32 * 1024 * 1024,
            max_questions: 256,
        }
    }
}

/// For which calls answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// For none, whatever a call asks for.
    Off,
    /// For those that ask for it.
    Asked,
    /// For all but those that ask for none.
    Always,
}

impl CacheConfig {
    /// Returns whether there is nothing to keep.
    pub(crate) fn is_off(&self) -> bool {
        let off = |mode: &CacheMode| *mode == CacheMode::Off;
        off(&self.mode) && self.routes.values().all(off)
    }

    /// Checks that what is named is there.
    ///
    /// # Errors
    /// If it is not, or no question would ever be answered as another.
    pub(crate) fn check(&self, catalog: &Catalog) -> anyhow::Result<()> {
        for name in self.routes.keys() {
            if !catalog.knows(name) {
                bail!("router.cache.routes.{name}: neither a route nor a model");
            }
        }
        let semantic = &self.semantic;
        for name in &semantic.routes {
            let keeps = catalog.knows(name) && self.mode(name) != CacheMode::Off;
            ensure!(keeps, "router.cache.semantic.routes: no answers of {name:?} are kept");
        }
        if !semantic.routes.is_empty() {
            let (embeddings, threshold) = (&semantic.embeddings, semantic.threshold);
            let embeds = catalog.embeds(embeddings);
            ensure!(embeds, "router.cache.semantic.embeddings: {embeddings:?} embeds nothing");
            let is_near = (0.5..=1.0).contains(&threshold);
            ensure!(is_near, "router.cache.semantic.threshold: {threshold} is not 0.5 to 1");
        }
        Ok(())
    }

    /// Returns the mode of what a request calls its `model`.
    pub(crate) fn mode(&self, model: &str) -> CacheMode {
        self.routes.get(model).copied().unwrap_or(self.mode)
    }
}
