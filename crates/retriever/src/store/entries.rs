//! What is in a collection and what is on its way there, as one list.

use std::collections::BTreeMap;

use proto::retriever::{Document, Entry, TaskState};

use super::Collection;
use crate::Error;
use crate::attributes::Attributes;
use crate::index::Entries;
use crate::rows::Page;

/// So many are read at once when only some are wanted.
const AT_ONCE: u32 = 500;

impl Collection<'_> {
    /// Returns a page of entries in one of these states, or in any, and whether there is another page.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if there is none.
    pub(crate) async fn entries(
        &self,
        page: Page<'_>,
        states: &[TaskState],
    ) -> Result<(Vec<Entry>, bool), Error> {
        self.store.rows.collection(&self.scope).await?;
        let wanted = page.count as usize;
        let count = if states.is_empty() { page.count + 1 } else { AT_ONCE.max(page.count + 1) };
        let (mut found, mut after) = (Vec::new(), page.after.to_owned());
        loop {
            let (some, is_last) = self.some(Page { after: &after, count, ..page }).await?;
            if let Some(last) = some.last() {
                after.clone_from(&last.source);
            }
            found.extend(
                some.into_iter().filter(|one| states.is_empty() || states.contains(&one.state())),
            );
            if found.len() > wanted || is_last {
                let has_more = found.len() > wanted;
                found.truncate(wanted);
                return Ok((found, has_more));
            }
        }
    }

    /// As [`Self::entries`], of what was added in one ingest job.
    ///
    /// # Errors
    /// Also [`Error::NoJob`] if nothing goes here by such a job.
    pub(crate) async fn entries_of(
        &self,
        job: &str,
        page: Page<'_>,
        states: &[TaskState],
    ) -> Result<(Vec<Entry>, bool), Error> {
        self.store.rows.collection(&self.scope).await?;
        let known = self.store.queue.bare(&self.scope.tenant, job).await?;
        if known.collection != self.scope.collection || known.model.is_some() {
            return Err(Error::NoJob(job.to_owned()));
        }
        let wanted = page.count as usize;
        let page = Page { count: page.count + 1, ..page };
        let mut entries = self.store.queue.entries_of(&self.scope, job, page, states).await?;
        let has_more = entries.len() > wanted;
        entries.truncate(wanted);
        for entry in &mut entries {
            entry.document_id = self.document_id(&entry.source);
        }
        Ok((entries, has_more))
    }

    /// Returns entries behind a source, and whether there are no others.
    async fn some(&self, page: Page<'_>) -> Result<(Vec<Entry>, bool), Error> {
        // What waits first: what is stored meanwhile is seen as waiting, and never as not there.
        let open = self.store.queue.entries(&self.scope, page).await?;
        let stored = self.store.rows.stored(&self.scope, page).await?;
        let is_whole = |entries: &[Entry]| entries.len() >= page.count as usize;
        let (is_last, ends) = (
            !is_whole(&open) && !is_whole(&stored),
            [&open, &stored].map(|entries| {
                entries.last().filter(|_| is_whole(entries)).map(|last| last.source.clone())
            }),
        );
        let mut by_source: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in stored.into_iter().chain(open) {
            match by_source.get(&entry.source) {
                Some(there) if !replaces(entry.state(), there.state()) => {}
                _ => drop(by_source.insert(entry.source.clone(), entry)),
            }
        }
        // Behind the end of one that goes on the other knows only a half.
        let within = |entry: &Entry| {
            ends.iter().flatten().all(|end| match page.backwards {
                true => entry.source >= *end,
                false => entry.source <= *end,
            })
        };
        let mut entries: Vec<Entry> = by_source.into_values().filter(within).collect();
        if page.backwards {
            entries.reverse();
        }
        for entry in &mut entries {
            entry.document_id = self.document_id(&entry.source);
        }
        Ok((entries, is_last))
    }

    /// Changes what the document of a source is filtered by, and what of it is on its way, in place of what that was
    /// before. No vector is made: its passages are indexed as they are stored. Also `private` when that is asked for.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is neither, [`Error::NoCollection`] if there is no collection, [`Error::Invalid`] for an
    /// attribute that has another kind there or is one too many; nothing changed.
    pub(crate) async fn set_attributes(
        &self,
        source: &str,
        attributes: &Attributes,
        private: bool,
    ) -> Result<(), Error> {
        let (rows, id) = (&self.store.rows, self.document_id(source));
        rows.collection(&self.scope).await?;
        let mut writing = self.writing().await?;
        let index = self.store.indexes.open(&self.current().await?).await?;
        // Read before anything changes: an index in memory hears of it at once, or nothing has changed.
        let stored = match rows.find(&self.scope, &id).await? {
            Some((document, _)) => {
                let document = Document { private: document.private || private, ..document };
                let fields = attributes.fields(&document);
                rows.entries(&self.scope, &id).await?.map(|entries| Entries { fields, ..entries })
            }
            None => None,
        };
        rows.set_attributes(&self.scope, (&id, source), attributes, private).await?;
        match stored {
            Some(entries) => {
                let told = index.replace(&id, entries).await;
                self.told(&mut writing, &id, told).await
            }
            None => Ok(()),
        }
    }

    /// Removes the document of a source, and what of it is on its way.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is neither, [`Error::NoCollection`] if there is no collection.
    pub(crate) async fn forget(&self, source: &str) -> Result<(), Error> {
        self.store.rows.collection(&self.scope).await?;
        // Whoever works on it has lost it from here on.
        let was_open = self.store.queue.forget(&self.scope, source).await?;
        match self.delete(&self.document_id(source)).await {
            Err(Error::NotFound(_)) if was_open => Ok(()),
            Err(Error::NotFound(_)) => Err(Error::NotFound(source.to_owned())),
            deleted => deleted,
        }
    }
}

/// Tells which of two of one source is shown: what waits, or else what is stored, or else what failed last.
fn replaces(state: TaskState, there: TaskState) -> bool {
    let rank = |state| match state {
        TaskState::Queued | TaskState::Running => 2,
        TaskState::Done => 1,
        TaskState::Failed | TaskState::Unspecified => 0,
    };
    rank(state) >= rank(there)
}
