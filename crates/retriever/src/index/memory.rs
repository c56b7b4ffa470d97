//! Indexes in this process's memory, to be filled from the documents' rows at its start.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use super::embedded::{Embedded, ReadDocument};
use super::{Entries, Found, Index, Indexes, Query, Scope};
use crate::Error;

/// One index for each collection.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    collections: RwLock<HashMap<Scope, Arc<Collection>>>,
}

#[derive(Debug, Default)]
struct Collection(Arc<RwLock<Embedded>>);

#[async_trait]
impl Indexes for Memory {
    async fn open(&self, scope: &Scope) -> Result<Arc<dyn Index>, Error> {
        let known = self.collections.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.get(scope) {
            return Ok(index.clone());
        }
        drop(known);
        let mut known = self.collections.write().unwrap_or_else(PoisonError::into_inner);
        Ok(known.entry(scope.clone()).or_default().clone())
    }

    async fn remove(&self, scope: &Scope) -> Result<(), Error> {
        self.collections.write().unwrap_or_else(PoisonError::into_inner).remove(scope);
        Ok(())
    }

    fn outlives(&self) -> bool {
        false
    }
}

#[async_trait]
impl Index for Collection {
    async fn replace(&self, document: &str, entries: Entries) -> Result<(), Error> {
        let document = document.to_owned();
        self.apart(move |one| {
            let read = ReadDocument::new(entries);
            one.write().unwrap_or_else(PoisonError::into_inner).replace(&document, read);
        })
        .await
    }

    async fn remove(&self, document: &str) -> Result<(), Error> {
        let document = document.to_owned();
        self.apart(move |one| {
            one.write().unwrap_or_else(PoisonError::into_inner).remove(&document);
        })
        .await
    }

    async fn search(&self, query: Query) -> Result<Found, Error> {
        self.apart(move |one| one.read().unwrap_or_else(PoisonError::into_inner).search(&query))
            .await
    }

    async fn len(&self) -> Result<u64, Error> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }
}

impl Collection {
    /// Works apart from the threads that serve: a search of many passages takes milliseconds.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&RwLock<Embedded>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let one = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&one));
        done.await.map_err(|fault| Error::Broken(fault.into()))
    }
}
