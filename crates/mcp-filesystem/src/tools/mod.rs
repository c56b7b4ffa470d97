//! The tools as clients see them: names, descriptions, arguments, and how each is answered.

mod reading;
mod writing;

use std::sync::Arc;

use rmcp::model::JsonObject;
use serde_json::{Value, json};

/// Returns the shape of what is answered in words.
fn content_schema() -> Arc<JsonObject> {
    schema(&json!({ "type": "string" }))
}

/// Returns the shape of an answer with this content.
fn schema(content: &Value) -> Arc<JsonObject> {
    let schema = json!({
        "type": "object",
        "properties": { "content": content },
        "required": ["content"],
        "additionalProperties": false,
    });
    Arc::new(schema.as_object().cloned().unwrap_or_default())
}
