//! What a limit pays for.

use std::time::Duration;

use journeys::{Shape, System, conversation, priced};
use serde_json::json;
use testkit::Postgres;
use testkit::process::program;
use testkit::provider::Provider;
use testkit::provider::faulty::Faulty;
use tokio::process::Command;

#[tokio::test]
async fn of_ten_requests_at_once_the_limit_pays_two_on_either_ledger() {
    let postgres = Postgres::start().unwrap();
    for shape in Shape::ALL {
        for database in [None, Some(format!("{shape:?}").to_lowercase())] {
            let provider = Provider::start().await.unwrap();
            let mut settings = priced(&provider.url);
            if let Some(name) = &database {
                let url = postgres.database(name).unwrap();
                settings += &format!("[budget]\nledger = '{url}'\n");
            }
            let system = System::start(shape, &settings).await.unwrap();
            two_are_paid(&system).await;
            assert_eq!(provider.requests(), 2, "who is refused reaches no provider");
        }
    }
}

#[tokio::test]
async fn every_kind_of_token_costs_what_it_costs() {
    let provider = Provider::start().await.unwrap();
    let prices = "input_usd_per_million = '1', cached_input_usd_per_million = '0.1', \
                  cache_write_usd_per_million = '1.25'";
    let settings = priced(&provider.url).replace("'openai'", "'anthropic'");
    let settings = settings.replace("input_usd_per_million = '0'", prices);
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        // 600 plain, 300 from a cache, 100 into it, 1000 written.
        for (stream, wanted) in [(false, 0.004_755), (true, 0.009_51)] {
            assert_eq!(system.chat("ping", stream).await.unwrap().0, 200);
            assert!((system.spent("local").await.unwrap() - wanted).abs() < 1e-12);
        }
    }
}

#[tokio::test]
async fn what_was_answered_is_booked_also_when_the_process_is_killed_behind_the_answer() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = priced(&provider.url);
        let system = System::start(shape, &settings).await.unwrap();
        for stream in [false, true] {
            assert_eq!(system.chat("ping", stream).await.unwrap().0, 200);
        }
        let data = system.kill().await.unwrap();
        let system = System::start_in(data, shape, &settings).await.unwrap();
        assert!((system.spent("local").await.unwrap() - 0.008).abs() < 1e-12);
        let (_, costs) = system.get("/api/v1/costs").await.unwrap();
        assert_eq!(costs["costs"][0]["calls"], 2, "{costs}");
    }
}

#[tokio::test]
async fn every_call_has_a_row_and_every_private_one_is_in_the_audit_log() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let local = priced(&provider.url).replace("tier = 1", "tier = 0").replace("mock", "here");
        let local = local.replace("'m'", "'l'");
        let system = System::start(shape, &(priced(&provider.url) + &local)).await.unwrap();
        let url = format!("{}/v1/chat/completions", system.url);
        let ask = async |model: &str, privacy: &str, asked: &str| {
            let mut body = conversation(asked, false);
            body["model"] = model.into();
            body["metadata"] = json!({ "prompt_version": "v7" });
            let request = system.client().post(&url).header("x-baton-privacy", privacy).json(&body);
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(ask("m", "public", "ping").await, 200);
        assert_eq!(ask("m", "public", "refuse").await, 503);
        assert_eq!(ask("l", "private", "ping").await, 200);
        assert_eq!(ask("m", "private", "ping").await, 403, "nothing local has this model");

        let path = "/api/v1/costs?group_by=provider,prompt_version";
        let rows = async {
            loop {
                let (_, costs) = system.get(path).await.unwrap();
                let costs = costs["costs"].as_array().unwrap().clone();
                if costs.iter().filter_map(|cost| cost["calls"].as_u64()).sum::<u64>() == 4 {
                    return costs;
                }
                tokio::task::yield_now().await;
            }
        };
        let rows = tokio::time::timeout(Duration::from_secs(60), rows).await.unwrap();
        let of = |provider: &str| rows.iter().find(|row| row["provider"] == provider).unwrap();
        assert_eq!((&of("mock")["cost_usd"], &of("mock")["failed"]), (&0.004.into(), &0.into()));
        assert_eq!((&of("here")["prompt_version"], &of("")["failed"]), (&"v7".into(), &2.into()));
        let csv = system.client().get(format!("{}/api/v1/costs?format=csv", system.url));
        let csv = csv.send().await.unwrap().text().await.unwrap();
        assert!(csv.contains("mock/m,1,0,1000,1000,0.004,"), "{csv}");
        assert_eq!(system.get("/api/v1/costs?group_by=colour").await.unwrap().0, 400);

        let (_, log) = system.get("/api/v1/audit").await.unwrap();
        let outcomes = log["records"].as_array().unwrap().iter().map(|one| {
            let record = one["record"].as_str().unwrap();
            serde_json::from_str::<serde_json::Value>(record).unwrap()["outcome"].clone()
        });
        assert_eq!(outcomes.collect::<Vec<_>>(), ["answered", "refused"], "{log}");
        let verify = async |more: &[&str]| {
            let mut command = Command::new(program("baton").unwrap());
            command.args(["audit", "verify", "--json", "--url", &system.url]).args(more);
            let done = command.output().await.unwrap();
            let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
            (done.status.code(), told["records"].clone(), told["head"].clone())
        };
        let (code, records, head) = verify(&[]).await;
        assert_eq!((code, records), (Some(0), 2.into()));
        assert_eq!(verify(&["--head", head.as_str().unwrap()]).await.0, Some(0));
        assert_eq!(verify(&["--head", "00"]).await.0, Some(1));
    }
    let mut command = Command::new(program("baton").unwrap());
    command.args(["audit", "verify", "--url", "http://127.0.0.1:1"]);
    assert_eq!(command.output().await.unwrap().status.code(), Some(4));
}

#[tokio::test]
async fn a_stream_whose_client_left_can_be_given_up() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = format!("{}[router]\non_disconnect = 'cancel'\n", priced(&provider.url));
        let system = System::start(shape, &settings).await.unwrap();
        let body = conversation("wait", true);
        let mut reply = system.send("/v1/chat/completions", &body).await.unwrap();
        reply.chunk().await.unwrap().unwrap();
        drop(reply);
        // The second piece finds nobody; what comes behind it is not waited for.
        provider.go_on();
        let spent = system.spent("local").await.unwrap();
        assert!(spent > 0.0 && spent <= 0.004, "{spent}");
    }
}

/// A request in as many bytes as make a hundred tokens, or about.
fn long(model: &str, stream: bool) -> serde_json::Value {
    let mut body = conversation(&"word ".repeat(80), stream);
    body["model"] = model.into();
    body
}

/// Providers that go wrong as their models are named, and a good one; a token read costs a millionth, one
/// written four.
fn faulty(url: &str, models: &[&str], more: &str) -> String {
    let model = |name: &&str| {
        format!(
            "{{ name = '{name}', input_usd_per_million = '1', output_usd_per_million = '4', \
             max_output_tokens = 1000 }},"
        )
    };
    let models: String = models.iter().map(model).collect();
    format!(
        "[router.providers.faulty]\nkind = 'openai'\nbase_url = '{url}/v1'\ntier = 1\n\
         models = [{models}]\n{more}"
    )
}

/// Returns the calls and the cost of each model, once there are rows of `calls`.
async fn rows(system: &System, calls: u64) -> serde_json::Value {
    let rows = async {
        loop {
            let (_, costs) = system.get("/api/v1/costs?group_by=model").await.unwrap();
            let all = costs["costs"].as_array().unwrap();
            if all.iter().filter_map(|cost| cost["calls"].as_u64()).sum::<u64>() >= calls {
                let model = |row: &serde_json::Value| {
                    let name = row["model"].as_str().unwrap();
                    (name.rsplit('/').next().unwrap().to_owned(), row.clone())
                };
                return all.iter().map(model).collect();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), rows).await.unwrap()
}

#[tokio::test]
async fn a_call_that_was_sent_and_lost_is_in_the_books_and_is_not_bought_twice() {
    let provider = Faulty::start().await.unwrap();
    let models = ["a.hang", "b.reset", "c.close", "d.reset-headers", "e.good"];
    let more = "[router.routes]\nhangs = ['faulty/a.hang', 'faulty/e.good']\n\
                [router.timeouts]\nfailover_ms = 300\n";
    let settings = faulty(&provider.url, &models, more);
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        // The limit pays for one that answers, and for what the others may have done.
        let limit = json!({ "user_id": "local", "period": "daily", "limit": 0.0065 });
        assert_eq!(system.post("/api/v1/budget/limit", &limit).await.unwrap().0, 201);
        for model in &models[1..4] {
            let reply = system.send("/v1/chat/completions", &long(model, false)).await.unwrap();
            assert_eq!(reply.status(), 503, "{model}");
            let cost = reply.headers()["x-baton-cost-usd"].to_str().unwrap();
            let cost: f64 = cost.parse().unwrap();
            assert!((0.000_08..0.000_2).contains(&cost), "{model}: {cost}");
        }
        let reply = system.send("/v1/chat/completions", &long("hangs", false)).await.unwrap();
        assert_eq!(reply.status(), 200);
        let cost = reply.headers()["x-baton-cost-usd"].to_str().unwrap().to_owned();
        let cost: f64 = cost.parse().unwrap();
        assert!((0.005_08..0.005_2).contains(&cost), "what hung is in it: {cost}");
        let rows = rows(&system, 8).await;
        for model in &models[..4] {
            let row = &rows[*model];
            assert_eq!(row["calls"], 1, "nobody asks again what may have been served: {rows}");
            let cost = row["cost_usd"].as_f64().unwrap();
            assert!((0.000_08..0.000_2).contains(&cost), "{model}: {rows}");
        }
        assert_eq!(rows["e.good"]["cost_usd"], 0.005, "{rows}");
        let all: f64 = models.iter().map(|model| rows[*model]["cost_usd"].as_f64().unwrap()).sum();
        assert!((system.spent("local").await.unwrap() - all).abs() < 1e-12);
    }
}

#[tokio::test]
async fn what_no_provider_served_costs_nothing() {
    let provider = Faulty::start().await.unwrap();
    let models = ["a.status-401", "b.status-429", "c.status-500", "d.error"];
    let settings = faulty(&provider.url, &models, "[router.retries]\ntimes = 0\n");
    let system = System::start(Shape::One, &settings).await.unwrap();
    for model in models {
        for stream in [false, true] {
            let reply = system.send("/v1/chat/completions", &long(model, stream)).await.unwrap();
            assert_eq!(
                (reply.status().as_u16(), reply.headers().get("x-baton-cost-usd")),
                (503, None)
            );
        }
    }
    assert!(system.spent("local").await.unwrap().abs() < 1e-12);
}

#[tokio::test]
async fn what_is_free_and_was_lost_is_asked_again() {
    let provider = Faulty::start().await.unwrap();
    let settings = faulty(&provider.url, &["a.reset"], "").replace("tier = 1", "tier = 0");
    let prices = "input_usd_per_million = '1', output_usd_per_million = '4', ";
    let system = System::start(Shape::One, &settings.replace(prices, "")).await.unwrap();
    let reply = system.send("/v1/chat/completions", &long("a.reset", false)).await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers().get("x-baton-cost-usd")), (503, None));
    let rows = rows(&system, 4).await;
    assert_eq!((&rows["a.reset"]["calls"], &rows["a.reset"]["cost_usd"]), (&3.into(), &0.0.into()));
}

#[tokio::test]
async fn a_stream_whose_client_left_is_counted_before_the_process_ends() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = priced(&provider.url);
        let mut system = System::start(shape, &settings).await.unwrap();
        let body = conversation("wait", true);
        let mut reply = system.send("/v1/chat/completions", &body).await.unwrap();
        reply.chunk().await.unwrap().unwrap();
        drop(reply);
        // The router, where it runs alone; the ledger stays.
        let stopped = system.processes.remove(if shape == Shape::One { 0 } else { 2 });
        let address = stopped.url.trim_start_matches("http://").to_owned();
        let stopped = tokio::spawn(stopped.stop());
        // It has nobody else to wait for.
        while tokio::net::TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        provider.go_on();
        let (status, log) = stopped.await.unwrap().unwrap();
        assert!(status.success(), "{status} {log}");
        let data = system.kill().await.unwrap();
        let system = System::start_in(data, shape, &settings).await.unwrap();
        assert!(
            (system.spent("local").await.unwrap() - 0.004).abs() < 1e-12,
            "what it counts itself"
        );
        let (_, costs) = system.get("/api/v1/costs").await.unwrap();
        assert_eq!(costs["costs"][0]["cost_usd"], 0.004, "{costs}");
    }
}

async fn two_are_paid(system: &System) {
    let limit = json!({ "user_id": "local", "period": "daily", "limit": 0.01 });
    assert_eq!(system.post("/api/v1/budget/limit", &limit).await.unwrap().0, 201);
    let asked = futures::future::join_all((0..10).map(|_| system.chat("ping", false))).await;
    let answers: Vec<_> = asked.into_iter().map(Result::unwrap).collect();
    let (paid, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.0 == 200);
    assert_eq!(paid.len(), 2, "{answers:?}");
    for (status, error) in refused {
        assert!(*status == 402 && error.contains("budget_exceeded"), "{status} {error}");
    }
    assert!((system.spent("local").await.unwrap() - 0.008).abs() < 1e-12);
    let (_, top) = system.get("/api/v1/budget/top-spenders/daily?limit=10").await.unwrap();
    assert!(top.to_string().contains("0.008"), "{top}");
}
