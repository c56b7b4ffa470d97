//! Several routers and one Redis: what one knows the others know, and none waits for it.

use std::time::{Duration, Instant};

use journeys::{Shape, System, conversation, priced};
use testkit::Redis;
use testkit::provider::Provider;

/// Asks; returns what the cache had, and the answer.
async fn ask(system: &System, asked: &str, stream: bool) -> (String, String) {
    let reply = system.send("/v1/chat/completions", &conversation(asked, stream)).await.unwrap();
    let kept = reply.headers().get("x-baton-cache").and_then(|value| value.to_str().ok());
    (kept.unwrap_or_default().to_owned(), reply.text().await.unwrap())
}

/// Asks new questions until what `one` answers is given again by `other`: both have to be connected.
async fn share(one: &System, other: &System, provider: &Provider, what: &str) {
    let shared = async {
        for number in 0.. {
            let asked = format!("{what} {number}");
            for stream in [false, true] {
                let first = ask(one, &asked, stream).await;
                assert_eq!(first.0, "miss", "{}", first.1);
                let before = provider.requests();
                let again = ask(other, &asked, stream).await;
                if again.0 == "hit" {
                    assert_eq!(again.1, first.1);
                    assert_eq!(provider.requests(), before);
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), shared).await.unwrap();
}

#[tokio::test]
async fn two_routers_share_answers_and_breakers_and_go_on_without_redis() {
    for shape in Shape::ALL {
        let redis = Redis::start().unwrap();
        let provider = Provider::start().await.unwrap();
        let settings = format!(
            "[router]\nredis = '{}'\n[router.retries]\ntimes = 0\n[router.cache]\nmode = 'always'\n{}",
            redis.url(),
            priced(&provider.url)
        );
        // Each with a ledger of its own: what they have in common is Redis.
        let one = System::start(shape, &settings).await.unwrap();
        let other = System::start(shape, &settings).await.unwrap();
        share(&one, &other, &provider, "ping").await;
        share(&other, &one, &provider, "back").await;

        // Frozen: what is in memory is given again, the rest is asked anew, and nobody waits.
        redis.freeze().unwrap();
        let frozen_at = Instant::now();
        for system in [&one, &other] {
            for wanted in ["miss", "hit", "hit"] {
                let (kept, answer) = ask(system, "while it is frozen", false).await;
                assert_eq!(kept, wanted, "{answer}");
                assert!(answer.contains("pong"), "{answer}");
            }
        }
        assert!(frozen_at.elapsed() < Duration::from_secs(5), "{:?}", frozen_at.elapsed());
        redis.thaw().unwrap();
        share(&one, &other, &provider, "thawed").await;

        // What one learns of a model, both know.
        for _ in 0..5 {
            ask(&one, "refuse", false).await;
        }
        other.providers(|all| all[1]["models"][0]["circuit"] == "open").await.unwrap();
        let before = provider.requests();
        let (_, answer) = ask(&other, "while it is open", false).await;
        assert!(answer.contains("left alone for now"), "{answer}");
        assert_eq!(provider.requests(), before);
    }
}
