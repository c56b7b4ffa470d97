//! Anthropic's batch API (<https://platform.claude.com/docs/en/api/messages/batches>, read November
//! 2026): requests in one body, a batch of them, answers in a file.
//!
//! A batch there carries no name of ours but in the ids of its requests, and those are told only with
//! its answers. So one that may be ours is waited for until it has ended, and is known then.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use types::CallContext;

use super::{Anthropic, body};
use crate::config::Model;
use crate::providers::Fault;
use crate::providers::batches::{Batches, NotBegun, Outcome, Sought, Standing, checked, id_of};
use crate::providers::http::jobs::Lines;
use crate::request::ChatRequest;

const PATH: &str = "messages/batches";

/// How many pages of a hundred batches are looked through for one of ours.
const PAGES: usize = 100;

/// When the provider may say that it began a batch, in seconds after we asked it to: its clock is not
/// ours, and a request that hangs is over within an hour.
const MADE: RangeInclusive<i64> = -3600..=7200;

#[async_trait]
impl Batches for Anthropic {
    fn line(&self, id: &str, model: &Model, request: &ChatRequest) -> Result<Value, Fault> {
        let mut params = body(model, request, false)?;
        // A batch's answers are whole without being told.
        if let Some(params) = params.as_object_mut() {
            params.remove("stream");
        }
        Ok(json!({ "custom_id": id, "params": params }))
    }

    async fn begin(
        &self,
        context: &CallContext,
        name: &str,
        lines: Vec<u8>,
    ) -> Result<String, NotBegun> {
        let wanted = named(name, &lines).map_err(NotBegun::Surely)?;
        let begun = self.0.begin(context, PATH, &wanted).await?;
        id_of(&begun).map_err(NotBegun::Perhaps)
    }

    async fn find(
        &self,
        context: &CallContext,
        sought: &Sought<'_>,
    ) -> Result<Option<String>, Fault> {
        let (asked, mut after, mut open) = (sought.since_ms / 1000, String::new(), 0);
        for _ in 0..PAGES {
            let none = || Fault::Provider("its batches cannot be listed".to_owned());
            let path = format!("{PATH}?limit=100{after}");
            let page = self.0.look(context, &path).await?.ok_or_else(none)?;
            let batches = page["data"].as_array().ok_or_else(none)?;
            for batch in batches {
                let id = id_of(batch)?;
                if !may_be(batch, sought) || sought.others.contains(&id) {
                    continue;
                }
                if !standing(batch)?.ended {
                    open += 1;
                } else if self.is_named(context, &id, sought.name).await? {
                    return Ok(Some(id));
                }
            }
            // The newest come first.
            let Some(last) = batches.last() else { return possibly(open) };
            let is_older = created(last).is_some_and(|at| at - asked < *MADE.start());
            if is_older || page["has_more"] != true {
                return possibly(open);
            }
            after = format!("&after_id={}", id_of(last)?);
        }
        Err(Fault::Provider("it has more batches than are looked through".to_owned()))
    }

    async fn look(&self, context: &CallContext, id: &str) -> Result<Option<Standing>, Fault> {
        let found = self.0.look(context, &format!("{PATH}/{}", checked(id)?)).await?;
        found.map(|batch| standing(&batch)).transpose()
    }

    async fn cancel(&self, context: &CallContext, id: &str) -> Result<(), Fault> {
        let path = format!("{PATH}/{}/cancel", checked(id)?);
        match self.0.value(context, &path, &json!({})).await {
            // It has ended.
            Ok(_) | Err(Fault::Request(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn download(&self, context: &CallContext, file: &str) -> Result<Lines, Fault> {
        self.0.download(context, &format!("{PATH}/{}/results", checked(file)?)).await
    }

    fn outcome(&self, line: &[u8]) -> Option<(String, Outcome)> {
        read(line)
    }
}

impl Anthropic {
    /// Tells whether a batch that has ended is the one of our name: its answers say so.
    async fn is_named(&self, context: &CallContext, id: &str, name: &str) -> Result<bool, Fault> {
        let mut lines = self.download(context, id).await?;
        while let Some(line) = lines.next().await? {
            let line: Value = serde_json::from_slice(&line).unwrap_or_default();
            if let Some(id) = line["custom_id"].as_str() {
                return Ok(id.rsplit_once('_').is_some_and(|(of, _)| of == name));
            }
        }
        Ok(false)
    }
}

/// Returns the body of a batch whose requests carry our name in their ids.
fn named(name: &str, lines: &[u8]) -> Result<Value, Fault> {
    let mut requests = Vec::new();
    for line in serde_json::Deserializer::from_slice(lines).into_iter::<Value>() {
        let fault = |fault| Fault::Dialect(format!("a line is not JSON: {fault}"));
        let mut request = line.map_err(fault)?;
        let id = format!("{name}_{}", request["custom_id"].as_str().unwrap_or_default());
        request["custom_id"] = id.into();
        requests.push(request);
    }
    Ok(json!({ "requests": requests }))
}

/// Reads a line of answers: our id of the request, and what became of it.
fn read(line: &[u8]) -> Option<(String, Outcome)> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let (_, id) = line["custom_id"].as_str()?.rsplit_once('_')?;
    let (result, error) = (&line["result"], &line["result"]["error"]["error"]);
    let outcome = match (result["type"].as_str()?, error["type"].as_str()) {
        ("succeeded", _) if result["message"]["content"].is_array() => {
            Outcome::Answered(result["message"].clone())
        }
        ("errored", Some("invalid_request_error" | "request_too_large")) => {
            let message = error["message"].as_str().unwrap_or_default();
            let refused = format!("the provider refused the request: {message}");
            Outcome::Refused(refused.trim().to_owned())
        }
        _ => Outcome::Unanswered,
    };
    Some((id.to_owned(), outcome))
}

/// Tells whether a batch may be the one that is sought, by when it was made and how many requests it has.
fn may_be(batch: &Value, sought: &Sought<'_>) -> bool {
    let is_then = created(batch).is_none_or(|at| MADE.contains(&(at - sought.since_ms / 1000)));
    let counts = batch["request_counts"].as_object();
    let size = counts.map(|counts| counts.values().filter_map(Value::as_u64).sum());
    is_then && (sought.size == 0 || size.is_none_or(|size: u64| size == sought.size))
}

/// Says that there is no batch of ours, unless one of those that run is.
fn possibly(open: usize) -> Result<Option<String>, Fault> {
    match open {
        0 => Ok(None),
        open => Err(Fault::Provider(format!("{open} of its batches may be the one, and run"))),
    }
}

fn standing(batch: &Value) -> Result<Standing, Fault> {
    let status = batch["processing_status"].as_str().unwrap_or_default();
    let ended = match status {
        "ended" => true,
        "in_progress" | "canceling" => false,
        _ => return Err(Fault::Provider(format!("its batch is {status:?}"))),
    };
    // Its answers are known by the batch itself.
    let files = if ended { vec![id_of(batch)?] } else { Vec::new() };
    Ok(Standing { ended, status: status.to_owned(), files })
}

/// Returns when a batch was made, in seconds since 1970.
fn created(batch: &Value) -> Option<i64> {
    let created = batch["created_at"].as_str()?;
    OffsetDateTime::parse(created, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_stands_as_it_says() {
        let of =
            |status: &str| standing(&json!({ "id": "msgbatch_1", "processing_status": status }));
        for status in ["in_progress", "canceling"] {
            assert!(!of(status).unwrap().ended, "{status}");
        }
        assert_eq!(of("ended").unwrap().files, ["msgbatch_1"]);
        assert!(of("lost").is_err());
        let at = json!({ "created_at": "2024-08-20T18:37:24.100435Z" });
        assert_eq!(created(&at), Some(1_724_179_044));
        assert_eq!(created(&json!({})), None);
    }

    #[test]
    fn a_batch_may_be_ours_by_its_time_and_its_size() {
        let batch = |counts: Value| json!({ "created_at": "2024-08-20T18:37:24.1Z", "request_counts": counts });
        let made = 1_724_179_044;
        let sought = |late: i64, size| Sought {
            name: "n",
            since_ms: (made - late) * 1000,
            size,
            others: &[],
        };
        let runs = batch(json!({ "processing": 3, "succeeded": 0, "errored": 0 }));
        let ended = batch(json!({ "processing": 0, "succeeded": 2, "errored": 1 }));
        for (late, size, wanted) in [
            (0, 3, true),
            (0, 0, true),
            (0, 2, false),
            (7201, 3, false),
            (-3601, 3, false),
            (7200, 3, true),
        ] {
            assert_eq!(may_be(&runs, &sought(late, size)), wanted, "{late} {size}");
            assert_eq!(may_be(&ended, &sought(late, size)), wanted, "{late} {size}");
        }
        assert!(may_be(&json!({}), &sought(0, 3)), "what says nothing may be it");
    }

    #[test]
    fn every_end_of_a_request_is_told_apart() {
        let of = |result: Value| {
            let line = json!({ "custom_id": "0198-a_7", "result": result }).to_string();
            read(line.as_bytes()).map(|(id, outcome)| {
                assert_eq!(id, "7");
                outcome
            })
        };
        let errored = |kind: &str| {
            let error = json!({ "type": kind, "message": "no" });
            json!({ "type": "errored", "error": { "type": "error", "error": error } })
        };
        let message = json!({ "content": [], "usage": {} });
        let succeeded = json!({ "type": "succeeded", "message": message });
        assert_eq!(of(succeeded), Some(Outcome::Answered(message)));
        let refused = || Some(Outcome::Refused("the provider refused the request: no".to_owned()));
        assert_eq!(of(errored("invalid_request_error")), refused());
        assert_eq!(of(errored("request_too_large")), refused());
        for other in [
            errored("api_error"),
            errored("overloaded_error"),
            json!({ "type": "succeeded" }),
            json!({ "type": "canceled" }),
            json!({ "type": "expired" }),
            json!({ "type": "unheard of" }),
        ] {
            assert_eq!(of(other), Some(Outcome::Unanswered));
        }
        assert_eq!(of(json!({})), None);
        assert_eq!(
            read(b"{\"custom_id\": \"theirs\", \"result\": { \"type\": \"expired\" }}"),
            None
        );
        assert_eq!(read(b"{ "), None);
    }

    #[test]
    fn requests_carry_our_name() {
        let lines = b"{\"custom_id\":\"7\",\"params\":{}}\n{\"custom_id\":\"8\",\"params\":{}}\n";
        let body = named("0198-a", lines).unwrap();
        assert_eq!(body["requests"][1]["custom_id"], "0198-a_8");
        assert!(named("n", b"{").is_err());
    }
}
