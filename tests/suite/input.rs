//! What bad input gets.

use journeys::{Shape, System, priced};
use serde_json::{Value, json};
use testkit::provider::Provider;

#[tokio::test]
async fn bad_input_is_told_what_is_wrong_and_changes_nothing() {
    for shape in Shape::ALL {
        let settings = "[gateway]\nmax_body_bytes = 100000\n";
        let system = System::start(shape, settings).await.unwrap();
        let limit = |period: &str, limit: Value| json!({ "user_id": "u", "period": period, "limit": limit });
        let hello = json!([{ "role": "user", "content": "x" }]);
        let unknown = json!({ "model": "none", "messages": hello });
        let large = "x".repeat(200_000);
        for (path, body, code, fault) in [
            ("/api/v1/budget/limit", limit("daily", json!(-1)), 400, "negative"),
            ("/api/v1/budget/limit", limit("hourly", json!(1)), 400, "hourly"),
            ("/api/v1/budget/limit", limit("daily", json!(1e-10)), 400, "nine decimal places"),
            ("/v1/chat/completions", unknown, 400, "/model"),
            (
                "/v1/chat/completions",
                json!({ "model": "auto", "messages": large }),
                413,
                "at most 100000",
            ),
            ("/api/v1/ask", json!({ "question": "" }), 400, "/question"),
            ("/api/v1/ask", json!({ "question": large }), 413, "at most 100000"),
            ("/api/v1/search", json!({ "query": "x", "top_k": 0 }), 400, "/top_k"),
            ("/api/v1/search", json!({ "query": "x", "k": 1 }), 400, "unknown field `k`"),
        ] {
            let (status, error) = system.post(path, &body).await.unwrap();
            assert!(status == code && error.contains(fault), "{path} {status} {error}");
            let error: Value = serde_json::from_str(&error).unwrap();
            assert!(error["error"]["message"].is_string(), "{error}");
        }
        let malformed = system.client().post(format!("{}/v1/chat/completions", system.url));
        let malformed = malformed.body("{\"model\": ").send().await.unwrap();
        assert_eq!(malformed.status(), 400);
        let upload = format!("{}/api/v1/documents?source=a.bin", system.url);
        let binary =
            system.client().post(upload).body(vec![0xff, 0xfe, 0x00]).send().await.unwrap();
        assert!(binary.status().is_client_error(), "{}", binary.status());

        let (_, documents) = system.get("/api/v1/documents").await.unwrap();
        assert_eq!(documents["documents"], json!([]), "{documents}");
        let (_, state) = system.get("/api/v1/budget/user/u?period=daily").await.unwrap();
        assert_eq!(state["limit"], Value::Null, "{state}");
        for path in ["/nowhere", "/api/v1/documents/none"] {
            assert_eq!(system.get(path).await.unwrap().0, 404, "{path}");
        }
        assert_eq!(system.get("/api/v1/budget/user/u?period=hourly").await.unwrap().0, 400);
        assert_eq!(system.get("/health/ready").await.unwrap().0, 200, "it lives");
    }
}

#[tokio::test]
async fn a_document_that_takes_all_memory_is_refused_alone() {
    // Six long headings are copied for each of many paragraphs.
    let headings = (1..=6).map(|level| format!("{} {}\n\n", "#".repeat(level), "h".repeat(300)));
    let document = headings.collect::<String>() + &"word\n\n".repeat(500_000);
    for shape in Shape::ALL {
        let settings = "[retriever.parsing]\nmemory_bytes = 134217728\n";
        let system = System::start(shape, settings).await.unwrap();
        let put = async |source: &str, body: String| {
            let url = format!("{}/api/v1/documents?source={source}", system.url);
            let reply = system.client().post(url).body(body).send().await.unwrap();
            (reply.status().as_u16(), reply.text().await.unwrap())
        };
        let (status, error) = put("large.md", document.clone()).await;
        let reason =
            "\\\"large.md\\\" cannot be read: it needs more than 134217728 bytes of memory";
        assert!(status == 400 && error.contains(reason), "{status} {error}");
        assert_eq!(put("small.md", "# A\n\nword".to_owned()).await.0, 201);
    }
}

/// A dialect of model requests: how a conversation is put, and a tool.
struct Dialect {
    path: &'static str,
    conversation: fn(Value) -> Value,
    tool: fn(Value, Value) -> Value,
    /// Where a conversation stands, and a tool's name and schema.
    said: &'static str,
    name: &'static str,
    schema: &'static str,
}

const DIALECTS: [Dialect; 3] = [
    Dialect {
        path: "/v1/chat/completions",
        conversation: |content| json!({ "messages": [{ "role": "user", "content": content }] }),
        tool: |name, schema| json!({ "type": "function", "function": { "name": name, "parameters": schema } }),
        said: "/messages",
        name: "/function/name",
        schema: "/function/parameters",
    },
    Dialect {
        path: "/v1/messages",
        conversation: |content| json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": content }] }),
        tool: |name, schema| json!({ "name": name, "input_schema": schema }),
        said: "/messages",
        name: "/name",
        schema: "/input_schema",
    },
    Dialect {
        path: "/v1/responses",
        conversation: |content| json!({ "input": [{ "role": "user", "content": content }] }),
        tool: |name, schema| json!({ "type": "function", "name": name, "parameters": schema }),
        said: "/input",
        name: "/name",
        schema: "/parameters",
    },
];

impl Dialect {
    fn with(&self, more: Value) -> Value {
        let mut body = (self.conversation)("ping".into());
        body["model"] = "m".into();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    /// What is wrong, and how the message about it begins.
    fn faults(&self) -> Vec<(Value, String)> {
        let Self { said, name, schema, .. } = self;
        let object = || json!({ "type": "object" });
        let tools = |tools: Value| self.with(json!({ "tools": tools }));
        let named = |name: Value| {
            tools(json!([(self.tool)("good".into(), object()), (self.tool)(name, object())]))
        };
        let taking = |schema: Value| tools(json!([(self.tool)("good".into(), schema)]));
        let (any, other) = match self.path {
            "/v1/chat/completions" => {
                let other = json!({ "type": "function", "function": { "name": "other" } });
                (json!("required"), other)
            }
            "/v1/messages" => {
                (json!({ "type": "any" }), json!({ "type": "tool", "name": "other" }))
            }
            _ => (json!("required"), json!({ "type": "function", "name": "other" })),
        };
        let image = match self.path {
            "/v1/chat/completions" => {
                json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } })
            }
            "/v1/messages" => {
                let source = json!({ "type": "base64", "media_type": "image/png", "data": "AA==" });
                json!({ "type": "image", "source": source })
            }
            _ => json!({ "type": "input_image", "image_url": "data:image/png;base64,AA==" }),
        };
        let field = said.trim_start_matches('/');
        let mut faults = vec![
            (
                self.with(json!({ "model": "mm" })),
                "/model: \"mm\" is unknown; near are mock/m".into(),
            ),
            (self.with(json!({ "model": 1 })), "/model: ".into()),
            (self.with(json!({ "model": null })), "/model: ".into()),
            (self.with(json!({ field: {} })), format!("{said}: ")),
            (self.with(json!({ field: [1] })), format!("{said}/0: ")),
            (
                self.with((self.conversation)(json!([image]))),
                format!("{said}/0/content/0: a picture"),
            ),
            (
                self.with((self.conversation)("ping ".repeat(10_000).into())),
                format!("{said}: about 1"),
            ),
            (self.with(json!({ "temperature": "hot" })), "/temperature: \"hot\" is not".into()),
            (self.with(json!({ "top_p": 2 })), "/top_p: 2 is not".into()),
            (self.with(json!({ "stream": "yes" })), "/stream: ".into()),
            (tools(json!({})), "/tools: a list".into()),
            (tools(json!(["good"])), "/tools/0: an object".into()),
            (tools(json!([{ "type": 1 }])), "/tools/0/type: ".into()),
            (named(Value::Null), format!("/tools/1{name}: a string")),
            (named("".into()), format!("/tools/1{name}: \"\" is not")),
            (named("a b".into()), format!("/tools/1{name}: \"a b\" is not")),
            (named("x".repeat(129).into()), format!("/tools/1{name}: ")),
            (named("good".into()), "/tools: \"good\" is the name of two".into()),
            (taking(json!([])), format!("/tools/0{schema}: an object")),
            (
                taking(json!({ "type": "string" })),
                format!("/tools/0{schema}: it must describe an object"),
            ),
            (taking(json!({ "properties": 1 })), format!("/tools/0{schema}: /properties")),
            (self.with(json!({ "tool_choice": any })), "/tool_choice: there are no tools".into()),
        ];
        let mut choosing = named("fine".into());
        choosing["tool_choice"] = other;
        faults.push((choosing, "/tool_choice/".into()));
        let own = match self.path {
            "/v1/chat/completions" => vec![
                (json!({ "max_tokens": 0 }), "/max_tokens: 0 is not"),
                (
                    json!({ "max_tokens": 1, "max_completion_tokens": 2 }),
                    "/max_tokens: 1 contradicts",
                ),
                (json!({ "n": 0 }), "/n: "),
                (json!({ "stop": 1 }), "/stop: "),
                (json!({ "logprobs": false, "top_logprobs": 3 }), "/top_logprobs: contradicts"),
                (json!({ "response_format": "json" }), "/response_format/type: "),
                (json!({ "service_tier": "priority" }), "/service_tier: costs more"),
                (json!({ "web_search_options": {} }), "/web_search_options: costs more"),
                (json!({ "modalities": ["text", "audio"] }), "/modalities/1: costs more"),
                (json!({ "tools": [{ "type": "browser_search" }] }), "/tools/0: costs more"),
            ],
            "/v1/messages" => vec![
                (json!({ "max_tokens": -1 }), "/max_tokens: -1 is not"),
                (json!({ "stop_sequences": "x" }), "/stop_sequences: "),
                (
                    json!({ "thinking": { "type": "enabled", "budget_tokens": 9 } }),
                    "/thinking/budget_tokens: ",
                ),
                (
                    json!({ "tools": [{ "type": "web_search_20250305", "name": "w" }] }),
                    "/tools/0: costs more",
                ),
                (json!({ "mcp_servers": [{ "name": "x" }] }), "/mcp_servers: costs more"),
                (json!({ "speed": "fast" }), "/speed: costs more"),
            ],
            _ => vec![
                (json!({ "max_output_tokens": "many" }), "/max_output_tokens: \"many\" is not"),
                (json!({ "background": true }), "/background: "),
                (json!({ "service_tier": "priority" }), "/service_tier: costs more"),
            ],
        };
        faults.extend(own.into_iter().map(|(more, fault)| (self.with(more), fault.to_owned())));
        faults
    }

    fn check(&self, status: u16, wanted: u16, told: &str, fault: &str) {
        let what = format!("{} {fault}: {status} {told}", self.path);
        assert_eq!(status, wanted, "{what}");
        let error: Value = serde_json::from_str(told).unwrap_or_default();
        let (shape, kind) = match (self.path, wanted) {
            ("/v1/messages", 413) => (Some("error"), "request_too_large"),
            ("/v1/messages", _) => (Some("error"), "invalid_request_error"),
            _ => (None, "invalid_request_error"),
        };
        assert_eq!(error["type"].as_str(), shape, "{what}");
        assert_eq!(error["error"]["type"], kind, "{what}");
        assert!(error["error"]["message"].as_str().unwrap().starts_with(fault), "{what}");
    }
}

#[tokio::test]
async fn what_no_candidate_takes_is_pointed_at_in_each_dialect_before_money_is_held() {
    let provider = Provider::start().await.unwrap();
    let small = "max_output_tokens = 1000, vision = false, context_tokens = 1000";
    let settings = priced(&provider.url).replace("max_output_tokens = 1000", small);
    let settings = format!("{settings}[gateway]\nmax_body_bytes = 100000\n");
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        // Nothing can be paid for: whoever gets as far as the money is told so.
        let limit = json!({ "user_id": "local", "period": "daily", "limit": 0.000_000_001 });
        assert_eq!(system.post("/api/v1/budget/limit", &limit).await.unwrap().0, 201);
        for dialect in &DIALECTS {
            for stream in [false, true] {
                let good = dialect.with(json!({ "stream": stream }));
                assert_eq!(system.post(dialect.path, &good).await.unwrap().0, 402);
                for (mut body, fault) in dialect.faults() {
                    if body.get("stream").is_none() {
                        body["stream"] = stream.into();
                    }
                    let (status, told) = system.post(dialect.path, &body).await.unwrap();
                    dialect.check(status.as_u16(), 400, &told, &fault);
                }
            }
            let deep = "[".repeat(10_000) + &"]".repeat(10_000);
            let deep = dialect
                .with(json!({ "deep": 0 }))
                .to_string()
                .replace("\"deep\":0", &format!("\"deep\":{deep}"));
            let large = vec![b' '; 200_000];
            for (body, status, fault) in [
                (deep.into_bytes(), 400, "the body is not valid"),
                (b"{\"model\": \"\xff\"}".to_vec(), 400, "the body is not valid"),
                (b"{\"model\": ".to_vec(), 400, "the body is not valid"),
                (b"[]".to_vec(), 400, "the body is not"),
                (Vec::new(), 400, "the body is not valid"),
                (large.clone(), 413, "the body has 200000 bytes"),
            ] {
                let sent =
                    system.client().post(format!("{}{}", system.url, dialect.path)).body(body);
                let reply = sent.send().await.unwrap();
                let got = reply.status().as_u16();
                dialect.check(got, status, &reply.text().await.unwrap(), fault);
            }
            // Without a length, as a stream.
            let parts = large.chunks(50_000).map(|part| Ok::<_, std::io::Error>(part.to_vec()));
            let parts =
                reqwest::Body::wrap_stream(futures::stream::iter(parts.collect::<Vec<_>>()));
            let sent = system.client().post(format!("{}{}", system.url, dialect.path)).body(parts);
            let reply = sent.send().await.unwrap();
            let got = reply.status().as_u16();
            dialect.check(got, 413, &reply.text().await.unwrap(), "");
        }
        counts_tokens(&system).await;
        assert!(system.spent("local").await.unwrap().abs() < 1e-12);
    }
    assert_eq!(provider.requests(), 0);
}

/// Counts tokens of Messages: for nothing, and told what is wrong in its shape.
async fn counts_tokens(system: &System) {
    let path = "/v1/messages/count_tokens";
    let ask = |content: Value| json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
    let (status, told) = system.post(path, &ask("hello world".into())).await.unwrap();
    let counted: Value = serde_json::from_str(&told).unwrap();
    // Two words, what stands between texts, and what is put around a message.
    assert_eq!((status.as_u16(), &counted), (200, &json!({ "input_tokens": 7 })));
    for (body, fault) in [
        (json!({ "model": "m" }), "/messages: "),
        (json!({ "model": "m", "messages": [] }), "/messages: "),
        (ask(json!([{ "text": "no type" }])), "/messages/0/content/0: "),
        (
            json!({ "model": "mm", "messages": ask("x".into())["messages"] }),
            "/model: \"mm\" is unknown",
        ),
    ] {
        let (status, told) = system.post(path, &body).await.unwrap();
        DIALECTS[1].check(status.as_u16(), 400, &told, fault);
    }
}

#[tokio::test]
async fn a_page_of_another_site_is_refused() {
    let system = System::start(Shape::One, "").await.unwrap();
    let models = || system.client().get(format!("{}/v1/models", system.url));
    let foreign = models().header("origin", "https://x.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    assert_eq!(models().header("host", "x.example").send().await.unwrap().status(), 403);
    assert_eq!(models().send().await.unwrap().status(), 200);
}
