//! API keys: made, used, restricted, rotated and revoked.

use std::time::{Duration, Instant};

use journeys::{Shape, System, conversation, priced};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::Process;
use testkit::process::program;
use testkit::provider::Provider;
use tokio::process::Command;

const ADMIN: &str = "an-admin-of-the-configuration";

fn settings(provider: &str) -> String {
    let key = format!(
        "[gateway.keys.root]\nsecret = '{ADMIN}'\ntenant = 'acme'\nuser = 'root'\nteam = 'it'\n"
    );
    priced(provider) + &key
}

/// A public key of an identity provider, and a token of it until the year 2286 whose private key is gone.
const RSA: &str = "wTezxI28O6VYh-ipb26g-Hj623nkzCSmE5D2FKNqpN7s5WdRCKfoc1dv78JiY3wLsvy2nkzojUHk86Q36ojLAbbP\
     PYT5OCBwqGs145JSMpmqYzKbCa-O-JQV68hNXOAycc6Fbh-PgdIcwdJeAxPMZ6aKLQ7SemGmZ0IdCYiPylm_gk88\
     gPwJukeMiN7J7hIyJUY8q1V5Vi7k-4ofW8hlzhfc6bVyMoM6Meq6-EpOGDEKkMc-iMa7GYyAVhIvF7rfl3a8AX73\
     A1QxKP0GO3i13FIuxsknaegd84PXJ05vsJsLxtFiU92zJTkO7_RVawMAbLAwX94PErccCjSarYQbfQ";
const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkIiwiYXVkIjoiYmF0b24iLCJleHA\
     iOjk5OTk5OTk5OTksInN1YiI6ImFubiIsInJvbGUiOiJtZW1iZXIifQ.Dt-r1a-tGMs6tBtM61tG42eRDvt1UBcm\
     tS6fjXNKc464z6swmxIiLFgus96LSSfzCZKE56Qe5P4VVJfJ9IRmK-mchgc13PEKPaH1TlwrfTaGkw1i8Eeq4zTB\
     -ivTLWvYXfExhgQ2WKVhWpgaXiwB2yl90ZyD3YtBuxrgBajTbCcvdRLOPA3FFn9crpHh3vPM3HapwQuIu7tBCAGN\
     m3qt0EhFTS_3tWeMe-DpVJBnYGgZEMNA3p574mFhKTJMsMTwDJcJXWm6QXVYn_5feL1MmuL9drNE1vSh6L23pAKP\
     2oLykER8wKSG45Obmfh66VyGwMrHoEBUlhMtxSsEKwXXzQ";

struct Reply {
    status: u16,
    body: Value,
    retry_after: bool,
}

/// Asks a gateway with a secret, as the OpenAI SDK does.
async fn ask(url: &str, secret: &str, method: Method, path: &str, body: Option<&Value>) -> Reply {
    runtime::http::use_ring();
    #[expect(clippy::disallowed_methods, reason = "a client from outside")]
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.request(method, format!("{url}{path}")).bearer_auth(secret);
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    let reply = request.send().await.unwrap();
    let (status, retry_after) =
        (reply.status().as_u16(), reply.headers().contains_key("retry-after"));
    Reply { status, body: reply.json().await.unwrap_or_default(), retry_after }
}

async fn chat(url: &str, secret: &str, model: &str) -> Reply {
    let mut body = conversation("ping", false);
    body["model"] = model.into();
    ask(url, secret, Method::POST, "/v1/chat/completions", Some(&body)).await
}

/// Makes a key and returns its id and secret.
async fn made(url: &str, terms: &Value) -> (String, String) {
    let made = ask(url, ADMIN, Method::POST, "/api/v1/keys", Some(terms)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let text = |of: &str| made.body[of].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

fn message(reply: &Reply) -> &str {
    reply.body["error"]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_key_does_what_it_may_and_nothing_else() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &settings(&provider.url)).await.unwrap();
        let url = &system.url;
        let terms = json!({ "name": "ci", "user": "ann", "team": "web", "models": ["m", "fast*"],
            "tools": ["git__*"], "collections": [], "limits": { "daily": 0.005 },
            "rate_limits": { "requests": 5000, "window_ms": 1000 } });
        let (id, secret) = made(url, &terms).await;

        // It is used as any key is, and what it costs is its team's, user's and its own.
        assert_eq!(chat(url, &secret, "m").await.status, 200);
        let costs = "/api/v1/costs?group_by=team,user,key";
        let row = async {
            loop {
                let seen = ask(url, ADMIN, Method::GET, costs, None).await.body["costs"].take();
                if let Some(row) = seen.get(0) {
                    return row.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        let row = tokio::time::timeout(Duration::from_secs(60), row).await.unwrap();
        assert_eq!(
            (&row["team"], &row["user"], &row["key"]),
            (&json!("web"), &json!("ann"), &json!(id))
        );
        let over = chat(url, &secret, "m").await;
        assert!(over.status == 402 && message(&over).contains(&id), "{}", over.body);

        // No tenant's admin stops the others; whoever runs the system does.
        let (_, admin) = made(url, &json!({ "name": "chief", "role": "admin" })).await;
        let (maintenance, off) = ("/api/v1/maintenance", json!({ "on": false }));
        let refused = ask(url, &admin, Method::POST, maintenance, Some(&off)).await;
        assert!(refused.status == 403 && message(&refused).contains("runs the system"));
        assert_eq!(ask(url, ADMIN, Method::POST, maintenance, Some(&off)).await.status, 200);

        // What it may not is refused with what it may.
        let refused = chat(url, &secret, "mock/m").await;
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert_eq!(message(&refused), "the key may not use model \"mock/m\"; it may use m, fast*");
        let mut body = conversation("ping", false);
        body["model"] = "other".into();
        body["max_tokens"] = 5.into();
        let refused = ask(url, &secret, Method::POST, "/v1/messages", Some(&body)).await;
        assert!(refused.status == 403 && refused.body["type"] == "error", "{}", refused.body);
        assert_eq!(refused.body["error"]["type"], "permission_error");
        let models = ask(url, &secret, Method::GET, "/v1/models", None).await.body;
        let models: Vec<&str> = models["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["id"].as_str())
            .collect();
        assert_eq!(models, ["fast"], "of all routes and models");
        for (path, body, told) in [
            ("/api/v1/tools/fs__read", json!({}), "tool \"fs__read\"; it may use git__*"),
            ("/api/v1/search", json!({ "query": "x" }), "collection \"default\"; it may use none"),
            (
                "/v1/batches",
                json!({ "input_file_id": "f", "endpoint": "/v1/messages", "completion_window": "24h" }),
                "no batch",
            ),
            ("/api/v1/keys", json!({}), "role member may not do this; it takes admin"),
            ("/api/v1/budget/limit", json!({}), "it takes operator or admin"),
        ] {
            let refused = ask(url, &secret, Method::POST, path, Some(&body)).await;
            assert!(refused.status == 403 && message(&refused).contains(told), "{}", refused.body);
        }
        let budget = |user: &str| format!("/api/v1/budget/user/{user}");
        assert_eq!(ask(url, &secret, Method::GET, &budget("ann"), None).await.status, 200);
        assert_eq!(ask(url, &secret, Method::GET, &budget("bob"), None).await.status, 403);

        // Changed, it may more at once, or rather within half a second; the list tells no secret.
        let path = format!("/api/v1/keys/{id}");
        let change = json!({ "models": null, "privacy": "private", "limits": { "daily": null } });
        let changed = ask(url, ADMIN, Method::PATCH, &path, Some(&change)).await;
        assert_eq!(changed.status, 200, "{}", changed.body);
        assert_eq!((&changed.body["models"], &changed.body["name"]), (&Value::Null, &json!("ci")));
        let denied = async {
            // Whatever is private finds nobody local.
            while chat(url, &secret, "mock/m").await.body["error"]["message"]
                .as_str()
                .is_none_or(|told| told.contains("the key may not"))
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), denied).await.unwrap();
        let list = ask(url, ADMIN, Method::GET, "/api/v1/keys", None).await.body;
        assert_eq!(list["keys"][0]["rate_limits"]["requests"], 5000, "{list}");
        assert_eq!(list["keys"][0]["begins"], secret[..7]);
        assert!(!list.to_string().contains(&secret));

        // What no key can be is refused, and nothing is made of it.
        for (terms, told) in [
            (json!({ "role": "owner" }), "owner"),
            (json!({ "name": "" }), "name"),
            (json!({ "limits": { "daily": -1 } }), "/limits/daily"),
            (json!({ "limits": { "hourly": 1 } }), "hourly"),
            (json!({ "rate_limits": { "requests": 0 } }), "requests is 0"),
            (json!({ "expires_at_ms": 1 }), "is over"),
            (json!({ "models": ["\u{0}"] }), "control character"),
            (json!({ "colour": "red" }), "colour"),
        ] {
            let refused = ask(url, ADMIN, Method::POST, "/api/v1/keys", Some(&terms)).await;
            assert_eq!(refused.status, 400, "{terms} {}", refused.body);
            assert!(message(&refused).contains(told), "{}", refused.body);
        }
        let list = ask(url, ADMIN, Method::GET, "/api/v1/keys", None).await.body;
        assert_eq!(list["keys"].as_array().map(Vec::len), Some(2), "what was refused made none");
    }
}

#[tokio::test]
async fn a_key_sees_and_removes_the_jobs_of_its_collections_however_many_others_there_are() {
    for shape in Shape::ALL {
        let system = System::start(shape, &settings("http://127.0.0.1:1")).await.unwrap();
        let url = &system.url;
        let (_, secret) = made(url, &json!({ "collections": ["hand*"] })).await;
        let (_, nothing) = made(url, &json!({ "collections": [] })).await;
        let collections = "/api/v1/collections";
        let handbook = json!({ "name": "handbook" });
        assert_eq!(ask(url, ADMIN, Method::POST, collections, Some(&handbook)).await.status, 201);
        let begin = async |secret: &str, body: Value| {
            let job = ask(url, secret, Method::POST, "/api/v1/ingest", Some(&body)).await;
            assert_eq!(job.status, 201, "{}", job.body);
            job.body["id"].as_str().unwrap().to_owned()
        };
        let own = begin(&secret, json!({ "collection": "handbook" })).await;
        let mut other = String::new();
        for _ in 0..101 {
            other = begin(ADMIN, json!({})).await;
        }
        let list = async |secret: &str, query: &str| {
            let path = format!("/api/v1/ingest{query}");
            let listed = ask(url, secret, Method::GET, &path, None).await;
            assert_eq!(listed.status, 200, "{}", listed.body);
            let jobs = listed.body["jobs"].as_array().unwrap().iter();
            let jobs: Vec<_> = jobs.map(|job| job["id"].as_str().unwrap().to_owned()).collect();
            (jobs, listed.body["next_page_token"].clone())
        };
        assert_eq!(list(&secret, "").await, (vec![own.clone()], Value::Null));
        assert_eq!(list(&nothing, "").await, (vec![], Value::Null));
        let (first, next) = list(ADMIN, "?page_size=101").await;
        assert_eq!((first.len(), first.contains(&own)), (101, false));
        let next = format!("?page_size=101&page_token={}", next.as_str().unwrap());
        assert_eq!(list(ADMIN, &next).await, (vec![own.clone()], Value::Null));

        let add = async |secret: &str, job: &str| {
            let path = format!("{url}/api/v1/ingest/{job}/documents?source=a.md");
            let request = system.client().post(path).bearer_auth(secret).body("words");
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!((add(&secret, &own).await, add(&secret, &other).await), (202, 403));
        let at = |job: &str| format!("/api/v1/ingest/{job}");
        for (secret, job, status) in [
            (secret.as_str(), other.as_str(), 403),
            (&nothing, &own, 403),
            (&secret, "job_none", 404),
            (&secret, &own, 204),
            (&secret, &own, 404),
        ] {
            let removed = ask(url, secret, Method::DELETE, &at(job), None).await;
            assert_eq!(removed.status, status, "{job} {}", removed.body);
        }
        assert_eq!(ask(url, ADMIN, Method::GET, &at(&own), None).await.status, 404);
    }
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_for_a_while_and_a_revoked_one_none() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &settings(&provider.url)).await.unwrap();
        let url = &system.url;
        let (id, first) = made(url, &json!({})).await;
        let rotate = async |body: Option<&Value>| {
            let path = format!("/api/v1/keys/{id}/rotate");
            let done = ask(url, ADMIN, Method::POST, &path, body).await;
            assert_eq!(done.status, 200, "{}", done.body);
            done.body["secret"].as_str().unwrap().to_owned()
        };
        let models = async |secret: &str| ask(url, secret, Method::GET, "/v1/models", None).await;
        let second = rotate(None).await;
        for secret in [&first, &second] {
            assert_eq!(models(secret).await.status, 200);
        }
        let third = rotate(Some(&json!({ "overlap_ms": 0 }))).await;
        assert_eq!(models(&third).await.status, 200);
        for (secret, told) in [(&first, "unknown"), (&second, "rotated")] {
            let refused = refused(url, secret).await;
            assert!(message(&refused).contains(told), "{}", refused.body);
        }

        let path = format!("/api/v1/keys/{id}");
        assert_eq!(ask(url, ADMIN, Method::DELETE, &path, None).await.status, 204);
        assert_eq!(message(&refused(url, &third).await), "the key was revoked");
        let again = ask(url, ADMIN, Method::PATCH, &path, Some(&json!({ "name": "x" }))).await;
        assert_eq!(again.status, 409, "{}", again.body);
        let missing = ask(url, ADMIN, Method::DELETE, "/api/v1/keys/key_none", None).await;
        assert_eq!(missing.status, 404);
    }
}

/// Waits until a secret is refused, and checks that it was so within a second.
async fn refused(url: &str, secret: &str) -> Reply {
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let reply = ask(url, secret, Method::GET, "/v1/models", None).await;
        if reply.status == 401 {
            return reply;
        }
        assert!(asked - began < Duration::from_secs(1), "{} {}", reply.status, reply.body);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_gateway_refuses_a_revoked_key_within_a_second_and_lets_nobody_in_it_cannot_ask_for()
{
    let provider = Provider::start().await.unwrap();
    let settings = settings(&provider.url);
    let mut system = System::start(Shape::Separate, &settings).await.unwrap();
    let (router, budget) = (system.processes[2].url.clone(), system.processes[4].url.clone());
    let data = system.data().to_owned();
    let other = Process::service("gateway", |command| {
        command.current_dir(&data).args(["--config", "baton.toml"]);
        command.env("BATON_GATEWAY__PEERS__BUDGET", &budget);
        command.env("BATON_GATEWAY__PEERS__ROUTER", &router);
    });
    let other = other.await.unwrap();
    let urls = [system.url.clone(), other.url.clone()];
    let (id, secret) = made(&urls[0], &json!({})).await;
    let (_, second) = made(&urls[0], &json!({})).await;
    for url in &urls {
        for secret in [&secret, &second] {
            assert_eq!(chat(url, secret, "m").await.status, 200);
        }
    }
    let path = format!("/api/v1/keys/{id}");
    assert_eq!(ask(&urls[1], ADMIN, Method::DELETE, &path, None).await.status, 204);
    let (one, two) = tokio::join!(refused(&urls[0], &secret), refused(&urls[1], &secret));
    assert_eq!((message(&one), message(&two)), ("the key was revoked", "the key was revoked"));

    // The budget service is gone: a good key cannot be told from a bad one.
    system.processes.remove(4).kill().await.unwrap();
    for url in &urls {
        let began = Instant::now();
        let away = loop {
            let asked = Instant::now();
            let reply = ask(url, &second, Method::GET, "/v1/models", None).await;
            if reply.status == 503 {
                break reply;
            }
            assert!(asked - began < Duration::from_secs(1), "{} {}", reply.status, reply.body);
        };
        assert!(away.retry_after && message(&away).contains("cannot be verified"), "{}", away.body);
        let unknown = ask(url, "bk-nobody", Method::GET, "/v1/models", None).await;
        assert_eq!(unknown.status, 401, "what is no secret of ours is nobody's");
    }
}

#[tokio::test]
async fn the_command_line_makes_lists_rotates_and_revokes() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &settings(&provider.url)).await.unwrap();
    let baton = async |arguments: &[&str]| {
        let mut command = Command::new(program("baton").unwrap());
        command.arg("keys").args(arguments).args(["--url", &system.url]);
        let done = command.env("BATON_API_KEY", ADMIN).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let line = |output: &str, name: &str| {
        let found = output.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default().trim().to_owned()
    };
    let create =
        ["create", "--name", "ci", "--role", "operator", "--limit", "daily=5", "--model", "m"];
    let (code, output, errors) = baton(&create).await;
    assert_eq!(code, Some(0), "{errors}");
    let (id, secret) = (line(&output, "id"), line(&output, "secret"));
    assert_eq!(chat(&system.url, &secret, "m").await.status, 200);
    let (_, output, _) = baton(&["list"]).await;
    assert!(
        output.contains(&id) && output.contains("operator") && !output.contains(&secret),
        "{output}"
    );
    let (_, output, _) = baton(&["rotate", &id, "--json"]).await;
    let rotated: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(rotated["id"], id);
    let (code, output, _) = baton(&["revoke", &id]).await;
    assert_eq!((code, output.trim()), (Some(0), format!("{id} is revoked").as_str()));
    let (_, output, _) = baton(&["list"]).await;
    assert!(output.contains("revoked 20"), "{output}");
    let (code, _, errors) = baton(&["revoke", "key_none"]).await;
    assert!(code == Some(1) && errors.contains("key_none does not exist"), "{errors}");
    let status = refused(&system.url, &secret).await.status;
    assert_eq!(StatusCode::from_u16(status).unwrap(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_of_an_identity_provider_opens_what_its_role_may() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let set = json!({ "keys": [{ "kty": "RSA", "kid": "rsa", "n": RSA, "e": "AQAB" }] });
        std::fs::write(data.path().join("jwks.json"), set.to_string()).unwrap();
        let jwt = "[gateway]\nmcp_url = 'https://baton.example.com/mcp'\n\
                   [gateway.jwt.id]\nissuer = 'https://id'\naudience = ['baton']\njwks = 'jwks.json'\n\
                   tenant = 'acme'\nrole_claim = 'role'\n";
        let system = System::start_in(data, shape, &(priced(&provider.url) + jwt)).await.unwrap();
        let url = &system.url;
        assert_eq!(chat(url, TOKEN, "m").await.status, 200);
        let own = "/api/v1/budget/user/ann";
        assert_eq!(ask(url, TOKEN, Method::GET, own, None).await.status, 200);
        let refused = ask(url, TOKEN, Method::GET, "/api/v1/costs", None).await;
        assert!(message(&refused).starts_with("role member may not"), "{}", refused.body);
        let (_, rest) = TOKEN.split_once('.').unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIn0.{rest}");
        let forged = ask(url, &unsigned, Method::GET, own, None).await;
        let other = ask(url, &format!("{TOKEN}x"), Method::GET, own, None).await;
        assert_eq!((forged.status, other.status), (401, 401), "{} {}", forged.body, other.body);
        // Nobody is let in without any, as there is somebody who could know them.
        assert_eq!(system.get(own).await.unwrap().0, 401);

        // An MCP client is told who gives tokens.
        let refused = system.client().post(format!("{url}/mcp")).send().await.unwrap();
        let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
        let place = "/.well-known/oauth-protected-resource/mcp";
        assert!(
            challenge.contains(&format!("\"https://baton.example.com{place}\"")),
            "{challenge}"
        );
        let (status, told) = system.get(place).await.unwrap();
        assert_eq!(
            (status.as_u16(), &told["resource"]),
            (200, &json!("https://baton.example.com/mcp"))
        );
        assert_eq!(told["authorization_servers"], json!(["https://id"]));
    }
}
