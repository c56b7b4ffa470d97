//! Moves what was written from the log (WAL) into the database file, beside the writes.
//!
//! This alone waits for the disk. Left to SQLite, every thousandth page would make a write wait for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::writer::Writer;

/// How often the log's length is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// After how many looks something new is moved, long or not: a power cut loses no more than that.
const LOOKS: u32 = 5;

/// From how many frames on the log begins again: some 32 MiB.
const LONG: i64 = 8192;

/// The length in bytes that the log's file keeps, to be written over; the commit that begins it again cuts off the rest.
/// What is cut off has to be had again from the file system: that was 13 % of a busy process's time.
pub(super) const KEPT: u32 = 64 * 1024 * 1024;

/// Moves the log of `file` into it until the writer is gone.
pub(super) async fn keep(writer: Weak<Writer>, file: PathBuf) {
    let (mut moved, mut looks) = (0, 0);
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(writer) = writer.upgrade() else { return };
        let commits = writer.commits();
        looks += 1;
        if commits == moved {
            continue;
        }
        match checkpoint(&writer, &file, looks >= LOOKS).await {
            Ok(None) => {}
            Ok(Some(Log { frames, moved: done })) => {
                looks = 0;
                // Otherwise somebody read, or wrote meanwhile.
                if done == frames {
                    moved = commits;
                }
            }
            Err(error) => {
                looks = 0;
                tracing::warn!(%error, "the ledger's log was not moved into its file");
            }
        }
    }
}

/// How many frames are in the log, and how many of them are in the file.
#[derive(Debug)]
struct Log {
    frames: i64,
    moved: i64,
}

/// Moves the log into the file if it is long, or `is_due`, as far as nobody reads what was before; waits for no reader.
async fn checkpoint(
    writer: &Arc<Writer>,
    file: &Path,
    is_due: bool,
) -> anyhow::Result<Option<Log>> {
    // Moves nothing, since SQLite 3.51.
    let is_long = ask(file, "NOOP").await?.frames >= LONG;
    if !(is_long || is_due) {
        return Ok(None);
    }
    let log = ask(file, "PASSIVE").await?;
    if !is_long {
        return Ok(Some(log));
    }
    // What came meanwhile is little; it alone is moved while writes wait. The next of them begins the log again.
    let _paused = writer.pause().await;
    Ok(Some(ask(file, "PASSIVE").await?))
}

/// Runs a checkpoint.
async fn ask(file: &Path, how: &'static str) -> anyhow::Result<Log> {
    let file = file.to_owned();
    let work = move || -> rusqlite::Result<Log> {
        let db = Connection::open(file)?;
        let read = |row: &Row<'_>| Ok(Log { frames: row.get(1)?, moved: row.get(2)? });
        db.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], read)
    };
    Ok(tokio::task::spawn_blocking(work).await??)
}

#[cfg(test)]
mod tests {
    use types::SystemClock;

    use super::*;

    #[tokio::test]
    async fn a_long_log_begins_again_and_its_file_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ledger.db");
        let db = super::super::writing(&file).unwrap();
        db.pragma_update(None, "journal_mode", "wal").unwrap();
        db.execute_batch("CREATE TABLE pages (content BLOB)").unwrap();
        let writer = Arc::new(Writer::new(db, Arc::default(), Arc::new(SystemClock)));
        let put = async |bytes: u32| {
            let put = move |all: &mut super::super::moves::Transaction<'_>| {
                all.db()?.execute("INSERT INTO pages VALUES (zeroblob(?))", [bytes])?;
                Ok(())
            };
            writer.write(put).await.unwrap();
        };
        let length = || std::fs::metadata(directory.path().join("ledger.db-wal")).unwrap().len();
        // Whether it was tried, and all of it was moved.
        let moved = async |is_due| {
            let log = checkpoint(&writer, &file, is_due).await.unwrap();
            log.map(|log| log.moved == log.frames)
        };

        assert_eq!((moved(false).await, moved(true).await), (None, Some(true)));
        for (bytes, kept) in [(34 << 20, 34 << 20), (80 << 20, u64::from(KEPT))] {
            put(bytes).await;
            assert_eq!(moved(false).await, Some(true));
            put(1).await;
            assert!(ask(&file, "NOOP").await.unwrap().frames < 10);
            assert!((kept..=kept + (1 << 20)).contains(&length()), "{}", length());
        }

        let reader = Connection::open(&file).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM pages").unwrap();
        put(1).await;
        assert_eq!(moved(true).await, Some(false), "it reads what was before");
        drop(reader);
        assert_eq!(moved(true).await, Some(true));
    }
}
