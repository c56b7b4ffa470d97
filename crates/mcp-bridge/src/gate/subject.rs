//! What is asked of a server, and what the gate calls it.

use std::sync::Arc;

use super::checked::Checked;

/// What a server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tool,
    Prompt,
    /// A resource, or a template of some.
    Resource,
}

impl Kind {
    /// Returns the word that callers are told.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
        }
    }

    /// Returns what rules, keys, pins and the audit call something that its server calls `own`. No
    /// tool has a colon in its name, so that no two are called the same.
    pub(crate) fn named(self, own: &str) -> String {
        match self {
            Self::Tool => own.to_owned(),
            Self::Prompt | Self::Resource => format!("{}:{own}", self.as_str()),
        }
    }
}

/// Something that is asked of a server.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// What its server calls it.
    pub(crate) own: String,
    /// What rules and keys call it: `server__` and [`Kind::named`].
    pub(crate) name: String,
    /// What is known of its definition, where it has one.
    pub(crate) checked: Option<Arc<Checked>>,
}

impl Subject {
    pub(crate) fn new(kind: Kind, server: &str, own: &str, checked: Option<Arc<Checked>>) -> Self {
        let name = format!("{server}__{}", kind.named(own));
        Self { kind, own: own.to_owned(), name, checked }
    }

    /// Whether it may destroy something.
    pub(crate) fn destroys(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.destroys)
    }
}
