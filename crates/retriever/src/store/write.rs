//! A document comes: cut, embedded, stored and indexed.

use proto::retriever::Document;
use sha2::{Digest as _, Sha256};
use types::{CallContext, Clock as _, LeaseId, Privacy, SystemClock};

use super::vectors::Model;
use super::{Collection, Put};
use crate::Error;
use crate::attributes::Attributes;
use crate::chunk::{Chunk, indexed};
use crate::hash::hex;
use crate::index::{Entries, Entry};
use crate::isolate::Cut;
use crate::rows::{Hashed, New, NewPassage, on_the_wire, passage_id};

impl Collection<'_> {
    /// Returns a document that is to be fetched, with what its address gives. One that does not say whether it is private
    /// is as private as what is stored of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the reason why it gives nothing.
    pub(crate) async fn fetch(&self, context: &CallContext, put: Put) -> Result<Put, Error> {
        let private = self.is_private(put.private, &self.document_id(&put.source)).await?;
        let privacy = if private { Privacy::Private } else { context.privacy };
        let fetched = self.store.fetcher.fetch(privacy, &put.source).await?;
        Ok(Put { media_type: fetched.media_type, content: fetched.content, ..put })
    }

    /// Stores and indexes a document in one transaction, in place of the one of the same source. Whoever `context`
    /// names pays for its vectors. Returns it, and false when all of it was there already.
    pub(crate) async fn put(
        &self,
        context: &CallContext,
        put: Put,
    ) -> Result<(Document, bool), Error> {
        self.write(context, put, None).await
    }

    /// As [`Self::put`], for whoever works on it for a job.
    ///
    /// # Errors
    /// Also [`Error::Lost`] if the lease is another's by now; nothing changed.
    pub(crate) async fn put_under(
        &self,
        context: &CallContext,
        lease: &LeaseId,
        put: Put,
    ) -> Result<(Document, bool), Error> {
        self.write(context, put, Some(lease)).await
    }

    async fn write(
        &self,
        context: &CallContext,
        put: Put,
        lease: Option<&LeaseId>,
    ) -> Result<(Document, bool), Error> {
        loop {
            // Another model's vectors may have become the collection's meanwhile.
            if let Some(done) = self.try_write(context, put.clone(), lease).await? {
                return Ok(done);
            }
        }
    }

    /// As [`Self::put`]; none when the collection has gone to another model meanwhile.
    async fn try_write(
        &self,
        context: &CallContext,
        put: Put,
        lease: Option<&LeaseId>,
    ) -> Result<Option<(Document, bool)>, Error> {
        let Put { source, media_type: given_type, content, attributes, private } = put;
        let media_type = self.store.check(&source, &given_type, &content)?;
        let collection = self.store.rows.collection(&self.scope).await?;
        let model = self.model(context, &collection).await?;
        let id = self.document_id(&source);
        let sha256 = hex(&Sha256::digest(&content));
        if let Some((document, there)) = self.store.rows.find(&self.scope, &id).await?
            && document.content_sha256 == sha256
            && document.media_type == media_type
            && there == attributes
            && private.is_none_or(|private| private == document.private)
        {
            return Ok(Some((document, false)));
        }
        let Cut { text, chunks } = self.cut(&source, media_type, &content).await?;
        let texts: Vec<String> =
            chunks.iter().map(|one| indexed(&one.headings, &text[one.range.clone()])).collect();
        let (_, private) = self.said(lease, (attributes.clone(), private)).await?;
        let privately = self.is_private(private, &id).await?;
        let vectors = self.embed(context, model.as_ref(), &texts, privately).await?;
        let passages = to_passages(&text, chunks, vectors);
        let mut writing = self.writing().await?;
        let current = self.current().await?;
        if current.generation != collection.generation {
            return Ok(None);
        }
        // Asked now that nobody else writes: silence does not lower what another has just raised.
        let (attributes, private) = self.said(lease, (attributes, private)).await?;
        let private = self.is_private(private, &id).await?;
        let document = Document {
            id,
            source,
            media_type: media_type.to_owned(),
            content_sha256: sha256,
            passages: u32::try_from(passages.len()).unwrap_or(u32::MAX),
            characters: text.chars().count() as u64,
            updated_at_ms: SystemClock.now_ms(),
            collection: self.scope.collection.clone(),
            private,
            attributes: on_the_wire(&attributes),
        };
        let bought = model.as_ref().is_some_and(|model| model.embedder.is_bought());
        let model = model_of(model.as_ref(), &passages);
        let new = New { document, attributes, text, passages, model, bought };
        self.store.rows.write(&self.scope, &new, lease).await?;
        let New { document, attributes, passages, .. } = new;
        let entries = to_entries(&document, &attributes, passages, texts);
        let index = self.store.indexes.open(&current).await?;
        let told = index.replace(&document.id, entries).await;
        self.told(&mut writing, &document.id, told).await?;
        Ok(Some((document, true)))
    }

    /// Returns what is said of a document by now, which may have changed since a job was told.
    async fn said(
        &self,
        lease: Option<&LeaseId>,
        told: (Attributes, Option<bool>),
    ) -> Result<(Attributes, Option<bool>), Error> {
        match lease {
            Some(lease) => self.store.queue.said(lease).await,
            None => Ok(told),
        }
    }

    /// Tells whether a document is private: as whoever sends it says, or else as what is stored of it.
    async fn is_private(&self, said: Option<bool>, id: &str) -> Result<bool, Error> {
        match said {
            Some(private) => Ok(private),
            None => {
                let there = self.store.rows.find(&self.scope, id).await?;
                Ok(there.is_some_and(|(there, _)| there.private))
            }
        }
    }

    /// Returns a document's text, cut into passages.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be read, or has too many of them.
    async fn cut(&self, source: &str, media_type: &str, content: &[u8]) -> Result<Cut, Error> {
        let cut = self.store.parsers.cut(source, media_type, content).await?;
        let (is, most) = (cut.chunks.len(), self.store.max_passages);
        if is > most {
            let fault =
                format!("{source:?} has {is} passages, at most {most} are allowed: split it");
            return Err(Error::Invalid(fault));
        }
        Ok(cut)
    }

    /// Returns the vectors of a document's passages, made as privately as it is; none of each without a model.
    async fn embed(
        &self,
        context: &CallContext,
        model: Option<&Model>,
        texts: &[String],
        private: bool,
    ) -> Result<Vec<Option<Hashed>>, Error> {
        let Some(model) = model else { return Ok(vec![None; texts.len()]) };
        let mut context = context.clone();
        if private {
            context.privacy = Privacy::Private;
        }
        let vectors = self.vectors(&context, model, texts, model.embedder.is_bought()).await?;
        Ok(vectors.into_iter().map(Some).collect())
    }
}

/// Returns the passages of a text as they are stored, each with its vector.
fn to_passages(text: &str, chunks: Vec<Chunk>, vectors: Vec<Option<Hashed>>) -> Vec<NewPassage> {
    let (mut characters, mut bytes) = (0, 0);
    let passage = |(chunk, vector): (Chunk, Option<Hashed>)| {
        let Chunk { range, headings, lines, pages } = chunk;
        characters += text[bytes..range.start].chars().count() as u64;
        bytes = range.start;
        NewPassage { headings, range, start: characters, lines, pages, vector }
    };
    chunks.into_iter().zip(vectors).map(passage).collect()
}

/// Says of which model the vectors of passages are, and how many numbers each has; none without passages.
fn model_of(model: Option<&Model>, passages: &[NewPassage]) -> Option<(String, u32)> {
    let first = passages.first()?;
    let identity = model.map(|model| model.identity.to_string()).unwrap_or_default();
    let dimension = first.vector.as_ref().map_or(0, |(_, vector)| vector.len() as u32);
    Some((identity, dimension))
}

/// Returns what is indexed of a document, whose passages are indexed as these texts.
fn to_entries(
    document: &Document,
    attributes: &Attributes,
    passages: Vec<NewPassage>,
    texts: Vec<String>,
) -> Entries {
    let entry = |((passage, text), position): ((NewPassage, String), i64)| Entry {
        id: passage_id(&document.id, position),
        text,
        vector: passage.vector.map(|(_, vector)| vector),
    };
    Entries {
        passages: passages.into_iter().zip(texts).zip(0..).map(entry).collect(),
        fields: attributes.fields(document),
    }
}
