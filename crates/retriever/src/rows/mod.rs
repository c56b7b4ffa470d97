//! Collections, documents and passages as rows. Every method is for one tenant, but for the start's.

mod behind;
mod collections;
mod entries;
mod passages;
mod reindex;
mod vectors;

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use proto::retriever::{Document, Values};
use types::{LeaseId, TenantId};

use crate::Error;
use crate::attributes::Attributes;
use crate::chunk::indexed;
use crate::database::{Database, Row, Tx, locked, places, transaction};
use crate::index::{Entries, Entry, Scope};

use self::collections::create;
pub(crate) use self::collections::{Collection, DEFAULT};
pub(crate) use self::entries::Page;
pub(crate) use self::passages::passage_id;
pub(crate) use self::reindex::Next;
pub(crate) use self::vectors::Hashed;

/// So many attributes a collection's documents have in all.
const MOST_FIELDS: usize = 256;

/// So many rows one statement writes or looks for.
const TOGETHER: usize = 200;

/// The columns of a document, in the order in which it is read.
macro_rules! columns {
    () => {
        "d.id, d.source, d.media_type, d.sha256, d.passages, d.characters, \
         d.updated_at, d.collection, d.private, d.attributes"
    };
}

/// Where one document is.
macro_rules! found {
    () => {
        " FROM documents d WHERE d.tenant = $1 AND d.collection = $2 AND d.id = $3"
    };
}

/// What is stored of documents.
#[derive(Debug)]
pub(crate) struct Rows {
    database: Arc<Database>,
    /// Whether what changes is kept in mind until the index has heard of it.
    remembers: bool,
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
    pub(crate) vector: Option<Hashed>,
}

impl Rows {
    /// Takes the rows of a database. They remember what changes until [`Self::indexed`] where the index may be one that is
    /// there after this process (it is `outlived` by it), and where nobody may be told that a change was made which was: a
    /// connection may end with the commit.
    pub(crate) fn new(database: Arc<Database>, outlived: bool) -> Self {
        let remembers = outlived || database.is_postgres();
        Self { database, remembers }
    }

    /// Tells whether what changes is kept in mind until the index has heard of it.
    pub(crate) fn remembers(&self) -> bool {
        self.remembers
    }

    /// Gives every document of every tenant to `each`, by tenant.
    pub(crate) async fn every(
        &self,
        mut each: impl AsyncFnMut(Scope, String, Entries) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        tx.unhurried().await?;
        let mut rows = tx
            .query(concat!(
                "SELECT ",
                columns!(),
                ", d.tenant, p.position, p.headings, p.text, p.vector, c.generation
                 FROM passages p JOIN documents d ON d.tenant = p.tenant AND d.id = p.document
                 JOIN collections c ON c.tenant = d.tenant AND c.name = d.collection
                 ORDER BY p.tenant, p.document, p.position"
            ))
            .stream();
        let mut open: Option<(Scope, String, Entries)> = None;
        while let Some(row) = rows.try_next().await? {
            let (id, tenant): (&str, &str) = (row.get(0)?, row.get(10)?);
            let goes_on = open.as_ref().is_some_and(|(scope, document, _)| {
                document == id && scope.tenant.as_str() == tenant
            });
            if !goes_on {
                let tenant = TenantId::new(tenant).map_err(|fault| Error::Broken(fault.into()))?;
                let (document, attributes) = document(&row)?;
                let (collection, generation) = (document.collection.clone(), row.number(15)?);
                let scope = Scope { tenant, collection, generation };
                let fields = attributes.fields(&document);
                let next = (scope, document.id, Entries { passages: Vec::new(), fields });
                if let Some((scope, document, entries)) = open.replace(next) {
                    each(scope, document, entries).await?;
                }
            }
            let headings = read_headings(row.get(12)?)?;
            let vector = row.get::<Option<&[u8]>>(14)?.map(floats);
            let text = indexed(&headings, row.get(13)?);
            if let Some((_, document, entries)) = &mut open {
                let id = passage_id(document, row.get(11)?);
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
        transaction!(self.database, |tx| { self.write_in(tx, scope, new, lease).await })
    }

    async fn write_in(
        &self,
        tx: &mut Tx,
        scope: &Scope,
        new: &New,
        lease: Option<&LeaseId>,
    ) -> Result<(), Error> {
        let (tenant, document) = (scope.tenant.as_str(), &new.document);
        if scope.collection == DEFAULT {
            create(tx, scope, document.updated_at_ms).await?;
        }
        take_model(tx, scope, new).await?;
        if let Some(lease) = lease {
            let held = locked!(
                tx,
                "SELECT attributes, private FROM tasks WHERE lease = $1 AND state = 'running'"
            );
            let held = held.bind(lease.as_str()).optional().await?.ok_or(Error::Lost)?;
            let is_raised = held.get::<Option<bool>>(1)? == Some(true) && !document.private;
            if is_raised || read_attributes(held.get(0)?)? != new.attributes {
                // Changed by another after our lock was lost: whoever has it next begins anew.
                return Err(Error::Lost);
            }
        }
        add_fields(tx, scope, &new.attributes).await?;
        delete_rows(tx, scope, &document.id).await?;
        tx.query(
            "INSERT INTO documents (tenant, id, collection, source, media_type, sha256, text, characters, passages,
             updated_at, private, attributes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(tenant)
        .bind(&document.id)
        .bind(&scope.collection)
        .bind(&document.source)
        .bind(&document.media_type)
        .bind(&document.content_sha256)
        .bind(&new.text)
        .bind(i64::try_from(document.characters).unwrap_or(i64::MAX))
        .bind(i64::from(document.passages))
        .bind(document.updated_at_ms)
        .bind(document.private)
        .bind(write_attributes(&new.attributes)?)
        .execute()
        .await?;
        let mut position = 0_i64;
        for some in new.passages.chunks(TOGETHER) {
            let mut insert = tx.made(format!(
                "INSERT INTO passages (tenant, document, position, headings, text, start, start_line, end_line,
                 start_page, end_page, sha256, vector) VALUES {}",
                places(0, some.len(), 12)
            ));
            for passage in some {
                let vector = passage.vector.as_ref();
                insert = insert
                    .bind(tenant)
                    .bind(&document.id)
                    .bind(position)
                    .bind(serde_json::Value::from(passage.headings.clone()).to_string())
                    .bind(&new.text[passage.range.clone()])
                    .bind(i64::try_from(passage.start).unwrap_or(i64::MAX))
                    .bind(i64::from(passage.lines.0))
                    .bind(i64::from(passage.lines.1))
                    .bind(i64::from(passage.pages.0))
                    .bind(i64::from(passage.pages.1))
                    .bind(vector.map(|(hash, _)| hash.as_slice()))
                    .bind(vector.map(|(_, vector)| bytes(vector)));
                position += 1;
            }
            insert.execute().await?;
        }
        if new.bought {
            let hashes = new.passages.iter().filter_map(|one| Some(one.vector.as_ref()?.0));
            self::vectors::stored(tx, scope, hashes.collect()).await?;
        }
        self.unindexed(tx, scope, &document.id).await
    }

    /// Returns what is indexed of a document; none when it is not there.
    pub(crate) async fn entries(&self, scope: &Scope, id: &str) -> Result<Option<Entries>, Error> {
        let Some((document, attributes)) = self.find(scope, id).await? else { return Ok(None) };
        let mut db = self.database.read().await?;
        let rows = db.query(
            "SELECT position, headings, text, vector FROM passages
             WHERE tenant = $1 AND document = $2 ORDER BY position",
        );
        let rows = rows.bind(scope.tenant.as_str()).bind(id).all().await?;
        let entry = |row: &Row| {
            Ok(Entry {
                id: passage_id(id, row.get(0)?),
                text: indexed(&read_headings(row.get(1)?)?, row.get(2)?),
                vector: row.get::<Option<&[u8]>>(3)?.map(floats),
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
        let row = self.row(concat!("SELECT ", columns!(), found!()), scope, id).await?;
        row.map(|row| document(&row)).transpose()
    }

    /// Returns a document and its stored text.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub(crate) async fn read(&self, scope: &Scope, id: &str) -> Result<(Document, String), Error> {
        let row = self.row(concat!("SELECT ", columns!(), ", d.text", found!()), scope, id).await?;
        let row = row.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        Ok((document(&row)?.0, row.get(10)?))
    }

    async fn row(
        &self,
        statement: &'static str,
        scope: &Scope,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        let mut db = self.database.read().await?;
        let found = db.query(statement).bind(scope.tenant.as_str()).bind(&scope.collection);
        found.bind(id).optional().await
    }

    /// Returns at most `count` documents whose source is after `after`, by source.
    pub(crate) async fn list(
        &self,
        scope: &Scope,
        after: &str,
        count: u32,
    ) -> Result<Vec<Document>, Error> {
        let mut db = self.database.read().await?;
        let rows = db.query(concat!(
            "SELECT ",
            columns!(),
            " FROM documents d WHERE d.tenant = $1 AND d.collection = $2 AND d.source > $3
             ORDER BY d.source LIMIT $4"
        ));
        let rows = rows.bind(scope.tenant.as_str()).bind(&scope.collection);
        let rows = rows.bind(after).bind(i64::from(count)).all().await?;
        rows.iter().map(|row| Ok(document(row)?.0)).collect()
    }

    /// Removes a document and its passages.
    pub(crate) async fn delete(&self, scope: &Scope, id: &str) -> Result<(), Error> {
        transaction!(self.database, |tx| {
            lock(tx, scope).await?;
            delete_rows(tx, scope, id).await?;
            self.unindexed(tx, scope, id).await
        })
    }
}

/// Keeps a collection from changing until the transaction has ended; whoever changes several things of it does this
/// first. Returns the identity of its model, and how many numbers a vector has.
///
/// # Errors
/// [`Error::NoCollection`] if there is none.
async fn lock_there(tx: &mut Tx, scope: &Scope) -> Result<(String, i64), Error> {
    let row = lock(tx, scope).await?;
    let row = row.ok_or_else(|| Error::NoCollection(scope.collection.clone()))?;
    Ok((row.get(0)?, row.get(1)?))
}

/// As [`lock_there`], of a collection that may have gone.
async fn lock(tx: &mut Tx, scope: &Scope) -> Result<Option<Row>, Error> {
    let row =
        locked!(tx, "SELECT model, dimension FROM collections WHERE tenant = $1 AND name = $2");
    row.bind(scope.tenant.as_str()).bind(&scope.collection).optional().await
}

/// Checks that a document's vectors are those of its collection, or makes them its first. Nobody else changes the
/// collection until the transaction has ended.
///
/// # Errors
/// [`Error::Conflict`] if they are another model's, [`Error::NoCollection`] if the collection has gone.
async fn take_model(tx: &mut Tx, scope: &Scope, new: &New) -> Result<(), Error> {
    let (tenant, name) = (scope.tenant.as_str(), &scope.collection);
    let (has, of) = lock_there(tx, scope).await?;
    let Some((model, dimension)) = &new.model else { return Ok(()) };
    if *model == has && i64::from(*dimension) == of {
        return Ok(());
    }
    let filled = tx.query(
        "SELECT 1 FROM documents WHERE tenant = $1 AND collection = $2 AND passages > 0 LIMIT 1",
    );
    if filled.bind(tenant).bind(name).optional().await?.is_some() {
        return Err(Error::Conflict(format!(
            "collection {name:?} has vectors of {of} numbers of model {has:?}, these are of {dimension} of {model:?}"
        )));
    }
    tx.query("UPDATE collections SET model = $1, dimension = $2 WHERE tenant = $3 AND name = $4")
        .bind(model)
        .bind(i64::from(*dimension))
        .bind(tenant)
        .bind(name)
        .execute()
        .await?;
    Ok(())
}

/// Adds those of a document's attributes that its collection has not had.
///
/// # Errors
/// [`Error::Invalid`] for one that has another kind there, or is one too many.
async fn add_fields(tx: &mut Tx, scope: &Scope, attributes: &Attributes) -> Result<(), Error> {
    let (tenant, collection) = (scope.tenant.as_str(), &scope.collection);
    let there = tx.query("SELECT name, kind FROM fields WHERE tenant = $1 AND collection = $2");
    let there = there.bind(tenant).bind(collection).all().await?;
    let kinds = there.iter().map(|row| Ok((row.get(0)?, row.get(1)?)));
    let mut kinds = kinds.collect::<Result<HashMap<&str, &str>, Error>>()?;
    for (name, kind) in attributes.kinds() {
        match kinds.insert(name, kind.name()) {
            Some(there) if there == kind.name() => {}
            Some(there) => {
                let (is, name) = (kind.name(), format!("/attributes/{name}"));
                return Err(Error::Invalid(format!(
                    "{name}: is a {is}, and a {there} in this collection"
                )));
            }
            None => {
                tx.query(
                    "INSERT INTO fields (tenant, collection, name, kind) VALUES ($1, $2, $3, $4)",
                )
                .bind(tenant)
                .bind(collection)
                .bind(name)
                .bind(kind.name())
                .execute()
                .await?;
            }
        }
    }
    if kinds.len() > MOST_FIELDS {
        return Err(Error::Invalid(format!(
            "/attributes: a collection has at most {MOST_FIELDS} attributes by different names"
        )));
    }
    Ok(())
}

async fn delete_rows(tx: &mut Tx, scope: &Scope, id: &str) -> Result<(), Error> {
    tx.query("DELETE FROM documents WHERE tenant = $1 AND collection = $2 AND id = $3")
        .bind(scope.tenant.as_str())
        .bind(&scope.collection)
        .bind(id)
        .execute()
        .await?;
    Ok(())
}

/// Reads the [`columns`].
fn document(row: &Row) -> Result<(Document, Attributes), Error> {
    let attributes = read_attributes(row.get(9)?)?;
    let document = Document {
        id: row.get(0)?,
        source: row.get(1)?,
        media_type: row.get(2)?,
        content_sha256: row.get(3)?,
        passages: row.number(4)?,
        characters: row.count(5)?,
        updated_at_ms: row.get(6)?,
        collection: row.get(7)?,
        private: row.get(8)?,
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

pub(crate) fn write_attributes(attributes: &Attributes) -> Result<String, Error> {
    serde_json::to_string(attributes).map_err(|fault| Error::Broken(fault.into()))
}

pub(crate) fn read_attributes(json: &str) -> Result<Attributes, Error> {
    serde_json::from_str(json).map_err(|fault| Error::Broken(fault.into()))
}

fn read_headings(json: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(json).map_err(|fault| Error::Broken(fault.into()))
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

#[cfg(test)]
impl Rows {
    /// Opens new rows.
    async fn fresh(directory: &std::path::Path) -> Self {
        let config = crate::Config::at(&directory.join("documents.db"));
        Self::new(Arc::new(Database::open(&config, false).await.unwrap()), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Value;

    #[tokio::test]
    async fn what_was_changed_since_it_was_read_is_not_written_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let rows = Rows::fresh(directory.path()).await;
        let (tenant, collection) = (TenantId::new("a").unwrap(), "c".to_owned());
        let scope = Scope { tenant, collection, generation: 0 };
        rows.create(&scope, 1).await.unwrap();
        let lease = LeaseId::generate();
        let year = |year: f64| Attributes([("year".to_owned(), vec![Value::Number(year)])].into());
        let mut db = rows.database.begin().await.unwrap();
        let job = "INSERT INTO jobs (tenant, id, collection, created_at) VALUES ('a', 'j', 'c', 1)";
        db.query(job).execute().await.unwrap();
        let task = db.query(
            "INSERT INTO tasks (tenant, job, source, media_type, attributes, private, state, reason, document, attempts,
             lease, due_at, updated_at, collection)
             VALUES ('a', 'j', 's', '', $1, TRUE, 'running', '', '', 1, $2, 1, 1, 'c')",
        );
        let task = task.bind(write_attributes(&year(2024.0)).unwrap()).bind(lease.as_str());
        task.execute().await.unwrap();
        db.end(Ok(()), 1).await.unwrap().unwrap();
        let write = async |attributes: Attributes, private: bool| {
            let (id, source) = ("d".to_owned(), "s".to_owned());
            let document = Document { id, source, private, ..Document::default() };
            let (text, passages) = ("words".to_owned(), Vec::new());
            let new = New { document, attributes, text, passages, model: None, bought: false };
            rows.write(&scope, &new, Some(&lease)).await
        };
        for (attributes, private) in [(year(1999.0), true), (year(2024.0), false)] {
            let refused = write(attributes, private).await;
            assert!(matches!(refused, Err(Error::Lost)), "{refused:?}");
            assert!(rows.find(&scope, "d").await.unwrap().is_none());
        }
        write(year(2024.0), true).await.unwrap();
        assert!(rows.find(&scope, "d").await.unwrap().is_some());
    }
}
