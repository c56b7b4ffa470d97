//! A configuration that changes while the system runs.

use futures::StreamExt as _;
use journeys::{Shape, System, conversation, priced, whole};
use serde_json::Value;
use testkit::provider::Provider;

/// Tells whether a list of providers has `name`.
fn has(list: &Value, name: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|one| one["name"] == name))
}

/// Waits until every process together has counted `count` reloads with an outcome.
async fn reloads(system: &System, outcome: &str, count: u64) {
    let label = format!("baton_config_reloads_total{{outcome=\"{outcome}\"}} ");
    let seen = async {
        loop {
            let mut sum = 0;
            for process in &system.processes {
                let url = format!("{}/metrics", process.operations);
                let text = system.client().get(url).send().await.unwrap().text().await.unwrap();
                let counts = text.lines().filter_map(|line| line.strip_prefix(&label));
                sum += counts.map(|count| count.parse::<u64>().unwrap()).sum::<u64>();
            }
            if sum >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), seen).await.unwrap();
}

#[tokio::test]
async fn a_stream_in_flight_ends_as_it_began_and_a_provider_that_is_gone_is_asked_no_more() {
    for shape in Shape::ALL {
        let (old, new) = (Provider::start().await.unwrap(), Provider::start().await.unwrap());
        let system = System::start(shape, &priced(&old.url)).await.unwrap();
        let body = conversation("wait", true);
        let mut reply = system.send("/v1/chat/completions", &body).await.unwrap();
        let first = reply.chunk().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("po"));

        system.configure(&priced(&new.url).replace("mock", "other")).unwrap();
        system.hang_up().unwrap();
        system.providers(|list| has(list, "other") && !has(list, "mock")).await.unwrap();
        assert_eq!(system.chat("ping", false).await.unwrap().0, 200);
        assert_eq!((old.requests(), new.requests()), (1, 1));

        old.go_on();
        let rest = reply.text().await.unwrap();
        assert!(rest.contains("ng") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
        assert!((system.spent("local").await.unwrap() - 0.008).abs() < 1e-12, "both are paid");
        let mut gone = conversation("ping", false);
        gone["model"] = "mock/m".into();
        let (status, error) = system.post("/v1/chat/completions", &gone).await.unwrap();
        assert!(status == 400 && error.contains("other/m"), "{status} {error}");
        assert_eq!(old.requests(), 1);
    }
}

#[tokio::test]
async fn twenty_reloads_lose_none_of_two_hundred_requests() {
    for shape in Shape::ALL {
        let (one, two) = (Provider::start().await.unwrap(), Provider::start().await.unwrap());
        let settings = [priced(&one.url), priced(&two.url).replace("mock", "other")];
        let system = System::start(shape, &settings[0]).await.unwrap();
        let asked = async {
            let asked = futures::stream::iter(0..200).map(|number| {
                let system = &system;
                async move { system.chat("ping", number % 2 == 0).await.unwrap() }
            });
            let answers: Vec<_> = asked.buffer_unordered(4).collect().await;
            for (status, answer) in &answers {
                assert!(*status == 200 && !answer.contains("error"), "{status} {answer}");
            }
            answers.len()
        };
        let changed = async {
            for number in 1..=20_usize {
                system.configure(&settings[number % 2]).unwrap();
                system.hang_up().unwrap();
                let wanted = ["mock", "other"][number % 2];
                system.providers(|list| has(list, wanted)).await.unwrap();
            }
        };
        let (answered, ()) = futures::future::join(asked, changed).await;
        assert_eq!(answered, 200);
        assert_eq!(one.requests() + two.requests(), 200);
        assert!((system.spent("local").await.unwrap() - 0.8).abs() < 1e-9);
    }
}

#[tokio::test]
async fn a_file_that_is_not_good_is_refused_and_the_old_one_stays() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = priced(&provider.url);
        let mut system = System::start(shape, &settings).await.unwrap();
        assert_eq!(system.chat("refuse", false).await.unwrap().0, 503);
        let calls = |list: &Value| list[1]["calls"].as_u64().unwrap();
        let before = calls(&system.providers(|list| has(list, "mock")).await.unwrap());
        assert!(before > 0);
        // Nobody says that it changed.
        system.configure(&format!("{settings}[router.routes]\nauto = ['mock/none']\n")).unwrap();
        reloads(&system, "refused", 1).await;
        // The gateway's own section is good; it may be slower to see it than the next change to come.
        reloads(&system, "applied", u64::from(shape == Shape::Separate)).await;
        assert_eq!(system.chat("ping", false).await.unwrap().0, 200);
        let list = system.providers(|list| has(list, "mock")).await.unwrap();
        assert_eq!(calls(&list), before + 1, "{list}");

        // What is good again holds, by file alone; what did not change of a model is kept.
        let good =
            format!("listen = '127.0.0.1:1'\n{settings}[router.routes]\nfast = ['mock/m']\n");
        system.configure(&good).unwrap();
        let route = async {
            loop {
                let mut body = conversation("ping", false);
                body["model"] = "fast".into();
                if system.post("/v1/chat/completions", &body).await.unwrap().0 == 200 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), route).await.unwrap();
        let list = system.providers(|list| has(list, "mock")).await.unwrap();
        assert_eq!(calls(&list), before + 2, "{list}");

        // The gateway's own section was good both times.
        reloads(&system, "applied", if shape == Shape::One { 1 } else { 3 }).await;
        let router = system.processes.remove(if shape == Shape::One { 0 } else { 2 });
        let (_, log) = router.stop().await.unwrap();
        let lines = log.lines().filter(|line| line.contains("the old one stays"));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("router.routes.auto: \\\"mock/none\\\" is no"), "{}", lines[0]);
        assert!(lines[0].contains("baton.toml"), "{}", lines[0]);
        let restart = log.lines().find(|line| line.contains("needs a restart")).unwrap();
        assert!(restart.contains("\"listen\""), "{restart}");
    }
}

#[tokio::test]
#[cfg(unix)]
async fn a_link_that_is_swapped_is_a_change_as_a_config_map_makes_it() {
    use std::os::unix::fs::symlink;

    let (old, new) = (Provider::start().await.unwrap(), Provider::start().await.unwrap());
    let data = tempfile::tempdir().unwrap();
    for (version, settings) in
        [("v1", priced(&old.url)), ("v2", priced(&new.url).replace("mock", "other"))]
    {
        std::fs::create_dir(data.path().join(version)).unwrap();
        let file = data.path().join(version).join("baton.toml");
        std::fs::write(file, whole(&settings)).unwrap();
    }
    symlink("v1", data.path().join("..data")).unwrap();
    symlink("..data/baton.toml", data.path().join("linked.toml")).unwrap();
    let up = testkit::Process::up(|up| {
        up.current_dir(data.path()).args(["--config", "linked.toml"]);
    });
    let up = up.await.unwrap();
    symlink("v2", data.path().join("..new")).unwrap();
    std::fs::rename(data.path().join("..new"), data.path().join("..data")).unwrap();
    let system = System::start(Shape::One, "").await.unwrap();
    let swapped = async {
        loop {
            let url = format!("{}/api/v1/providers", up.url);
            let list = system.client().get(url).send().await.unwrap();
            let list: Value = list.json().await.unwrap();
            if has(&list["providers"], "other") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), swapped).await.unwrap();
}

#[tokio::test]
async fn keys_are_replaced_but_not_taken_away_from_an_open_address() {
    for shape in Shape::ALL {
        let keys = |secret: &str| {
            format!("[gateway.keys.k]\nsecret = '{secret}'\ntenant = 't'\nuser = 'u'\n")
        };
        let (old, new) = ("the first secret of them", "the second secret of them");
        let system = System::start(shape, &keys(old)).await.unwrap();
        let status = async |secret: &str| {
            let models = system.client().get(format!("{}/v1/models", system.url));
            models.bearer_auth(secret).send().await.unwrap().status().as_u16()
        };
        assert_eq!((status(old).await, status(new).await), (200, 401));
        system.configure(&keys(new)).unwrap();
        system.hang_up().unwrap();
        let replaced = async {
            while status(new).await != 200 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), replaced).await.unwrap();
        assert_eq!(status(old).await, 401);
        system.configure(&keys("short")).unwrap();
        system.hang_up().unwrap();
        reloads(&system, "refused", 1).await;
        assert_eq!(status(new).await, 200);
        // As a file is for a moment while it is written.
        system.configure("").unwrap();
        system.hang_up().unwrap();
        reloads(&system, "refused", 2).await;
        assert_eq!((status(old).await, status(new).await), (401, 200));
    }
}
