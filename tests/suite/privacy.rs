//! What leaves the machine: counted, in a network of the test's own.

use std::path::Path;

use journeys::{Shape, System, conversation};
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::provider::Provider;
use tokio::process::Command;

/// Set where a test runs in a network of its own; names the file that stands for `/etc/hosts`.
const INSIDE: &str = "BATON_TEST_HOSTS";

/// Where everything goes that is not for this machine: nobody is there, and what was sent is counted.
const OUTSIDE: &str = "outside";

/// Makes the network: the loopback device, and a wire to nobody as the way to everywhere else.
const NETWORK: &str = r#"set -e
ip link set lo up
ip link add outside type veth peer name nobody
for device in outside nobody; do
  ip link set $device arp off addrgenmode none up
done
ip addr add 192.0.2.1/32 dev outside
ip route add default dev outside src 192.0.2.1
mount --bind "$BATON_TEST_HOSTS" /etc/hosts
exec "$@""#;

/// An address of nobody's (RFC 5737), which is not this machine's.
const FOREIGN: &str = "203.0.113.7";

/// Runs a test of this program again, in a network of its own.
async fn again(test: &str) {
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hosts.path(), "127.0.0.1 localhost\n").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "sh", "-c", NETWORK, "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let output = command.env(INSIDE, hosts.path()).kill_on_drop(true).output().await;
    let output = output.unwrap_or_else(|_| panic!("unshare is not installed: run scripts/test.sh"));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\nIt needs a network of its own: iproute2 and util-linux (run scripts/test.sh), and a \
         kernel that allows user namespaces (as root, or kernel.unprivileged_userns_clone=1)"
    );
}

fn inside() -> Option<std::path::PathBuf> {
    std::env::var_os(INSIDE).map(Into::into)
}

/// Returns how many packets have left.
fn sent() -> u64 {
    let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let counts = devices.lines().find_map(|line| line.trim().strip_prefix(OUTSIDE));
    // Eight counts of what came, then bytes and packets of what went.
    let counts = counts.unwrap().trim_start_matches(':').split_whitespace();
    counts.skip(9).map(|count| count.parse::<u64>().unwrap()).next().unwrap()
}

fn provider(name: &str, url: &str, tier: u32, models: &str) -> String {
    format!(
        "[router.providers.{name}]\nkind = 'openai'\nbase_url = '{url}/v1'\ntier = {tier}\n\
         models = [{models}]\n"
    )
}

/// Foreign providers first wherever privacy does not forbid them, and a collector abroad.
fn settings(here: &str) -> String {
    let foreign = format!("http://{FOREIGN}:9");
    let price = "input_usd_per_million = '0', output_usd_per_million = '4', max_output_tokens = 9";
    let cloud =
        format!("{{ name = 'c', {price} }}, {{ name = 'c-embed', embeddings = true, {price} }}");
    let local = "{ name = 'm' }, { name = 'm-embed', embeddings = true }";
    format!(
        "[telemetry]\notlp_endpoint = 'http://{FOREIGN}:4317'\n\
         [router.timeouts]\nconnect_ms = 200\nfirst_token_ms = 500\nfailover_ms = 100\nanswer_ms = 500\nidle_ms = 500\n\
         [router.routes]\nboth = ['cloud/c', 'here/m']\nback = ['here/m', 'cloud/c']\n\
         embed = ['cloud/c-embed', 'here/m-embed']\n{}{}",
        provider("cloud", &foreign, 1, &cloud),
        provider("here", here, 0, local),
    )
}

/// Asks for everything that reaches a model, well and badly; returns the statuses.
async fn load(system: &System, privacy: &str) -> Vec<StatusCode> {
    let post = async |path: &str, body: Value| {
        let request = system.client().post(format!("{}{path}", system.url)).json(&body);
        let reply = request.header("x-baton-privacy", privacy).send().await.unwrap();
        let status = reply.status();
        reply.text().await.unwrap();
        status
    };
    let mut asked = Vec::new();
    for stream in [false, true] {
        for model in ["both", "back", "m", "c"] {
            // Answered, failed over, asked again, waited for.
            for text in ["ping", "refuse", "status 429+", "reset", "hang"] {
                let mut body = conversation(text, stream);
                body["model"] = model.into();
                asked.push(("/v1/chat/completions", body));
            }
            let mut body = conversation("ping", stream);
            (body["model"], body["max_tokens"]) = (model.into(), 9.into());
            asked.push(("/v1/messages", body));
            let body = json!({ "model": model, "input": "ping", "stream": stream });
            asked.push(("/v1/responses", body));
        }
    }
    for model in ["embed", "m-embed", "c-embed"] {
        asked.push(("/v1/embeddings", json!({ "model": model, "input": "x" })));
    }
    asked.push(("/api/v1/ask", json!({ "question": "What is said of grass?" })));
    asked.push(("/api/v1/search", json!({ "query": "grass" })));
    futures::future::join_all(asked.into_iter().map(|(path, body)| post(path, body))).await
}

#[tokio::test]
async fn no_packet_of_a_private_call_leaves_and_those_of_public_ones_do() {
    if inside().is_none() {
        return again("privacy::no_packet_of_a_private_call_leaves_and_those_of_public_ones_do")
            .await;
    }
    let here = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let system = System::start(shape, &settings(&here.url)).await.unwrap();
        let meadow = format!("{}/api/v1/documents?source=meadow.md", system.url);
        let meadow = system.client().post(meadow).header("x-baton-privacy", "private");
        let stored = meadow.body("# Meadow\n\nGrass is green.\n").send().await.unwrap();
        assert!(stored.status().is_success());
        let (before, asked) = (sent(), here.requests());
        let told = load(&system, "private").await;
        assert!(
            told.contains(&StatusCode::OK) && told.contains(&StatusCode::FORBIDDEN),
            "{told:?}"
        );
        assert!(here.requests() > asked, "what may be asked here was asked");
        // What is waiting to be told to the collector is told at the end, if not before.
        for process in system.processes {
            process.stop().await.unwrap();
        }
        assert_eq!(sent() - before, 0, "packets of private calls, {shape:?}");

        let system = System::start(shape, &settings(&here.url)).await.unwrap();
        let before = sent();
        load(&system, "public").await;
        assert!(sent() > before, "packets of public calls are seen, {shape:?}");
    }
}

#[tokio::test]
async fn spans_of_public_calls_are_told_abroad_and_those_of_private_ones_are_not() {
    if inside().is_none() {
        return again(
            "privacy::spans_of_public_calls_are_told_abroad_and_those_of_private_ones_are_not",
        )
        .await;
    }
    let here = Provider::start().await.unwrap();
    let abroad = format!("[telemetry]\notlp_endpoint = 'http://{FOREIGN}:4317'\n");
    for shape in Shape::ALL {
        for privacy in ["private", "public"] {
            let settings = abroad.clone() + &provider("here", &here.url, 0, "{ name = 'm' }");
            let system = System::start(shape, &settings).await.unwrap();
            let before = sent();
            let url = format!("{}/v1/chat/completions", system.url);
            let asked = system.client().post(url).header("x-baton-privacy", privacy);
            let asked = asked.json(&conversation("ping", false)).send().await.unwrap();
            assert_eq!(asked.status(), 200);
            for process in system.processes {
                process.stop().await.unwrap();
            }
            assert_eq!(sent() > before, privacy == "public", "{privacy}, {shape:?}");
        }
    }
}

#[tokio::test]
async fn a_local_provider_whose_name_comes_to_mean_a_foreign_address_is_refused() {
    let Some(hosts) = inside() else {
        return again(
            "privacy::a_local_provider_whose_name_comes_to_mean_a_foreign_address_is_refused",
        )
        .await;
    };
    let here = Provider::start().await.unwrap();
    let port = here.url.rsplit(':').next().unwrap();
    let named = format!("http://models.example:{port}");
    for shape in Shape::ALL {
        names(&hosts, "127.0.0.1");
        let settings = provider("here", &named, 0, "{ name = 'm' }");
        let system = System::start(shape, &settings).await.unwrap();
        let before = sent();
        assert_eq!(system.chat("ping", false).await.unwrap().0, 200, "it is this machine");
        names(&hosts, FOREIGN);
        // Its connection, which is to this machine, is broken off; another is not made.
        let mut told = system.chat("reset", false).await.unwrap();
        for stream in [false, true] {
            told = system.chat("ping", stream).await.unwrap();
            assert_eq!(told.0, StatusCode::SERVICE_UNAVAILABLE, "{told:?}");
        }
        assert!(told.1.contains("its tier is for local addresses"), "{told:?}");
        assert_eq!(sent() - before, 0, "{shape:?}");
    }
    // One that never was is refused as well.
    let settings = provider("here", &named, 0, "{ name = 'm' }");
    let system = System::start(Shape::One, &settings).await.unwrap();
    let (before, asked) = (sent(), here.requests());
    let (status, error) = system.chat("ping", false).await.unwrap();
    assert!(status == 503 && error.contains("its tier is for local addresses"), "{status} {error}");
    assert_eq!((sent() - before, here.requests() - asked), (0, 0));
}

/// Lets the name of the provider mean an address from now on.
fn names(hosts: &Path, address: &str) {
    let text = format!("127.0.0.1 localhost\n{address} models.example\n");
    std::fs::write(hosts, text).unwrap();
}
