//! What an operator is told, and tells.

use std::process::Command;

use journeys::{Shape, System, conversation, priced};
use serde_json::{Value, json};
use testkit::Postgres;
use testkit::hook::{Hook, Taken};
use testkit::process::program;
use testkit::provider::Provider;

use crate::batches::eventually;

/// As `whsec_` and base64: "a secret of sixteen".
const SECRET: &str = "whsec_YSBzZWNyZXQgb2Ygc2l4dGVlbg==";

async fn limit(system: &System, usd: f64) {
    let limit = json!({ "user_id": "local", "period": "daily", "limit": usd });
    let (status, body) = system.post("/api/v1/budget/limit", &limit).await.unwrap();
    assert_eq!(status, 201, "{body}");
}

/// Computes what a signature has to be, by another's hands.
fn signature(taken: &Taken) -> String {
    let header = |name: &str| taken.headers[name].to_str().unwrap().to_owned();
    let signed = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), taken.body);
    let script = "import base64, hmac, sys; print('v1,' + base64.b64encode(hmac.new(b'a secret of sixteen', \
                  sys.argv[1].encode(), 'sha256').digest()).decode())";
    let said = Command::new("python3").args(["-c", script, &signed]).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_limit_that_is_nearly_spent_is_told_once_to_whoever_listens() {
    for shape in Shape::ALL {
        let (provider, hook) = (Provider::start().await.unwrap(), Hook::start(0).await.unwrap());
        let settings = format!("[budget.webhook]\nurl = '{}'\nsecret = '{SECRET}'\n", hook.url);
        let system = System::start(shape, &(priced(&provider.url) + &settings)).await.unwrap();
        // A call costs 0.004: the second passes 80 %, and no other share.
        limit(&system, 0.0095).await;
        for _ in 0..2 {
            assert_eq!(system.chat("ping", false).await.unwrap().0, 200);
        }
        eventually("it is told", || !hook.taken().is_empty()).await;
        let taken = hook.taken().remove(0);
        assert_eq!(taken.headers["webhook-signature"].to_str().unwrap(), signature(&taken));
        let body: Value = serde_json::from_str(&taken.body).unwrap();
        assert_eq!(body["type"], "budget.alert");
        let data = &body["data"];
        assert_eq!(
            (&data["scope"]["kind"], &data["scope"]["name"]),
            (&"user".into(), &"local".into())
        );
        assert_eq!((&data["period"], &data["percent"]), (&"daily".into(), &80.into()));
        assert_eq!((&data["limit_usd"], &data["spent_usd"]), (&"0.0095".into(), &"0.008".into()));
        assert_eq!(system.chat("ping", false).await.unwrap().0, 402);
        assert_eq!(hook.taken().len(), 1);
    }
}

#[tokio::test]
async fn an_alert_survives_whoever_does_not_listen_and_the_process() {
    let (provider, hook) = (Provider::start().await.unwrap(), Hook::start(1).await.unwrap());
    let settings = format!("[budget.webhook]\nurl = '{}'\nsecret = '{SECRET}'\n", hook.url);
    let settings = priced(&provider.url) + &settings;
    let system = System::start(Shape::One, &settings).await.unwrap();
    limit(&system, 0.005).await;
    assert_eq!(system.chat("ping", false).await.unwrap().0, 200);
    eventually("it is refused", || hook.taken().len() == 1).await;
    let data = system.kill().await.unwrap();
    let _system = System::start_in(data, Shape::One, &settings).await.unwrap();
    eventually("it is told again", || hook.taken().len() == 2).await;
    let taken = hook.taken();
    assert_eq!(taken[0].headers["webhook-id"], taken[1].headers["webhook-id"]);
    assert_eq!(taken[0].body, taken[1].body);
}

async fn chat(system: &System) -> (u16, Option<String>, Value) {
    let reply = system.send("/v1/chat/completions", &conversation("ping", false)).await.unwrap();
    let after = reply.headers().get("retry-after").map(|after| after.to_str().unwrap().to_owned());
    (reply.status().as_u16(), after, reply.json().await.unwrap())
}

/// Waits until a system takes work, or does not.
async fn until(system: &System, status: u16) -> (Option<String>, Value) {
    loop {
        let (now, after, body) = chat(system).await;
        if now == status {
            return (after, body);
        }
    }
}

#[tokio::test]
async fn maintenance_refuses_work_everywhere_and_lets_what_is_under_way_end() {
    let postgres = Postgres::start().unwrap();
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let url = postgres.database(&format!("{shape:?}").to_lowercase()).unwrap();
        let settings = format!("{}[budget]\nledger = '{url}'\n", priced(&provider.url));
        // Two, that have nothing in common but the database.
        let first = System::start(shape, &settings).await.unwrap();
        let second = System::start(Shape::One, &settings).await.unwrap();
        let waiting = {
            let (client, url) = (first.client().clone(), first.url.clone());
            let body = conversation("wait", false);
            tokio::spawn(async move {
                client.post(format!("{url}/v1/chat/completions")).json(&body).send().await
            })
        };
        eventually("it is under way", || provider.requests() == 1).await;
        let maintain = |arguments: &[&str]| {
            let mut baton = Command::new(program("baton").unwrap());
            baton.arg("maintenance").args(arguments).args(["--url", &first.url]);
            let ended = baton.output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            String::from_utf8(ended.stdout).unwrap()
        };
        let said = maintain(&["on", "--message", "a new disk", "--retry-after", "120"]);
        assert_eq!(said, "on: \"a new disk\", come back after 120 s\n");
        for system in [&first, &second] {
            let (after, body) = until(system, 503).await;
            assert_eq!(after.as_deref(), Some("120"));
            assert_eq!(body["error"]["message"], "a new disk");
            // In every dialect; and whoever looks after it is answered.
            let (status, body) = system.post("/v1/messages", &json!({})).await.unwrap();
            assert_eq!(status, 503);
            assert!(body.contains(r#""type":"error""#), "{body}");
            for path in ["/health", "/api/v1/maintenance", "/api/v1/budget/user/local"] {
                assert_eq!(system.get(path).await.unwrap().0, 200, "{path}");
            }
        }
        provider.go_on();
        assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
        assert_eq!(maintain(&["off"]), "off: work is taken\n");
        for system in [&first, &second] {
            until(system, 200).await;
        }
        for wrong in
            [json!({ "on": true, "retry_after_s": 0 }), json!({ "on": true, "message": "" })]
        {
            let (status, body) = first.post("/api/v1/maintenance", &wrong).await.unwrap();
            assert_eq!(status, 400, "{body}");
        }
    }
}

#[tokio::test]
async fn without_the_ledger_a_free_local_model_answers_only_where_the_operator_says_so() {
    let provider = Provider::start().await.unwrap();
    let free = format!(
        "[router.providers.here]\nkind = 'openai'\nbase_url = '{}/v1'\ntier = 0\nmodels = [{{ name = 'free' }}]\n",
        provider.url
    );
    for free_when_down in [false, true] {
        let settings = format!("router.free_when_down = {free_when_down}\n{free}");
        let settings = settings + &priced(&provider.url);
        let mut system = System::start(Shape::Separate, &settings).await.unwrap();
        let ask = async |system: &System, model: &str| {
            let mut body = conversation("ping", false);
            body["model"] = model.into();
            system.post("/v1/chat/completions", &body).await.unwrap()
        };
        assert_eq!(ask(&system, "free").await.0, 200);
        let budget = system.processes.remove(4);
        budget.kill().await.unwrap();
        let (status, body) = ask(&system, "free").await;
        assert_eq!(status, if free_when_down { 200 } else { 503 }, "{body}");
        // What costs money is never bought without the ledger.
        let (status, body) = ask(&system, "m").await;
        assert_eq!(status, 503, "{body}");
    }
}
