//! A row a call, on its way to the budget service: to disk first, and from there until it has arrived.
//!
//! A call's cost travels with its row and settles its reservation, so that no outage loses a settlement.
//! Rows that come while others travel go together: the busier, the fewer transactions.

use std::fs::File;
use std::io::{ErrorKind as Io, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use proto::Message as _;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{RecordUsageRequest, Usage};
use runtime::transport::Peer;
use tokio::sync::{Notify, mpsc};
use types::ErrorKind;

/// How many rows travel together, and are kept in memory besides the disk.
const TOGETHER: usize = 500;

/// How long the first row waits for others.
const GATHERED: Duration = Duration::from_millis(5);

/// How long to wait before a row is sent again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

const ENDING: &str = "usage";

/// Takes rows. Clones share one spool.
#[derive(Clone)]
pub(crate) struct Meter {
    spool: Arc<Mutex<Spool>>,
    wake: mpsc::Sender<()>,
}

impl Meter {
    /// Opens the spool in `directory`, of at most `most` bytes, and sends what an earlier process left
    /// there.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub(crate) fn open(directory: &Path, most: u64, budget: Peer) -> anyhow::Result<Self> {
        let opened = || -> std::io::Result<_> {
            std::fs::create_dir_all(directory)?;
            let left = left_behind(directory)?;
            let current = Segment::create(directory)?;
            let directory = directory.to_owned();
            let arrived = Arc::default();
            Ok((Spool { directory, current, spare: None, bytes: 0, most, arrived }, left))
        };
        let place = || format!("router.spool: {}", directory.display());
        let (spool, left) = opened().with_context(place)?;
        let spool = Arc::new(Mutex::new(spool));
        let (wake, woken) = mpsc::channel(1);
        tokio::spawn(ship(Arc::clone(&spool), left, woken, budget));
        Ok(Self { spool, wake })
    }

    /// Takes a row; once this returns, the row survives the process.
    pub(crate) fn record(&self, usage: Usage) {
        if let Err(fault) = lock(&self.spool).push(usage) {
            // The ledger frees the hold when its time is over; this line is all that is left.
            tracing::error!(%fault, "a call's usage was lost");
        }
        // One that is awake already looks again.
        let _ = self.wake.try_send(());
    }

    /// Waits until every row has arrived that was taken.
    pub(crate) async fn sent(&self) {
        let arrived = Arc::clone(&lock(&self.spool).arrived);
        loop {
            let heard = arrived.notified();
            if lock(&self.spool).bytes == 0 {
                return;
            }
            heard.await;
        }
    }
}

fn lock(spool: &Mutex<Spool>) -> std::sync::MutexGuard<'_, Spool> {
    // A spool is whole between any two of its statements.
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Spool {
    directory: PathBuf,
    /// Where rows go now.
    current: Segment,
    /// An empty one, to save making another.
    spare: Option<Segment>,
    /// Of everything that has not arrived.
    bytes: u64,
    most: u64,
    /// Told when rows have arrived.
    arrived: Arc<Notify>,
}

impl Spool {
    fn push(&mut self, usage: Usage) -> std::io::Result<()> {
        let row = usage.encode_length_delimited_to_vec();
        let length = row.len() as u64;
        if self.bytes.saturating_add(length) > self.most {
            let fault = format!("{usage:?}: the spool holds {} bytes already", self.bytes);
            return Err(std::io::Error::other(fault));
        }
        if let Err(fault) = self.current.file.write_all(&row) {
            // Half a row would hide those behind it.
            self.current.file.set_len(self.current.bytes)?;
            return Err(fault);
        }
        self.current.bytes += length;
        self.bytes += length;
        match self.current.rows.len() < TOGETHER {
            true => self.current.rows.push(usage),
            false => self.current.is_longer = true,
        }
        Ok(())
    }

    /// Returns what there is to send, if anything.
    fn take(&mut self) -> std::io::Result<Option<Segment>> {
        if self.current.bytes == 0 {
            return Ok(None);
        }
        let next = match self.spare.take() {
            Some(spare) => spare,
            None => Segment::create(&self.directory)?,
        };
        Ok(Some(std::mem::replace(&mut self.current, next)))
    }

    fn put_back(&mut self, mut empty: Segment) {
        self.bytes = self.bytes.saturating_sub(empty.bytes);
        self.arrived.notify_waiters();
        if empty.file.set_len(0).is_ok() {
            (empty.bytes, empty.is_longer) = (0, false);
            empty.rows.clear();
            self.spare = Some(empty);
        }
    }
}

/// A file of rows, each behind its length; locked, so that another process leaves it alone.
struct Segment {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The first of them.
    rows: Vec<Usage>,
    /// There are more in the file.
    is_longer: bool,
}

impl Segment {
    fn create(directory: &Path) -> std::io::Result<Self> {
        let name = types::RequestId::generate();
        let path = directory.join(format!("{name}.{ENDING}"));
        let file = File::options().read(true).append(true).create_new(true).open(&path)?;
        file.lock()?;
        Ok(Self { path, file, bytes: 0, rows: Vec::new(), is_longer: false })
    }

    fn all(&mut self) -> std::io::Result<Vec<Usage>> {
        if !self.is_longer {
            return Ok(std::mem::take(&mut self.rows));
        }
        self.file.rewind()?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        let (mut rest, mut rows) = (bytes.as_slice(), Vec::new());
        // A last one that was cut off was never acknowledged.
        while let (false, Ok(row)) = (rest.is_empty(), Usage::decode_length_delimited(&mut rest)) {
            rows.push(row);
        }
        Ok(rows)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.bytes == 0 {
            // One that stays is empty, and is taken away by the next process.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns the segments of processes that are gone.
fn left_behind(directory: &Path) -> std::io::Result<Vec<Segment>> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        let file = match File::options().read(true).append(true).open(&path) {
            Ok(file) => file,
            // Another process has just sent it and taken it away.
            Err(fault) if fault.kind() == Io::NotFound => continue,
            Err(fault) => return Err(fault),
        };
        if file.try_lock().is_ok() {
            let bytes = file.metadata()?.len();
            left.push(Segment { path, file, bytes, rows: Vec::new(), is_longer: true });
        }
    }
    Ok(left)
}

/// Sends rows until nobody can bring more.
async fn ship(
    spool: Arc<Mutex<Spool>>,
    left: Vec<Segment>,
    mut woken: mpsc::Receiver<()>,
    budget: Peer,
) {
    for mut segment in left {
        if arrive(&mut segment, &budget).await {
            segment.bytes = 0;
        }
    }
    loop {
        let taken = lock(&spool).take();
        match taken {
            Ok(Some(mut segment)) => {
                if arrive(&mut segment, &budget).await {
                    lock(&spool).put_back(segment);
                }
            }
            Ok(None) => {
                if woken.recv().await.is_none() {
                    return;
                }
                // Nobody waits for a settlement, and those of the next moments go along for nothing.
                tokio::time::sleep(GATHERED).await;
            }
            Err(fault) => {
                tracing::error!(%fault, "the spool of usage fails");
                tokio::time::sleep(PAUSES.1).await;
            }
        }
    }
}

/// Sends a segment's rows, for as long as it takes; tells whether they could be read.
async fn arrive(segment: &mut Segment, budget: &Peer) -> bool {
    let rows = match segment.all() {
        Ok(rows) => rows,
        Err(fault) => {
            tracing::error!(%fault, path = %segment.path.display(), "usage cannot be read");
            return false;
        }
    };
    for rows in rows.chunks(TOGETHER) {
        if send(rows, budget).await.is_err() {
            // One of them is not taken: the others are.
            for row in rows {
                if let Err(refused) = send(std::slice::from_ref(row), budget).await {
                    tracing::error!(%refused, ?row, "a call's usage was refused");
                }
            }
        }
    }
    true
}

/// Sends rows until they are taken, or refused for what they are.
async fn send(rows: &[Usage], budget: &Peer) -> tonic::Result<()> {
    let mut pause = PAUSES.0;
    loop {
        let request = RecordUsageRequest { usages: rows.to_vec() };
        let mut client =
            BudgetServiceClient::new(budget.clone()).max_encoding_message_size(usize::MAX);
        match client.record_usage(request).await {
            Ok(_) => return Ok(()),
            Err(status) if runtime::error::kind_of(&status) == ErrorKind::Invalid => {
                return Err(status);
            }
            Err(status) => {
                tracing::warn!(%status, rows = rows.len(), "usage is sent again later");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: usize) -> Usage {
        Usage { id: id.to_string(), ..Usage::default() }
    }

    fn spool(directory: &Path, most: u64) -> Spool {
        let current = Segment::create(directory).unwrap();
        let (directory, arrived) = (directory.to_owned(), Arc::default());
        Spool { directory, current, spare: None, bytes: 0, most, arrived }
    }

    #[test]
    fn rows_are_on_disk_until_they_have_arrived() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = spool(directory.path(), 1 << 20);
        for id in 0..3 * TOGETHER {
            spool.push(row(id)).unwrap();
        }
        assert!(left_behind(directory.path()).unwrap().is_empty(), "it is this process's own");
        // The process ends, in the middle of a row.
        spool.current.file.write_all(&[9, 1]).unwrap();
        drop(spool);
        let mut left = left_behind(directory.path()).unwrap();
        let ids: Vec<String> = left[0].all().unwrap().into_iter().map(|row| row.id).collect();
        assert_eq!(ids, (0..3 * TOGETHER).map(|id| id.to_string()).collect::<Vec<_>>());
        left[0].bytes = 0;
        drop(left);
        assert!(left_behind(directory.path()).unwrap().is_empty(), "sent, and gone");
    }

    #[test]
    fn a_row_that_another_process_takes_away_meanwhile_is_not_missed() {
        let directory = tempfile::tempdir().unwrap();
        // Listed, and gone when it is opened.
        std::os::unix::fs::symlink("gone", directory.path().join("a.usage")).unwrap();
        assert!(left_behind(directory.path()).unwrap().is_empty());
    }

    #[test]
    fn a_full_spool_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = spool(directory.path(), 10);
        spool.push(row(1)).unwrap();
        assert!(std::iter::repeat_with(|| spool.push(row(2))).take(9).any(|done| done.is_err()));
        let taken = spool.take().unwrap().unwrap();
        spool.put_back(taken);
        spool.push(row(3)).unwrap();
    }
}
