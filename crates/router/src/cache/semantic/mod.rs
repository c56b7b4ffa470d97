//! Answers that are given again to a question in other words. Off unless a route is named for it.
//!
//! A question's vector is bought as every answer is; here it is compared with those of questions whose
//! calls differ in nothing else. Questions lie in this process's memory alone, their answers where all
//! kept answers do.

mod index;
mod question;
mod words;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proto::router::Dialect;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::{Clock as _, SystemClock};

use self::index::{Asked, Index, Vector};
use super::key::Key;
use super::{Form, SemanticConfig};
use crate::Error;
use crate::catalog::Catalog;
use crate::request::ChatRequest;

/// So many vectors are waited for at once: where they are late, further calls do without.
const AT_ONCE: usize = 64;

/// Questions that were answered.
pub(super) struct Semantic {
    config: SemanticConfig,
    index: Index,
    turns: Arc<Semaphore>,
}

impl Semantic {
    /// Opens what the configuration says; nothing when no route is named.
    pub(super) fn open(config: &SemanticConfig, ttl: Duration) -> Option<Arc<Self>> {
        if config.routes.is_empty() {
            return None;
        }
        let index = Index::new(config.max_bytes, config.max_questions, ttl);
        let (config, turns) = (config.clone(), Arc::new(Semaphore::new(AT_ONCE)));
        Some(Arc::new(Self { config, index, turns }))
    }

    /// Returns the question of a call, if it may be answered as another; `scope` hashes a call's body
    /// with all that is beside it.
    pub(super) fn question(
        self: &Arc<Self>,
        request: &ChatRequest,
        catalog: &Arc<Catalog>,
        scope: impl FnOnce(&Map<String, Value>) -> Sha256,
    ) -> Option<Arc<Question>> {
        if !self.config.routes.contains(&request.model) {
            return None;
        }
        let longest = self.config.max_text_bytes;
        let (text, rest) = question::take(request.dialect, request.body()?, longest)?;
        let (scope, catalog) = (scope(&rest), Arc::clone(catalog));
        let (semantic, vector) = (Arc::clone(self), OnceLock::new());
        Some(Arc::new(Question { text, scope, vector, catalog, semantic }))
    }
}

/// What a call asks, which others may ask in other words.
pub(crate) struct Question {
    text: String,
    /// All of its call but the text and the form.
    scope: Sha256,
    /// Unknown until a model has said it.
    vector: OnceLock<Vector>,
    catalog: Arc<Catalog>,
    semantic: Arc<Semantic>,
}

impl Question {
    /// Returns the request for its vector, and with what it is planned.
    ///
    /// # Errors
    /// As [`ChatRequest::parse`].
    pub(crate) fn embeddings(&self) -> Result<(ChatRequest, &Catalog), Error> {
        let body = json!({ "model": self.semantic.config.embeddings, "input": self.text });
        let request = ChatRequest::parse(body.to_string().as_bytes(), Dialect::Embeddings)?;
        Ok((request, &self.catalog))
    }

    /// Returns how long a call waits for its vector.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_millis(self.semantic.config.wait_ms)
    }

    /// Returns a place among those that ask for vectors, if one is free.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.semantic.turns).try_acquire_owned().ok()
    }

    /// Reads its vector in what a model answered, by whose name it goes.
    pub(crate) fn learn(&self, by: String, answer: &Value) {
        if let Some(vector) = Vector::read(by, answer) {
            // Nobody else says it.
            let _ = self.vector.set(vector);
        }
    }

    /// Returns where the answer of the nearest question is, and how near that is.
    pub(super) fn nearest(&self, form: Form) -> Option<(Key, f64)> {
        let (index, threshold) = (&self.semantic.index, self.semantic.config.threshold);
        let (key, now) = (form.key(&self.scope), SystemClock.now_ms());
        index.nearest(&key, &self.text, self.vector.get()?, threshold, now)
    }

    /// Notes where its answer is, if its vector is known.
    pub(super) fn keep(&self, form: Form, answer: Key, until_ms: i64) {
        let Some(vector) = self.vector.get().cloned() else { return };
        let asked = Asked { text: self.text.clone(), vector, answer, until_ms };
        self.semantic.index.keep(form.key(&self.scope), asked, SystemClock.now_ms());
    }
}
