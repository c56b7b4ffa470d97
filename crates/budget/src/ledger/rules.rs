use std::collections::BTreeMap;

use types::NanoUsd;

use super::account::Each;
use crate::{Kind, Period};

/// What an operator decides for every scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The limits of scopes never seen before.
    pub defaults: BTreeMap<(Kind, Period), NanoUsd>,
    /// How many percent above a limit are let through, 0 to 5.
    pub grace: u8,
    /// At how many percent of a limit somebody is told, lowest first.
    pub alerts: Vec<u8>,
}

impl Rules {
    /// Returns the limits of a scope that is new.
    pub(crate) fn limits(&self, kind: Kind) -> Each<Option<i64>> {
        Period::ALL.map(|period| self.defaults.get(&(kind, period)).map(|limit| limit.nanos()))
    }
}
