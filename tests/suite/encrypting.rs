//! Providers that speak TLS: one whose certificate this machine believes is asked, and no other.

use journeys::{AUTHORITY, Shape, System, priced};
use serde_json::Value;
use testkit::provider::Provider;
use testkit::tls::Front;

#[tokio::test]
async fn a_provider_is_believed_by_its_certificate() {
    let provider = Provider::start().await.unwrap();
    let front = Front::start(&provider.url).await.unwrap();
    let other = Front::start(&provider.url).await.unwrap();
    for shape in Shape::ALL {
        for (authority, is_believed) in [(&front.authority, true), (&other.authority, false)] {
            let data = tempfile::tempdir().unwrap();
            std::fs::write(data.path().join(AUTHORITY), authority).unwrap();
            let system = System::start_in(data, shape, &priced(&front.url)).await.unwrap();
            let before = provider.requests();
            for (asked, stream, pongs) in [
                ("ping", false, 1),
                ("chunks 2000", true, 2000),
                ("chunks 1", true, 1),
                ("ping", false, 1),
            ] {
                let (status, answer) = system.chat(asked, stream).await.unwrap();
                if is_believed {
                    let found = answer.matches("pong").count();
                    assert_eq!((status.as_u16(), found), (200, pongs), "{asked}: {answer}");
                } else {
                    let told: Value = serde_json::from_str(&answer).unwrap();
                    assert!(told["error"]["message"].is_string(), "{answer}");
                    assert!(status.is_server_error(), "{status} {answer}");
                }
            }
            let (requests, spent) = if is_believed { (4, 0.016) } else { (0, 0.0) };
            assert_eq!(provider.requests() - before, requests);
            assert!((system.spent("local").await.unwrap() - spent).abs() < 1e-9);
        }
    }
}
