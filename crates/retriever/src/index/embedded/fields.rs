//! Passages by the values of their documents' fields. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use rustc_hash::FxHashMap;

use super::Slots;
use crate::attributes::Value;
use crate::filter::{End, Filter};

/// By field and value, the slots in their order.
#[derive(Debug, Default)]
pub(super) struct Fields(FxHashMap<String, BTreeMap<Value, Vec<u32>>>);

impl Fields {
    pub(super) fn insert(&mut self, slot: u32, fields: &BTreeMap<String, Vec<Value>>) {
        for (field, values) in fields {
            let known = match self.0.get_mut(field) {
                Some(known) => known,
                None => self.0.entry(field.clone()).or_default(),
            };
            for value in values {
                let slots = match known.get_mut(value) {
                    Some(slots) => slots,
                    None => known.entry(value.clone()).or_default(),
                };
                if let Err(at) = slots.binary_search(&slot) {
                    slots.insert(at, slot);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, slot: u32, fields: &BTreeMap<String, Vec<Value>>) {
        for (field, values) in fields {
            let Some(known) = self.0.get_mut(field) else { continue };
            for value in values {
                let Some(slots) = known.get_mut(value) else { continue };
                if let Ok(at) = slots.binary_search(&slot) {
                    slots.remove(at);
                }
                if slots.is_empty() {
                    known.remove(value);
                }
            }
        }
    }

    /// Returns those of the `live` slots that meet a filter.
    pub(super) fn select(&self, filter: &Filter, live: &Slots) -> Slots {
        match filter {
            Filter::All(parts) => {
                let mut parts = parts.iter().map(|part| self.select(part, live));
                let first = parts.next().unwrap_or_else(|| live.clone());
                parts.fold(first, |all, part| all.both(&part))
            }
            Filter::Any(parts) => {
                let parts = parts.iter().map(|part| self.select(part, live));
                parts.fold(Slots::default(), |any, part| any.either(&part))
            }
            Filter::Not(part) => live.without(&self.select(part, live)),
            Filter::In { field, values } => {
                let known = self.0.get(field);
                values.iter().filter_map(|value| known?.get(value)).flatten().copied().collect()
            }
            Filter::Between { field, low, high } => {
                let Some(known) = self.0.get(field) else { return Slots::default() };
                let low = low.map_or(Bound::Included(f64::NEG_INFINITY), bound);
                let high = high.map_or(Bound::Included(f64::INFINITY), bound);
                let ends = (low.map(Value::Number), high.map(Value::Number));
                known.range(ends).flat_map(|(_, slots)| slots).copied().collect()
            }
        }
    }

    /// Returns how many of the slots `among` each value of a field has, the most first.
    pub(super) fn count(&self, field: &str, among: &Slots) -> Vec<(Value, u64)> {
        let Some(known) = self.0.get(field) else { return Vec::new() };
        let held = |slots: &[u32]| slots.iter().filter(|slot| among.holds(**slot)).count() as u64;
        let mut counted: Vec<(Value, u64)> = known
            .iter()
            .map(|(value, slots)| (value.clone(), held(slots)))
            .filter(|(_, count)| *count > 0)
            .collect();
        counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counted
    }
}

fn bound(end: End) -> Bound<f64> {
    match end.within {
        true => Bound::Included(end.at),
        false => Bound::Excluded(end.at),
    }
}
