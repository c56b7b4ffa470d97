//! A chat completions request, read once. Pure.

use serde_json::{Map, Value, json};

use crate::Error;

/// A request that is known to be good.
#[derive(Debug, Clone)]
pub(crate) struct ChatRequest {
    body: Map<String, Value>,
    /// The route or model that it names.
    pub(crate) model: String,
    /// The client asked for usage in the stream itself.
    pub(crate) wants_usage: bool,
    /// More tokens than it can hold: a token is at least a byte, and most are three or more.
    pub(crate) input_tokens: u64,
    max_output_tokens: Option<u64>,
}

impl ChatRequest {
    /// # Errors
    /// [`Error::Invalid`] with a JSON pointer to the fault.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Error> {
        let invalid = |fault: String| Error::Invalid(fault);
        let value: Value = serde_json::from_slice(body)
            .map_err(|fault| invalid(format!("the body is not valid JSON: {fault}")))?;
        let Value::Object(fields) = value else {
            return Err(invalid("the body is not a JSON object".to_owned()));
        };
        let model = match fields.get("model") {
            Some(Value::String(model)) if !model.is_empty() => model.clone(),
            _ => return Err(invalid("/model: a name is required".to_owned())),
        };
        let messages = fields.get("messages").and_then(Value::as_array).filter(|m| !m.is_empty());
        let messages =
            messages.ok_or_else(|| invalid("/messages: at least one is required".to_owned()))?;
        for (index, message) in messages.iter().enumerate() {
            if !message.get("role").is_some_and(Value::is_string) {
                return Err(invalid(format!("/messages/{index}/role: a role is required")));
            }
        }
        let mut most = None;
        for field in ["max_completion_tokens", "max_tokens"] {
            match fields.get(field) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let tokens = value.as_u64().filter(|tokens| (1..=10_000_000).contains(tokens));
                    let fault = || invalid(format!("/{field}: {value} is not 1 to 10000000"));
                    most = most.or(Some(tokens.ok_or_else(fault)?));
                }
            }
        }
        let choices = match fields.get("n") {
            None | Some(Value::Null) => 1,
            Some(n) => n
                .as_u64()
                .filter(|n| (1..=128).contains(n))
                .ok_or_else(|| invalid(format!("/n: {n} is not 1 to 128")))?,
        };
        let wants_usage = fields.get("stream_options").and_then(|o| o.get("include_usage"));
        let wants_usage = wants_usage == Some(&Value::Bool(true));
        Ok(Self {
            model,
            wants_usage,
            input_tokens: (body.len() as u64).div_ceil(3),
            max_output_tokens: most.map(|most| most.saturating_mul(choices)),
            body: fields,
        })
    }

    /// Returns the most tokens that `limit`, a model's own, lets the answer have.
    pub(crate) fn output_tokens(&self, limit: u64) -> u64 {
        self.max_output_tokens.unwrap_or(limit)
    }

    /// Returns the body for a provider: its own model name, and usage asked for in a stream.
    pub(crate) fn for_provider(&self, model: &str, stream: bool) -> Value {
        let mut body = self.body.clone();
        body.insert("model".to_owned(), model.into());
        body.insert("stream".to_owned(), stream.into());
        body.remove("stream_options");
        if stream {
            body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        }
        Value::Object(body)
    }

    /// Returns the text of the last message that a user wrote.
    pub(crate) fn question(&self) -> String {
        let messages = self.body.get("messages").and_then(Value::as_array);
        let mut users = messages.into_iter().flatten().rev().filter(|m| m["role"] == "user");
        match users.next().map(|message| &message["content"]) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_pointed_at() {
        let cases = [
            ("{", "the body is not valid JSON"),
            ("[]", "the body is not a JSON object"),
            ("{}", "/model"),
            (r#"{"model":"a"}"#, "/messages"),
            (r#"{"model":"a","messages":[]}"#, "/messages"),
            (r#"{"model":"a","messages":[{}]}"#, "/messages/0/role"),
            (r#"{"model":"a","messages":[{"role":"user"}],"max_tokens":-1}"#, "/max_tokens"),
            (r#"{"model":"a","messages":[{"role":"user"}],"n":0}"#, "/n"),
        ];
        for (body, fault) in cases {
            let told = ChatRequest::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(told.starts_with(fault), "{body}: {told}");
        }
    }

    #[test]
    fn what_the_router_does_not_know_goes_through() {
        let body = r#"{"model":"a","messages":[{"role":"user","content":"q"}],"seed":7}"#;
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        let sent = request.for_provider("b", true);
        assert_eq!((&sent["model"], &sent["seed"]), (&json!("b"), &json!(7)));
        assert_eq!(sent["stream_options"]["include_usage"], json!(true));
        assert_eq!(request.question(), "q");
    }
}
