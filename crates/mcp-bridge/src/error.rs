use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{ErrorCode, ErrorData};
use tonic::Status;
use types::{Classify, ErrorKind};

/// Why a tool was not listed or called.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("there is no {what} {name:?}{}", near(similar))]
    Unknown {
        /// What it would be: a tool, a prompt, a resource or a server.
        what: &'static str,
        /// What it was called.
        name: String,
        /// Names of such things that are written nearly so.
        similar: Vec<String>,
    },
    /// The server answered with an error of its own.
    #[error("server {server:?} answered with an error: {}", fault.message)]
    Refused {
        /// Which server.
        server: String,
        /// Its error.
        fault: Box<ErrorData>,
    },
    /// The server wants to know something of the client, which cannot be asked for it.
    #[error("server {server:?} asks for {wanted}, which this call's client cannot give")]
    Asks {
        /// Which server.
        server: String,
        /// What it asks for.
        wanted: &'static str,
    },
    /// The server offers more than is listed.
    #[error("server {0:?} offers more than is listed")]
    TooMany(String),
    /// As many sessions as the server, or one caller there, has at once are in use.
    #[error("server {server:?} has {limit} sessions{whose} in use, which is all that it may have")]
    Busy {
        /// Which server.
        server: String,
        /// Whether they are one caller's: ` of this caller's`, or empty.
        whose: &'static str,
        /// How many.
        limit: usize,
    },
    /// The caller's clients have as many sessions at this address as they may.
    #[error("the caller has {0} sessions here, which is all that it may have; end one first")]
    TooManySessions(usize),
    /// The call is private and the server is not local.
    #[error("server {0:?} is not local and may not see a private call")]
    NotLocal(String),
    /// The caller's key may not use it.
    #[error("the key may not use {what} {name:?}; it may use {allowed}")]
    NotForKey {
        /// What it would be: a server, or a tool that may be there or not.
        what: &'static str,
        /// What it was called.
        name: String,
        /// What it may use.
        allowed: String,
    },
    /// It may not be used, or not so.
    #[error("{what} {name:?} of server {server:?} is refused: {reason}")]
    Denied {
        /// What it is: a tool, a prompt or a resource.
        what: &'static str,
        /// Which server.
        server: String,
        /// What the server calls it.
        name: String,
        /// Why, and by which rule.
        reason: String,
    },
    /// The caller calls too often, or too many at once.
    #[error("{what} {name:?} of server {server:?} has to wait: {reason}")]
    Limited {
        /// What it is: a tool, a prompt or a resource.
        what: &'static str,
        /// Which server.
        server: String,
        /// What the server calls it.
        name: String,
        /// Which limit, and by which rule.
        reason: String,
    },
    /// The audit of calls cannot be written, and no call goes out without it.
    #[error("calls of tools are refused while their audit cannot be written")]
    Unaudited,
    /// There is no such definition.
    #[error("no definition of {0:?} has this pin")]
    UnknownPin(String),
    /// The store of pins and calls failed.
    #[error("the store of pins and calls failed")]
    Store(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The server could not be started or reached, or the connection was lost.
    #[error("server {server:?}: {reason}")]
    Unavailable {
        /// Which server.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server took too long.
    #[error("server {server:?} did not answer within {} ms", waited.as_millis())]
    Timeout {
        /// Which server.
        server: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It is more than is passed on.
    #[error("{asked} gave {bytes} bytes, at most {limit} are passed on")]
    TooLarge {
        /// Which tool, prompt or resource.
        asked: String,
        /// How much it gave.
        bytes: usize,
        /// How much is allowed.
        limit: usize,
    },
}

/// A longer name is like none, and is not said back whole, in bytes.
const LONGEST_COMPARED: usize = 256;

fn near(similar: &[String]) -> String {
    match similar.is_empty() {
        true => String::new(),
        false => format!("; there is {}", similar.join(", ")),
    }
}

impl Error {
    /// Says that there is no `what` called `name`, and which of `all` are written nearly so.
    pub(crate) fn unknown<'a>(
        what: &'static str,
        name: &str,
        all: impl Iterator<Item = &'a str>,
    ) -> Self {
        // Comparing takes as long as both are: nobody is busy with a name that cannot be one.
        let all = all.filter(|_| name.len() <= LONGEST_COMPARED);
        let likeness = |one: &'a str| (strsim::jaro_winkler(one, name), one);
        let mut similar: Vec<_> = all.map(likeness).filter(|(like, _)| *like > 0.85).collect();
        similar.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let similar = similar.into_iter().take(3).map(|(_, one)| one.to_owned()).collect();
        let name = name.chars().take(LONGEST_COMPARED).collect();
        Self::Unknown { what, name, similar }
    }

    /// Returns the word for the audit of calls.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::NotLocal(_)
            | Self::NotForKey { .. }
            | Self::Denied { .. }
            | Self::Limited { .. }
            | Self::TooManySessions(_)
            | Self::Unaudited => "denied",
            Self::Timeout { .. } => "timeout",
            _ => "protocol_error",
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            // The same call again has the same end.
            Self::Invalid(_) | Self::Asks { .. } | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::Unknown { .. } => ErrorKind::NotFound,
            Self::Refused { fault, .. } => match fault.code {
                ErrorCode::INVALID_PARAMS | ErrorCode::INVALID_REQUEST => ErrorKind::Invalid,
                ErrorCode::RESOURCE_NOT_FOUND | ErrorCode::METHOD_NOT_FOUND => ErrorKind::NotFound,
                _ => ErrorKind::Unavailable,
            },
            Self::NotLocal(_) | Self::NotForKey { .. } | Self::Denied { .. } => ErrorKind::Denied,
            Self::UnknownPin(_) => ErrorKind::NotFound,
            Self::Limited { .. } | Self::TooManySessions(_) => ErrorKind::RateLimited,
            Self::Unaudited
            | Self::Store(_)
            | Self::Unavailable { .. }
            | Self::Busy { .. }
            | Self::TooMany(_)
            | Self::Timeout { .. } => ErrorKind::Unavailable,
        }
    }
}

impl Error {
    /// Says that the store holds what cannot be read.
    pub(crate) fn unreadable(fault: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Store(Arc::from(fault.into()))
    }
}

impl From<sqlx::Error> for Error {
    fn from(fault: sqlx::Error) -> Self {
        Self::Store(Arc::new(fault))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        runtime::error::to_status(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_told_with_what_is_like_it_or_cut_short() {
        let unknown = |name: &str| Error::unknown("tool", name, ["read_file", "move"].into_iter());
        assert!(unknown("read_fil").to_string().contains("there is read_file"));
        let long = unknown(&"é".repeat(2_000_000)).to_string();
        assert!(long.len() < 600 && !long.contains("there is read_file"), "{}", long.len());
    }
}
