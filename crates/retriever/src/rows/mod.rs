//! Collections, documents and passages as rows in SQLite. Every method is for one tenant, but for the start's.

mod behind;
mod collections;
mod entries;
mod reindex;
mod vectors;

use std::collections::HashMap;

use futures::TryStreamExt as _;
use proto::retriever::{Document, Passage, Values};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, SqliteConnection, SqlitePool};
use types::{LeaseId, TenantId};

use crate::attributes::Attributes;
use crate::chunk::indexed;
use crate::index::{Entries, Entry, Scope};
use crate::{Config, Error};

use self::collections::create;
pub(crate) use self::collections::{Collection, DEFAULT};
pub(crate) use self::entries::Page;
pub(crate) use self::reindex::Next;
use self::vectors::stored_vector;

/// So many attributes a collection's documents have in all.
const MOST_FIELDS: i64 = 256;

/// So many read at once.
const READERS: u32 = 4;

const DOCUMENT: &str = "d.id, d.source, d.media_type, d.sha256, d.passages, d.characters, \
d.updated_at, d.collection, d.private, d.attributes";

/// The database.
#[derive(Debug)]
pub(crate) struct Rows {
    /// One connection: SQLite has one writer, and a queue here is fairer than its busy timeout.
    pool: SqlitePool,
    /// Those that only read wait for no writer, nor for each other's large documents.
    readers: SqlitePool,
    /// Whether what changes is kept in mind until the index has heard of it.
    outlived: bool,
}

/// A document to be written.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) document: Document,
    pub(crate) attributes: Attributes,
    pub(crate) text: String,
    pub(crate) passages: Vec<NewPassage>,
    /// Of which model its vectors are, and how many numbers each has; none without passages, which say nothing
    /// of the model.
    pub(crate) model: Option<(String, u32)>,
    /// Its vectors may be among those that wait for their document.
    pub(crate) bought: bool,
}

/// A passage to be written.
#[derive(Debug)]
pub(crate) struct NewPassage {
    pub(crate) headings: Vec<String>,
    /// Bytes of the document's text.
    pub(crate) range: std::ops::Range<usize>,
    /// In characters.
    pub(crate) start: u64,
    pub(crate) lines: (u32, u32),
    pub(crate) pages: (u32, u32),
    /// The hash of what was embedded, and its vector.
    pub(crate) vector: Option<([u8; 32], Vec<f32>)>,
}

impl Rows {
    /// Opens the database, makes and migrates it. The index may be one that is there after this process (it is
    /// `outlived` by it): then what changes is kept in mind until [`Self::indexed`].
    ///
    /// # Errors
    /// If it cannot be opened, or is of a later version.
    pub(crate) async fn open(config: &Config, outlived: bool) -> anyhow::Result<Self> {
        if let Some(directory) = config.database.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&config.database)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let connect = async |count, options: SqliteConnectOptions| {
            let pool = SqlitePoolOptions::new().max_connections(count).test_before_acquire(false);
            pool.connect_with(options).await
        };
        let pool = connect(1, options.clone()).await?;
        sqlx::migrate!().run(&pool).await?;
        let readers = connect(READERS, options.read_only(true)).await?;
        Ok(Self { pool, readers, outlived })
    }

    /// Returns the database, for what is kept beside the documents.
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Gives every document of every tenant to `each`, by tenant.
    pub(crate) async fn every(
        &self,
        mut each: impl AsyncFnMut(Scope, String, Entries) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let statement = format!(
            "SELECT {DOCUMENT}, d.tenant, p.position, p.headings, p.text, p.vector, c.generation
             FROM passages p JOIN documents d ON d.tenant = p.tenant AND d.id = p.document
             JOIN collections c ON c.tenant = d.tenant AND c.name = d.collection
             ORDER BY p.tenant, p.document, p.position"
        );
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch(&self.readers);
        let mut open: Option<(Scope, String, Entries)> = None;
        while let Some(row) = rows.try_next().await? {
            let (id, tenant): (&str, &str) = (row.try_get(0)?, row.try_get(10)?);
            let goes_on = open.as_ref().is_some_and(|(scope, document, _)| {
                document == id && scope.tenant.as_str() == tenant
            });
            if !goes_on {
                let tenant = TenantId::new(tenant).map_err(|fault| Error::Broken(fault.into()))?;
                let (document, attributes) = document(&row)?;
                let (collection, generation) = (document.collection.clone(), row.try_get(15)?);
                let scope = Scope { tenant, collection, generation };
                let fields = attributes.fields(&document);
                let next = (scope, document.id, Entries { passages: Vec::new(), fields });
                if let Some((scope, document, entries)) = open.replace(next) {
                    each(scope, document, entries).await?;
                }
            }
            let headings = read_headings(row.try_get(12)?)?;
            let vector = row.try_get::<Option<&[u8]>, _>(14)?.map(floats);
            let text = indexed(&headings, row.try_get(13)?);
            if let Some((_, document, entries)) = &mut open {
                let id = passage_id(document, row.try_get(11)?);
                entries.passages.push(Entry { id, text, vector });
            }
        }
        match open {
            Some((scope, document, entries)) => each(scope, document, entries).await,
            None => Ok(()),
        }
    }

    /// Writes a document in one transaction, in place of the one of the same id.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if the collection was removed, [`Error::Conflict`] if it has another model's vectors,
    /// [`Error::Invalid`] for an attribute that has another kind there or is one too many, [`Error::Lost`] if it is
    /// written for a job whose lease is another's.
    pub(crate) async fn write(
        &self,
        scope: &Scope,
        new: &New,
        lease: Option<&LeaseId>,
    ) -> Result<(), Error> {
        let (tenant, document) = (scope.tenant.as_str(), &new.document);
        let mut tx = self.pool.begin().await?;
        if let Some(lease) = lease {
            let held = sqlx::query("SELECT 1 FROM tasks WHERE lease = ? AND state = 'running'")
                .bind(lease.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            held.ok_or(Error::Lost)?;
        }
        if scope.collection == DEFAULT {
            create(&mut tx, scope, document.updated_at_ms).await?;
        }
        take_model(&mut tx, scope, new).await?;
        for (name, kind) in new.attributes.kinds() {
            let row = sqlx::query(
                "INSERT INTO fields (tenant, collection, name, kind) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET kind = kind RETURNING kind",
            )
            .bind(tenant)
            .bind(&scope.collection)
            .bind(name)
            .bind(kind.name())
            .fetch_one(&mut *tx)
            .await?;
            let there: &str = row.try_get(0)?;
            if there != kind.name() {
                let (is, name) = (kind.name(), format!("/attributes/{name}"));
                return Err(Error::Invalid(format!(
                    "{name}: is a {is}, and a {there} in this collection"
                )));
            }
        }
        let fields: i64 =
            sqlx::query("SELECT COUNT(*) FROM fields WHERE tenant = ? AND collection = ?")
                .bind(tenant)
                .bind(&scope.collection)
                .fetch_one(&mut *tx)
                .await?
                .try_get(0)?;
        if fields > MOST_FIELDS {
            return Err(Error::Invalid(format!(
                "/attributes: a collection has at most {MOST_FIELDS} attributes by different names"
            )));
        }
        delete_rows(&mut tx, scope, &document.id).await?;
        sqlx::query(
            "INSERT INTO documents (tenant, id, collection, source, media_type, sha256, text, characters, passages,
             updated_at, private, attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(tenant)
        .bind(&document.id)
        .bind(&scope.collection)
        .bind(&document.source)
        .bind(&document.media_type)
        .bind(&document.content_sha256)
        .bind(&new.text)
        .bind(i64::try_from(document.characters).unwrap_or(i64::MAX))
        .bind(document.passages)
        .bind(document.updated_at_ms)
        .bind(document.private)
        .bind(serde_json::to_string(&new.attributes).map_err(|fault| Error::Broken(fault.into()))?)
        .execute(&mut *tx)
        .await?;
        for (passage, position) in new.passages.iter().zip(0_i64..) {
            let vector = passage.vector.as_ref();
            sqlx::query(
                "INSERT INTO passages (tenant, document, position, headings, text, start, start_line, end_line,
                 start_page, end_page, sha256, vector) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(tenant)
            .bind(&document.id)
            .bind(position)
            .bind(serde_json::Value::from(passage.headings.clone()).to_string())
            .bind(&new.text[passage.range.clone()])
            .bind(i64::try_from(passage.start).unwrap_or(i64::MAX))
            .bind(passage.lines.0)
            .bind(passage.lines.1)
            .bind(passage.pages.0)
            .bind(passage.pages.1)
            .bind(vector.map(|(hash, _)| hash.as_slice()))
            .bind(vector.map(|(_, vector)| bytes(vector)))
            .execute(&mut *tx)
            .await?;
        }
        if new.bought {
            self::vectors::stored(&mut tx, scope, &new.passages).await?;
        }
        self.unindexed(&mut tx, scope, &document.id).await?;
        Ok(tx.commit().await?)
    }

    /// Returns what is indexed of a document; none when it is not there.
    pub(crate) async fn entries(&self, scope: &Scope, id: &str) -> Result<Option<Entries>, Error> {
        let Some((document, attributes)) = self.find(scope, id).await? else { return Ok(None) };
        let rows = sqlx::query(
            "SELECT position, headings, text, vector FROM passages
             WHERE tenant = ? AND document = ? ORDER BY position",
        )
        .bind(scope.tenant.as_str())
        .bind(id)
        .fetch_all(&self.readers)
        .await?;
        let entry = |row: &SqliteRow| {
            Ok(Entry {
                id: passage_id(id, row.try_get(0)?),
                text: indexed(&read_headings(row.try_get(1)?)?, row.try_get(2)?),
                vector: row.try_get::<Option<&[u8]>, _>(3)?.map(floats),
            })
        };
        let passages = rows.iter().map(entry).collect::<Result<_, Error>>()?;
        Ok(Some(Entries { passages, fields: attributes.fields(&document) }))
    }

    /// Returns a document without its text.
    pub(crate) async fn find(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<Option<(Document, Attributes)>, Error> {
        let row = self.row(DOCUMENT, scope, id).await?;
        row.map(|row| document(&row)).transpose()
    }

    /// Returns a document and its stored text.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub(crate) async fn read(&self, scope: &Scope, id: &str) -> Result<(Document, String), Error> {
        let row = self.row(&format!("{DOCUMENT}, d.text"), scope, id).await?;
        let row = row.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        Ok((document(&row)?.0, row.try_get(10)?))
    }

    async fn row(
        &self,
        columns: &str,
        scope: &Scope,
        id: &str,
    ) -> Result<Option<SqliteRow>, Error> {
        let statement = format!(
            "SELECT {columns} FROM documents d WHERE d.tenant = ? AND d.collection = ? AND d.id = ?"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .bind(id)
            .fetch_optional(&self.readers)
            .await?;
        Ok(row)
    }

    /// Returns at most `count` documents whose source is after `after`, by source.
    pub(crate) async fn list(
        &self,
        scope: &Scope,
        after: &str,
        count: u32,
    ) -> Result<Vec<Document>, Error> {
        let statement = format!(
            "SELECT {DOCUMENT} FROM documents d
             WHERE d.tenant = ? AND d.collection = ? AND d.source > ? ORDER BY d.source LIMIT ?"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .bind(after)
            .bind(count)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(document(row)?.0)).collect()
    }

    /// Removes a document and its passages.
    pub(crate) async fn delete(&self, scope: &Scope, id: &str) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        delete_rows(&mut tx, scope, id).await?;
        self.unindexed(&mut tx, scope, id).await?;
        Ok(tx.commit().await?)
    }

    /// Returns those of the passages that are there, by their ids.
    pub(crate) async fn passages(
        &self,
        scope: &Scope,
        ids: &[String],
    ) -> Result<HashMap<String, Passage>, Error> {
        let wanted: Vec<(&str, i64)> = ids.iter().filter_map(|id| passage_of(id)).collect();
        let wanted = serde_json::to_string(&wanted).map_err(|fault| Error::Broken(fault.into()))?;
        let rows = sqlx::query(
            "SELECT p.document, p.position, d.source, p.headings, p.text, p.start, p.start_line, p.end_line,
             p.start_page, p.end_page, d.private, d.attributes
             FROM json_each(?1) w
             JOIN passages p ON p.tenant = ?2 AND p.document = w.value ->> 0 AND p.position = w.value ->> 1
             JOIN documents d ON d.tenant = p.tenant AND d.id = p.document
             WHERE d.collection = ?3",
        )
        .bind(wanted)
        .bind(scope.tenant.as_str())
        .bind(&scope.collection)
        .fetch_all(&self.readers)
        .await?;
        let passage = |row: &SqliteRow| {
            let (document, text): (String, String) = (row.try_get(0)?, row.try_get(4)?);
            let id = passage_id(&document, row.try_get(1)?);
            let start = unsigned(row.try_get(5)?);
            let passage = Passage {
                id: id.clone(),
                document_id: document,
                source: row.try_get(2)?,
                headings: read_headings(row.try_get(3)?)?,
                start,
                end: start + text.chars().count() as u64,
                text,
                start_line: row.try_get(6)?,
                end_line: row.try_get(7)?,
                start_page: row.try_get(8)?,
                end_page: row.try_get(9)?,
                private: row.try_get(10)?,
                attributes: on_the_wire(&read_attributes(row.try_get(11)?)?),
            };
            Ok((id, passage))
        };
        rows.iter().map(passage).collect()
    }
}

/// Returns a passage's id.
pub(crate) fn passage_id(document: &str, position: i64) -> String {
    format!("{document}-{position}")
}

fn passage_of(id: &str) -> Option<(&str, i64)> {
    let (document, position) = id.rsplit_once('-')?;
    Some((document, position.parse().ok()?))
}

/// Checks that a document's vectors are those of its collection, or makes them its first.
///
/// # Errors
/// [`Error::Conflict`] if they are another model's, [`Error::NoCollection`] if the collection has gone.
async fn take_model(db: &mut SqliteConnection, scope: &Scope, new: &New) -> Result<(), Error> {
    let (tenant, name) = (scope.tenant.as_str(), &scope.collection);
    let set = match &new.model {
        Some((model, dimension)) => {
            let set = sqlx::query(
                "UPDATE collections SET model = ?1, dimension = ?2 WHERE tenant = ?3 AND name = ?4 AND (
                 model = ?1 AND dimension = ?2 OR NOT EXISTS
                 (SELECT 1 FROM documents WHERE tenant = ?3 AND collection = ?4 AND passages > 0))",
            );
            let set = set.bind(model).bind(dimension).bind(tenant).bind(name);
            set.execute(&mut *db).await?.rows_affected() > 0
        }
        None => false,
    };
    if set {
        return Ok(());
    }
    let there =
        sqlx::query("SELECT model, dimension FROM collections WHERE tenant = ? AND name = ?")
            .bind(tenant)
            .bind(name)
            .fetch_optional(db)
            .await?
            .ok_or_else(|| Error::NoCollection(name.clone()))?;
    match &new.model {
        Some((model, dimension)) => {
            let (has, of): (&str, u32) = (there.try_get(0)?, there.try_get(1)?);
            Err(Error::Conflict(format!(
                "collection {name:?} has vectors of {of} numbers of model {has:?}, these are of {dimension} of {model:?}"
            )))
        }
        None => Ok(()),
    }
}

async fn delete_rows(db: &mut SqliteConnection, scope: &Scope, id: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM documents WHERE tenant = ? AND collection = ? AND id = ?")
        .bind(scope.tenant.as_str())
        .bind(&scope.collection)
        .bind(id)
        .execute(db)
        .await?;
    Ok(())
}

/// Reads the columns [`DOCUMENT`].
fn document(row: &SqliteRow) -> Result<(Document, Attributes), Error> {
    let attributes = read_attributes(row.try_get(9)?)?;
    let document = Document {
        id: row.try_get(0)?,
        source: row.try_get(1)?,
        media_type: row.try_get(2)?,
        content_sha256: row.try_get(3)?,
        passages: row.try_get(4)?,
        characters: unsigned(row.try_get(5)?),
        updated_at_ms: row.try_get(6)?,
        collection: row.try_get(7)?,
        private: row.try_get(8)?,
        attributes: on_the_wire(&attributes),
    };
    Ok((document, attributes))
}

pub(crate) fn on_the_wire(attributes: &Attributes) -> HashMap<String, Values> {
    let values = |values: &[crate::attributes::Value]| Values {
        values: values.iter().cloned().map(proto::retriever::Value::from).collect(),
    };
    attributes.0.iter().map(|(name, some)| (name.clone(), values(some))).collect()
}

fn read_attributes(json: &str) -> Result<Attributes, Error> {
    serde_json::from_str(json).map_err(|fault| Error::Broken(fault.into()))
}

fn read_headings(json: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(json).map_err(|fault| Error::Broken(fault.into()))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
}
