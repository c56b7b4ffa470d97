//! The page of providers: what they list, what they cost, what a probe finds.

use journeys::{Shape, System, conversation, priced};
use serde_json::{Value, json};
use testkit::provider::Provider;

fn provider<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().and_then(|list| list.iter().find(|one| one["name"] == name));
    found.unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_local_server_lists_its_models_itself_also_when_it_comes_late() {
    for shape in Shape::ALL {
        let server = Provider::start().await.unwrap();
        server.list(None);
        let settings = format!(
            "[router]\nlist_models_ms = 200\n[router.providers.here]\nkind = 'openai'\n\
             base_url = '{}/v1'\ntier = 0\nlist_models = true\n\
             [router.routes]\nmine = ['here/m']\n",
            server.url
        );
        let system = System::start(shape, &settings).await.unwrap();
        let list = system.providers(|list| !provider(list, "here").is_null()).await.unwrap();
        let here = provider(&list, "here");
        assert_eq!((&here["models"], &here["fault"]), (&json!([]), &json!("status 503")), "{list}");
        assert_eq!(here["running"], Value::Null, "{list}");
        let mut body = conversation("ping", false);
        body["model"] = "mine".into();
        let (_, answer) = system.post("/v1/chat/completions", &body).await.unwrap();
        assert!(!answer.contains("pong"), "it is not there yet: {answer}");

        server.list(Some(&["m", "m-embed", "large:cloud"]));
        let list = system.providers(|list| provider(list, "here")["models"][0]["name"] == "m");
        let list = list.await.unwrap();
        assert_eq!(provider(&list, "here")["running"], true, "{list}");
        let models = provider(&list, "here")["models"].as_array().unwrap().clone();
        let told: Vec<_> = models.iter().map(|one| (&one["name"], &one["embeddings"])).collect();
        let (talks, embeds) = (json!("m"), json!("m-embed"));
        assert_eq!(told, [(&talks, &json!(false)), (&embeds, &json!(true))], "{list}");
        let (status, answer) = system.post("/v1/chat/completions", &body).await.unwrap();
        assert!(status == 200 && answer.contains("pong"), "{status} {answer}");

        // A list that is not told keeps the one before; one that is shorter holds.
        server.list(None);
        let kept = |list: &Value| provider(list, "here")["fault"] == "status 503";
        let list = system.providers(kept).await.unwrap();
        assert_eq!(provider(&list, "here")["models"].as_array().unwrap().len(), 2, "{list}");
        server.list(Some(&["n"]));
        let shorter = |list: &Value| provider(list, "here")["models"][0]["name"] == "n";
        system.providers(shorter).await.unwrap();
        assert_eq!(server.requests(), 1);
        let (status, _) =
            system.post("/v1/chat/completions", &conversation("ping", false)).await.unwrap();
        assert_eq!(status, 400, "m is gone");
    }
}

#[tokio::test]
async fn a_local_server_that_is_not_there_is_no_fault_unless_it_is_said_to_have_models() {
    for shape in Shape::ALL {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let one = |name: &str, tier: u32, more: &str| {
            format!(
                "[router.providers.{name}]\nkind = 'openai'\nbase_url = 'http://{address}/v1'\n\
                 tier = {tier}\nlist_models = true\n{more}\n"
            )
        };
        let settings =
            [one("idle", 0, ""), one("lost", 0, "models = [{ name = 'm' }]"), one("cloud", 1, "")];
        let system = System::start(shape, &settings.concat()).await.unwrap();
        let asked = |list: &Value| {
            let faulty =
                ["lost", "cloud"].iter().all(|one| !provider(list, one)["fault"].is_null());
            faulty && provider(list, "idle")["running"] == false
        };
        let list = system.providers(asked).await.unwrap();
        let told = |name: &str| {
            let one = provider(&list, name);
            (one["running"].clone(), one["fault"].clone())
        };
        assert_eq!(told("idle"), (json!(false), Value::Null), "{list}");
        for faulty in ["lost", "cloud"] {
            assert_eq!(told(faulty), (Value::Null, json!("cannot connect")), "{list}");
        }
        assert_eq!(told("extractive"), (Value::Null, Value::Null), "nobody asks it");
    }
}

#[tokio::test]
async fn a_price_of_the_table_is_paid_and_shown_with_its_date() {
    for shape in Shape::ALL {
        let server = Provider::start().await.unwrap();
        let table = "[[lists]]\nhosts = ['127.0.0.1']\nkind = 'openai'\ncurrency = 'USD'\n\
            source = 'our contract'\ndate = '2026-11-01'\n\
            models = [{ name = 'm', input = '1.50', output = '2.50', cached_input = '0.015' }]\n";
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("prices.toml"), table).unwrap();
        let settings = format!(
            "[router]\nprices = 'prices.toml'\n[router.providers.cloud]\nkind = 'openai'\n\
             base_url = '{}/v1'\ntier = 1\nlist_models = true\nmodels = [{{ name = 'm' }}]\n",
            server.url
        );
        let system = System::start_in(data, shape, &settings).await.unwrap();
        assert_eq!(system.chat("ping", false).await.unwrap().0, 200);
        assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-12);
        let list = system.providers(|list| provider(list, "cloud")["cost_today_usd"] == 0.004);
        let list = list.await.unwrap();
        let cloud = provider(&list, "cloud");
        assert_eq!((&cloud["success_rate"], &cloud["calls"]), (&json!(1.0), &json!(1)), "{list}");
        let models = cloud["models"].as_array().unwrap();
        assert_eq!(models.len(), 1, "what has no price is not offered: {list}");
        assert_eq!(models[0]["cost_today_usd"], 0.004, "{list}");
        let price = json!({
            "input_usd_per_million": 1.5, "cached_input_usd_per_million": 0.015,
            "cache_write_usd_per_million": 1.5, "output_usd_per_million": 2.5,
            "reasoning_usd_per_million": 2.5, "source": "our contract", "date": "2026-11-01",
        });
        assert_eq!(models[0]["price"], price, "{list}");
        // Another price holds from the next call on, without a word.
        std::fs::write(system.data().join("prices.toml"), table.replace("2.50", "6.50")).unwrap();
        let dearer = |list: &Value| {
            provider(list, "cloud")["models"][0]["price"]["output_usd_per_million"] == 6.5
        };
        system.providers(dearer).await.unwrap();
        assert_eq!(system.chat("ping", false).await.unwrap().0, 200);
        assert!((system.spent("local").await.unwrap() - 0.012).abs() < 1e-12);
    }
}

#[tokio::test]
async fn a_probe_finds_out_and_buys_nothing() {
    for shape in Shape::ALL {
        let server = Provider::start().await.unwrap();
        let more = format!(
            "[router.providers.gone]\nkind = 'openai'\nbase_url = 'http://127.0.0.1:9/v1'\ntier = 0\n\
             models = [{{ name = 'x' }}]\n\
             [router.providers.claude]\nkind = 'anthropic'\nbase_url = '{url}/v1'\ntier = 3\nmodels = [\
             {{ name = 'm', input_usd_per_million = '1', output_usd_per_million = '1' }}]\n\
             [router.providers.gemini]\nkind = 'gemini'\nbase_url = '{url}/v1'\ntier = 3\nmodels = [\
             {{ name = 'm', input_usd_per_million = '1', output_usd_per_million = '1' }},\
             {{ name = 'none', input_usd_per_million = '1', output_usd_per_million = '1' }}]\n",
            url = server.url
        );
        let system = System::start(shape, &(priced(&server.url) + &more)).await.unwrap();
        let probe = async |name: &str| {
            let path = format!("/api/v1/providers/{name}/probe");
            let (status, told) = system.post(&path, &json!({})).await.unwrap();
            (status.as_u16(), serde_json::from_str::<Value>(&told).unwrap())
        };
        for (name, reachable, found, missing) in [
            ("mock", true, json!(["m"]), json!([])),
            ("claude", true, json!(["m"]), json!([])),
            ("gemini", true, json!(["m"]), json!(["none"])),
            ("gone", false, json!([]), json!(["x"])),
            ("extractive", true, json!(["extractive"]), json!([])),
        ] {
            let (status, told) = probe(name).await;
            assert_eq!((status, &told["reachable"]), (200, &json!(reachable)), "{told}");
            assert_eq!((&told["found"], &told["missing"]), (&found, &missing), "{told}");
            assert!(!told.to_string().contains("127.0.0.1"), "{told}");
        }
        let (_, gone) = probe("gone").await;
        assert_eq!(gone["fault"], "cannot connect", "{gone}");
        let (status, told) = probe("mokc").await;
        assert_eq!(status, 404);
        assert!(told["error"]["message"].as_str().unwrap().contains("near are mock"), "{told}");

        // Whoever asks together is told what one of them found.
        let before = server.listings();
        let all = futures::future::join_all((0..40).map(|_| probe("mock"))).await;
        assert!(all.iter().all(|(status, told)| *status == 200 && told["reachable"] == true));
        assert!(server.listings() - before <= 10, "{}", server.listings() - before);

        let url = format!("{}/api/v1/providers/mock/probe", system.url);
        let private = system.client().post(url).header("x-baton-privacy", "private").send();
        assert_eq!(private.await.unwrap().status(), 403);
        assert_eq!(server.requests(), 0, "no answer was asked for");
        assert!(system.spent("local").await.unwrap().abs() < 1e-12);
    }
}
