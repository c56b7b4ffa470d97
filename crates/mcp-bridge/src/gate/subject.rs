//! What is asked of a server, and what the gate calls it.

use std::sync::Arc;

use percent_encoding::percent_decode_str;

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

    /// Returns what rules and keys call it: `server__` and [`Kind::named`].
    pub(crate) fn whole(self, server: &str, own: &str) -> String {
        format!("{server}__{}", self.named(own))
    }
}

/// Something that is asked of a server.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// What its server calls it.
    pub(crate) own: String,
    /// What rules and keys call it: [`Kind::whole`].
    pub(crate) name: String,
    /// What is known of its definition, where it has one.
    pub(crate) checked: Option<Arc<Checked>>,
}

impl Subject {
    pub(crate) fn new(kind: Kind, server: &str, own: &str, checked: Option<Arc<Checked>>) -> Self {
        Self { kind, own: own.to_owned(), name: kind.whole(server, own), checked }
    }

    /// Whether it may destroy something.
    pub(crate) fn destroys(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.destroys)
    }

    /// Returns why its address could mean another one, where it has an address.
    pub(crate) fn ambiguous(&self) -> Option<&'static str> {
        (self.kind == Kind::Resource).then(|| ambiguous(&self.own)).flatten()
    }
}

/// Returns why an address could mean another one than is written, which rules would not see: a server
/// may resolve its dots, take a backslash for a slash, or leave out what cannot be seen.
fn ambiguous(address: &str) -> Option<&'static str> {
    if address.contains(char::is_control) {
        return Some("it has a control character");
    }
    let read = percent_decode_str(address).decode_utf8_lossy();
    if read.contains('\\') {
        return Some("it has a backslash");
    }
    let mut segments = read.split(['/', '?', '#', ';', ':']);
    let dots = segments.any(|segment| matches!(segment.trim(), "." | ".."));
    dots.then_some("it has a segment `.` or `..`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_could_mean_another_is_told() {
        let dots = "it has a segment `.` or `..`";
        for (address, fault) in [
            ("file:///data/public/../private/x", dots),
            ("file:///data/public/%2e%2E/private/x", dots),
            ("file:///data/public/.%2e/private/x", dots),
            ("file:///data/public/..%2fprivate/x", dots),
            ("file:///data/public/..;a/private/x", dots),
            ("file:///data/public/.. ", dots),
            ("file:///data/public/..?a", dots),
            ("file:///data/./x", dots),
            ("file:..", dots),
            ("..", dots),
            ("file:///data/public/..\\private", "it has a backslash"),
            ("file:///data/public/a%5cb", "it has a backslash"),
            ("file:///data/public/a%5Cb", "it has a backslash"),
            ("file:///data/public/.\t./private/x", "it has a control character"),
        ] {
            assert_eq!(ambiguous(address), Some(fault), "{address}");
        }
        for address in [
            "file:///data/public/a..b/.git/...",
            "file:///data/{+path}",
            "memory://knowledge-graph",
            "https://h:80/a%20b?c=d.&e=..f#g",
            "",
        ] {
            assert_eq!(ambiguous(address), None, "{address}");
        }
    }
}
