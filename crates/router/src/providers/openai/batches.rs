//! OpenAI's batch API (<https://platform.openai.com/docs/api-reference/batch>, read November 2026):
//! a file of requests for one model, a batch on it, files of answers and errors.

use async_trait::async_trait;
use serde_json::{Value, json};
use types::CallContext;

use super::OpenAi;
use crate::config::Model;
use crate::providers::Fault;
use crate::providers::batches::{Batches, NotBegun, Outcome, Sought, Standing, checked, id_of};
use crate::providers::http::jobs::Lines;
use crate::request::ChatRequest;

/// Where a batch carries our name.
const NAME: &str = "baton_part";

/// How many pages of a hundred batches are looked through for one of ours.
const PAGES: usize = 100;

/// How far the provider's clock may be behind ours, in seconds.
const SKEW: i64 = 3600;

#[async_trait]
impl Batches for OpenAi {
    fn line(&self, id: &str, model: &Model, request: &ChatRequest) -> Result<Value, Fault> {
        let mut body = request
            .for_chat(&model.name, (self.limit, model.max_output_tokens), false)
            .map_err(Fault::Dialect)?;
        // A batch's answers are whole without being told.
        if let Some(body) = body.as_object_mut() {
            body.remove("stream");
        }
        Ok(
            json!({ "custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body }),
        )
    }

    async fn begin(
        &self,
        context: &CallContext,
        name: &str,
        lines: Vec<u8>,
    ) -> Result<String, NotBegun> {
        // Nobody who wrote a line knows the boundary.
        let boundary = types::RequestId::generate();
        let head = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
             --{boundary}\r\ncontent-disposition: form-data; name=\"file\"; \
             filename=\"{name}.jsonl\"\r\ncontent-type: application/jsonl\r\n\r\n"
        );
        let mut form = head.into_bytes();
        form.extend_from_slice(&lines);
        form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={boundary}");
        let uploaded = self.http.upload(context, "files", kind, form).await;
        let file = uploaded.and_then(|file| id_of(&file)).map_err(NotBegun::Surely)?;
        let wanted = json!({
            "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
            "metadata": { NAME: name },
        });
        let begun = self.http.begin(context, "batches", &wanted).await?;
        id_of(&begun).map_err(NotBegun::Perhaps)
    }

    async fn find(
        &self,
        context: &CallContext,
        sought: &Sought<'_>,
    ) -> Result<Option<String>, Fault> {
        let (since, mut after) = (sought.since_ms / 1000 - SKEW, String::new());
        for _ in 0..PAGES {
            let path = format!("batches?limit=100{after}");
            let none = || Fault::Provider("its batches cannot be listed".to_owned());
            let page = self.http.look(context, &path).await?.ok_or_else(none)?;
            let batches = page["data"].as_array().ok_or_else(none)?;
            if let Some(ours) = batches.iter().find(|batch| batch["metadata"][NAME] == sought.name)
            {
                return id_of(ours).map(Some);
            }
            // The newest come first.
            let Some(last) = batches.last() else { return Ok(None) };
            let is_older = last["created_at"].as_i64().is_some_and(|created| created < since);
            if is_older || page["has_more"] != true {
                return Ok(None);
            }
            after = format!("&after={}", id_of(last)?);
        }
        Err(Fault::Provider("it has more batches than are looked through".to_owned()))
    }

    async fn look(&self, context: &CallContext, id: &str) -> Result<Option<Standing>, Fault> {
        let found = self.http.look(context, &format!("batches/{}", checked(id)?)).await?;
        found.map(|batch| standing(&batch)).transpose()
    }

    async fn cancel(&self, context: &CallContext, id: &str) -> Result<(), Fault> {
        let path = format!("batches/{}/cancel", checked(id)?);
        match self.http.value(context, &path, &json!({})).await {
            // It has ended.
            Ok(_) | Err(Fault::Request(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn download(&self, context: &CallContext, file: &str) -> Result<Lines, Fault> {
        self.http.download(context, &format!("files/{}/content", checked(file)?)).await
    }

    fn outcome(&self, line: &[u8]) -> Option<(String, Outcome)> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let id = line["custom_id"].as_str()?.to_owned();
        let (status, body) = (&line["response"]["status_code"], &line["response"]["body"]);
        let message = body["error"]["message"].as_str().unwrap_or_default();
        let outcome = match status.as_u64() {
            Some(200) if body["choices"].as_array().is_some_and(|said| !said.is_empty()) => {
                Outcome::Answered(body.clone())
            }
            Some(status @ (400 | 413 | 422)) => Outcome::Refused(
                format!("the provider refused the request: {status} {message}").trim().to_owned(),
            ),
            _ => Outcome::Unanswered,
        };
        Some((id, outcome))
    }
}

fn standing(batch: &Value) -> Result<Standing, Fault> {
    let status = batch["status"].as_str().unwrap_or_default();
    let ended = match status {
        "completed" | "failed" | "expired" | "cancelled" => true,
        "validating" | "in_progress" | "finalizing" | "cancelling" => false,
        _ => return Err(Fault::Provider(format!("its batch is {status:?}"))),
    };
    let file = |name: &str| batch[name].as_str().map(str::to_owned);
    let files = ["output_file_id", "error_file_id"].into_iter().filter_map(file);
    let files = if ended { files.collect() } else { Vec::new() };
    let said = batch.pointer("/errors/data/0/message").and_then(Value::as_str);
    let status = said.map_or(status.to_owned(), |said| format!("{status}: {said}"));
    Ok(Standing { ended, status, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_stands_as_it_says() {
        let of = |batch: Value| standing(&batch);
        for status in ["validating", "in_progress", "finalizing", "cancelling"] {
            let standing = of(json!({ "status": status, "output_file_id": "f" })).unwrap();
            assert!(!standing.ended && standing.files.is_empty(), "{status}");
        }
        for status in ["completed", "expired", "cancelled"] {
            let standing =
                of(json!({ "status": status, "output_file_id": "o", "error_file_id": null }));
            let wanted =
                Standing { ended: true, status: status.to_owned(), files: vec!["o".to_owned()] };
            assert_eq!(standing.unwrap(), wanted);
        }
        let failed = json!({ "status": "failed", "errors": { "data": [{ "message": "no" }] } });
        assert_eq!(of(failed).unwrap().status, "failed: no");
        assert!(of(json!({ "status": "lost" })).is_err());
    }
}
