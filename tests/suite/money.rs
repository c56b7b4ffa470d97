//! What a limit pays for.

use journeys::{Shape, System, priced};
use serde_json::json;
use testkit::Postgres;
use testkit::provider::Provider;

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
