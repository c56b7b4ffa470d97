//! Documents and passages in SQLite, and each tenant's index beside them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use futures::TryStreamExt as _;
use proto::retriever::{Document, Hit, Passage};
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, SqlitePool};
use tokio::sync::RwLock;
use types::{Clock as _, SystemClock, TenantId};

use crate::chunk::{chunk, indexed};
use crate::fuse::{self, Fusion, rank};
use crate::index::{Entry, Index, Query};
use crate::parse::{media_type, parse};
use crate::{Config, Error};

/// Every tenant's documents; reached through [`Store::tenant`] alone.
#[derive(Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
    max_bytes: usize,
    indexes: RwLock<HashMap<TenantId, Arc<RwLock<Index>>>>,
}

/// One tenant's documents.
#[derive(Debug)]
pub(crate) struct Tenant<'a> {
    store: &'a Store,
    id: TenantId,
    index: Arc<RwLock<Index>>,
}

impl Store {
    pub(crate) async fn open(config: Config) -> anyhow::Result<Self> {
        if let Some(directory) = config.database.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&config.database)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        // One connection: SQLite has one writer, and a queue here is fairer than its busy timeout.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        sqlx::migrate!().run(&pool).await?;
        let indexes = RwLock::default();
        let store = Self { pool, max_bytes: config.max_document_bytes, indexes };
        store.rebuild().await?;
        Ok(store)
    }

    async fn rebuild(&self) -> Result<(), Error> {
        let mut rows = sqlx::query(
            "SELECT tenant, document, position, headings, text FROM passages
             ORDER BY tenant, document, position",
        )
        .fetch(&self.pool);
        let mut open: Option<(TenantId, String, Vec<Entry>)> = None;
        while let Some(row) = rows.try_next().await? {
            let tenant = TenantId::new(row.try_get::<String, _>(0)?)
                .map_err(|fault| Error::Broken(fault.into()))?;
            let document: String = row.try_get(1)?;
            let headings = read_headings(row.try_get(3)?)?;
            let entry = entry(&document, row.try_get(2)?, &headings, row.try_get(4)?);
            match &mut open {
                Some(open) if open.0 == tenant && open.1 == document => open.2.push(entry),
                _ => self.indexed(open.replace((tenant, document, vec![entry]))).await,
            }
        }
        self.indexed(open).await;
        Ok(())
    }

    async fn indexed(&self, document: Option<(TenantId, String, Vec<Entry>)>) {
        if let Some((tenant, document, entries)) = document {
            self.tenant(tenant).await.index.write().await.replace(&document, entries);
        }
    }

    /// Returns the handle of one tenant.
    pub(crate) async fn tenant(&self, id: TenantId) -> Tenant<'_> {
        let known = self.indexes.read().await.get(&id).cloned();
        let index = match known {
            Some(index) => index,
            None => Arc::clone(self.indexes.write().await.entry(id.clone()).or_default()),
        };
        Tenant { store: self, id, index }
    }
}

impl Tenant<'_> {
    /// Stores and indexes a document in one transaction, in place of the one of the same source.
    /// Returns it, and false when the same bytes were there already.
    pub(crate) async fn put(
        &self,
        source: String,
        given_type: &str,
        content: &[u8],
    ) -> Result<(Document, bool), Error> {
        if source.is_empty() || source.len() > 1024 || source.chars().any(char::is_control) {
            let fault = "source must have 1 to 1024 bytes without control characters";
            return Err(Error::Invalid(fault.to_owned()));
        }
        if content.len() > self.store.max_bytes {
            let (is, most) = (content.len(), self.store.max_bytes);
            return Err(Error::Invalid(format!(
                "{source:?} has {is} bytes, at most {most} are allowed"
            )));
        }
        let media_type = media_type(&source, given_type)?;
        let id = document_id(&self.id, &source);
        let sha256 = hex(&Sha256::digest(content));
        // Held to the end: two uploads of one source must not mix rows and index.
        let mut index = self.index.write().await;
        if let Some(document) = self.find(&id).await?
            && document.content_sha256 == sha256
            && document.media_type == media_type
        {
            return Ok((document, false));
        }
        let (name, bytes) = (source.clone(), content.to_vec());
        let cut = tokio::task::spawn_blocking(move || {
            let parsed = parse(&name, media_type, &bytes)?;
            let chunks = chunk(&parsed);
            Ok::<_, Error>((parsed, chunks))
        });
        let (parsed, chunks) = cut.await.map_err(|fault| Error::Broken(fault.into()))??;
        let document = Document {
            id: id.clone(),
            source,
            media_type: media_type.to_owned(),
            content_sha256: sha256,
            passages: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
            characters: parsed.text.chars().count() as u64,
            updated_at_ms: SystemClock.now_ms(),
        };
        let mut tx = self.store.pool.begin().await?;
        delete_rows(&mut tx, &self.id, &id).await?;
        sqlx::query(
            "INSERT INTO documents (tenant, id, source, media_type, sha256, text, characters, passages, updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.id.as_str())
        .bind(&document.id)
        .bind(&document.source)
        .bind(&document.media_type)
        .bind(&document.content_sha256)
        .bind(&parsed.text)
        .bind(i64::try_from(document.characters).unwrap_or(i64::MAX))
        .bind(document.passages)
        .bind(document.updated_at_ms)
        .execute(&mut *tx)
        .await?;
        let (mut characters, mut bytes) = (0, 0);
        for (chunk, position) in chunks.iter().zip(0_i64..) {
            characters += count(&parsed.text[bytes..chunk.range.start]);
            bytes = chunk.range.start;
            let headings = serde_json::Value::from(chunk.headings.clone()).to_string();
            sqlx::query(
                "INSERT INTO passages (tenant, document, position, headings, text, start, start_line, end_line)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(self.id.as_str())
            .bind(&document.id)
            .bind(position)
            .bind(headings)
            .bind(&parsed.text[chunk.range.clone()])
            .bind(characters)
            .bind(chunk.lines.0)
            .bind(chunk.lines.1)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        let entries = chunks.iter().zip(0_i64..).map(|(chunk, position)| {
            entry(&id, position, &chunk.headings, &parsed.text[chunk.range.clone()])
        });
        index.replace(&id, entries.collect());
        Ok((document, true))
    }

    /// Returns a document and its stored text.
    pub(crate) async fn get(&self, id: &str) -> Result<(Document, String), Error> {
        let row = sqlx::query(
            "SELECT id, source, media_type, sha256, passages, characters, updated_at, text
             FROM documents WHERE tenant = ? AND id = ?",
        )
        .bind(self.id.as_str())
        .bind(id)
        .fetch_optional(&self.store.pool)
        .await?
        .ok_or_else(|| Error::NotFound(id.to_owned()))?;
        Ok((document(&row)?, row.try_get(7)?))
    }

    async fn find(&self, id: &str) -> Result<Option<Document>, Error> {
        match self.get(id).await {
            Ok((document, _)) => Ok(Some(document)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns at most `count` documents whose source is after `after`, by source.
    pub(crate) async fn list(&self, after: &str, count: u32) -> Result<Vec<Document>, Error> {
        let rows = sqlx::query(
            "SELECT id, source, media_type, sha256, passages, characters, updated_at
             FROM documents WHERE tenant = ? AND source > ? ORDER BY source LIMIT ?",
        )
        .bind(self.id.as_str())
        .bind(after)
        .bind(count)
        .fetch_all(&self.store.pool)
        .await?;
        rows.iter().map(document).collect()
    }

    /// Removes a document, its passages and their index entries.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), Error> {
        let mut index = self.index.write().await;
        self.get(id).await?;
        let mut tx = self.store.pool.begin().await?;
        delete_rows(&mut tx, &self.id, id).await?;
        tx.commit().await?;
        index.remove(id);
        Ok(())
    }

    /// Returns the best passages, best first.
    pub(crate) async fn search(&self, query: &str, top_k: usize) -> Result<Vec<Hit>, Error> {
        let query = Query { text: query, vector: None };
        let candidates = self.index.read().await.candidates(query);
        let mut hits = Vec::with_capacity(top_k);
        for ranked in rank(candidates, Fusion::default(), fuse::DOCUMENT_WEIGHT) {
            if hits.len() == top_k {
                break;
            }
            // Deleted between the two steps: not a hit any more.
            if let Some(passage) = self.passage(&ranked.candidate.id).await? {
                hits.push(Hit { passage: Some(passage), score: ranked.score.into() });
            }
        }
        Ok(hits)
    }

    async fn passage(&self, id: &str) -> Result<Option<Passage>, Error> {
        let Some((document, position)) = id.rsplit_once('-') else { return Ok(None) };
        let row = sqlx::query(
            "SELECT d.source, p.headings, p.text, p.start, p.start_line, p.end_line
             FROM passages p JOIN documents d ON d.tenant = p.tenant AND d.id = p.document
             WHERE p.tenant = ? AND p.document = ? AND p.position = ?",
        )
        .bind(self.id.as_str())
        .bind(document)
        .bind(position.parse::<i64>().unwrap_or(-1))
        .fetch_optional(&self.store.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let text: String = row.try_get(2)?;
        let start = u64::try_from(row.try_get::<i64, _>(3)?).unwrap_or_default();
        Ok(Some(Passage {
            id: id.to_owned(),
            document_id: document.to_owned(),
            source: row.try_get(0)?,
            headings: read_headings(&row.try_get::<String, _>(1)?)?,
            start,
            end: start + text.chars().count() as u64,
            text,
            start_line: row.try_get(4)?,
            end_line: row.try_get(5)?,
        }))
    }
}

async fn delete_rows(
    db: &mut sqlx::SqliteConnection,
    tenant: &TenantId,
    id: &str,
) -> Result<(), Error> {
    let statement = sqlx::query("DELETE FROM documents WHERE tenant = ? AND id = ?");
    statement.bind(tenant.as_str()).bind(id).execute(db).await?;
    Ok(())
}

fn document(row: &SqliteRow) -> Result<Document, Error> {
    Ok(Document {
        id: row.try_get(0)?,
        source: row.try_get(1)?,
        media_type: row.try_get(2)?,
        content_sha256: row.try_get(3)?,
        passages: row.try_get(4)?,
        characters: u64::try_from(row.try_get::<i64, _>(5)?).unwrap_or_default(),
        updated_at_ms: row.try_get(6)?,
    })
}

fn entry(document: &str, position: i64, headings: &[String], text: &str) -> Entry {
    let id = passage_id(document, position);
    Entry { id, text: indexed(headings, text), vector: None }
}

fn read_headings(json: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(json).map_err(|fault| Error::Broken(fault.into()))
}

fn document_id(tenant: &TenantId, source: &str) -> String {
    hex(&Sha256::digest(format!("{tenant}\0{source}")))[..24].to_owned()
}

fn passage_id(document: &str, position: i64) -> String {
    format!("{document}-{position}")
}

fn count(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
