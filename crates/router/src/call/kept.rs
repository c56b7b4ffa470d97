//! An answer that was kept, instead of a new one.

use std::sync::Arc;

use proto::router::Receipt;
use proto::router::stream_complete_response::Event;

use super::Planned;
use super::flow::Reader;
use crate::cache::{Cache, Entry, Form, Recording};
use crate::catalog::{Candidate, Catalog};

impl Planned {
    /// Looks for its answer in `cache`, and keeps a new one there; `catalog` is what it was planned
    /// with.
    pub(crate) fn with(mut self, cache: Option<&Cache>, catalog: &Arc<Catalog>) -> Self {
        self.place = cache.and_then(|cache| {
            cache.place(&self.context, &self.request, &self.groundings, &self.candidates, catalog)
        });
        self
    }

    /// Returns the answer that was kept, if there is one, with a row of it: nobody was asked for it,
    /// and nothing was held or spent.
    pub(super) async fn kept(&self, form: Form) -> Option<Entry> {
        let place = self.place.as_ref()?;
        let mut found = place.find(form).await;
        if let (None, Some(question)) = (&found, place.question()) {
            self.embed(question).await;
            found = place.find_nearest(form).await;
        }
        place.count(found.as_ref());
        let entry = found?;
        let (route, reason) = (self.request.model.clone(), self.reason.clone());
        let receipt = Receipt { route, reason, ..entry.receipt };
        self.ended("cached", Some(&receipt), None);
        Some(Entry { receipt, ..entry })
    }

    /// Begins to note an answer that may be kept: not that of the last resort, which says only that
    /// no model answered.
    pub(super) fn record(&self, form: Form, candidate: &Candidate) -> Option<Recording> {
        self.place.as_ref().filter(|_| !candidate.is_last_resort()).map(|place| place.record(form))
    }
}

/// Streams a kept answer.
pub(super) async fn replay(entry: Entry, mut client: Reader) {
    client.send(vec![Event::Started(entry.receipt.clone())]).await;
    for chunk in entry.chunks {
        client.send(vec![Event::Chunk(chunk)]).await;
    }
    client.send(vec![Event::Finished(entry.receipt)]).await;
}
