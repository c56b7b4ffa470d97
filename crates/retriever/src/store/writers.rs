//! Who in this process changes which collection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::index::Scope;

/// So many collections' locks are kept before those that nobody has are forgotten.
const MOST_WRITERS: usize = 1024;

/// The locks of collections: who changes one holds its lock, so that rows and index change in one order.
#[derive(Debug, Default)]
pub(super) struct Writers(Mutex<HashMap<Scope, Arc<tokio::sync::Mutex<()>>>>);

impl Writers {
    /// Returns a collection's lock, the same one to all who hold it or wait for it.
    pub(super) fn of(&self, scope: &Scope) -> Arc<tokio::sync::Mutex<()>> {
        let scope = Scope { generation: 0, ..scope.clone() };
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= MOST_WRITERS && !locks.contains_key(&scope) {
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
        let writers = Writers::default();
        let scope = |number: usize, generation| {
            let (tenant, collection) = (TenantId::new("t").unwrap(), number.to_string());
            Scope { tenant, collection, generation }
        };
        let held = writers.of(&scope(0, 0));
        for number in 1..3 * MOST_WRITERS {
            writers.of(&scope(number, 0));
            assert!(writers.0.lock().unwrap().len() <= MOST_WRITERS);
        }
        assert!(Arc::ptr_eq(&held, &writers.of(&scope(0, 1))), "whichever its generation");
    }
}
