//! One collection's passages in memory. Pure.

mod dense;
mod fields;
mod keyword;
mod read;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use self::dense::Dense;
use self::fields::Fields;
use self::keyword::{Context, Keyword};
pub(super) use self::read::ReadDocument;
use super::{AROUND, DEPTH, Entries, FACET_VALUES, Found, LEADING, Query};
use crate::attributes::Value;
use crate::fuse::Candidate;

/// One collection's index. Every statistic is of these passages alone.
#[derive(Debug, Default)]
pub(crate) struct Embedded {
    keyword: Keyword,
    dense: Dense,
    fields: Fields,
    /// By slot.
    passages: Vec<Option<Named>>,
    free: Vec<u32>,
    /// The slots in use, and those of them that are a document's first.
    live: Slots,
    first: Slots,
    documents: FxHashMap<String, Held>,
}

#[derive(Debug)]
struct Named {
    id: String,
    document: String,
}

#[derive(Debug, Default)]
struct Held {
    /// In the order of the passages.
    slots: Vec<u32>,
    fields: BTreeMap<String, Vec<Value>>,
}

impl Embedded {
    /// Puts a document's passages, in order, in place of what it had.
    pub(crate) fn replace(&mut self, document: &str, read: ReadDocument) {
        self.remove(document);
        let ReadDocument { entries: Entries { passages, fields }, terms, own, context } = read;
        let numbers = self.keyword.numbers(&terms);
        let here = |terms: &[u32]| -> Vec<u32> {
            terms.iter().map(|term| numbers[*term as usize]).collect()
        };
        let context: Context = here(&context).into();
        let mut slots = Vec::with_capacity(passages.len());
        for (entry, own) in passages.into_iter().zip(own) {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.passages.push(None);
                (self.passages.len() - 1) as u32
            });
            // As of [`ReadDocument::context_of`].
            let is_first = slots.is_empty();
            let context = if is_first { Context::default() } else { context.clone() };
            self.keyword.insert(slot, here(&own).into(), context);
            if let Some(vector) = &entry.vector {
                self.dense.insert(slot, vector);
            }
            self.fields.insert(slot, &fields);
            self.live.set(slot, true);
            self.first.set(slot, is_first);
            let named = Named { id: entry.id, document: document.to_owned() };
            self.passages[slot as usize] = Some(named);
            slots.push(slot);
        }
        if !slots.is_empty() {
            self.documents.insert(document.to_owned(), Held { slots, fields });
        }
    }

    /// Removes a document's passages and everything made from them.
    pub(crate) fn remove(&mut self, document: &str) {
        let Held { slots, fields } = self.documents.remove(document).unwrap_or_default();
        for slot in slots {
            self.keyword.remove(slot);
            self.dense.remove(slot);
            self.fields.remove(slot, &fields);
            self.live.set(slot, false);
            self.first.set(slot, false);
            self.passages[slot as usize] = None;
            self.free.push(slot);
        }
    }

    /// Returns how many passages there are.
    pub(crate) fn len(&self) -> usize {
        self.passages.len() - self.free.len()
    }

    /// Returns what answers a query.
    pub(crate) fn search(&self, query: &Query) -> Found {
        let among = query.filter.as_ref().map(|filter| self.fields.select(filter, &self.live));
        let among = among.as_ref();
        let documents = match among {
            Some(among) => self.first.both(among),
            None => self.first.clone(),
        };
        let counted = |field: &String| {
            let mut counted = self.fields.count(field, &documents);
            counted.truncate(FACET_VALUES);
            counted
        };
        let facets = query.facets.iter().map(counted).collect();
        let keyword = self.keyword.scores(&self.keyword.terms(&query.text), among);
        let slots = self.passages.len();
        let dense = query.vector.as_ref().map(|vector| self.dense.scores(vector, slots, among));
        let mut found = best(&keyword, DEPTH);
        self.surround(&mut found, among);
        if let Some(dense) = &dense {
            found.extend(best(dense, DEPTH));
            found.sort_unstable();
            found.dedup();
        }
        let candidate = |slot: u32| {
            let named = self.passages[slot as usize].as_ref()?;
            Some(Candidate {
                id: named.id.clone(),
                document: named.document.clone(),
                keyword: keyword.get(slot as usize).copied().unwrap_or_default(),
                dense: dense.as_ref().and_then(|dense| dense.get(slot as usize).copied()),
            })
        };
        Found { candidates: found.into_iter().filter_map(candidate).collect(), facets }
    }

    /// Adds the passages [`AROUND`] the leading ones, of those that may be looked at. A filter holds for all of a
    /// document or none of it.
    fn surround(&self, found: &mut Vec<u32>, among: Option<&Slots>) {
        for at in 0..found.len().min(LEADING) {
            let slot = found[at];
            let named = self.passages[slot as usize].as_ref();
            let Some(document) = named.and_then(|named| self.documents.get(&named.document)) else {
                continue;
            };
            let here = document.slots.iter().position(|other| *other == slot).unwrap_or_default();
            let end = (here + AROUND + 1).min(document.slots.len());
            let around = &document.slots[here.saturating_sub(AROUND)..end];
            found.extend(around.iter().filter(|slot| among.is_none_or(|some| some.holds(**slot))));
        }
        found.sort_unstable();
        found.dedup();
    }
}

/// Returns the at most `count` slots of the highest scores above 0, best first, equals in their order.
fn best(scores: &[f32], count: usize) -> Vec<u32> {
    let above = |slot: &u32| scores[*slot as usize] > 0.0;
    let mut found: Vec<u32> = (0..scores.len() as u32).filter(above).collect();
    let order =
        |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if found.len() > count {
        found.select_nth_unstable_by(count, order);
        found.truncate(count);
    }
    found.sort_unstable_by(order);
    found
}

/// A set of slots.
#[derive(Debug, Clone, Default)]
struct Slots(Vec<u64>);

impl Slots {
    fn holds(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn set(&mut self, slot: u32, held: bool) {
        let at = slot as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        let bit = 1 << (slot % 64);
        if held { self.0[at] |= bit } else { self.0[at] &= !bit }
    }

    fn both(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one & other).collect())
    }

    fn either(self, other: &Self) -> Self {
        let (mut any, fewer) = match self.0.len() >= other.0.len() {
            true => (self.0, &other.0),
            false => (other.0.clone(), &self.0),
        };
        any.iter_mut().zip(fewer).for_each(|(any, word)| *any |= word);
        Self(any)
    }

    fn without(&self, other: &Self) -> Self {
        let mut rest = self.0.clone();
        rest.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= !other);
        Self(rest)
    }

    /// Returns every slot in it, in order.
    fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().zip(0_u32..).flat_map(|(word, at)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }
}

impl FromIterator<u32> for Slots {
    fn from_iter<T: IntoIterator<Item = u32>>(slots: T) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| set.set(slot, true));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    fn entry(id: &str, text: &str, vector: Option<[f32; 2]>) -> Entry {
        Entry { id: id.to_owned(), text: text.to_owned(), vector: vector.map(Vec::from) }
    }

    fn of(passages: Vec<Entry>) -> ReadDocument {
        ReadDocument::new(Entries { passages, ..Entries::default() })
    }

    fn found(
        index: &Embedded,
        text: &str,
        vector: Option<&[f32]>,
    ) -> Vec<(String, f32, Option<f32>)> {
        let (text, vector) = (text.to_owned(), vector.map(Vec::from));
        let found = index.search(&Query { text, vector, ..Query::default() });
        let mut shown: Vec<_> =
            found.candidates.into_iter().map(|one| (one.id, one.keyword, one.dense)).collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        shown
    }

    #[test]
    fn what_one_side_finds_has_both_scores() {
        let mut index = Embedded::default();
        let (apple, pear) = (Some([1.0, 0.0]), Some([0.6, 0.8]));
        index.replace("d", of(vec![entry("d-0", "apple", apple), entry("d-1", "pear", pear)]));
        let both = found(&index, "apple", Some(&[0.0, 1.0]));
        assert_eq!(
            both.iter().map(|one| (one.0.as_str(), one.2)).collect::<Vec<_>>(),
            [("d-0", Some(0.0)), ("d-1", Some(0.8)),]
        );
        assert!(both[0].1 > both[1].1);
        assert_eq!(found(&index, "apple", None)[0].2, None);
    }

    #[test]
    fn a_replaced_document_leaves_nothing_and_slots_are_used_again() {
        let mut index = Embedded::default();
        index.replace("a", of(vec![entry("a-0", "apple pear", None), entry("a-1", "fig", None)]));
        index.replace("b", of(vec![entry("b-0", "apple", None)]));
        index.replace("a", of(vec![entry("a-0", "plum", None)]));
        assert_eq!(index.len(), 2);
        let ids = |text| found(&index, text, None).into_iter().map(|one| one.0).collect::<Vec<_>>();
        assert_eq!(
            (ids("apple pear fig"), ids("plum")),
            (vec!["b-0".to_owned()], vec!["a-0".to_owned()])
        );
        index.remove("a");
        index.remove("b");
        assert_eq!((index.len(), index.passages.len()), (0, 3));
    }
}
