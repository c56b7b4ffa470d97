//! A collection goes to another model while the vectors of the one before serve.

use proto::retriever::Job;
use types::{CallContext, Classify as _, ErrorKind, Privacy};

use super::vectors::Model;
use super::{Collection, Store};
use crate::Error;
use crate::index::{Entries, Scope};
use crate::jobs::Finished;
use crate::rows::{Hashed, Next};

impl Collection<'_> {
    /// Begins a job that makes vectors of the configured model for every document; whoever `context` names pays.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it has such vectors, or nothing in it, or such a job.
    pub(crate) async fn begin_reindex(&self, context: &CallContext) -> Result<Job, Error> {
        let collection = self.store.rows.collection(&self.scope).await?;
        let configured = self.configured(context).await?;
        let model = configured.as_ref().map_or("", |model| &model.identity);
        let name = &self.scope.collection;
        if collection.is_empty {
            let fault =
                format!("collection {name:?} is empty, and takes the configured model by itself");
            return Err(Error::Conflict(fault));
        }
        if collection.model == model {
            let fault =
                format!("collection {name:?} has the vectors of the configured model already");
            return Err(Error::Conflict(fault));
        }
        self.store.queue.reindex(&self.scope, context, model).await
    }

    /// Makes the vectors that a document will have, and keeps them; the old ones serve on.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another model is configured by now.
    pub(crate) async fn prepare(
        &self,
        context: &CallContext,
        document: &str,
        model: &str,
    ) -> Result<(), Error> {
        let next = self.next_model(context, model).await?;
        self.prepared(context, document, next.as_ref()).await?;
        Ok(())
    }

    /// As [`Self::switch`], unless somebody in another process is at it, or has been.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn switch_alone(&self, job: &Finished) -> Result<(), Error> {
        let Store { database, queue, .. } = self.store;
        let name = format!("retriever\nswitch\n{}", job.id);
        let Some(_lock) = database.try_lock(&name).await? else { return Ok(()) };
        match queue.bare(&self.scope.tenant, job.id.as_str()).await?.switched {
            true => Ok(()),
            false => self.switch(job).await,
        }
    }

    /// Makes the vectors of a job's model the collection's. Searches find by the old ones until they find by the new.
    /// What came since the job began is embedded first.
    ///
    /// # Errors
    /// What keeps it from that; nothing changed.
    async fn switch(&self, job: &Finished) -> Result<(), Error> {
        let model = self.next_model(&job.context, &job.model).await?;
        // Most of what is missing is embedded while others may write.
        for id in self.store.rows.ids(&self.scope).await? {
            self.prepared_for(job, &id, model.as_ref()).await?;
        }
        let _writing = self.writing().await?;
        let before = self.current().await?;
        let after = Scope { generation: before.generation + 1, ..before.clone() };
        // What an attempt before left is none of it.
        self.store.indexes.remove(&after).await?;
        let index = self.store.indexes.open(&after).await?;
        let mut next = Next { model: (job.model.clone(), 0), hashes: Vec::new() };
        for id in self.store.rows.ids(&self.scope).await? {
            let prepared = self.prepared_for(job, &id, model.as_ref()).await?;
            let Some((mut entries, vectors)) = prepared else { continue };
            for (entry, (_, vector)) in entries.passages.iter_mut().zip(&vectors) {
                next.model.1 = u32::try_from(vector.len()).unwrap_or(u32::MAX);
                entry.vector = Some(vector.clone());
            }
            if vectors.is_empty() {
                entries.passages.iter_mut().for_each(|entry| entry.vector = None);
            }
            next.hashes.push((id.clone(), vectors.into_iter().map(|(hash, _)| hash).collect()));
            index.replace(&id, entries).await?;
        }
        if let Err(fault) = self.store.rows.switch(&before, &next, &job.id).await {
            // No other attempt follows when its job is gone. Otherwise the next one removes it, if there is one: the
            // rows may have gone over all the same.
            if matches!(fault, Error::Lost) {
                self.store.indexes.remove(&after).await?;
            }
            return Err(fault);
        }
        let ended = Collection { store: self.store, scope: before };
        if let Err(fault) = ended.reindex("").await {
            tracing::warn!(%fault, "the index of the model before is removed later");
        }
        Ok(())
    }

    /// As [`Self::prepared`]; a document that cannot be embedded is told of in the job.
    async fn prepared_for(
        &self,
        job: &Finished,
        document: &str,
        model: Option<&Model>,
    ) -> Result<Option<(Entries, Vec<Hashed>)>, Error> {
        let prepared = self.prepared(&job.context, document, model).await;
        if let Err(fault) = &prepared
            && !matches!(fault.kind(), ErrorKind::Unavailable | ErrorKind::RateLimited)
        {
            self.store.queue.refuse(&self.scope, &job.id, document, &fault.to_string()).await?;
        }
        prepared
    }

    /// Returns what is indexed of a document and the vectors that its passages will have, which are kept; none when it
    /// is not there.
    async fn prepared(
        &self,
        context: &CallContext,
        document: &str,
        model: Option<&Model>,
    ) -> Result<Option<(Entries, Vec<Hashed>)>, Error> {
        let rows = &self.store.rows;
        let Some((found, _)) = rows.find(&self.scope, document).await? else { return Ok(None) };
        let Some(entries) = rows.entries(&self.scope, document).await? else { return Ok(None) };
        let Some(model) = model else { return Ok(Some((entries, Vec::new()))) };
        let mut context = context.clone();
        if found.private {
            context.privacy = Privacy::Private;
        }
        let texts: Vec<String> = entries.passages.iter().map(|entry| entry.text.clone()).collect();
        let vectors = self.vectors(&context, model, &texts, true).await?;
        Ok(Some((entries, vectors)))
    }

    /// Returns the configured model, if it is the one that a job began for.
    async fn next_model(&self, context: &CallContext, model: &str) -> Result<Option<Model>, Error> {
        let configured = self.configured(context).await?;
        let is = configured.as_ref().map_or("", |model| &model.identity);
        match is == model {
            true => Ok(configured),
            false => Err(Error::Conflict(
                "another model was configured since: begin the re-index again".to_owned(),
            )),
        }
    }
}
