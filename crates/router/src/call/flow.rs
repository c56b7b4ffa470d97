//! A stream under way: chunks on their way to the client, and their usage.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
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

/// The client's end of a stream.
pub(super) struct Reader {
    pieces: mpsc::Sender<Event>,
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

    pub(super) fn new(pieces: mpsc::Sender<Event>, patience: Duration) -> Self {
        Self { pieces, patience, gone: false, recording: None }
    }

    /// Passes a chunk on; it is noted also for a client that is gone.
    pub(super) async fn send_chunk(&mut self, chunk: Bytes) {
        if let Some(recording) = &mut self.recording {
            recording.push(&chunk);
        }
        self.send(Event::Chunk(chunk)).await;
    }

    /// Passes a piece on. A client that is gone, or takes nothing for as long as a provider may say
    /// nothing, gets no more of it.
    pub(super) async fn send(&mut self, piece: Event) {
        if self.gone {
            return;
        }
        // Most often there is room, and then nobody needs a timer.
        self.gone = match self.pieces.try_send(piece) {
            Ok(()) => false,
            Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(piece)) => {
                self.pieces.send_timeout(piece, self.patience).await.is_err()
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
    pub(super) async fn run(self, first: Bytes, mut rest: Chunks, mut client: Reader) {
        let (mut counted, mut broken, mut cancelled) = (None, None, false);
        let (mut said, mut ends) = (Text::default(), 0);
        let speaks = self.candidate.provider.dialect();
        let mut rendering = Rendering::new(speaks, &self.call.request, now());
        let mut next = Some(Ok(first));
        while let Some(chunk) = next {
            let chunk = match chunk {
                // Not every server marks the end of a stream: that everything has one is enough.
                Err(_) if ends >= self.call.request.choices() => {
                    next = rendering.missing_end().map(Ok);
                    continue;
                }
                chunk => chunk.and_then(|chunk| Ok((look(&mut rendering, &chunk)?, chunk))),
            };
            match chunk {
                Ok(((told, chat), chunk)) => {
                    ends += told.ends;
                    counted = told.usage.or(counted);
                    said.append(&told.written);
                    let only_usage = told.usage.is_some() && !told.has_choices;
                    let hidden = only_usage && !self.call.request.wants_usage;
                    for chunk in rendering.push(chunk, &chat, hidden) {
                        client.send_chunk(chunk).await;
                    }
                }
                Err(fault) => {
                    broken = Some(format!("{} failed: {fault}", self.candidate.name()));
                    break;
                }
            }
            if client.gone && self.call.policy.on_disconnect == OnDisconnect::Cancel {
                cancelled = true;
                break;
            }
            next = rest.next().await;
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
            for event in &events {
                client.send_chunk(written(event)).await;
            }
        }
        if outcome == "answered"
            && let Some(recording) = client.recording.take()
        {
            recording.keep(&receipt).await;
        }
        let last = broken.map_or(Event::Finished(receipt), Event::Failed);
        client.send(last).await;
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
