//! Batches that go to a provider's batch API.

use journeys::{Shape, System, conversation, priced};
use serde_json::{Value, json};
use testkit::provider::{Provider, Trouble};

use crate::batches::{CHAT, Client, asking, counts, eventually, line};

/// A provider whose batch API costs half: $0.002 a request.
fn halved(provider: &Provider) -> String {
    let hurry = "lease_ms = 1000\nattempts = 2\nconcurrency = 2\npoll_ms = 20\n";
    let provider = priced(&provider.url);
    format!("{provider}batch_discount_percent = 50\n[orchestrator.batch]\n{hurry}")
}

/// The same, of a provider that speaks Messages.
fn halved_messages(provider: &Provider) -> String {
    halved(provider).replace("'openai'", "'anthropic'")
}

async fn held(system: &System) -> f64 {
    let path = "/api/v1/budget/user/local?period=daily";
    system.get(path).await.unwrap().1["held"].as_f64().unwrap()
}

#[tokio::test]
async fn what_is_cheaper_there_goes_to_the_batch_api_and_the_rest_is_asked_by_itself() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &halved(&provider)).await.unwrap();
        let client = Client::new(&system);
        let lines = asking(&["ping", "missing", "refuse", "ping", "fail"]);
        let batch = client.begin(CHAT, &lines, Value::Null).await;
        eventually("it has begun", || provider.batches().len() == 1).await;
        provider.batches_become("in_progress");
        assert!((held(&system).await - 0.01).abs() < 1e-12, "all that it can cost is held");
        let looks = provider.looks();
        eventually("it is looked at", || provider.looks() > looks + 2).await;
        assert_eq!(provider.requests(), 0);
        provider.batches_become("completed");
        let batch = client.end(&batch, "completed").await;
        assert_eq!((counts(&batch), &batch["cost_usd"]), ((5, 4, 1), &0.012.into()));
        assert_eq!((provider.uploads(), provider.requests()), (1, 2));
        let output = client.lines(&batch["output_file_id"]).await;
        let ids: Vec<_> = output.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["0", "1", "3", "4"]);
        let body = &output[0]["response"]["body"];
        assert_eq!(body["choices"][0]["message"]["content"], "pong");
        let errors = client.lines(&batch["error_file_id"]).await;
        let response = &errors[0]["response"];
        assert_eq!(response["status_code"], 400);
        assert!(response["body"]["error"]["message"].as_str().unwrap().contains("nobody asks"));
        assert!((system.spent("local").await.unwrap() - 0.012).abs() < 1e-12);
        // A row a call that was answered, with its own price.
        let (_, costs) = system.get("/api/v1/costs?group_by=model").await.unwrap();
        assert!(costs.to_string().contains("0.012"), "{costs}");

        // The answer is in the client's own dialect.
        let body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "ping" }] });
        let messages = "/v1/messages";
        let batch = client.begin(messages, &[line("a", messages, &body)], Value::Null).await;
        eventually("it has begun", || provider.batches().len() == 2).await;
        provider.batches_become("completed");
        let batch = client.end(&batch, "completed").await;
        let output = client.lines(&batch["output_file_id"]).await;
        assert_eq!(output[0]["response"]["body"]["content"][0]["text"], "pong", "{output:?}");
        assert_eq!(provider.requests(), 2);
    }
}

#[tokio::test]
async fn whoever_is_killed_at_any_step_buys_once_and_pays_once() {
    for shape in Shape::ALL {
        for trouble in [Trouble::HangsAtUpload, Trouble::HangsAtCreation, Trouble::None] {
            let provider = Provider::start().await.unwrap();
            let settings = halved(&provider);
            let system = System::start(shape, &settings).await.unwrap();
            provider.batches_have(trouble);
            let batch = Client::new(&system).begin(CHAT, &asking(&["ping"; 2]), Value::Null).await;
            match trouble {
                Trouble::HangsAtUpload => {
                    eventually("it is uploaded", || provider.uploads() == 1).await;
                }
                Trouble::HangsAtCreation => {
                    eventually("it is made", || provider.batches().len() == 1).await;
                }
                _ => eventually("it is looked at", || provider.looks() > 1).await,
            }
            let data = system.kill().await.unwrap();
            provider.batches_have(Trouble::None);
            provider.batches_become("in_progress");

            let system = System::start_in(data, shape, &settings).await.unwrap();
            let looks = provider.looks();
            eventually("it is looked at again", || provider.looks() > looks + 1).await;
            assert!((held(&system).await - 0.004).abs() < 1e-12, "{trouble:?}: held once");
            let data = system.kill().await.unwrap();
            provider.batches_become("completed");

            let system = System::start_in(data, shape, &settings).await.unwrap();
            let batch = Client::new(&system).end(&batch, "completed").await;
            assert_eq!(counts(&batch), (2, 2, 0), "{trouble:?}");
            assert_eq!((provider.batches().len(), provider.requests()), (1, 0), "{trouble:?}");
            assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-12, "{trouble:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_that_was_made_behind_an_error_is_found() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &halved(&provider)).await.unwrap();
    let client = Client::new(&system);
    provider.batches_have(Trouble::LosesCreation);
    let batch = client.begin(CHAT, &asking(&["ping"; 2]), Value::Null).await;
    eventually("it is made and looked at", || provider.looks() > 0).await;
    provider.batches_become("completed");
    let batch = client.end(&batch, "completed").await;
    assert_eq!((provider.batches().len(), provider.requests()), (1, 0));
    assert_eq!((counts(&batch), &batch["cost_usd"]), ((2, 2, 0), &0.004.into()));
    assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-12);
}

#[tokio::test]
async fn a_cancelled_batch_is_cancelled_there_and_pays_what_was_answered() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &halved(&provider)).await.unwrap();
        let client = Client::new(&system);
        let batch = client.begin(CHAT, &asking(&["ping"; 4]), Value::Null).await;
        eventually("it is looked at", || provider.looks() > 0).await;
        let cancel = format!("/v1/batches/{batch}/cancel");
        assert_eq!(client.post(&cancel, &Value::Null).await.1["status"], "cancelling");
        eventually("its provider knows", || provider.batches()[0]["status"] == "cancelling").await;
        provider.batches_become("cancelled");
        let batch = client.end(&batch, "cancelled").await;
        assert_eq!((counts(&batch), provider.requests()), ((4, 2, 2), 0));
        let errors = client.lines(&batch["error_file_id"]).await;
        assert_eq!(errors[0]["error"]["code"], "batch_cancelled", "{errors:?}");
        assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-12);
    }
}

#[tokio::test]
async fn what_a_provider_leaves_is_asked_by_itself() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &halved(&provider)).await.unwrap();
    let client = Client::new(&system);
    for (at, (end, requests, cost)) in
        [("expired", 2, 0.012), ("failed", 4, 0.016)].into_iter().enumerate()
    {
        let before = provider.requests();
        let batch = client.begin(CHAT, &asking(&["ping"; 4]), Value::Null).await;
        eventually("it has begun", || provider.batches().len() == at + 1).await;
        provider.batches_become(end);
        let batch = client.end(&batch, "completed").await;
        assert_eq!((counts(&batch), &batch["cost_usd"]), ((4, 4, 0), &cost.into()), "{end}");
        assert_eq!(provider.requests(), before + requests, "{end}");
    }
    assert!((system.spent("local").await.unwrap() - 0.028).abs() < 1e-12);
}

#[tokio::test]
async fn a_batch_api_that_is_down_is_waited_for_once_it_has_the_batch() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &halved(&provider)).await.unwrap();
    let client = Client::new(&system);
    let batch = client.begin(CHAT, &asking(&["ping"; 2]), Value::Null).await;
    eventually("it is looked at", || provider.looks() > 0).await;
    provider.batches_have(Trouble::Down);
    let looks = provider.looks();
    eventually("it is looked at in vain", || provider.looks() > looks + 5).await;
    provider.batches_become("completed");
    provider.batches_have(Trouble::None);
    let batch = client.end(&batch, "completed").await;
    assert_eq!((counts(&batch), provider.requests()), ((2, 2, 0), 0));

    // One that never took it is not waited for.
    provider.batches_have(Trouble::Down);
    let batch = client.begin(CHAT, &asking(&["ping"; 2]), Value::Null).await;
    let batch = client.end(&batch, "completed").await;
    assert_eq!((counts(&batch), provider.requests()), ((2, 2, 0), 2));
    assert_eq!(provider.batches().len(), 1);
    assert!((system.spent("local").await.unwrap() - 0.012).abs() < 1e-12);
}

#[tokio::test]
async fn a_batch_api_is_not_used_where_it_must_not_be_or_does_not_pay() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &halved(&provider)).await.unwrap();
    let private = Client::new(&system).with("x-baton-privacy", "private");
    let batch = private.begin(CHAT, &asking(&["ping"]), Value::Null).await;
    assert_eq!(counts(&private.end(&batch, "completed").await), (1, 0, 1));
    assert_eq!((provider.uploads(), provider.requests()), (0, 0));

    let client = Client::new(&system);
    let soon = json!({
        "input_file_id": client.upload(&asking(&["ping"])).await, "endpoint": CHAT,
        "completion_window": "23h",
    });
    let batch = client.post("/v1/batches", &soon).await.1;
    client.end(batch["id"].as_str().unwrap(), "completed").await;
    assert_eq!((provider.uploads(), provider.requests()), (0, 1), "a day is too long");

    // `auto` wants fifty at least.
    let auto = |count: usize| -> Vec<Value> {
        let one = |at: usize| {
            let mut body = conversation("ping", false);
            body["model"] = "auto".into();
            line(&at.to_string(), CHAT, &body)
        };
        (0..count).map(one).collect()
    };
    let batch = client.begin(CHAT, &auto(49), Value::Null).await;
    client.end(&batch, "completed").await;
    assert_eq!((provider.uploads(), provider.requests()), (0, 50));
    let batch = client.begin(CHAT, &auto(50), Value::Null).await;
    eventually("it has begun", || provider.batches().len() == 1).await;
    provider.batches_become("completed");
    client.end(&batch, "completed").await;
    assert_eq!(provider.requests(), 50);

    // The batch's own limit: two of them, and no third by itself.
    let limit = json!({ "max_cost_usd": "0.0059" });
    let batch = client.begin(CHAT, &asking(&["ping"; 4]), limit).await;
    eventually("it has begun", || provider.batches().len() == 2).await;
    provider.batches_become("completed");
    let batch = client.end(&batch, "completed").await;
    assert_eq!((counts(&batch), &batch["cost_usd"]), ((4, 2, 2), &0.004.into()));
    assert_eq!(provider.requests(), 50);
}

#[tokio::test]
async fn messages_have_a_batch_api_too() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &halved_messages(&provider)).await.unwrap();
        let client = Client::new(&system);
        let lines = asking(&["ping", "missing", "refuse", "ping", "fail"]);
        let batch = client.begin(CHAT, &lines, Value::Null).await;
        eventually("it has begun", || provider.message_batches().len() == 1).await;
        assert!((held(&system).await - 0.01).abs() < 1e-12, "all that it can cost is held");
        assert_eq!(provider.requests(), 0);
        provider.message_batches_end();
        let batch = client.end(&batch, "completed").await;
        assert_eq!((counts(&batch), &batch["cost_usd"]), ((5, 4, 1), &0.012.into()));
        assert_eq!(provider.requests(), 2, "what it left is asked by itself");
        let output = client.lines(&batch["output_file_id"]).await;
        let body = &output[0]["response"]["body"];
        assert_eq!(body["choices"][0]["message"]["content"], "pong", "in the client's dialect");
        let errors = client.lines(&batch["error_file_id"]).await;
        let message = errors[0]["response"]["body"]["error"]["message"].as_str().unwrap();
        assert!(message.contains("nobody asks"), "{message}");
        assert!((system.spent("local").await.unwrap() - 0.012).abs() < 1e-12);
    }
}

#[tokio::test]
async fn a_cancelled_batch_of_messages_pays_what_was_answered() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &halved_messages(&provider)).await.unwrap();
    let client = Client::new(&system);
    let batch = client.begin(CHAT, &asking(&["ping"; 4]), Value::Null).await;
    eventually("it is looked at", || provider.message_looks() > 0).await;
    let cancel = format!("/v1/batches/{batch}/cancel");
    assert_eq!(client.post(&cancel, &Value::Null).await.1["status"], "cancelling");
    let knows = || provider.message_batches()[0]["processing_status"] == "canceling";
    eventually("its provider knows", knows).await;
    provider.message_batches_end();
    let batch = client.end(&batch, "cancelled").await;
    assert_eq!((counts(&batch), provider.requests()), ((4, 2, 2), 0));
    assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-12);
}

#[tokio::test]
async fn a_batch_of_messages_whose_beginning_nobody_saw_is_bought_once() {
    for shape in Shape::ALL {
        for trouble in [Trouble::HangsAtCreation, Trouble::LosesCreation, Trouble::None] {
            let provider = Provider::start().await.unwrap();
            let settings = halved_messages(&provider);
            let system = System::start(shape, &settings).await.unwrap();
            // Others have some that are over, on two pages, and some that cannot be it.
            for _ in 0..3 {
                provider.another_has_a_message_batch(0, 2, true);
            }
            provider.another_has_a_message_batch(0, 3, false);
            provider.message_batches_have(trouble);
            let batch = Client::new(&system).begin(CHAT, &asking(&["ping"; 2]), Value::Null).await;
            eventually("it is made", || provider.message_batches().len() == 5).await;
            let data = system.kill().await.unwrap();
            provider.another_has_a_message_batch(3 * 3600, 2, false);
            provider.message_batches_have(Trouble::None);

            // It runs: nobody knows whose it is, and nobody buys another.
            let system = System::start_in(data, shape, &settings).await.unwrap();
            assert!((held(&system).await - 0.004).abs() < 1e-12, "{trouble:?}: held once");
            provider.message_batches_end();
            let batch = Client::new(&system).end(&batch, "completed").await;
            assert_eq!(counts(&batch), (2, 2, 0), "{trouble:?}");
            assert_eq!((provider.message_batches().len(), provider.requests()), (6, 0));
            assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-12, "{trouble:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_of_messages_that_never_began_is_asked_by_itself() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &halved_messages(&provider)).await.unwrap();
    let client = Client::new(&system);
    // One of its own runs that is as large.
    let other = client.begin(CHAT, &asking(&["ping"; 2]), Value::Null).await;
    eventually("it is looked at", || provider.message_looks() > 0).await;
    provider.message_batches_have(Trouble::Down);
    let batch = client.begin(CHAT, &asking(&["ping"; 2]), Value::Null).await;
    eventually("it is looked for in vain", || provider.message_listings() > 3).await;
    assert_eq!(provider.requests(), 0, "it may have begun");
    provider.message_batches_have(Trouble::None);
    let batch = client.end(&batch, "completed").await;
    assert_eq!((counts(&batch), provider.requests()), ((2, 2, 0), 2));
    provider.message_batches_end();
    client.end(&other, "completed").await;
    assert_eq!((provider.message_batches().len(), provider.requests()), (1, 2));
    assert!((system.spent("local").await.unwrap() - 0.012).abs() < 1e-12);
}
