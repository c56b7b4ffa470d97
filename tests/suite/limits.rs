//! Rate limits: exact over replicas, told to clients, and a share each while Redis is frozen.

use std::time::{Duration, Instant};

use journeys::{Shape, System, conversation, priced};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use testkit::provider::Provider;
use testkit::{Process, Redis};

const ROOT: &str = "a-key-of-the-configuration";
const OTHER: &str = "another-root-key-of-length";

/// Four gateways on one Redis, the first one's services behind all of them.
struct Replicas {
    system: System,
    others: Vec<Process>,
}

impl Replicas {
    async fn start(redis: &Redis, provider: &str, limits: &str) -> Self {
        let key = format!("[gateway.keys.root]\nsecret = '{ROOT}'\ntenant = 't'\nuser = 'root'\n");
        let limits = format!("[gateway.limits]\nredis = '{}'\nreplicas = 4\n{limits}", redis.url());
        let settings = priced(provider) + &key + &limits;
        let system = System::start(Shape::Separate, &settings).await.unwrap();
        // As `separate` starts them: the gateway is first, and its peers are in this order.
        let names = ["ORCHESTRATOR", "ROUTER", "RETRIEVER", "BUDGET", "BRIDGE"];
        let peers: Vec<(String, String)> = names
            .iter()
            .zip(&system.processes[1..])
            .map(|(name, process)| (format!("BATON_GATEWAY__PEERS__{name}"), process.url.clone()))
            .collect();
        let mut others = Vec::new();
        for _ in 0..3 {
            let gateway = Process::service("gateway", |command| {
                command.current_dir(system.data()).args(["--config", "baton.toml"]);
                command.envs(peers.clone());
            });
            others.push(gateway.await.unwrap());
        }
        let replicas = Self { system, others };
        replicas.degraded(0).await;
        replicas
    }

    fn gateways(&self) -> impl Iterator<Item = &Process> {
        self.system.processes[..1].iter().chain(&self.others)
    }

    /// Asks them in turn, so many times, at once; returns how they answered and how long that took.
    async fn ask(&self, times: usize, secret: &str) -> Vec<(StatusCode, Duration)> {
        let urls: Vec<String> = self.gateways().map(|one| one.url.clone()).collect();
        let asked = (0..times).map(|number| {
            let (url, client) = (urls[number % urls.len()].clone(), self.system.client().clone());
            let secret = secret.to_owned();
            tokio::spawn(async move {
                let began = Instant::now();
                let reply = get(&client, &url, "/v1/models", &secret).await;
                (reply.status(), began.elapsed())
            })
        });
        let mut replies = Vec::new();
        for asked in asked.collect::<Vec<_>>() {
            replies.push(asked.await.unwrap());
        }
        replies
    }

    /// Waits until all say whether Redis answers them.
    async fn degraded(&self, wanted: u8) {
        let line = format!("baton_limiter_degraded {wanted}\n");
        let seen = async {
            for gateway in self.gateways() {
                while !metrics(self.system.client(), gateway).await.contains(&line) {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
    }
}

async fn metrics(client: &Client, process: &Process) -> String {
    let url = format!("{}/metrics", process.operations);
    client.get(url).send().await.unwrap().text().await.unwrap()
}

async fn get(client: &Client, url: &str, path: &str, secret: &str) -> Response {
    client.get(format!("{url}{path}")).bearer_auth(secret).send().await.unwrap()
}

fn admitted(replies: &[(StatusCode, Duration)]) -> usize {
    let refused = |status: StatusCode| status == StatusCode::TOO_MANY_REQUESTS;
    assert!(replies.iter().all(|(status, _)| status.is_success() || refused(*status)));
    replies.iter().filter(|(status, _)| status.is_success()).count()
}

/// Makes a key for a user of its own and returns its secret.
async fn key(system: &System, user: &str, rates: Value) -> String {
    let terms = json!({ "name": user, "user": user, "rate_limits": rates });
    let url = format!("{}/api/v1/keys", system.url);
    let made = system.client().post(url).bearer_auth(ROOT).json(&terms).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    made["secret"].as_str().unwrap().to_owned()
}

fn header<'a>(reply: &'a Response, name: &str) -> &'a str {
    reply.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn four_gateways_on_one_redis_admit_exactly_the_limit() {
    let redis = Redis::start().unwrap();
    let provider = Provider::start().await.unwrap();
    // A test's machine may be slow; what waits must be right all the same.
    let limits = "redis_wait_ms = 20000\n[gateway.limits.user]\nrequests = 1000\nwindow_s = 3600\n";
    let replicas = Replicas::start(&redis, &provider.url, limits).await;
    let hour = json!({ "requests": 120, "window_ms": 3_600_000 });
    let secret = key(&replicas.system, "ann", hour).await;
    assert_eq!(admitted(&replicas.ask(400, &secret).await), 120, "of the key");
    assert_eq!(admitted(&replicas.ask(40, &secret).await), 0);
    let secret = key(&replicas.system, "ann", Value::Null).await;
    assert_eq!(admitted(&replicas.ask(1200, &secret).await), 880, "of the user");
    for gateway in replicas.gateways() {
        let text = metrics(replicas.system.client(), gateway).await;
        assert!(
            text.contains("baton_limiter_decisions_total{outcome=\"refused\",backend=\"redis\"}")
        );
        assert!(!text.contains("backend=\"share\",outcome=\"admitted\""), "{text}");
    }
}

#[tokio::test]
async fn while_redis_is_frozen_each_gateway_admits_its_share_and_nobody_waits() {
    let redis = Redis::start().unwrap();
    let provider = Provider::start().await.unwrap();
    let limits = "[gateway.limits.user]\nrequests = 100\nwindow_s = 3600\n";
    let replicas = Replicas::start(&redis, &provider.url, limits).await;
    let mut secrets = Vec::new();
    for user in ["new", "known", "later", "uneven"] {
        secrets.push(key(&replicas.system, user, Value::Null).await);
    }
    let before = admitted(&replicas.ask(40, &secrets[1]).await);
    assert_eq!(before, 40);
    // One that has asked a single gateway, of which the others have heard.
    let one = replicas.gateways().next().unwrap();
    for _ in 0..61 {
        let reply = get(replicas.system.client(), &one.url, "/v1/models", &secrets[3]).await;
        assert!(reply.status().is_success());
    }

    redis.freeze().unwrap();
    for gateway in replicas.gateways() {
        let began = Instant::now();
        let reply = get(replicas.system.client(), &gateway.url, "/v1/models", &secrets[2]).await;
        assert!(reply.status().is_success() && began.elapsed() < Duration::from_secs(2));
    }
    let replies = replicas.ask(400, &secrets[0]).await;
    assert_eq!(admitted(&replies), 100, "a quarter each");
    let slowest = replies.iter().map(|(_, took)| *took).max().unwrap();
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    replicas.degraded(1).await;
    // Who is on its own asks nobody any more.
    let began = Instant::now();
    let after = admitted(&replicas.ask(400, &secrets[1]).await);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // An answer of Redis that came too late may count twice, so on a busy machine it is less.
    assert!((90..=100).contains(&(before + after)), "what was taken before counts: {after}");

    let after = admitted(&replicas.ask(400, &secrets[3]).await);
    // It is less where an answer of Redis came too late.
    assert!((20..=36).contains(&after), "a quarter each of the 39 that were left: {after}");

    // Back by itself, and what was admitted meanwhile counts for all.
    redis.thaw().unwrap();
    replicas.degraded(0).await;
    let owed = async { while admitted(&replicas.ask(4, &secrets[0]).await) > 0 {} };
    tokio::time::timeout(Duration::from_secs(60), owed).await.unwrap();
    assert_eq!(admitted(&replicas.ask(8, &secrets[0]).await), 0);
    for gateway in replicas.others {
        let (_, log) = gateway.stop().await.unwrap();
        let said = log.matches("each gateway admits its share of every rate limit").count();
        assert!((1..10).contains(&said), "once a break, and not for each of hundreds: {said}");
    }
}

#[tokio::test]
async fn a_client_is_told_how_it_stands_and_a_refusal_costs_nothing() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let limits = "[gateway.limits.user]\nrequests = 3\nwindow_s = 3600\n";
        let system = System::start(shape, &(priced(&provider.url) + limits)).await.unwrap();
        for left in ["2", "1", "0"] {
            let reply = system.send("/v1/chat/completions", &conversation("ping", false)).await;
            let reply = reply.unwrap();
            assert_eq!(reply.status(), 200);
            assert_eq!(header(&reply, "x-ratelimit-limit"), "3");
            assert_eq!(header(&reply, "x-ratelimit-remaining"), left);
            assert_eq!(header(&reply, "ratelimit-policy"), "\"user\";q=3;w=3600");
            assert_eq!(header(&reply, "ratelimit"), format!("\"user\";r={left};t=3600"));
            assert!(header(&reply, "x-ratelimit-reset").parse::<u64>().unwrap() > 1_700_000_000);
        }
        let asked = provider.requests();
        for (path, stream) in [("/v1/chat/completions", false), ("/v1/messages", true)] {
            let mut body = conversation("ping", stream);
            body["max_tokens"] = 5.into();
            let reply = system.send(path, &body).await.unwrap();
            assert_eq!(reply.status(), StatusCode::TOO_MANY_REQUESTS);
            let wait: u64 = header(&reply, "retry-after").parse().unwrap();
            assert!(wait > 3000 && wait <= 3780, "{wait}");
            assert_eq!(header(&reply, "x-ratelimit-remaining"), "0");
            let body: Value = reply.json().await.unwrap();
            assert_eq!(body["error"]["code"], "rate_limit_exceeded");
            assert_eq!(body["error"]["type"], "rate_limit_error");
            assert_eq!(body["type"] == "error", path == "/v1/messages", "in the client's dialect");
        }
        assert_eq!(provider.requests(), asked);
        // Probes, descriptions and pages are nobody's limit; another user has one of its own.
        for path in ["/health", "/health/live", "/openapi.json"] {
            assert_eq!(system.get(path).await.unwrap().0, 200, "{path}");
        }
        let url = format!("{}/api/v1/budget/user/local?period=daily", system.url);
        let reply = system.client().get(url).header("x-baton-user", "other").send().await.unwrap();
        assert_eq!(header(&reply, "x-ratelimit-remaining"), "2");
        let state: Value = reply.json().await.unwrap();
        assert!(state["current_spend"].as_f64().unwrap() <= 0.012, "{state}");
    }
}

#[tokio::test]
async fn tokens_are_reserved_by_estimate_and_corrected_by_use() {
    let provider = Provider::start().await.unwrap();
    let limits = "[gateway.limits.user]\nrequests = 0\ntokens_per_minute = 5000\n";
    let system = System::start(Shape::One, &(priced(&provider.url) + limits)).await.unwrap();
    let ask = async |user: &str, most: u32, stream: bool| {
        let mut body = conversation("ping", stream);
        body["max_tokens"] = most.into();
        let request = system.client().post(format!("{}/v1/chat/completions", system.url));
        let reply = request.header("x-baton-user", user).json(&body).send().await.unwrap();
        let policy = header(&reply, "ratelimit-policy").to_owned();
        assert_eq!(policy, "\"user-tokens\";q=5000;w=60;qu=\"tokens\"");
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    // An answer has two thousand tokens. What was reserved beyond is given back, behind the answer.
    for stream in [false, true] {
        let user = format!("careful {stream}");
        assert_eq!(ask(&user, 4000, stream).await.0, 200);
        let fits = async { while ask(&user, 2000, stream).await.0 == 429 {} };
        tokio::time::timeout(Duration::from_secs(30), fits).await.unwrap();
    }
    // And what was used beyond counts: by the estimates alone there were room for two hundred.
    for stream in [false, true] {
        let mut answered = 0;
        let refused = loop {
            let (status, body) = ask(&format!("bold {stream}"), 1, stream).await;
            if status == 429 {
                break body;
            }
            answered += 1;
        };
        assert!((3..20).contains(&answered), "{answered}");
        assert!(refused.contains("5000 tokens in 60s (user-tokens)"), "{refused}");
    }
}

#[tokio::test]
async fn so_many_at_once_until_their_answers_are_over() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let redis = Redis::start().unwrap();
        let limits = format!(
            "[gateway.limits]\nredis = '{}'\nredis_wait_ms = 20000\n[gateway.limits.user]\n\
             requests = 0\nconcurrency = 2\n",
            redis.url()
        );
        let system = System::start(shape, &(priced(&provider.url) + &limits)).await.unwrap();
        let wait = conversation("wait", true);
        let ask = async |body: &Value| system.send("/v1/chat/completions", body).await.unwrap();
        // A stream that is open holds its place.
        let open = (ask(&wait).await, ask(&wait).await);
        assert_eq!((open.0.status(), open.1.status()), (StatusCode::OK, StatusCode::OK));
        let refused = ask(&conversation("ping", false)).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.text().await.unwrap().contains("2 requests at once (user-concurrency)"));
        drop(open);
        let free = async { while ask(&conversation("ping", false)).await.status() != 200 {} };
        tokio::time::timeout(Duration::from_secs(60), free).await.unwrap();
    }
}

#[tokio::test]
async fn credentials_that_are_none_are_limited_by_address_and_only_proxies_of_ours_say_which() {
    for trusted in ["[]", "['127.0.0.0/8']"] {
        let settings = format!(
            "[gateway]\ntrusted_proxies = {trusted}\n[gateway.keys.root]\nsecret = '{ROOT}'\n\
             tenant = 't'\nuser = 'u'\n[gateway.keys.other]\nsecret = '{OTHER}'\n\
             tenant = 't'\nuser = 'u'\n[gateway.limits.failures]\nrequests = 5\nwindow_s = 3600\n"
        );
        let system = System::start(Shape::One, &settings).await.unwrap();
        let guess = async |from: &str, secret: &str| {
            let request = system.client().get(format!("{}/v1/models", system.url));
            let request = request.bearer_auth(secret).header("x-forwarded-for", from);
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(guess("192.0.2.1", ROOT).await, 200);
        let mut guesses = Vec::new();
        for number in 0..7 {
            // What stands before the last hop is the client's own invention.
            let from = format!("203.0.113.{number}, 192.0.2.1");
            guesses.push(guess(&from, "a-guess-that-is-no-key-at-all").await);
        }
        assert_eq!(guesses, [401, 401, 401, 401, 401, 429, 429], "{trusted}");
        assert_eq!(
            guess("192.0.2.1", OTHER).await,
            429,
            "a right one is not told from a wrong one"
        );
        assert_eq!(guess("192.0.2.1", ROOT).await, 200, "it was good there before");
        let another = if trusted == "[]" { 429 } else { 200 };
        assert_eq!(guess("192.0.2.2", OTHER).await, another, "{trusted}");
    }
}

#[tokio::test]
async fn a_route_has_a_limit_of_its_own() {
    let settings = "[gateway.limits.user]\nrequests = 100\n[gateway.endpoint_limits.'/v1/models']\n\
                    requests = 2\nwindow_s = 3600\n";
    let system = System::start(Shape::One, settings).await.unwrap();
    let search = json!({ "query": "x" });
    for _ in 0..10 {
        assert_ne!(system.post("/api/search", &search).await.unwrap().0, 429);
    }
    let refused = system.send("/api/search", &search).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "ten unless configured");
    assert!(header(&refused, "ratelimit-policy").contains("\"route\";q=10;w=60"));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(system.get("/v1/models").await.unwrap().0.as_u16());
    }
    assert_eq!(seen, [200, 200, 429]);
}
