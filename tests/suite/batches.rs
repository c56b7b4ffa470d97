//! Many requests that nobody waits for.

use std::time::Duration;

use journeys::{Shape, System, conversation, priced};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::provider::Provider;

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// Short, so that nobody waits long for a process that was killed.
const HURRY: &str = "[orchestrator.batch]\nlease_ms = 1000\nattempts = 2\nconcurrency = 2\n";

/// Asks in somebody's name, or in nobody's.
pub(crate) struct Client<'a> {
    system: &'a System,
    headers: Vec<(&'static str, &'static str)>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(system: &'a System) -> Self {
        Self { system, headers: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    async fn send(&self, request: RequestBuilder) -> Response {
        let request = self.headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        request.send().await.unwrap()
    }

    pub(crate) async fn json(&self, request: RequestBuilder) -> (u16, Value) {
        let reply = self.send(request).await;
        (reply.status().as_u16(), reply.json().await.unwrap())
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.system.url)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.json(self.system.client().get(self.at(path))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.json(self.system.client().post(self.at(path)).json(body)).await
    }

    /// Uploads a form of these fields; a file has the content `file`.
    async fn form(&self, fields: &[(&str, &str)], file: &str) -> (u16, Value) {
        let mut body = String::new();
        for (name, value) in fields {
            let (more, value) = match *name {
                "file" => ("; filename=\"requests.jsonl\"", file),
                _ => ("", *value),
            };
            let disposition = format!("content-disposition: form-data; name=\"{name}\"{more}");
            body += &format!("--boundary\r\n{disposition}\r\n\r\n{value}\r\n");
        }
        body += "--boundary--\r\n";
        let post = self.system.client().post(self.at("/v1/files")).body(body);
        self.json(post.header("content-type", "multipart/form-data; boundary=boundary")).await
    }

    pub(crate) async fn upload(&self, lines: &[Value]) -> String {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (status, file) = self.form(&[("purpose", "batch"), ("file", "")], &text).await;
        assert_eq!(status, 200, "{file}");
        assert_eq!((&file["bytes"], &file["purpose"]), (&text.len().into(), &"batch".into()));
        file["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn begin(&self, endpoint: &str, lines: &[Value], metadata: Value) -> String {
        let file = self.upload(lines).await;
        let batch = json!({
            "input_file_id": file, "endpoint": endpoint, "completion_window": "24h",
            "metadata": metadata,
        });
        let (status, batch) = self.post("/v1/batches", &batch).await;
        assert_eq!((status, &batch["object"]), (200, &"batch".into()), "{batch}");
        batch["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn wait(&self, batch: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let reached = async {
            loop {
                let (_, batch) = self.get(&format!("/v1/batches/{batch}")).await;
                if wanted(&batch) {
                    return batch;
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), reached).await;
        match waited {
            Ok(batch) => batch,
            Err(_) => {
                panic!("after a minute: {:?}", self.get(&format!("/v1/batches/{batch}")).await)
            }
        }
    }

    pub(crate) async fn end(&self, batch: &str, status: &str) -> Value {
        let ends = ["completed", "failed", "cancelled", "expired"];
        let ended = self.wait(batch, |batch| ends.iter().any(|end| batch["status"] == *end)).await;
        assert_eq!(ended["status"], status, "{ended}");
        ended
    }

    /// Reads the lines of a batch's file.
    pub(crate) async fn lines(&self, file: &Value) -> Vec<Value> {
        let path = format!("/v1/files/{}/content", file.as_str().unwrap());
        let text = self.send(self.system.client().get(self.at(&path))).await.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn line(id: &str, url: &str, body: &Value) -> Value {
    json!({ "custom_id": id, "method": "POST", "url": url, "body": body })
}

pub(crate) fn asking(said: &[&str]) -> Vec<Value> {
    let line = |(number, said): (usize, &&str)| {
        let mut body = conversation(said, false);
        body.as_object_mut().unwrap().remove("stream");
        line(&number.to_string(), CHAT, &body)
    };
    said.iter().enumerate().map(line).collect()
}

pub(crate) fn counts(batch: &Value) -> (u64, u64, u64) {
    let count = |name: &str| batch["request_counts"][name].as_u64().unwrap();
    (count("total"), count("completed"), count("failed"))
}

pub(crate) async fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let wait = async {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    waited.unwrap_or_else(|_| panic!("not so after a minute: {what}"));
}

#[tokio::test]
async fn a_batch_is_uploaded_answered_and_downloaded_on_every_endpoint() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let client = Client::new(&system);
        let hello = json!([{ "role": "user", "content": "ping" }]);
        for (endpoint, body) in [
            (CHAT, json!({ "model": "m", "messages": hello })),
            ("/v1/messages", json!({ "model": "m", "max_tokens": 9, "messages": hello })),
            ("/v1/responses", json!({ "model": "m", "input": "ping" })),
        ] {
            let mut unknown = body.clone();
            unknown["model"] = "none".into();
            let lines = [line("good", endpoint, &body), line("bad", endpoint, &unknown)];
            let batch = client.begin(endpoint, &lines, Value::Null).await;
            let batch = client.end(&batch, "completed").await;
            assert_eq!(counts(&batch), (2, 1, 1));
            assert!(batch["completed_at"].is_i64() && batch["failed_at"].is_null(), "{batch}");

            let output = client.lines(&batch["output_file_id"]).await;
            assert_eq!((output.len(), &output[0]["custom_id"]), (1, &"good".into()));
            let response = &output[0]["response"];
            assert_eq!(response["status_code"], 200, "{response}");
            assert!(response["body"].to_string().contains("pong"), "{response}");
            // A line fails with the very words that the route itself says.
            let errors = client.lines(&batch["error_file_id"]).await;
            let (status, said) = client.post(endpoint, &unknown).await;
            assert_eq!(errors[0]["response"]["status_code"], status);
            assert_eq!(errors[0]["response"]["body"], said);
            assert_eq!(errors[0]["custom_id"], "bad");
        }
        let (_, list) = client.get("/v1/batches?limit=2").await;
        assert_eq!((list["data"].as_array().unwrap().len(), &list["has_more"]), (2, &true.into()));
        let rest = format!("/v1/batches?after={}", list["last_id"].as_str().unwrap());
        assert_eq!(client.get(&rest).await.1["has_more"], false);
        let (_, list) = client.get("/v1/files?purpose=batch_output").await;
        assert_eq!(list["data"].as_array().unwrap().len(), 6);
        let file = format!("/v1/files/{}", list["first_id"].as_str().unwrap());
        assert_eq!(client.get(&file).await.1["status"], "processed");
        assert_eq!(system.delete(&file).await.unwrap(), 200);
        assert_eq!(client.get(&file).await.0, 404);
    }
}

#[tokio::test]
async fn a_wrong_line_is_named_and_nothing_is_spent() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let client = Client::new(&system);
        let mut lines = asking(&["ping", "ping", "ping"]);
        lines[1]["method"] = "GET".into();
        lines[2]["custom_id"] = "0".into();
        let batch = client.begin(CHAT, &lines, json!({ "what": "for" })).await;
        let batch = client.end(&batch, "failed").await;
        let faults = batch["errors"]["data"].as_array().unwrap().iter();
        let faults: Vec<_> = faults.map(|f| (f["code"].as_str().unwrap(), &f["line"])).collect();
        assert_eq!(faults, [("invalid_method", &2.into()), ("duplicate_custom_id", &3.into())]);
        assert!(batch["failed_at"].is_i64() && batch["output_file_id"].is_null(), "{batch}");
        assert_eq!(batch["metadata"], json!({ "what": "for" }));
        let cancel = format!("/v1/batches/{}/cancel", batch["id"].as_str().unwrap());
        assert_eq!(client.post(&cancel, &Value::Null).await.0, 409);
        assert!(system.spent("local").await.unwrap().abs() < 1e-12);
    }
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn what_cannot_be_a_batch_or_its_file_is_refused() {
    for shape in Shape::ALL {
        let settings = "[gateway]\nmax_body_bytes = 10000\n";
        let system = System::start(shape, settings).await.unwrap();
        let client = Client::new(&system);
        for (fields, fault) in [
            (&[("file", "")][..], "purpose"),
            (&[("purpose", "batch")], "file"),
            (&[("purpose", "fine-tune"), ("file", "")], "batch, assistants, user_data"),
            (&[("purpose", "batch"), ("file", ""), ("more", "1")], "more"),
        ] {
            let (status, error) = client.form(fields, "{}").await;
            assert!(status == 400 && error.to_string().contains(fault), "{status} {error}");
            assert!(error["error"]["message"].is_string(), "{error}");
        }
        let large = client.form(&[("purpose", "batch"), ("file", "")], &"x".repeat(20_000)).await;
        assert_eq!(large.0, 413, "{large:?}");
        assert_eq!(client.post("/v1/files", &json!({})).await.0, 400);
        assert_eq!(client.get("/v1/files").await.1["data"], json!([]));
        // The file may come before its purpose.
        let (status, file) = client.form(&[("file", ""), ("purpose", "batch")], "{}").await;
        assert_eq!(status, 200, "{file}");
        let new = |changed: &str, value: &str| {
            let mut new = json!({
                "input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h",
            });
            new[changed] = value.into();
            new
        };
        for (body, code, fault) in [
            (new("endpoint", "/v1/embeddings"), 400, "/endpoint"),
            (new("completion_window", "soon"), 400, "/completion_window"),
            (new("input_file_id", "file-none"), 404, "file-none"),
            (new("output", "x"), 400, "unknown field"),
        ] {
            let (status, error) = client.post("/v1/batches", &body).await;
            assert!(status == code && error.to_string().contains(fault), "{status} {error}");
        }
        let mut costly = new("endpoint", CHAT);
        costly["metadata"] = json!({ "max_cost_usd": "much" });
        let (status, error) = client.post("/v1/batches", &costly).await;
        assert!(status == 400 && error.to_string().contains("max_cost_usd"), "{status} {error}");
        assert_eq!(client.get("/v1/batches?limit=0").await.0, 400);
        assert_eq!(client.get("/v1/batches/batch_none").await.0, 404);
        assert_eq!(client.get("/v1/batches").await.1["data"], json!([]));
    }
}

#[tokio::test]
async fn a_batch_keeps_its_own_limit_and_its_users() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let client = Client::new(&system);
        // Each costs 0.004, and so can no more than two.
        let lines = asking(&["ping"; 5]);
        let batch = client.begin(CHAT, &lines, json!({ "max_cost_usd": "0.0119" })).await;
        let batch = client.end(&batch, "completed").await;
        assert_eq!((counts(&batch), &batch["cost_usd"]), ((5, 2, 3), &0.008.into()));
        for error in client.lines(&batch["error_file_id"]).await {
            assert_eq!(error["error"]["code"], "budget_exceeded", "{error}");
        }
        assert!((system.spent("local").await.unwrap() - 0.008).abs() < 1e-12);

        let limit = json!({ "user_id": "local", "period": "daily", "limit": 0.012 });
        assert_eq!(client.post("/api/v1/budget/limit", &limit).await.0, 201);
        let batch = client.begin(CHAT, &lines, Value::Null).await;
        let batch = client.end(&batch, "completed").await;
        assert_eq!(counts(&batch), (5, 1, 4));
        for error in client.lines(&batch["error_file_id"]).await {
            assert_eq!(error["response"]["status_code"], 402, "{error}");
            assert_eq!(error["response"]["body"]["error"]["code"], "budget_exceeded", "{error}");
        }
        assert!((system.spent("local").await.unwrap() - 0.012).abs() < 1e-12);
    }
    assert_eq!(provider.requests(), 6);
}

#[tokio::test]
async fn a_cancelled_batch_finishes_what_has_begun() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = format!("{}{HURRY}", priced(&provider.url));
        let system = System::start(shape, &settings).await.unwrap();
        let client = Client::new(&system);
        let batch = client.begin(CHAT, &asking(&["wait"; 6]), Value::Null).await;
        eventually("two are in flight", || provider.requests() == 2).await;
        let cancel = format!("/v1/batches/{batch}/cancel");
        let (status, cancelling) = client.post(&cancel, &Value::Null).await;
        assert_eq!((status, &cancelling["status"]), (200, &"cancelling".into()));
        (0..6).for_each(|_| provider.go_on());
        let batch = client.end(&batch, "cancelled").await;
        assert_eq!(counts(&batch), (6, 2, 4));
        let errors = client.lines(&batch["error_file_id"]).await;
        assert_eq!(errors[0]["error"]["code"], "batch_cancelled", "{errors:?}");
        assert_eq!(provider.requests(), 2);
        assert!((system.spent("local").await.unwrap() - 0.008).abs() < 1e-12);
    }
}

#[tokio::test]
async fn a_batch_that_was_killed_goes_on_and_repeats_only_what_was_in_flight() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = format!("{}{HURRY}", priced(&provider.url));
        let system = System::start(shape, &settings).await.unwrap();
        let said = ["ping", "ping", "ping", "wait", "wait", "wait", "ping", "wait"];
        let batch = Client::new(&system).begin(CHAT, &asking(&said), Value::Null).await;
        // Three have ended, two are in flight.
        Client::new(&system).wait(&batch, |batch| counts(batch).1 == 3).await;
        eventually("two are in flight", || provider.requests() == 5).await;
        spent(&system, 0.012).await;
        let data = system.kill().await.unwrap();

        // More than enough, also for the two that nobody waits for any more.
        (0..20).for_each(|_| provider.go_on());
        let system = System::start_in(data, shape, &settings).await.unwrap();
        let client = Client::new(&system);
        let batch = client.end(&batch, "completed").await;
        assert_eq!(counts(&batch), (8, 8, 0));
        let output = client.lines(&batch["output_file_id"]).await;
        let ids: Vec<_> = output.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(provider.requests(), 8 + 2);
        // What was cut off is held until its lease ends; what was answered is paid once.
        spent(&system, 0.032).await;
    }
}

#[tokio::test]
async fn a_request_that_is_in_flight_whenever_its_process_ends_is_given_up() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = format!("{}{HURRY}", priced(&provider.url));
        let mut system = System::start(shape, &settings).await.unwrap();
        let batch = Client::new(&system).begin(CHAT, &asking(&["hang"]), Value::Null).await;
        for times in 1..=2 {
            eventually("it is asked", || provider.requests() == times).await;
            let data = system.kill().await.unwrap();
            system = System::start_in(data, shape, &settings).await.unwrap();
        }
        let client = Client::new(&system);
        let batch = client.end(&batch, "completed").await;
        assert_eq!((counts(&batch), provider.requests()), ((1, 0, 1), 2));
        let errors = client.lines(&batch["error_file_id"]).await;
        let told = &errors[0]["response"]["body"]["error"]["message"];
        assert_eq!(told, "the request was begun 2 times and never ended", "{errors:?}");
    }
}

/// Waits until a user has spent so much: settlements are made behind the answer.
async fn spent(system: &System, wanted: f64) {
    let reached = async {
        loop {
            let path = "/api/v1/budget/user/local?period=daily";
            let spent = system.get(path).await.unwrap().1["current_spend"].as_f64().unwrap();
            assert!(spent < wanted + 1e-12, "{spent} is more than {wanted}");
            if spent > wanted - 1e-12 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap();
}

#[tokio::test]
async fn who_is_stopped_in_the_middle_of_a_batch_repeats_nothing() {
    let provider = Provider::start().await.unwrap();
    // Whoever comes next need not wait for the end of the lease.
    let settings = format!("{}{HURRY}", priced(&provider.url)).replace("1000\n", "600000\n");
    assert!(settings.contains("600000"));
    let mut system = System::start(Shape::One, &settings).await.unwrap();
    let batch = Client::new(&system).begin(CHAT, &asking(&["wait"; 4]), Value::Null).await;
    eventually("two are in flight", || provider.requests() == 2).await;
    let stopped = tokio::spawn(system.processes.remove(0).stop());
    (0..4).for_each(|_| provider.go_on());
    let (status, log) = stopped.await.unwrap().unwrap();
    assert!(status.success(), "{status} {log}");
    let before = provider.requests();
    let data = system.kill().await.unwrap();
    let system = System::start_in(data, Shape::One, &settings).await.unwrap();
    let batch = Client::new(&system).end(&batch, "completed").await;
    assert_eq!((counts(&batch), provider.requests()), ((4, 4, 0), 4), "{before} before");
}

#[tokio::test]
async fn another_tenant_sees_nothing_and_a_private_batch_stays_private() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let key = |tenant: &str| {
            let secret = format!("the secret of {tenant} 0123456789");
            format!(
                "[gateway.keys.{tenant}]\nsecret = '{secret}'\ntenant = '{tenant}'\nuser = 'u'\n"
            )
        };
        let settings = format!("{}{HURRY}{}{}", priced(&provider.url), key("ours"), key("others"));
        let system = System::start(shape, &settings).await.unwrap();
        let (ours, others) =
            ("Bearer the secret of ours 0123456789", "Bearer the secret of others 0123456789");
        let ours = Client::new(&system).with("authorization", ours);
        let others = Client::new(&system).with("authorization", others);
        let before = provider.requests();
        let batch = ours.begin(CHAT, &asking(&["ping"]), Value::Null).await;
        let ended = ours.end(&batch, "completed").await;
        assert_eq!(provider.requests(), before + 1);
        let file = |name: &str| format!("/v1/files/{}", ended[name].as_str().unwrap());
        let (input, output) = (file("input_file_id"), file("output_file_id"));
        for path in [
            &format!("/v1/batches/{batch}"),
            &input,
            &output,
            &format!("{input}/content"),
            &format!("{output}/content"),
        ] {
            assert_eq!(others.get(path).await.0, 404, "{path}");
        }
        let cancel = format!("/v1/batches/{batch}/cancel");
        assert_eq!(others.post(&cancel, &Value::Null).await.0, 404);
        let delete = others.json(system.client().delete(others.at(&input))).await;
        assert_eq!(delete.0, 404);
        let new = json!({
            "input_file_id": ended["input_file_id"], "endpoint": CHAT, "completion_window": "24h",
        });
        assert_eq!(others.post("/v1/batches", &new).await.0, 404);
        for list in ["/v1/batches", "/v1/files"] {
            assert_eq!(others.get(list).await.1["data"], json!([]));
        }
        assert_eq!(ours.get(&input).await.0, 200);

        // The provider is not local, so that nobody may answer what is private.
        let private = Client { system: &system, headers: ours.headers.clone() }
            .with("x-baton-privacy", "private");
        let batch = private.begin(CHAT, &asking(&["ping"]), Value::Null).await;
        let ended = ours.end(&batch, "completed").await;
        let errors = ours.lines(&ended["error_file_id"]).await;
        assert_eq!(errors[0]["response"]["status_code"], 403, "{errors:?}");
        assert_eq!(provider.requests(), before + 1);
    }
}
