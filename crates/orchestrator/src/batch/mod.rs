//! Batches: many model calls that nobody waits for, from a file into a file.

mod carry;
pub(crate) mod files;
mod lines;
mod offer;
mod output;
mod purse;
mod run;
pub(crate) mod store;
pub(crate) mod worker;

use std::collections::BTreeMap;

use proto::orchestrator::{BatchStatus, CreateBatchRequest};
use proto::router::Dialect;
use serde::{Deserialize, Serialize};
use types::{FileId, NanoUsd};

use crate::Error;

/// How many requests a batch may have.
pub(crate) const MAX_LINES: u32 = 50_000;
/// How many faults of its lines a batch tells.
const MAX_FAULTS: usize = 100;

/// What a batch's requests are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Messages,
    Responses,
}

impl Endpoint {
    const ALL: [Self; 3] = [Self::Chat, Self::Messages, Self::Responses];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Messages => "/v1/messages",
            Self::Responses => "/v1/responses",
        }
    }

    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::Chat => Dialect::ChatCompletions,
            Self::Messages => Dialect::Messages,
            Self::Responses => Dialect::Responses,
        }
    }

    pub(crate) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.path() == path)
    }
}

/// How a batch stands, as it is stored.
const STATUSES: [(&str, BatchStatus); 8] = [
    ("validating", BatchStatus::Validating),
    ("failed", BatchStatus::Failed),
    ("in_progress", BatchStatus::InProgress),
    ("finalizing", BatchStatus::Finalizing),
    ("completed", BatchStatus::Completed),
    ("expired", BatchStatus::Expired),
    ("cancelling", BatchStatus::Cancelling),
    ("cancelled", BatchStatus::Cancelled),
];

/// Reads a stored status.
pub(crate) fn status(text: &str) -> Result<BatchStatus, Error> {
    let known = STATUSES.iter().find(|known| known.0 == text);
    known.map(|known| known.1).ok_or(Error::Corrupt("batch status"))
}

/// Returns a status as people read it.
pub(crate) fn status_name(status: BatchStatus) -> &'static str {
    STATUSES.iter().find(|known| known.1 == status).map_or("unknown", |known| known.0)
}

/// Reads a window such as `24h`.
pub(crate) fn hours(window: &str) -> Option<u32> {
    window.strip_suffix('h').and_then(|hours| hours.parse().ok())
}

/// What is wrong with a line of a batch's input, or with the whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) code: String,
    /// From 1; none for the whole file.
    pub(crate) line: Option<u32>,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
}

/// A batch that may begin, once its file is known to be one.
#[derive(Debug)]
pub(crate) struct NewBatch {
    pub(crate) input: FileId,
    pub(crate) endpoint: Endpoint,
    pub(crate) window: String,
    pub(crate) hours: u32,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) max_cost: Option<NanoUsd>,
}

impl TryFrom<CreateBatchRequest> for NewBatch {
    type Error = Error;

    fn try_from(request: CreateBatchRequest) -> Result<Self, Error> {
        let invalid = |fault: String| Err(Error::Invalid(fault));
        let Some(endpoint) = Endpoint::at(&request.endpoint) else {
            let known = Endpoint::ALL.map(Endpoint::path).join(", ");
            return invalid(format!("/endpoint: {:?} is none of {known}", request.endpoint));
        };
        let window = request.completion_window;
        let Some(hours) = hours(&window).filter(|hours| (1..=168).contains(hours)) else {
            return invalid(format!("/completion_window: {window:?} is not 1h to 168h"));
        };
        let metadata: BTreeMap<_, _> = request.metadata.into_iter().collect();
        if metadata.len() > 16 {
            return invalid(format!("/metadata: {} pairs, at most 16 are allowed", metadata.len()));
        }
        for (key, value) in &metadata {
            let (key_length, length) = (key.chars().count(), value.chars().count());
            if key_length > 64 || length > 512 {
                return invalid(format!(
                    "/metadata/{key}: keys have at most 64 characters and values 512"
                ));
            }
        }
        let max_cost: Option<NanoUsd> = match metadata.get("max_cost_usd").map(|text| text.parse())
        {
            None => None,
            Some(Ok(amount)) if amount >= NanoUsd::ZERO => Some(amount),
            Some(Ok(amount)) => {
                return invalid(format!("/metadata/max_cost_usd: {amount} is negative"));
            }
            Some(Err(fault)) => return invalid(format!("/metadata/max_cost_usd: {fault}")),
        };
        let input = FileId::new(request.input_file_id)
            .map_err(|fault| Error::Invalid(format!("/input_file_id: {fault}")))?;
        Ok(Self { input, endpoint, window, hours, metadata, max_cost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CreateBatchRequest {
        CreateBatchRequest {
            input_file_id: "file-1".to_owned(),
            endpoint: "/v1/messages".to_owned(),
            completion_window: "24h".to_owned(),
            metadata: [("max_cost_usd".to_owned(), "0.000000001".to_owned())].into(),
        }
    }

    #[test]
    fn a_budget_is_read_exactly() {
        let batch = NewBatch::try_from(request()).unwrap();
        assert_eq!(batch.max_cost, Some(NanoUsd::new(1)));
        assert_eq!((batch.endpoint, batch.hours), (Endpoint::Messages, 24));
    }

    #[test]
    fn a_batch_that_cannot_be_kept_is_refused_with_its_fault() {
        type Spoil = fn(&mut CreateBatchRequest);
        let cases: [(Spoil, &str); 9] = [
            (|r| r.endpoint = "/v1/embeddings".to_owned(), "/endpoint"),
            (|r| r.completion_window = "0h".to_owned(), "/completion_window"),
            (|r| r.completion_window = "169h".to_owned(), "/completion_window"),
            (|r| r.completion_window = "1d".to_owned(), "/completion_window"),
            (|r| r.input_file_id.clear(), "/input_file_id"),
            (|r| drop(r.metadata.insert("max_cost_usd".into(), "-1".into())), "negative"),
            (|r| drop(r.metadata.insert("max_cost_usd".into(), "1e3".into())), "decimal"),
            (|r| drop(r.metadata.insert("k".repeat(65), String::new())), "64"),
            (|r| drop(r.metadata.insert("k".into(), "v".repeat(513))), "512"),
        ];
        for (spoil, fault) in cases {
            let mut request = request();
            spoil(&mut request);
            let refused = NewBatch::try_from(request).unwrap_err().to_string();
            assert!(refused.contains(fault), "{refused}");
        }
        let mut many = request();
        many.metadata = (0..17).map(|key| (key.to_string(), String::new())).collect();
        assert!(NewBatch::try_from(many).is_err());
    }

    #[test]
    fn every_status_is_stored_by_a_name_of_its_own() {
        for (name, known) in STATUSES {
            assert_eq!(status(name).unwrap(), known);
            assert_eq!(status_name(known), name);
        }
        assert!(status("unheard of").is_err());
    }
}
