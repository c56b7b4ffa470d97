//! Moves what was written from the log (WAL) into the database file, beside the writes.
//!
//! This alone waits for the disk. Left to SQLite, every thousandth page would make a write wait for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::Connection;

use super::writer::Writer;

/// How often the log's length is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// After how many looks something new is moved, long or not: a power cut loses no more than that.
const LOOKS: u32 = 5;

/// The length from which a log is cut back.
const LONG: u64 = 32 * 1024 * 1024;

/// Keeps the log of `file` short until the writer is gone.
pub(super) async fn keep(writer: Weak<Writer>, file: PathBuf) {
    let log = log_of(&file);
    let (mut moved, mut looks) = (0, 0);
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(writer) = writer.upgrade() else { return };
        let commits = writer.commits();
        let long = std::fs::metadata(&log).is_ok_and(|log| log.len() >= LONG);
        looks += 1;
        if commits == moved || !(long || looks >= LOOKS) {
            continue;
        }
        looks = 0;
        match checkpoint(&writer, &file, long).await {
            Ok(()) => moved = commits,
            Err(error) => tracing::warn!(%error, "the ledger's log was not moved into its file"),
        }
    }
}

async fn checkpoint(writer: &Arc<Writer>, file: &Path, long: bool) -> anyhow::Result<()> {
    ask(file, "PASSIVE").await?;
    if long {
        // What came meanwhile is little; it alone is moved while writes wait.
        let _paused = writer.pause().await;
        ask(file, "TRUNCATE").await?;
    }
    Ok(())
}

async fn ask(file: &Path, how: &'static str) -> anyhow::Result<()> {
    let file = file.to_owned();
    let work = move || -> rusqlite::Result<()> {
        let db = Connection::open(file)?;
        db.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
    };
    Ok(tokio::task::spawn_blocking(work).await??)
}

fn log_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}
