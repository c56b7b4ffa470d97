//! A stream under way: chunks on their way to the client, and their usage.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use proto::router::stream_complete_response::Event;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::attempt::Besides;
use super::chunk::{self, Said};
use super::{Planned, now};
use crate::cache::Recording;
use crate::catalog::Candidate;
use crate::config::OnDisconnect;
use crate::conversation::Keep;
use crate::dialects::render::{Rendering, written};
use crate::money::Held;
use crate::providers::{Chunks, Fault};
use crate::tokens::Text;

/// How many chunks that came together go on together.
const TOGETHER: usize = 64;

/// The client's end of a stream. It takes pieces together that came together: each time it is woken once.
pub(super) struct Reader {
    pieces: mpsc::Sender<Vec<Event>>,
    patience: Duration,
    gone: bool,
    /// Notes what it gets, to be kept.
    pub(super) recording: Option<Recording>,
}

impl Reader {
    /// Returns the end of nobody.
    pub(super) fn gone() -> Self {
        Self { gone: true, ..Self::new(mpsc::channel(1).0, Duration::ZERO) }
    }

    pub(super) fn new(pieces: mpsc::Sender<Vec<Event>>, patience: Duration) -> Self {
        Self { pieces, patience, gone: false, recording: None }
    }

    /// Passes chunks on; they are noted also for a client that is gone.
    pub(super) async fn send_chunks(&mut self, chunks: Vec<Bytes>) {
        if let Some(recording) = &mut self.recording {
            chunks.iter().for_each(|chunk| recording.push(chunk));
        }
        if !chunks.is_empty() {
            self.send(chunks.into_iter().map(Event::Chunk).collect()).await;
        }
    }

    /// Passes pieces on. A client that is gone, or takes nothing for as long as a provider may say
    /// nothing, gets no more of them.
    pub(super) async fn send(&mut self, pieces: Vec<Event>) {
        if self.gone {
            return;
        }
        // Most often there is room, and then nobody needs a timer.
        self.gone = match self.pieces.try_send(pieces) {
            Ok(()) => false,
            Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(pieces)) => {
                self.pieces.send_timeout(pieces, self.patience).await.is_err()
            }
        };
    }
}

/// A stream under way.
pub(super) struct Flow {
    pub(super) call: Arc<Planned>,
    pub(super) candidate: Arc<Candidate>,
    pub(super) held: Held,
    /// What came before it.
    pub(super) besides: Besides,
    /// How long that took.
    pub(super) first_token: Option<Duration>,
    /// Of a stream that comes to its end.
    pub(super) outcome: &'static str,
    /// What is to be kept of it.
    pub(super) keep: Option<Keep>,
}

impl Flow {
    /// Passes chunks on until the end. The client may be gone: the rest is read all the same, for
    /// the usage that comes last.
    pub(super) async fn run(self, first: Bytes, rest: Chunks, mut client: Reader) {
        let (mut counted, mut broken, mut cancelled) = (None, None, false);
        let (mut said, mut ends) = (Text::default(), 0);
        let speaks = self.candidate.provider.dialect();
        let mut rendering = Rendering::new(speaks, &self.call.request, now());
        // What has come by the time that the first of it is looked at goes on with it; nothing is waited for.
        let mut chunks = stream::iter([Ok(first)]).chain(rest).ready_chunks(TOGETHER);
        while broken.is_none()
            && !cancelled
            && let Some(come) = chunks.next().await
        {
            let mut told = Vec::new();
            for chunk in come {
                let chunk = match chunk {
                    // Not every server marks the end of a stream: that everything has one is enough.
                    Err(_) if ends >= self.call.request.choices() => {
                        match rendering.missing_end() {
                            Some(end) => Ok(end),
                            None => continue,
                        }
                    }
                    chunk => chunk,
                };
                match chunk.and_then(|chunk| Ok((look(&mut rendering, &chunk)?, chunk))) {
                    Ok(((seen, chat), chunk)) => {
                        ends += seen.ends;
                        counted = seen.usage.or(counted);
                        said.append(&seen.written);
                        let only_usage = seen.usage.is_some() && !seen.has_choices;
                        let hidden = only_usage && !self.call.request.wants_usage;
                        rendering.push(chunk, &chat, hidden, &mut told);
                    }
                    Err(fault) => {
                        broken = Some(format!("{} failed: {fault}", self.candidate.name()));
                        break;
                    }
                }
            }
            client.send_chunks(told).await;
            cancelled = client.gone && self.call.policy.on_disconnect == OnDisconnect::Cancel;
        }
        let is_whole = broken.is_none() && !cancelled;
        let usage = match counted {
            Some(counted) if is_whole => counted,
            // What was counted until then may be less than what was written, or nothing yet.
            counted => self.call.guess(&self.candidate, said).await.unless_more(counted),
        };
        let estimated = counted.is_none() || !is_whole;
        let receipt = self.call.receipt(&self.candidate, self.besides, usage, estimated);
        let outcome = match (&broken, cancelled) {
            (Some(_), _) => "broken",
            (None, true) => "cancelled",
            (None, false) => self.outcome,
        };
        self.call.ended_after(self.first_token, outcome, Some(&receipt), Some(self.held));
        if broken.is_none() {
            let mut events = rendering.finish();
            let keep = self.keep.filter(|_| !cancelled);
            if let (Some(keep), Some(last)) = (keep, events.last_mut()) {
                keep.keep(&mut last["response"]).await;
            }
            client.send_chunks(events.iter().map(written).collect()).await;
        }
        if outcome == "answered"
            && let Some(recording) = client.recording.take()
        {
            recording.keep(&receipt).await;
        }
        let last = broken.map_or(Event::Finished(receipt), Event::Failed);
        client.send(vec![last]).await;
    }
}

/// Reads a chunk: what counts in it, and, unless it passes through, it as chat completions say it.
fn look(rendering: &mut Rendering, chunk: &[u8]) -> Result<(Said, Value), Fault> {
    if rendering.passes() {
        return Ok((Said::read(chunk)?, Value::Null));
    }
    let chat = rendering.chat(chunk::read(chunk)?);
    Ok((Said::of(&chat), chat))
}
