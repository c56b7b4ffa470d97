//! What clients are told of errors.

use rmcp::model::{CallToolResult, ContentBlock, ErrorCode, ErrorData};
use serde_json::json;

use crate::Error;

/// Says an error as the protocol does.
pub(super) fn of(error: Error) -> ErrorData {
    let text = error.to_string();
    match error {
        // A server's own words, as if nobody stood between.
        Error::Refused { fault, .. } => *fault,
        Error::Unknown { what: "resource", .. } => ErrorData::resource_not_found(text, None),
        Error::Unknown { .. } | Error::Invalid(_) => ErrorData::invalid_params(text, None),
        error => {
            let outcome = json!({ "outcome": error.outcome() });
            ErrorData::new(ErrorCode(-32000), text, Some(outcome))
        }
    }
}

/// Says why a tool was not called, or gave nothing: a model reads it as the tool's own answer, unless
/// the request itself was wrong.
pub(super) fn of_call(error: Error) -> Result<CallToolResult, ErrorData> {
    match error {
        Error::Refused { .. } | Error::Unknown { .. } | Error::Invalid(_) => Err(of(error)),
        error => Ok(CallToolResult::error(vec![ContentBlock::text(error.to_string())])),
    }
}
