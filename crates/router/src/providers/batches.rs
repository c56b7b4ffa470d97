//! Batch APIs: requests in a file, answers within a day, for less.

use async_trait::async_trait;
use serde_json::Value;
use types::CallContext;

use super::Fault;
use super::http::jobs::Lines;
use crate::config::Model;
use crate::request::ChatRequest;

/// Why a batch was not begun.
#[derive(Debug)]
pub(crate) enum NotBegun {
    /// The provider does not have it.
    Surely(Fault),
    /// Nobody knows.
    Perhaps(Fault),
}

/// A batch of ours that the provider may have.
#[derive(Debug)]
pub(crate) struct Sought<'a> {
    pub(crate) name: &'a str,
    /// When we asked for it, in milliseconds since 1970.
    pub(crate) since_ms: i64,
    /// How many requests it has; 0 when that is not known.
    pub(crate) size: u64,
    /// What the provider calls others of ours.
    pub(crate) others: &'a [String],
}

/// How a batch stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The provider does no more of it.
    pub(crate) ended: bool,
    /// In the provider's words.
    pub(crate) status: String,
    /// Where its answers are, when it has ended.
    pub(crate) files: Vec<String>,
}

/// What became of a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// As the provider's dialect says it.
    Answered(Value),
    /// It is this request that the provider does not want.
    Refused(String),
    /// It was not executed, or failed: another attempt may do.
    Unanswered,
}

/// A provider's batch API. Nothing private may be sent there: it is never local.
#[async_trait]
pub(crate) trait Batches: Send + Sync {
    /// Writes a request under an id of our own as a line of the file.
    fn line(&self, id: &str, model: &Model, request: &ChatRequest) -> Result<Value, Fault>;

    /// Sends lines, and begins a batch of our own name; returns the provider's.
    async fn begin(
        &self,
        context: &CallContext,
        name: &str,
        lines: Vec<u8>,
    ) -> Result<String, NotBegun>;

    /// Returns what the provider calls a batch of ours, if there is one.
    ///
    /// # Errors
    /// Also if nobody can tell yet whether there is.
    async fn find(
        &self,
        context: &CallContext,
        sought: &Sought<'_>,
    ) -> Result<Option<String>, Fault>;

    /// Returns how a batch stands; none when there is no such batch.
    async fn look(&self, context: &CallContext, id: &str) -> Result<Option<Standing>, Fault>;

    /// Asks to leave what has not begun; one that has ended is left as it is.
    async fn cancel(&self, context: &CallContext, id: &str) -> Result<(), Fault>;

    /// Begins to read a file of answers.
    async fn download(&self, context: &CallContext, file: &str) -> Result<Lines, Fault>;

    /// Reads a line of it: our id of the request, and what became of it.
    fn outcome(&self, line: &[u8]) -> Option<(String, Outcome)>;
}

/// Returns the id that an object of the provider's names.
pub(super) fn id_of(object: &Value) -> Result<String, Fault> {
    let id = object["id"].as_str().ok_or_else(|| Fault::Provider("it named no id".to_owned()))?;
    checked(id).map(str::to_owned)
}

/// Returns an id of the provider's, which becomes a part of addresses, if it is one.
pub(super) fn checked(id: &str) -> Result<&str, Fault> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match (1..=256).contains(&id.len()) && id.bytes().all(good) {
        true => Ok(id),
        false => Err(Fault::Provider("its id is no id".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_leads_elsewhere_is_none() {
        for id in ["", "../files", "a b", "a?b", "a/b"] {
            assert!(checked(id).is_err(), "{id}");
        }
        assert_eq!(checked("batch_68-a").unwrap(), "batch_68-a");
    }
}
