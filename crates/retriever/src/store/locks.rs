//! Locks of collections, held by whoever in this process writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::index::Scope;

/// So many collections' locks are kept before those that nobody has are forgotten.
const MOST_LOCKS: usize = 1024;

/// The locks of collections: who changes one holds its lock, so that rows and index change in one order.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<Scope, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Returns a collection's lock, the same one to all who hold it or wait for it.
    pub(super) fn of(&self, scope: &Scope) -> Arc<tokio::sync::Mutex<()>> {
        let scope = Scope { generation: 0, ..scope.clone() };
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= MOST_LOCKS && !locks.contains_key(&scope) {
            // Nobody gets one of them meanwhile: they are all given out here.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(locks.entry(scope).or_default())
    }
}

#[cfg(test)]
mod tests {
    use types::TenantId;

    use super::*;

    #[test]
    fn locks_that_nobody_has_are_forgotten_and_no_other() {
        let locks = Locks::default();
        let scope = |number: usize, generation| {
            let (tenant, collection) = (TenantId::new("t").unwrap(), number.to_string());
            Scope { tenant, collection, generation }
        };
        let held = locks.of(&scope(0, 0));
        for number in 1..3 * MOST_LOCKS {
            locks.of(&scope(number, 0));
            assert!(locks.0.lock().unwrap().len() <= MOST_LOCKS);
        }
        assert!(Arc::ptr_eq(&held, &locks.of(&scope(0, 1))), "whichever its generation");
    }
}
