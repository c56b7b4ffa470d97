//! Items of a list that are JSON already. rmcp would copy each of them and write it anew for every list: it writes an
//! answer with none, and they are put into that.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use rmcp::service::{RequestContext, RoleServer};

use super::{Answer, plain};

/// Where the items of one request's answer are left: the name of their list, and they, with commas between them.
#[derive(Debug, Clone, Default)]
pub(super) struct Ready(Arc<OnceLock<(&'static str, Vec<u8>)>>);

impl Ready {
    /// Returns where a request's items may be left, if they may.
    pub(super) fn of(request: &RequestContext<RoleServer>) -> Option<&Self> {
        request.extensions.get::<http::request::Parts>()?.extensions.get()
    }

    /// Leaves the items; whoever does answers with an empty list of them, and says nothing before that.
    pub(super) fn leave(&self, field: &'static str, items: Vec<u8>) {
        // A request is answered once.
        let _ = self.0.set((field, items));
    }

    /// Puts the items that were left, if any were, into the answer. An answer that has no place for them is none: a list
    /// would be empty that is not.
    pub(super) async fn put_into(self, answer: Answer) -> Answer {
        let Some((field, items)) = self.0.get() else { return answer };
        let (parts, body) = answer.into_parts();
        let Ok(body) = body.collect().await;
        let body = body.to_bytes();
        let Some(at) = place(&body, field) else {
            tracing::error!(list = field, "an answer has no place for its items");
            return plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the list cannot be written".to_owned(),
            );
        };
        let body = Bytes::from([&body[..at], items.as_slice(), &body[at..]].concat());
        Response::from_parts(parts, Full::new(body).boxed())
    }
}

/// Returns where the items of an empty list belong, if there is one such list. In a text its quotes are escaped.
fn place(answer: &[u8], field: &str) -> Option<usize> {
    let (answer, empty) = (std::str::from_utf8(answer).ok()?, format!("\"{field}\":[]"));
    let at = answer.find(&empty)?;
    (answer.rfind(&empty) == Some(at)).then_some(at + empty.len() - 1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    async fn put(ready: Ready, answer: &str) -> String {
        let answer = Response::new(Full::new(Bytes::from(answer.to_owned())).boxed());
        let Ok(body) = ready.put_into(answer).await.into_body().collect().await;
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn items_are_put_into_an_empty_list_and_nowhere_else() {
        let answer = |tools: Value| {
            let text = "\"tools\":[]";
            let meta = json!({ "why": text });
            let result = json!({ "_meta": meta, "tools": tools, "prompts": [], "ttlMs": 0 });
            json!({ "jsonrpc": "2.0", "id": text, "result": result }).to_string()
        };
        let (none, some) = (answer(json!([])), answer(json!([{ "name": "a" }, { "name": "b" }])));
        let ready = Ready::default();
        assert_eq!(put(ready.clone(), &none).await, none, "nothing was left");
        ready.leave("tools", br#"{"name":"a"},{"name":"b"}"#.to_vec());
        assert_eq!(put(ready.clone(), &none).await, some);
        let twice = format!("{none},{none}");
        for other in [r#"{"error":{"message":"\"tools\":[]"}}"#, &twice, "it is over", ""] {
            assert_eq!(put(ready.clone(), other).await, "the list cannot be written");
        }
    }
}
