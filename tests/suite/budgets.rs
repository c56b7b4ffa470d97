//! Who may spend how much and what was spent, as the HTTP API and the command line tell it.

use std::time::Duration;

use journeys::{Shape, System, conversation, priced};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::process::program;
use testkit::provider::Provider;
use tokio::process::Command;

const ADMIN: &str = "an-admin-of-the-configuration";
/// Odd in every way that a name may be, and how it is written in a path.
const ANN: (&str, &str) = ("ann/ü ?#%", "ann%2F%C3%BC%20%3F%23%25");

/// A system that asks for keys, by one of them.
struct Caller<'a> {
    system: &'a System,
    secret: &'a str,
}

impl Caller<'_> {
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, String) {
        self.send_with(method, path, body, None).await
    }

    async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> (u16, String) {
        let url = format!("{}{path}", self.system.url);
        let mut request = self.system.client().request(method, url).bearer_auth(self.secret);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, text) = self.send(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn status(&self, method: Method, path: &str) -> u16 {
        self.send(method, path, None).await.0
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.send(Method::POST, path, Some(body)).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    async fn chat(&self) -> u16 {
        self.post("/v1/chat/completions", &conversation("ping", false)).await.0
    }

    /// Waits until a state says so: settlements are made behind the answer.
    async fn until(&self, path: &str, spent: f64) {
        let settled = async {
            loop {
                let state = self.get(path).await;
                if state["held"] == 0.0 && state["current_spend"] == spent {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), settled).await.unwrap();
    }
}

fn settings(provider: &str) -> String {
    let key = format!("[gateway.keys.root]\nsecret = '{ADMIN}'\ntenant = 'acme'\nuser = 'root'\n");
    priced(provider) + &key
}

/// Makes a key of a member of team `red` and returns its id and secret.
async fn member(root: &Caller<'_>) -> (String, String) {
    let terms = json!({ "user": ANN.0, "team": "red", "name": "ann" });
    let (status, key) = root.post("/api/v1/keys", &terms).await;
    assert_eq!(status, 201, "{key}");
    (key["id"].as_str().unwrap().to_owned(), key["secret"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_scope_tells_what_it_spent_and_its_limit_holds() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &settings(&provider.url)).await.unwrap();
        let root = Caller { system: &system, secret: ADMIN };
        let (key, secret) = member(&root).await;
        let ann = Caller { system: &system, secret: &secret };
        assert_eq!(ann.chat().await, 200);
        let user = format!("/api/v1/budget/user/{}", ANN.1);
        root.until(&user, 0.004).await;
        for path in ["team/red", &format!("key/{key}"), "tenant"] {
            for period in ["daily", "weekly", "monthly", "total"] {
                let path = format!("/api/v1/budget/{path}?period={period}");
                let state = root.get(&path).await;
                assert_eq!(state["current_spend"], 0.004, "{path} {state}");
                assert_eq!((&state["limit"], &state["status"]), (&Value::Null, &json!("ok")));
            }
        }
        let spend = root.get(&format!("/api/v1/budget/spend/{}", ANN.1)).await;
        assert_eq!((&spend["scope"], &spend["id"]), (&json!("user"), &json!(ANN.0)));
        let periods = spend["states"].as_array().unwrap().iter().map(|state| &state["period"]);
        let periods: Vec<_> = periods.collect();
        assert_eq!(periods, ["daily", "weekly", "monthly", "total"]);

        // One below what is spent is taken, and holds.
        let limit = json!({ "scope": "team", "id": "red", "period": "monthly", "limit": 0.001,
            "currency": "USD" });
        let (status, state) = root.post("/api/v1/budget/limit", &limit).await;
        let told = (&state["status"], &state["remaining"], &state["limit"]);
        assert_eq!((status, told), (201, (&json!("exceeded"), &json!(0.0), &json!(0.001))));
        assert_eq!(ann.chat().await, 402);
        let of_red = "/api/v1/budget/limit/red?scope=team";
        let limits = root.get(of_red).await;
        assert_eq!(limits["limits"][0]["period"], "monthly", "{limits}");
        let monthly = "/api/v1/budget/limit/red/monthly?scope=team";
        assert_eq!(root.get(monthly).await["status"], "exceeded");
        assert_eq!(
            root.status(Method::GET, "/api/v1/budget/limit/red/daily?scope=team").await,
            404
        );
        let near = root.get("/api/v1/budget/utilization/monthly?scope=team").await;
        let counts = json!({ "ok": 0, "warning": 0, "critical": 0, "exceeded": 1 });
        assert_eq!((&near["counts"], &near["complete"]), (&counts, &json!(true)), "{near}");
        assert_eq!(near["scopes"][0]["id"], "red");
        for path in [monthly, monthly, of_red] {
            assert_eq!(root.status(Method::DELETE, path).await, 204, "again is as once");
        }
        assert_eq!(root.status(Method::GET, monthly).await, 404);
        assert_eq!(ann.chat().await, 200);
        root.until(&user, 0.008).await;

        let top = root.get("/api/v1/budget/top-spenders/daily?scope=team&limit=1").await;
        assert_eq!((&top["scope"], &top["spenders"][0]["id"]), (&json!("team"), &json!("red")));
        for (of, calls) in [("", 2), ("?scope=team&id=red", 2), ("?scope=user&id=root", 0)] {
            let costs = root.get(&format!("/api/v1/budget/tier-costs/monthly{of}")).await;
            // Whom the limit refused was not asked of any tier.
            let tiers = costs["tiers"].as_array().unwrap();
            let sum: u64 = tiers.iter().map(|tier| tier["calls"].as_u64().unwrap()).sum();
            assert_eq!(sum, calls, "{of} {costs}");
            assert!(tiers.iter().all(|tier| tier["tier"] == 1), "{costs}");
        }
        let costs = root.get("/api/v1/costs?group_by=team,model").await;
        let most = &costs["costs"][0];
        assert_eq!((&most["team"], &most["cost_usd"]), (&json!("red"), &json!(0.008)), "{costs}");
        assert!(most["mean_latency_ms"].as_f64().unwrap() > 0.0, "{costs}");
        assert_eq!(most["mean_first_token_ms"], Value::Null, "they came whole");
    }
}

#[tokio::test]
async fn members_see_what_they_spend_and_nobody_else_whatever_a_name_is_of() {
    for shape in Shape::ALL {
        let system = System::start(shape, &settings("http://127.0.0.1:1")).await.unwrap();
        let root = Caller { system: &system, secret: ADMIN };
        let (_, secret) = member(&root).await;
        let ann = Caller { system: &system, secret: &secret };
        let own = ANN.1;
        for (path, status) in [
            (format!("user/{own}"), 200),
            (format!("spend/{own}"), 200),
            (format!("limit/{own}"), 200),
            (format!("limit/{own}/daily"), 404),
            // A team may have a user's name.
            (format!("spend/{own}?scope=team"), 403),
            (format!("limit/{own}?scope=team"), 403),
            (format!("limit/{own}/daily?scope=tenant"), 403),
            ("user/root".to_owned(), 403),
            ("team/red".to_owned(), 403),
            ("tenant".to_owned(), 403),
            ("history".to_owned(), 403),
            ("utilization/daily".to_owned(), 403),
        ] {
            let path = format!("/api/v1/budget/{path}");
            assert_eq!(ann.status(Method::GET, &path).await, status, "{path}");
        }
        let limit = format!("/api/v1/budget/limit/{own}");
        assert_eq!(ann.status(Method::DELETE, &limit).await, 403);
        let correction =
            json!({ "scopes": [{ "scope": "user", "id": ANN.0 }], "amount": -1, "reason": "mine" });
        assert_eq!(ann.post("/api/v1/budget/corrections", &correction).await.0, 403);
    }
}

#[tokio::test]
async fn a_correction_is_a_line_of_the_history_and_counts_once() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &settings(&provider.url)).await.unwrap();
        let root = Caller { system: &system, secret: ADMIN };
        let (_, secret) = member(&root).await;
        assert_eq!(Caller { system: &system, secret: &secret }.chat().await, 200);
        let user = format!("/api/v1/budget/user/{}", ANN.1);
        root.until(&user, 0.004).await;
        let correct = async |amount: f64, key: Option<&str>| {
            let scopes =
                json!([{ "scope": "user", "id": ANN.0 }, { "scope": "team", "id": "red" }]);
            let body =
                json!({ "scopes": scopes, "amount": amount, "reason": "billed twice, =1+1" });
            let path = "/api/v1/budget/corrections";
            root.send_with(Method::POST, path, Some(&body), key).await
        };
        let (status, first) = correct(-0.001, Some("one")).await;
        assert_eq!(status, 201, "{first}");
        assert_eq!(correct(-0.001, Some("one")).await, (201, first));
        let (status, fault) = correct(-0.002, Some("one")).await;
        assert!(status == 409 && fault.contains("used for something else"), "{status} {fault}");
        let (status, fault) = correct(-1.0, None).await;
        assert!(status == 400 && fault.contains("has spent 0.003 USD"), "{status} {fault}");
        for path in [&user, "/api/v1/budget/team/red", "/api/v1/budget/tenant"] {
            assert_eq!(root.get(path).await["current_spend"], 0.003, "{path}");
        }

        let history = root.get("/api/v1/budget/history").await;
        let lines = history["entries"].as_array().unwrap();
        let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
        assert_eq!((kinds, &history["next"]), (vec!["hold", "settle", "correct"], &Value::Null));
        assert_eq!(lines[2]["author"], "root (key root)");
        let page = root.get("/api/v1/budget/history?limit=1").await;
        assert_eq!((&page["entries"][0], &page["next"]), (&lines[0], &lines[0]["number"]));
        let behind = format!("/api/v1/budget/history?format=ndjson&after={}", page["next"]);
        let (_, rest) = root.send(Method::GET, &behind, None).await;
        let rest: Vec<Value> =
            rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rest, lines[1..]);
        let (_, csv) = root.send(Method::GET, "/api/v1/budget/history?format=csv", None).await;
        let csv: Vec<&str> = csv.split("\r\n").collect();
        assert_eq!(csv.len(), 5, "a head, three lines, and the end");
        assert!(csv[0].starts_with("number,kind,reservation_id,spent_usd"), "{csv:?}");
        assert!(csv[3].contains(",correct,correction:one,-0.001,0.00,"), "{csv:?}");
        assert!(csv[3].ends_with(",\"billed twice, =1+1\",root (key root)"), "{csv:?}");
        let verified = root.get("/api/v1/budget/verify").await;
        assert_eq!(verified, json!({ "consistent": true, "differences": [] }));
    }
}

#[tokio::test]
async fn what_no_budget_can_be_is_told_and_changes_nothing() {
    for shape in Shape::ALL {
        let system = System::start(shape, &settings("http://127.0.0.1:1")).await.unwrap();
        let root = Caller { system: &system, secret: ADMIN };
        let send = async |path: &str, body: &str| {
            let url = format!("{}/api/v1/budget/{path}", system.url);
            let request = system.client().post(url).bearer_auth(ADMIN);
            let request = request.header("content-type", "application/json");
            let reply = request.body(body.to_owned()).send().await.unwrap();
            (reply.status().as_u16(), reply.text().await.unwrap())
        };
        let long = "x".repeat(257);
        for (path, array) in [
            ("limit", r#"["u",null,null,"daily",1,null]"#),
            ("corrections", r#"{"scopes":[["user","u"]],"amount":1,"reason":"r"}"#),
        ] {
            let (status, text) = send(path, array).await;
            assert!(status == 400 && text.contains("expected an object"), "{array}: {text}");
        }
        for (limit, code, fault) in [
            (r#""user_id":"u","period":"daily","limit":-0.5"#, 400, "/limit: -0.50 is negative"),
            (r#""user_id":"u","period":"daily","limit":0"#, 400, "/limit: 0 is no limit"),
            (r#""user_id":"u","period":"daily","limit":NaN"#, 400, "line 1"),
            (r#""user_id":"u","period":"daily","limit":"5""#, 400, "is not a number"),
            (
                r#""user_id":"u","period":"daily","limit":0.1000000000000000055"#,
                400,
                "nine decimal",
            ),
            (r#""user_id":"u","period":"daily","limit":1e10"#, 400, "1e10 is too large"),
            (r#""user_id":"u","period":"daily","limit":1e400"#, 400, "1e400 is too large"),
            (r#""user_id":"u","period":"hourly","limit":1"#, 400, "hourly"),
            (r#""user_id":"u","period":"daily","limit":1,"currency":"EUR""#, 400, "EUR"),
            (r#""user_id":"u","scope":"team","period":"daily","limit":1"#, 400, "either user_id"),
            (r#""period":"daily","limit":1"#, 400, "either user_id"),
            (r#""scope":"planet","id":"u","period":"daily","limit":1"#, 400, "planet"),
            (r#""scope":"team","period":"daily","limit":1"#, 400, "/id"),
            (r#""scope":"tenant","id":"other","period":"daily","limit":1"#, 403, "not yours"),
            (r#""user_id":"a\nb","period":"daily","limit":1"#, 400, "control character"),
            (r#""user_id":"","period":"daily","limit":1"#, 400, "user id is empty"),
            (&format!(r#""user_id":"{long}","period":"daily","limit":1"#), 400, "at most 256"),
        ] {
            let (status, text) = send("limit", &format!("{{{limit}}}")).await;
            assert!(status == code && text.contains(fault), "{limit}: {status} {text}");
        }
        for (correction, fault) in [
            (r#""scopes":[],"amount":1,"reason":"r""#, "0 scopes"),
            (r#""scopes":[{"scope":"user","id":"u"}],"amount":0,"reason":"r""#, "/amount: 0"),
            (r#""scopes":[{"scope":"user","id":"u"}],"amount":1,"reason":" ""#, "reason"),
            (r#""scopes":[{"scope":"user","id":"u"}],"amount":1e-10,"reason":"r""#, "nine decimal"),
        ] {
            let (status, text) = send("corrections", &format!("{{{correction}}}")).await;
            assert!(status == 400 && text.contains(fault), "{correction}: {status} {text}");
        }
        for path in [
            "budget/user/u?period=hourly",
            "budget/spend/u?scope=planet",
            "budget/top-spenders/daily?limit=0",
            "budget/top-spenders/daily?limit=1001",
            "budget/utilization/never",
            "budget/tier-costs/daily?scope=user",
            "budget/history?format=xml",
            "budget/history?limit=10001",
            "costs?from=2026-02-01&to=2026-01-01",
            "costs?from=0000-00-00",
            "costs?group_by=model,model",
        ] {
            let (status, text) = root.send(Method::GET, &format!("/api/v1/{path}"), None).await;
            assert_eq!(status, 400, "{path} {text}");
        }
        // Long ago until long from now is a time like any other.
        let ever = root.get("/api/v1/costs?group_by=day&from=0000-01-01&to=9999-12-31").await;
        assert_eq!(ever, json!({ "costs": [] }));
        let limits = root.get("/api/v1/budget/limit/u").await;
        assert_eq!(limits["limits"], json!([]), "nothing was changed");
        assert_eq!(root.get("/api/v1/budget/history").await["entries"], json!([]));

        // What a float could not carry comes back as it was.
        let exact = r#"{"user_id":"u","period":"total","limit":9007199.254740993}"#;
        let (status, text) = send("limit", exact).await;
        assert!(status == 201 && text.contains(r#""limit":9007199.254740993,"#), "{text}");
    }
}

#[tokio::test]
async fn the_command_line_tells_money_as_it_is() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &settings(&provider.url)).await.unwrap();
    let root = Caller { system: &system, secret: ADMIN };
    let (_, secret) = member(&root).await;
    assert_eq!(Caller { system: &system, secret: &secret }.chat().await, 200);
    root.until(&format!("/api/v1/budget/user/{}", ANN.1), 0.004).await;
    let baton = async |arguments: &[&str]| {
        let mut command = Command::new(program("baton").unwrap());
        command.arg("budget").args(arguments).args(["--url", &system.url]);
        let done = command.env("BATON_API_KEY", ADMIN).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    };
    let (code, shown, errors) = baton(&["set", ANN.0, "daily", "0.00415"]).await;
    assert_eq!(code, 0, "{errors}");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("PERIOD   SPENT   HELD     LIMIT      LEFT   USED"), "{shown}");
    assert!(lines[1].starts_with("daily   $0.004  $0.00  $0.00415  $0.00015  96.3%"), "{shown}");
    assert!(lines[1].ends_with("critical"), "{shown}");
    let (_, shown, _) = baton(&["top", "daily"]).await;
    assert!(shown.starts_with("NAME ") && shown.contains(ANN.0), "{shown}");
    assert!(shown.contains("$0.004 "), "{shown}");
    let (_, shown, _) = baton(&["utilization", "daily"]).await;
    assert!(shown.ends_with("\n0 exceeded, 1 critical, 0 warning, 0 ok\n"), "{shown}");
    let (_, shown, _) = baton(&["show", "red", "--scope", "team"]).await;
    assert_eq!(shown.lines().count(), 5, "a head and four periods: {shown}");
    let correct = ["correct", ANN.0, "-0.001", "--reason", "billed twice"];
    for _ in 0..2 {
        let once = [&correct[..], &["--idempotency-key", "one"]].concat();
        let (code, shown, errors) = baton(&once).await;
        assert!(code == 0 && shown.starts_with("$0.001 taken from what user"), "{shown}{errors}");
    }
    let (_, json, _) = baton(&["show", ANN.0, "--json"]).await;
    assert!(json.contains(r#""current_spend":0.003,"#), "{json}");
    let (_, shown, _) = baton(&["history"]).await;
    assert!(shown.contains("billed twice (root (key root))"), "{shown}");
    let (_, csv, _) = baton(&["history", "--csv"]).await;
    assert!(csv.starts_with("number,kind,"), "{csv}");
    let (code, shown, _) = baton(&["verify"]).await;
    assert_eq!((code, shown.as_str()), (0, "what is spent and held is the sum of the history\n"));
    let (code, shown, _) = baton(&["unset", ANN.0]).await;
    assert_eq!((code, shown), (0, format!("user {} has no limit\n", ANN.0)));

    for (arguments, code, told) in [
        (vec!["set", "u", "daily", "0.0000000001"], 2, "nine decimal places"),
        (vec!["set", "u", "hourly", "1"], 2, "hourly"),
        (vec!["set", "u", "daily", "0"], 1, "0 is no limit"),
        (vec!["show", "u", "--scope", "planet"], 2, "planet"),
        (vec!["show", "other", "--scope", "tenant"], 3, "not yours"),
        (vec!["top", "--limit", "0"], 1, "limit: 0"),
    ] {
        let ended = baton(&arguments).await;
        assert!(ended.0 == code && ended.2.contains(told), "{arguments:?} {ended:?}");
    }
    let mut nowhere = Command::new(program("baton").unwrap());
    nowhere.args(["budget", "top", "--url", "http://127.0.0.1:1"]);
    assert_eq!(nowhere.output().await.unwrap().status.code(), Some(4));
}
