//! Where passages are found: by their words, by their vectors, among those that a filter leaves.
//!
//! Everything is reached through one collection of one tenant; there is no method without one.

#[cfg(test)]
mod contract;
pub(crate) mod embedded;
mod memory;
mod qdrant;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use types::TenantId;

pub(crate) use self::memory::Memory;
pub(crate) use self::qdrant::Qdrant;
use crate::Error;
use crate::attributes::Value;
use crate::filter::Filter;
use crate::fuse::Candidate;

/// So many of the best passages of each side are ranked together.
pub(crate) const DEPTH: usize = 1000;
/// Of the documents of so many of the best passages, …
const LEADING: usize = 20;
/// … so many passages around them are ranked also when they hold no word of the query: what answers a
/// question may go on in other words.
const AROUND: usize = 10;
/// So many values of a field are told.
pub(crate) const FACET_VALUES: usize = 20;

/// Whose documents, and which of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub(crate) tenant: TenantId,
    /// 1 to 64 of `a-z`, `0-9`, `-` and `_`.
    pub(crate) collection: String,
    /// Which of its indexes: another model's vectors are in another one. Documents have none.
    pub(crate) generation: u32,
}

/// What is indexed of a passage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Its id, unique in the collection.
    pub(crate) id: String,
    /// Headings above it, and its text.
    pub(crate) text: String,
    /// Its vector, where there is a model.
    pub(crate) vector: Option<Vec<f32>>,
}

/// A document's passages in order, and what it is filtered by.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entries {
    pub(crate) passages: Vec<Entry>,
    pub(crate) fields: BTreeMap<String, Vec<Value>>,
}

/// A question, as every index takes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) text: String,
    /// Of length 1; without it only words are looked at.
    pub(crate) vector: Option<Vec<f32>>,
    /// Who is looked at; nobody else is found, nor counted.
    pub(crate) filter: Option<Filter>,
    /// Of which fields to count the values.
    pub(crate) facets: Vec<String>,
}

/// What an index finds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The best passages of each side, each with both its scores, in no order.
    pub(crate) candidates: Vec<Candidate>,
    /// For each field asked for, how many of the documents that the filter leaves have a value: the at most
    /// [`FACET_VALUES`] commonest.
    pub(crate) facets: Vec<Vec<(Value, u64)>>,
}

/// The indexes of all collections of all tenants.
#[async_trait]
pub(crate) trait Indexes: Send + Sync + Debug {
    /// Returns the index of one collection, an empty one when there is none.
    async fn open(&self, scope: &Scope) -> Result<Arc<dyn Index>, Error>;

    /// Removes everything of a collection. Idempotent.
    async fn remove(&self, scope: &Scope) -> Result<(), Error>;

    /// Tells whether what is in them is there after this process.
    fn outlives(&self) -> bool;
}

/// The index of one collection. Every statistic is of this collection's passages alone.
#[async_trait]
pub(crate) trait Index: Send + Sync + Debug {
    /// Puts a document's passages in place of what it had. Idempotent. A search that runs meanwhile finds each
    /// passage as it was before or as it is after.
    async fn replace(&self, document: &str, entries: Entries) -> Result<(), Error>;

    /// Removes a document's passages and everything made from them. Idempotent.
    async fn remove(&self, document: &str) -> Result<(), Error>;

    /// Returns what answers a query.
    async fn search(&self, query: Query) -> Result<Found, Error>;

    /// Returns how many passages there are.
    async fn len(&self) -> Result<u64, Error>;
}
