//! Documents and what finds them: rows and index kept as one.

mod entries;
mod locks;
mod reindex;
mod search;
mod vectors;
mod write;

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use proto::retriever::Document;
use sha2::{Digest as _, Sha256};
use tokio::task::{JoinError, JoinSet};
use types::{CallContext, Clock as _, SystemClock, TenantId};

use crate::attributes::Attributes;
use crate::database::{Database, Lock};
use crate::embed::Embedder;
use crate::fetch::{Fetcher, address};
use crate::fuse::Fusion;
use crate::hash::hex;
use crate::index::{Indexes, Scope};
use crate::isolate::Parsers;
use crate::jobs::{Added, Queue};
use crate::parse::media_type;
use crate::rerank::Reranker;
use crate::rewrite::Rewriter;
use crate::rows::{DEFAULT, Rows};
use crate::{Config, Error};

use self::locks::Locks;
pub(crate) use self::search::Search;

/// At most so many documents are indexed at once at a start, whatever the cores: one may have hundreds of megabytes.
const FILLED_AT_ONCE: usize = 8;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Every tenant's documents; reached through [`Store::collection`] alone.
#[derive(Debug)]
pub(crate) struct Store {
    database: Arc<Database>,
    rows: Rows,
    queue: Queue,
    parsers: Parsers,
    fetcher: Fetcher,
    indexes: Arc<dyn Indexes>,
    models: Models,
    /// So many passages a reranker reads, and so long it may take.
    rerank: (usize, Duration),
    fusion: Fusion,
    max_bytes: usize,
    max_passages: usize,
    /// So long the bytes of a document that failed in a job are kept, in milliseconds.
    failed_kept_ms: i64,
    locks: Locks,
}

/// What reads texts.
#[derive(Debug, Default)]
pub(crate) struct Models {
    pub(crate) embedder: Option<Arc<dyn Embedder>>,
    /// Those whose vectors collections may have still.
    pub(crate) former: Vec<Arc<dyn Embedder>>,
    pub(crate) reranker: Option<Arc<dyn Reranker>>,
    pub(crate) rewriter: Option<Rewriter>,
}

/// The right to change a collection, in this process and among all that share the database, until it is dropped.
#[derive(Debug)]
struct Writing {
    there: Lock,
    _here: tokio::sync::OwnedMutexGuard<()>,
}

/// One collection of one tenant.
#[derive(Debug)]
pub(crate) struct Collection<'a> {
    store: &'a Store,
    scope: Scope,
}

/// A document as it comes.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) source: String,
    /// Empty: told from the source's ending.
    pub(crate) media_type: String,
    pub(crate) content: bytes::Bytes,
    pub(crate) attributes: Attributes,
    /// None: as the document of the same source is, or else public.
    pub(crate) private: Option<bool>,
}

impl Store {
    /// Opens the database, and fills from it the indexes that are empty at every start.
    ///
    /// # Errors
    /// If the database cannot be opened or read.
    pub(crate) async fn open(
        config: &Config,
        indexes: Arc<dyn Indexes>,
        models: Models,
    ) -> anyhow::Result<Self> {
        let shared = indexes.outlives();
        let database = Arc::new(Database::open(config, shared).await?);
        let rows = Rows::new(Arc::clone(&database), shared);
        if !indexes.outlives() {
            fill(&rows, &*indexes).await?;
        }
        let rerank = config.rerank.clone().unwrap_or_default();
        // A PostgreSQL that others share; of a SQLite file there is one retriever.
        let shared = shared && database.is_postgres();
        let queue = Queue::open(Arc::clone(&database), shared).await?;
        Ok(Self {
            database,
            rows,
            queue,
            parsers: Parsers::new(config),
            fetcher: Fetcher::new(config)?,
            indexes,
            models,
            rerank: (rerank.candidates, Duration::from_millis(rerank.deadline_ms)),
            fusion: config.fusion.chosen(),
            max_bytes: config.max_document_bytes,
            max_passages: config.max_document_passages,
            failed_kept_ms: i64::from(config.ingest_failed_days) * DAY_MS,
            locks: Locks::default(),
        })
    }

    /// Returns the handle of one collection; an empty name is the default one's.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be.
    pub(crate) fn collection(
        &self,
        tenant: TenantId,
        name: String,
    ) -> Result<Collection<'_>, Error> {
        let collection = if name.is_empty() { DEFAULT.to_owned() } else { name };
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        let begins = collection.starts_with(|c: char| c.is_ascii_alphanumeric());
        if collection.len() > 64 || !begins || !collection.chars().all(allowed) {
            return Err(Error::Invalid(format!(
                "/collection: {collection:?} is not 1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit"
            )));
        }
        Ok(Collection { store: self, scope: Scope { tenant, collection, generation: 0 } })
    }

    /// Tells the index what it has not heard of: because it was away, or we were. The first time, `compare` what it has
    /// with what there is, if it is one that outlives this process.
    ///
    /// # Errors
    /// If it is away still.
    pub(crate) async fn catch_up(&self, compare: bool) -> Result<(), Error> {
        if !self.rows.remembers() {
            return Ok(());
        }
        self.tell().await?;
        if !compare || !self.indexes.outlives() {
            return Ok(());
        }
        for (scope, passages) in self.rows.sizes().await? {
            if self.indexes.open(&scope).await?.len().await? == passages {
                continue;
            }
            let collection = Collection { store: self, scope };
            let _writing = collection.writing().await?;
            // Others may have been at it: what counts is how it is while nobody is.
            let scope = collection.current().await?;
            let passages = self.rows.size(&scope).await?;
            if self.indexes.open(&scope).await?.len().await? != passages {
                // Whatever it has that is no more goes as well.
                self.rows.tell_anew(&scope, "").await?;
            }
        }
        self.tell().await
    }

    async fn tell(&self) -> Result<(), Error> {
        let mut after = None;
        let mut first_fault = Ok(());
        loop {
            let behind = self.rows.behind(after.as_ref()).await?;
            let Some(last) = behind.last() else { return first_fault };
            after = Some(last.clone());
            for (scope, document) in behind {
                // One collection's fault does not keep the others from being told.
                let told = Collection { store: self, scope }.tell(&document).await;
                first_fault = first_fault.and(told);
            }
        }
    }

    /// Sees to it that the database stays this retriever's.
    ///
    /// # Errors
    /// [`Error::Taken`] if it is another's, [`Error::Store`] while it is away.
    pub(crate) async fn keep(&self) -> Result<(), Error> {
        self.database.keep().await
    }

    /// Removes what was kept for documents that did not come, and the bytes of those that failed long ago.
    pub(crate) async fn sweep(&self) -> Result<(), Error> {
        let now = SystemClock.now_ms();
        self.rows.sweep(now).await?;
        self.queue.drop_failed(now.saturating_sub(self.failed_kept_ms)).await
    }

    /// Returns the documents that are stored while nobody waits.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Checks what can be said of a document without parsing it; returns its media type.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a source that cannot be, a media type that is not understood, or too many bytes.
    pub(crate) fn check(
        &self,
        source: &str,
        given_type: &str,
        content: &[u8],
    ) -> Result<&'static str, Error> {
        check_source(source)?;
        if content.len() > self.max_bytes {
            let (is, most) = (content.len(), self.max_bytes);
            let fault = format!("{source:?} has {is} bytes, at most {most} are allowed");
            return Err(Error::Invalid(fault));
        }
        media_type(source, given_type, content)
    }

    /// Checks what can be said of a document that is to be fetched.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a source that is no address, or anything else that its server will tell.
    pub(crate) fn check_address(&self, put: &Put) -> Result<(), Error> {
        check_source(&put.source)?;
        if !put.content.is_empty() || !put.media_type.is_empty() {
            let fault = "what is to be fetched has no content and no media type yet";
            return Err(Error::Invalid(fault.to_owned()));
        }
        address(&put.source).map(|_| ())
    }

    /// Lists a tenant's collections by name.
    pub(crate) async fn collections(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<proto::retriever::Collection>, Error> {
        let mut collections = self.rows.collections(tenant, None).await?;
        self.queue.count_open(tenant, &mut collections).await?;
        if !collections.iter().any(|one| one.name == DEFAULT) {
            let name = DEFAULT.to_owned();
            let default = proto::retriever::Collection { name, ..Default::default() };
            let at = collections.partition_point(|one| one.name.as_str() < DEFAULT);
            collections.insert(at, default);
        }
        Ok(collections)
    }
}

impl Collection<'_> {
    /// Begins a job whose documents go here, with some of them; whoever `context` names pays for their vectors.
    pub(crate) async fn begin(
        &self,
        context: &CallContext,
        first: &[Added],
    ) -> Result<proto::retriever::Job, Error> {
        self.store.rows.collection(&self.scope).await?;
        if self.scope.collection == DEFAULT {
            self.store.rows.create(&self.scope, SystemClock.now_ms()).await?;
        }
        self.store.queue.create(&self.scope, context, first).await
    }

    /// Makes it, called and noted so; tells whether it was not there.
    pub(crate) async fn create(
        &self,
        title: &str,
        metadata: &HashMap<String, String>,
    ) -> Result<(proto::retriever::Collection, bool), Error> {
        check_notes(Some(title), Some(metadata))?;
        let created = self.store.rows.create(&self.scope, SystemClock.now_ms()).await?;
        if created {
            self.store.rows.change(&self.scope, Some(title), Some(metadata)).await?;
        }
        Ok((self.read().await?, created))
    }

    /// Tells what it is; the default one is always there.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if there is none.
    pub(crate) async fn read(&self) -> Result<proto::retriever::Collection, Error> {
        let (tenant, name) = (&self.scope.tenant, &self.scope.collection);
        let mut own = self.store.rows.collections(tenant, Some(name)).await?;
        self.store.queue.count_open(tenant, &mut own).await?;
        match own.pop() {
            Some(own) => Ok(own),
            None if name == DEFAULT => {
                Ok(proto::retriever::Collection { name: name.clone(), ..Default::default() })
            }
            None => Err(Error::NoCollection(name.clone())),
        }
    }

    /// Changes what people call it, and what they note of it; what is none stays.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if there is none, [`Error::Invalid`] for too much.
    pub(crate) async fn change(
        &self,
        title: Option<&str>,
        metadata: Option<&HashMap<String, String>>,
    ) -> Result<proto::retriever::Collection, Error> {
        check_notes(title, metadata)?;
        if self.scope.collection == DEFAULT {
            self.store.rows.create(&self.scope, SystemClock.now_ms()).await?;
        }
        self.store.rows.change(&self.scope, title, metadata).await?;
        self.read().await
    }

    /// Removes it with its documents and everything made from them.
    pub(crate) async fn remove(&self) -> Result<(), Error> {
        self.store.rows.collection(&self.scope).await?;
        let _writing = self.writing().await?;
        let ended = self.current().await?;
        let there = self.store.rows.remove(&ended).await?;
        match (Collection { store: self.store, scope: ended }).reindex("").await {
            Err(fault) if self.store.indexes.outlives() => {
                tracing::warn!(%fault, "the index hears of a collection's end later");
            }
            told => told?,
        }
        match there || self.scope.collection == DEFAULT {
            true => Ok(()),
            false => Err(Error::NoCollection(self.scope.collection.clone())),
        }
    }

    /// Forgets that the index has yet to hear of a document, if it has. One that outlives this process and is away
    /// is told later.
    async fn told(
        &self,
        writing: &mut Writing,
        document: &str,
        told: Result<(), Error>,
    ) -> Result<(), Error> {
        match told {
            Ok(()) if writing.there.is_held().await => {
                self.store.rows.indexed(&self.scope, document).await
            }
            // Another may have told it of a newer one meanwhile: what it has is told once more.
            Ok(()) => self.store.rows.tell_anew(&self.scope, document).await,
            Err(fault) if self.store.indexes.outlives() => {
                tracing::warn!(%fault, "the index hears of a document later");
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Has the index hear of a change that it has not heard of, if that is so still when nobody writes.
    async fn tell(&self, document: &str) -> Result<(), Error> {
        let _writing = self.writing().await?;
        match self.store.rows.is_behind(&self.scope, document).await? {
            true => self.reindex(document).await,
            false => Ok(()),
        }
    }

    /// Has the index hear what a document is now, or, without one, that the collection has ended; for whoever
    /// holds the lock.
    async fn reindex(&self, document: &str) -> Result<(), Error> {
        let entries = match document {
            "" => {
                self.store.indexes.remove(&self.scope).await?;
                // It may have been made again since: what is in it then is told anew.
                let current = self.store.rows.collection(&self.scope).await;
                if current.is_ok_and(|current| current.generation == self.scope.generation) {
                    self.store.rows.unindex(&self.scope).await?;
                }
                return self.store.rows.indexed(&self.scope, "").await;
            }
            document => self.store.rows.entries(&self.scope, document).await?,
        };
        let index = self.store.indexes.open(&self.current().await?).await?;
        match entries {
            Some(entries) => index.replace(document, entries).await?,
            None => index.remove(document).await?,
        }
        self.store.rows.indexed(&self.scope, document).await
    }

    /// Returns where its index is; for whoever holds the lock.
    async fn current(&self) -> Result<Scope, Error> {
        let generation = match self.store.rows.collection(&self.scope).await {
            Ok(collection) => collection.generation,
            // It has ended, and a document of it is to be forgotten.
            Err(Error::NoCollection(_)) => self.scope.generation,
            Err(fault) => return Err(fault),
        };
        Ok(Scope { generation, ..self.scope.clone() })
    }

    /// Returns a document and its stored text.
    pub(crate) async fn get(&self, id: &str) -> Result<(Document, String), Error> {
        self.store.rows.read(&self.scope, id).await
    }

    /// Returns at most `count` documents whose source is after `after`, by source.
    pub(crate) async fn list(&self, after: &str, count: u32) -> Result<Vec<Document>, Error> {
        self.store.rows.collection(&self.scope).await?;
        self.store.rows.list(&self.scope, after, count).await
    }

    /// Removes a document, its passages and everything made from them.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), Error> {
        let there = self.store.rows.find(&self.scope, id).await?;
        there.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        let mut writing = self.writing().await?;
        self.store.rows.delete(&self.scope, id).await?;
        let told = self.store.indexes.open(&self.current().await?).await?.remove(id).await;
        self.told(&mut writing, id, told).await
    }

    /// Waits for the right to change it: first among those of this process, of whom one asks the others'.
    async fn writing(&self) -> Result<Writing, Error> {
        let Scope { tenant, collection, .. } = &self.scope;
        let _here = self.store.locks.of(&self.scope).lock_owned().await;
        let name = format!("retriever\n{tenant}\n{collection}");
        Ok(Writing { there: self.store.database.lock(&name).await?, _here })
    }

    fn document_id(&self, source: &str) -> String {
        let Scope { tenant, collection, .. } = &self.scope;
        let named = match collection.as_str() {
            DEFAULT => format!("{tenant}\0{source}"),
            other => format!("{tenant}\0{other}\0{source}"),
        };
        hex(&Sha256::digest(named))[..24].to_owned()
    }
}

/// Checks what people call a collection, and what they note of it.
fn check_notes(
    title: Option<&str>,
    metadata: Option<&HashMap<String, String>>,
) -> Result<(), Error> {
    let title = title.unwrap_or_default();
    if title.len() > 256 || title.chars().any(char::is_control) {
        let fault = "/name: has more than 256 bytes, or a control character";
        return Err(Error::Invalid(fault.to_owned()));
    }
    let pairs = metadata.map_or(0, HashMap::len);
    if pairs > 16 {
        return Err(Error::Invalid(format!(
            "/metadata: has {pairs} pairs, at most 16 are allowed"
        )));
    }
    let long =
        |(key, value): &(&String, &String)| key.chars().count() > 64 || value.chars().count() > 512;
    match metadata.into_iter().flatten().find(long) {
        Some((key, _)) => Err(Error::Invalid(format!(
            "/metadata/{key}: keys have at most 64 characters and values 512"
        ))),
        None => Ok(()),
    }
}

/// Checks a document's name.
fn check_source(source: &str) -> Result<(), Error> {
    if source.is_empty() || source.len() > 1024 || source.chars().any(char::is_control) {
        let fault = "source must have 1 to 1024 bytes without control characters";
        return Err(Error::Invalid(fault.to_owned()));
    }
    Ok(())
}

/// Tells indexes of all that is stored: of as many documents at once as there are cores, while the next is read.
async fn fill(rows: &Rows, indexes: &dyn Indexes) -> anyhow::Result<()> {
    let at_once = available_parallelism().map_or(1, NonZero::get).min(FILLED_AT_ONCE);
    let mut indexing = JoinSet::new();
    let ended =
        |done: Result<_, JoinError>| done.unwrap_or_else(|fault| Err(Error::Broken(fault.into())));
    rows.every(async |scope, document, entries| {
        let index = indexes.open(&scope).await?;
        indexing.spawn(async move { index.replace(&document, entries).await });
        if indexing.len() > at_once
            && let Some(done) = indexing.join_next().await
        {
            return ended(done);
        }
        Ok(())
    })
    .await?;
    while let Some(done) = indexing.join_next().await {
        ended(done)?;
    }
    Ok(())
}
