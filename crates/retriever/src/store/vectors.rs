//! A collection's model, and what it makes of texts.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use types::{CallContext, Clock as _, SystemClock};

use super::Collection;
use crate::Error;
use crate::embed::{Embedder, Side, normalise};
use crate::rows::{self, Hashed};

/// A model and which one it is.
pub(super) struct Model {
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) identity: Arc<str>,
}

impl Collection<'_> {
    /// Returns the model that texts of this collection go through; none when it has no vectors.
    ///
    /// # Errors
    /// [`Error::Conflict`] if its vectors are of a model that is not the configured one, [`Error::Model`] while nobody
    /// can say which that is.
    pub(super) async fn model(
        &self,
        context: &CallContext,
        collection: &rows::Collection,
    ) -> Result<Option<Model>, Error> {
        if !collection.is_empty && collection.model.is_empty() {
            return Ok(None);
        }
        let configured = self.configured(context).await?;
        let is = configured.as_ref().map_or("", |model| &model.identity);
        if collection.is_empty || collection.model == is {
            return Ok(configured);
        }
        for embedder in &self.store.models.former {
            let identity = embedder.identity(context).await?;
            if collection.model == *identity {
                return Ok(Some(Model { embedder: Arc::clone(embedder), identity }));
            }
        }
        let (has, is, name) = (named(&collection.model), named(is), &self.scope.collection);
        Err(Error::Conflict(format!(
            "collection {name:?} has vectors of {has}, and {is} is configured: re-index it, or configure that model, \
             which may be one of retriever.former_embeddings"
        )))
    }

    /// Returns the configured model.
    pub(super) async fn configured(&self, context: &CallContext) -> Result<Option<Model>, Error> {
        Ok(match &self.store.models.embedder {
            Some(embedder) => {
                let identity = embedder.identity(context).await?;
                Some(Model { embedder: Arc::clone(embedder), identity })
            }
            None => None,
        })
    }

    /// Returns the vectors of some wordings of a question, of length 1.
    ///
    /// # Errors
    /// [`Error::Conflict`] if one has not as many numbers as the collection's.
    pub(super) async fn queries(
        &self,
        context: &CallContext,
        model: &Model,
        collection: &rows::Collection,
        queries: &[String],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let mut vectors = model.embedder.embed(context, queries.to_vec(), Side::Query).await?;
        vectors.iter_mut().for_each(|vector| normalise(vector));
        let has = collection.dimension as usize;
        match vectors.iter().find(|vector| vector.len() != has) {
            None => Ok(vectors),
            Some(vector) => {
                let (name, model) = (&self.scope.collection, named(&model.identity));
                Err(Error::Conflict(format!(
                    "collection {name:?} has vectors of {has} numbers, and {model} gives {} now",
                    vector.len()
                )))
            }
        }
    }

    /// Returns the vectors of some texts; what the tenant has already is not embedded again, nor what was `kept` before:
    /// as soon as it comes, where that is asked for.
    pub(super) async fn vectors(
        &self,
        context: &CallContext,
        model: &Model,
        texts: &[String],
        kept: bool,
    ) -> Result<Vec<Hashed>, Error> {
        let hash = |text: &String| -> [u8; 32] {
            Sha256::new_with_prefix(&*model.identity)
                .chain_update("\0")
                .chain_update(text)
                .finalize()
                .into()
        };
        let hashes: Vec<[u8; 32]> = texts.iter().map(hash).collect();
        let rows = &self.store.rows;
        let mut known = rows.vectors(&self.scope, &hashes).await?;
        let mut asked = HashSet::new();
        let missing: Vec<([u8; 32], &String)> = hashes
            .iter()
            .copied()
            .zip(texts)
            .filter(|(hash, _)| !known.contains_key(hash) && asked.insert(*hash))
            .collect();
        for some in missing.chunks(model.embedder.at_once()) {
            let texts = some.iter().map(|(_, text)| (*text).clone()).collect();
            let mut vectors = model.embedder.embed(context, texts, Side::Document).await?;
            vectors.iter_mut().for_each(|vector| normalise(vector));
            let new: Vec<_> = some.iter().map(|(hash, _)| *hash).zip(vectors).collect();
            if kept {
                rows.keep(&self.scope, &new, SystemClock.now_ms()).await?;
            }
            known.extend(new);
        }
        let vector = |hash: [u8; 32]| Some((hash, known.get(&hash)?.clone()));
        let vectors: Option<Vec<_>> = hashes.into_iter().map(vector).collect();
        vectors.ok_or_else(|| Error::Broken("the model gave fewer vectors than texts".into()))
    }
}

/// Shows a model's identity: the hash of a local one, or the name of one behind the router.
fn named(identity: &str) -> String {
    match identity {
        "" => "no model".to_owned(),
        name if name.contains('/') => format!("model {name}"),
        hash => format!("model {}", hash.get(..12).unwrap_or(hash)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use types::{ErrorKind, TenantId, UserId};

    use super::*;
    use crate::Config;
    use crate::embed::Fault;
    use crate::index::Memory;
    use crate::store::{Models, Store};

    /// Sells two vectors a request, and refuses one that has "bad" in it.
    #[derive(Debug, Default)]
    struct Seller(Mutex<Vec<Vec<String>>>);

    #[async_trait]
    impl Embedder for Seller {
        async fn identity(&self, _: &CallContext) -> Result<Arc<str>, Fault> {
            Ok("a/seller".into())
        }

        async fn embed(
            &self,
            _: &CallContext,
            texts: Vec<String>,
            _: Side,
        ) -> Result<Vec<Vec<f32>>, Fault> {
            self.0.lock().unwrap().push(texts.clone());
            if texts.iter().any(|text| text == "bad") {
                let status = runtime::error::status(ErrorKind::Unavailable, "not now");
                return Err(Fault::Refused { model: "seller".to_owned(), status });
            }
            Ok(texts.iter().map(|text| vec![text.len() as f32, 0.0]).collect())
        }

        fn is_bought(&self) -> bool {
            true
        }

        fn at_once(&self) -> usize {
            2
        }
    }

    #[tokio::test]
    async fn what_one_request_bought_is_kept_when_the_next_fails() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::at(&directory.path().join("r.db"));
        let seller = Arc::new(Seller::default());
        let models = Models { embedder: Some(seller.clone()), ..Models::default() };
        let store = Store::open(&config, Arc::new(Memory::default()), models).await.unwrap();
        let context = CallContext::new(TenantId::new("t").unwrap(), UserId::new("u").unwrap());
        let collection = store.collection(context.tenant.clone(), String::new()).unwrap();
        let model = Model { embedder: seller.clone(), identity: "a/seller".into() };
        let ask = async |texts: [&str; 3]| {
            let texts = texts.map(str::to_owned);
            collection.vectors(&context, &model, &texts, true).await
        };
        ask(["a", "b", "bad"]).await.unwrap_err();
        assert_eq!(ask(["a", "b", "c"]).await.unwrap().len(), 3);
        assert_eq!(*seller.0.lock().unwrap(), [vec!["a", "b"], vec!["bad"], vec!["c"]]);
    }
}
