//! Files are written by anybody, and what reads them is large: each is read by a process of its own, which
//! can do nothing else, has little memory and time, and is alone in what becomes of it.

mod limits;
mod worker;

use std::io;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::chunk::{Chunk, chunk};
use crate::config::Parsing;
use crate::parse::parse;
use crate::{Config, Error};

pub use worker::parse_worker;

/// What a program of ours is called with to be a worker.
const WORKER: &str = "parse-worker";

/// What a worker may answer with, in bytes: more than a document's text and passages ever are.
const MOST_OUTPUT: u64 = 256 * 1024 * 1024;
/// How much is read of what a worker says of its end.
const MOST_ERRORS: u64 = 4096;

/// A document's text, and the passages that it was cut into.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) text: String,
    pub(crate) chunks: Vec<Chunk>,
}

impl Cut {
    pub(crate) fn of(source: &str, media_type: &str, content: &[u8]) -> Result<Self, Error> {
        let parsed = parse(source, media_type, content)?;
        let chunks = chunk(&parsed);
        Ok(Self { text: parsed.text, chunks })
    }

    /// Tells whether passages are parts of the text, in order.
    pub(crate) fn is_sound(&self) -> bool {
        let mut end = 0;
        self.chunks.iter().all(|chunk| {
            let Range { start, end: next } = chunk.range;
            let follows = end <= start && start < next;
            end = next;
            follows && self.text.get(start..next).is_some()
        })
    }
}

/// What a worker is to read; the file follows.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    source: String,
    media_type: String,
    bytes: usize,
}

/// What a worker made of it.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// The text follows.
    Cut { bytes: usize, chunks: Vec<Chunk> },
    /// The file cannot be read.
    Refused(String),
}

/// Reads documents, so many at once.
#[derive(Debug)]
pub(crate) struct Parsers {
    config: Parsing,
    free: Semaphore,
}

impl Parsers {
    pub(crate) fn new(config: &Config) -> Self {
        let config = config.parsing.clone();
        Self { free: Semaphore::new(config.workers), config }
    }

    /// Parses a file and cuts it into passages.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be read within the limits; the message has the reason.
    /// [`Error::Broken`] if no process can be started for it.
    pub(crate) async fn cut(
        &self,
        source: &str,
        media_type: &str,
        content: &[u8],
    ) -> Result<Cut, Error> {
        let _turn = self.free.acquire().await.map_err(|fault| Error::Broken(fault.into()))?;
        if let Some(program) = &self.config.program {
            return self.apart(program, source, media_type, content).await;
        }
        let (source, media_type) = (source.to_owned(), media_type.to_owned());
        let content = content.to_vec();
        let cut = tokio::task::spawn_blocking(move || Cut::of(&source, &media_type, &content));
        cut.await.map_err(|fault| Error::Broken(fault.into()))?
    }

    /// Has a process of its own do it.
    async fn apart(
        &self,
        program: &Path,
        source: &str,
        media_type: &str,
        content: &[u8],
    ) -> Result<Cut, Error> {
        let order = Order {
            source: source.to_owned(),
            media_type: media_type.to_owned(),
            bytes: content.len(),
        };
        let order = serde_json::to_vec(&order).map_err(|fault| Error::Broken(fault.into()))?;
        let mut child = self.start(program).map_err(|fault| Error::Broken(fault.into()))?;
        let deadline = Duration::from_millis(self.config.deadline_ms);
        let ended = tokio::time::timeout(deadline, talk(&mut child, &order, content)).await;
        let unreadable = |why: String| Error::Invalid(format!("{source:?} cannot be read: {why}"));
        let Ok(ended) = ended else {
            end(&mut child).await;
            return Err(unreadable(format!("it took more than {} ms", deadline.as_millis())));
        };
        let Ended { status, output, errors } =
            ended.map_err(|fault| Error::Broken(fault.into()))?;
        if !status.success() {
            tracing::warn!(%status, errors, media_type, "a parser ended early");
            return Err(unreadable(self.why(status, &errors)));
        }
        match answer(output) {
            Some(Ok(cut)) => Ok(cut),
            Some(Err(refused)) => Err(Error::Invalid(refused)),
            None => Err(unreadable("its parser answered what is no answer".to_owned())),
        }
    }

    fn start(&self, program: &Path) -> io::Result<Child> {
        Command::new(program)
            .arg(WORKER)
            .arg(self.config.memory_bytes.to_string())
            .arg(self.config.cpu_seconds.to_string())
            .env_clear()
            // What is free goes back, for address space is what is counted.
            .env("MALLOC_CONF", "retain:false")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Says why a worker ended early.
    fn why(&self, status: ExitStatus, errors: &str) -> String {
        let Parsing { memory_bytes, cpu_seconds, .. } = self.config;
        let said = |words: &str| errors.contains(words);
        if status.signal() == Some(Signal::XCPU.as_raw()) {
            format!("it took more than {cpu_seconds} s of a processor")
        } else if said("memory allocation of") || said("failed to allocate") {
            format!("it needs more than {memory_bytes} bytes of memory")
        } else if said("overflowed its stack") {
            "it is nested too deeply".to_owned()
        } else {
            "its parser failed".to_owned()
        }
    }
}

/// How a worker ended.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    errors: String,
}

/// Hands a worker its order and reads its answer. One that ends early does not read all of it.
async fn talk(child: &mut Child, order: &[u8], content: &[u8]) -> io::Result<Ended> {
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (_, output, errors) = tokio::join!(
        send(input, [order, b"\n", content]),
        read(output, MOST_OUTPUT),
        read(errors, MOST_ERRORS),
    );
    let errors = String::from_utf8_lossy(&errors?).into_owned();
    Ok(Ended { status: child.wait().await?, output: output?, errors })
}

async fn send(to: Option<impl AsyncWrite + Unpin>, parts: [&[u8]; 3]) -> io::Result<()> {
    let Some(mut to) = to else { return Ok(()) };
    for part in parts {
        to.write_all(part).await?;
    }
    to.shutdown().await
}

/// Reads at most so many bytes; who writes more is cut off.
async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Kills a worker, and whatever it may have started.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    if let Some(group) = group {
        // It may have ended by itself just now.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait().await;
}

/// Reads what a worker answered: a worker is as little trusted as what it read.
fn answer(mut output: Vec<u8>) -> Option<Result<Cut, String>> {
    let line = output.iter().position(|byte| *byte == b'\n')?;
    match serde_json::from_slice(&output[..line]).ok()? {
        Reply::Refused(why) => Some(Err(why)),
        Reply::Cut { bytes, chunks } => {
            output.drain(..=line);
            let text = String::from_utf8(output).ok().filter(|text| text.len() == bytes)?;
            let cut = Cut { text, chunks };
            cut.is_sound().then_some(Ok(cut))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(ranges: &[Range<usize>]) -> Vec<Chunk> {
        let one = |range: &Range<usize>| Chunk {
            range: range.clone(),
            headings: Vec::new(),
            lines: (1, 1),
            pages: (0, 0),
        };
        ranges.iter().map(one).collect()
    }

    #[test]
    fn an_answer_that_cannot_be_is_none() {
        let said = |bytes: usize, ranges: &[Range<usize>], text: &str| {
            let reply = Reply::Cut { bytes, chunks: chunks(ranges) };
            let mut line = serde_json::to_vec(&reply).unwrap();
            line.push(b'\n');
            line.extend(text.as_bytes());
            answer(line)
        };
        assert!(said(4, &[0..1, 2..4], "a bü").is_none(), "another length");
        assert!(said(5, &[0..1, 2..5], "a bü").unwrap().is_ok());
        for ranges in [[0..2, 1..3], [2..3, 0..1], [0..0, 1..2], [0..1, 2..4], [0..1, 2..6]] {
            assert!(said(5, &ranges, "a bü").is_none(), "{ranges:?}");
        }
        assert!(answer(Vec::new()).is_none());
        assert!(answer(b"running 0 tests\n".to_vec()).is_none());
    }
}
