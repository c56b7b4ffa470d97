//! Files of tenants in SQLite, in pieces, so that a large one is never one value.

use std::sync::Arc;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlitePool};
use types::{Clock, FileId, Privacy, TenantId};

use crate::Error;

/// What a file of requests is for.
pub(crate) const INPUT: &str = "batch";
/// What files are for that are uploaded: requests of a batch, or documents.
pub(crate) const UPLOADED: [&str; 3] = [INPUT, "assistants", "user_data"];
/// What a file is for that a batch made.
pub(crate) const OUTPUT: &str = "batch_output";

const PIECE: usize = 256 * 1024;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How long a file may be written without another piece of it: who uploads may go away.
const WRITING_MS: i64 = 60 * 60 * 1000;

/// Every tenant's files.
#[derive(Clone)]
pub(crate) struct Files {
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
    expire_days: u32,
    /// How many bytes the files of a tenant may have when it uploads another one.
    tenant_bytes: u64,
}

/// A whole file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) id: FileId,
    pub(crate) filename: String,
    pub(crate) purpose: String,
    pub(crate) privacy: Privacy,
    pub(crate) bytes: u64,
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) after: String,
    pub(crate) limit: u32,
    pub(crate) purpose: String,
    pub(crate) oldest_first: bool,
}

/// A file that is being written; nobody sees it. One that is never published is swept an hour after its
/// last piece.
pub(crate) struct Draft {
    files: Files,
    id: FileId,
    /// None: what a batch made is paid for, and is written whatever there is.
    limit: Option<i64>,
    buffer: Vec<u8>,
    pieces: i64,
    bytes: usize,
    /// Somebody else removes it.
    is_closed: bool,
}

impl Files {
    pub(crate) fn new(
        pool: SqlitePool,
        clock: Arc<dyn Clock>,
        expire_days: u32,
        tenant_bytes: u64,
    ) -> Self {
        Self { pool, clock, expire_days, tenant_bytes }
    }

    /// Begins a file of `tenant`.
    pub(crate) async fn draft(
        &self,
        tenant: &TenantId,
        purpose: &str,
        privacy: Privacy,
    ) -> Result<Draft, Error> {
        let (id, now) = (FileId::generate(), self.clock.now_ms());
        sqlx::query(
            "INSERT INTO files (id, tenant, filename, purpose, privacy, bytes, whole, created_at, expires_at)
             VALUES (?, ?, '', ?, ?, 0, 0, ?, ?)",
        )
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(purpose)
        .bind(privacy.as_str())
        .bind(now)
        .bind(now.saturating_add(WRITING_MS))
        .execute(&self.pool)
        .await?;
        let most = i64::try_from(self.tenant_bytes).unwrap_or(i64::MAX);
        let limit = (purpose == INPUT).then_some(most);
        let files = self.clone();
        let (buffer, pieces, bytes, is_closed) = (Vec::new(), 0, 0, false);
        Ok(Draft { files, id, limit, buffer, pieces, bytes, is_closed })
    }

    pub(crate) async fn find(&self, tenant: &TenantId, id: &FileId) -> Result<File, Error> {
        let row = sqlx::query(
            "SELECT * FROM files WHERE tenant = ? AND id = ? AND whole AND expires_at > ?",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(self.clock.now_ms())
        .fetch_optional(&self.pool)
        .await?;
        row.map_or_else(|| Err(Error::NoSuchFile(id.to_string())), |row| read(&row))
    }

    /// Returns a page and whether there is another.
    pub(crate) async fn list(
        &self,
        tenant: &TenantId,
        page: &Page,
    ) -> Result<(Vec<File>, bool), Error> {
        // Ids sort by age.
        let rows = sqlx::query(
            "SELECT * FROM files WHERE tenant = ?1 AND whole AND expires_at > ?2
               AND (?3 = '' OR purpose = ?3)
               AND (?4 = '' OR CASE WHEN ?5 THEN id > ?4 ELSE id < ?4 END)
             ORDER BY CASE WHEN ?5 THEN id END, CASE WHEN NOT ?5 THEN id END DESC LIMIT ?6",
        )
        .bind(tenant.as_str())
        .bind(self.clock.now_ms())
        .bind(&page.purpose)
        .bind(&page.after)
        .bind(page.oldest_first)
        .bind(i64::from(page.limit) + 1)
        .fetch_all(&self.pool)
        .await?;
        let mut files = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let more = files.len() > page.limit as usize;
        files.truncate(page.limit as usize);
        Ok((files, more))
    }

    /// Returns a piece of a file that was found, `None` past its end.
    pub(crate) async fn piece(&self, id: &FileId, position: i64) -> Result<Option<Vec<u8>>, Error> {
        let row = sqlx::query("SELECT bytes FROM chunks WHERE file = ? AND position = ?")
            .bind(id.as_str())
            .bind(position)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    pub(crate) async fn delete(&self, tenant: &TenantId, id: &FileId) -> Result<(), Error> {
        let gone = sqlx::query("DELETE FROM files WHERE tenant = ? AND id = ? AND whole")
            .bind(tenant.as_str())
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        match gone.rows_affected() {
            0 => Err(Error::NoSuchFile(id.to_string())),
            _ => Ok(()),
        }
    }

    /// Removes what has expired and returns how many files that were.
    pub(crate) async fn sweep(&self) -> Result<u64, Error> {
        let gone = sqlx::query("DELETE FROM files WHERE expires_at <= ?")
            .bind(self.clock.now_ms())
            .execute(&self.pool)
            .await?;
        Ok(gone.rows_affected())
    }

    /// Returns when a file ends that is made now.
    pub(crate) fn expiry(&self) -> i64 {
        self.clock.now_ms().saturating_add(i64::from(self.expire_days).saturating_mul(DAY_MS))
    }
}

impl Draft {
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == PIECE {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Writes a piece, if the files of its tenant may have as many bytes more, those that are being
    /// written included.
    async fn flush(&mut self) -> Result<(), Error> {
        let piece = std::mem::take(&mut self.buffer);
        let mut tx = self.files.pool.begin_with("BEGIN IMMEDIATE").await?;
        let grown = sqlx::query(
            "UPDATE files SET bytes = bytes + ?2, expires_at = ?3 WHERE id = ?1 AND (?4 IS NULL
               OR ?2 + (SELECT sum(of.bytes) FROM files AS of WHERE of.tenant = files.tenant) <= ?4)",
        )
        .bind(self.id.as_str())
        .bind(i64::try_from(piece.len()).unwrap_or(i64::MAX))
        .bind(self.files.clock.now_ms().saturating_add(WRITING_MS))
        .bind(self.limit)
        .execute(&mut *tx)
        .await?;
        if grown.rows_affected() == 0 {
            return Err(Error::Full(self.limit.unwrap_or_default()));
        }
        sqlx::query("INSERT INTO chunks (file, position, bytes) VALUES (?, ?, ?)")
            .bind(self.id.as_str())
            .bind(self.pieces)
            .bind(piece)
            .execute(&mut *tx)
            .await?;
        self.pieces += 1;
        Ok(tx.commit().await?)
    }

    /// Writes what is left. The file stays unseen until it is published.
    pub(crate) async fn close(mut self) -> Result<Closed, Error> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        self.is_closed = true;
        Ok(Closed { expires_at: self.files.expiry(), id: self.id.clone(), bytes })
    }

    /// Gives up what was written.
    pub(crate) async fn discard(mut self) -> Result<(), Error> {
        self.is_closed = true;
        remove(self.files.pool.clone(), self.id.clone()).await
    }
}

impl Drop for Draft {
    /// Gives up what was written, also when whoever uploads went away.
    fn drop(&mut self) {
        if !self.is_closed {
            // What is left of it is swept.
            tokio::spawn(remove(self.files.pool.clone(), self.id.clone()));
        }
    }
}

async fn remove(pool: SqlitePool, id: FileId) -> Result<(), Error> {
    sqlx::query("DELETE FROM files WHERE id = ?").bind(id.as_str()).execute(&pool).await?;
    Ok(())
}

/// A file that is written and not yet seen.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) id: FileId,
    pub(crate) bytes: i64,
    pub(crate) expires_at: i64,
}

impl Closed {
    /// Lets everybody see it, maybe together with something else.
    pub(crate) async fn publish(
        &self,
        filename: &str,
        executor: impl sqlx::SqliteExecutor<'_>,
    ) -> Result<(), Error> {
        sqlx::query(
            "UPDATE files SET filename = ?, bytes = ?, expires_at = ?, whole = 1 WHERE id = ?",
        )
        .bind(filename)
        .bind(self.bytes)
        .bind(self.expires_at)
        .bind(self.id.as_str())
        .execute(executor)
        .await?;
        Ok(())
    }
}

impl Files {
    /// Publishes an upload, which is for this.
    pub(crate) async fn publish(
        &self,
        tenant: &TenantId,
        closed: &Closed,
        filename: &str,
        purpose: &str,
    ) -> Result<File, Error> {
        sqlx::query("UPDATE files SET purpose = ? WHERE id = ?")
            .bind(purpose)
            .bind(closed.id.as_str())
            .execute(&self.pool)
            .await?;
        closed.publish(filename, &self.pool).await?;
        self.find(tenant, &closed.id).await
    }
}

/// Returns a stored privacy; what cannot be read is private.
pub(crate) fn privacy(text: &str) -> Privacy {
    match text {
        "public" => Privacy::Public,
        _ => Privacy::Private,
    }
}

fn read(row: &SqliteRow) -> Result<File, Error> {
    let id: String = row.try_get("id")?;
    let bytes: i64 = row.try_get("bytes")?;
    Ok(File {
        id: FileId::new(id)?,
        filename: row.try_get("filename")?,
        purpose: row.try_get("purpose")?,
        privacy: privacy(row.try_get("privacy")?),
        bytes: bytes.unsigned_abs(),
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
    })
}
