//! Everything that a provider can do wrong: what the client is told, what it costs, what is left.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use journeys::{Shape, System, conversation};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use testkit::Process;
use testkit::provider::faulty::Faulty;

/// When it goes wrong, as the client of a stream sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    /// Behind a first token, `po`.
    Behind,
    /// Behind any number of them.
    Later,
    Never,
}

use When::{Before, Behind, Later, Never};

/// Fault, what the client of a whole answer is told, and that of a stream, and when.
const FAULTS: [(&str, &str, &str, When); 28] = [
    ("refused", "cannot connect", "cannot connect", Before),
    ("hang", "no answer within 10000 ms", "within 10000 ms", Before),
    ("hang-headers", "no answer within 1000 ms", "the stream stalled", Before),
    ("hang-middle", "no answer within 1000 ms", "the stream stalled", Behind),
    ("reset", "the connection broke", "the connection broke", Before),
    ("reset-headers", "the connection broke", "the connection broke", Before),
    ("reset-middle", "the connection broke", "the connection broke", Behind),
    ("close", "the connection broke", "the connection broke", Before),
    ("close-headers", "the connection broke", "the stream ended early", Before),
    ("close-middle", "the connection broke", "the stream ended early", Behind),
    ("status-401", "refused our credentials (401)", "refused our credentials (401)", Before),
    ("status-429", "429 not now", "429 not now", Before),
    ("status-429-later", "429 not now", "429 not now", Before),
    ("status-500", "500 not now", "500 not now", Before),
    ("status-500-later", "500 not now", "500 not now", Before),
    ("status-503", "503 not now", "503 not now", Before),
    ("status-529", "529 not now", "529 not now", Before),
    ("status-529-later", "529 not now", "529 not now", Before),
    ("no-http", "the connection broke", "the connection broke", Before),
    ("no-json", "the answer is not JSON", "a chunk is not JSON", Before),
    ("no-sse", "the answer is not JSON", "the answer has no events", Before),
    ("drip", "timed out", "within 10000 ms", Before),
    ("drip-middle", "timed out", "timed out", Behind),
    ("error", "not now", "not now", Before),
    ("error-middle", "the connection broke", "not now", Behind),
    ("endless", "the answer has more than", "timed out", Later),
    ("huge", "the answer has more than", "an event is too long", Before),
    ("good", "", "", Never),
];

const KINDS: [&str; 3] = ["openai", "anthropic", "gemini"];
const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];

/// One request: its model, which is its user's name too, and how it is asked.
struct Case {
    model: String,
    kind: &'static str,
    path: &'static str,
    streams: bool,
    fault: (&'static str, &'static str, &'static str, When),
}

impl Case {
    /// Every case, each with a model of its own, so that none is left alone for another's faults.
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for kind in KINDS {
            for (dialect, path) in PATHS.into_iter().enumerate() {
                for streams in [false, true] {
                    cases.extend(FAULTS.map(|fault| Self {
                        model: format!("{kind}-{dialect}-{streams}.{}", fault.0),
                        kind,
                        path,
                        streams,
                        fault,
                    }));
                }
            }
        }
        cases
    }

    fn body(&self) -> Value {
        let mut body = conversation("ping", self.streams);
        body["model"] = self.model.as_str().into();
        match self.path {
            "/v1/messages" => body["max_tokens"] = 1000.into(),
            "/v1/responses" => {
                body = json!({ "model": self.model, "input": "ping", "stream": self.streams });
            }
            _ => {}
        }
        body
    }

    /// Checks what the client was told.
    fn check(&self, status: StatusCode, told: &str) {
        let (_, plain, streamed, when) = self.fault;
        let what = format!("{} {} {status}: {told:.2000}", self.model, self.path);
        let fault = if self.streams { streamed } else { plain };
        match (when, self.streams) {
            (Never, false) => {
                let answer: Value = serde_json::from_str(told).unwrap();
                assert!(status == 200 && answer.to_string().contains("pong"), "{what}");
            }
            (Never, true) => {
                assert!(status == 200 && said(told) == "pong" && is_whole(told), "{what}");
            }
            (Behind | Later, true) => {
                assert_eq!(status, 200, "{what}");
                let once = said(told) == "po";
                assert!(once || when == Later && said(told).starts_with("popo"), "{what}");
                assert!(!is_whole(told), "{what}");
                let last = told.trim_end().rsplit("\n\n").next().unwrap();
                let data = last.rsplit("data: ").next().unwrap();
                assert_eq!(last.starts_with("event: error\n"), self.path != PATHS[0], "{what}");
                let event: Value = serde_json::from_str(data).unwrap();
                match self.path {
                    "/v1/responses" => assert_eq!(event["type"], "error", "{what}"),
                    _ => self.is_error(&event, &what),
                }
                assert!(data.contains(fault), "{what}");
            }
            (Before, _) | (_, false) => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
                let error: Value = serde_json::from_str(told).unwrap_or_default();
                self.is_error(&error, &what);
                assert!(told.contains(fault), "{what}");
            }
        }
    }

    /// Checks an error's shape, which is the dialect's own.
    fn is_error(&self, error: &Value, what: &str) {
        let (shape, kind) = match self.path {
            "/v1/messages" => ("error", "overloaded_error"),
            _ => ("", "server_error"),
        };
        assert_eq!(error["type"].as_str().unwrap_or_default(), shape, "{what}");
        assert_eq!(error["error"]["type"], kind, "{what}");
        assert_eq!(error["error"]["code"], "unavailable", "{what}");
        assert!(error["error"]["message"].is_string(), "{what}");
    }

    /// Returns the least and the most that it may cost, in USD.
    fn cost(&self) -> (f64, f64) {
        // The request has some tokens, a millionth each; one that is written is four of them.
        let read = |least: u32, most: u32| {
            (f64::from(1 + 4 * least) / 1e6, f64::from(100 + 4 * most) / 1e6)
        };
        let (name, _, _, when) = self.fault;
        match (when, self.streams, self.kind) {
            (Never, ..) => (0.005, 0.005),
            // It was not asked, or says itself that it did not serve.
            _ if name.starts_with("status") || ["refused", "error"].contains(&name) => (0.0, 0.0),
            // It says what it counts with every piece.
            (Behind | Later, true, "gemini") => (0.005, 0.005),
            // It did not come to that: two letters are a token.
            (Behind, true, _) => read(1, 1),
            (Later, true, _) => read(2, 1000),
            // Whatever that is, it is never more than was allowed.
            _ if ["endless", "huge"].contains(&name) => read(0, 1000),
            // It was asked, and nobody knows what it did: it has read it, and written what came.
            _ => read(0, 400),
        }
    }
}

/// Returns the text that a stream says, in any dialect.
fn said(stream: &str) -> String {
    let events = stream.split("\n\n").filter_map(|event| event.rsplit("data: ").next());
    let events = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let text = |event: Value| {
        let places = ["/choices/0/delta/content", "/delta/text"];
        let found = places.into_iter().find_map(|place| event.pointer(place)).cloned();
        let delta = event["type"] == "response.output_text.delta";
        let found = found.or(delta.then(|| event["delta"].clone()));
        found.and_then(|text| text.as_str().map(str::to_owned))
    };
    events.filter_map(text).collect()
}

fn is_whole(stream: &str) -> bool {
    ["data: [DONE]\n", "\"message_stop\"", "\"response.completed\""]
        .iter()
        .any(|end| stream.contains(end))
}

fn settings(faulty: &str) -> String {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut settings = "[router.retries]\ntimes = 0\n\
        [router.timeouts]\nconnect_ms = 5000\nfirst_token_ms = 10000\nfailover_ms = 10000\n\
        answer_ms = 10000\nidle_ms = 1000\ntotal_ms = 12000\n"
        .to_owned();
    for kind in KINDS {
        let models = |refused: bool| -> String {
            let cases = Case::all().into_iter();
            let cases =
                cases.filter(|case| case.kind == kind && (case.fault.0 == "refused") == refused);
            let model = |case: Case| {
                format!(
                    "{{ name = '{}', input_usd_per_million = '1', output_usd_per_million = '4', \
                     max_output_tokens = 1000 }},",
                    case.model
                )
            };
            cases.map(model).collect()
        };
        for (name, url, refused) in
            [("faulty", faulty.to_owned(), false), ("nobody", format!("http://{nobody}"), true)]
        {
            settings += &format!(
                "[router.providers.{kind}-{name}]\nkind = '{kind}'\nbase_url = '{url}/v1'\ntier = 1\n\
                 models = [{}]\n",
                models(refused)
            );
        }
    }
    settings
}

/// Asks for all of `cases`, many at once, from connections of their own, and returns what came.
async fn ask(system: &System, cases: &[Case]) -> Vec<(StatusCode, String)> {
    #[expect(clippy::disallowed_methods, reason = "a client from outside")]
    let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let asked = cases.iter().enumerate().map(|(index, case)| {
        let request = client.post(format!("{}{}", system.url, case.path)).json(&case.body());
        let request = request.header("x-baton-user", &case.model);
        async move {
            let reply = request.send().await.unwrap();
            (index, (reply.status(), reply.text().await.unwrap()))
        }
    });
    let mut told: Vec<_> = stream::iter(asked).buffer_unordered(64).collect().await;
    told.sort_by_key(|(index, _)| *index);
    told.into_iter().map(|(_, told)| told).collect()
}

/// Returns the open file descriptors and the tasks of a process.
async fn left(system: &System, process: &Process) -> (usize, usize) {
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid().as_raw_nonzero())).unwrap();
    // Pools of connections to a database and the spool keep more files open, or fewer, as calls come.
    let is_kept = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.ends_with(".usage") || path.contains(".db")
    };
    let open = open.filter_map(|one| std::fs::read_link(one.ok()?.path()).ok());
    let open = open.filter(|path| !is_kept(path)).count();
    let metrics = system.client().get(format!("{}/metrics", process.operations));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let tasks = metrics.lines().find_map(|line| line.strip_prefix("baton_tasks "));
    (open, tasks.unwrap().parse().unwrap())
}

#[tokio::test]
async fn whatever_a_provider_does_the_client_is_told_the_money_is_exact_and_nothing_is_left() {
    let faulty = Faulty::start().await.unwrap();
    let settings = settings(&faulty.url);
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        // What providers speak is translated in one of the processes; it is the same in both shapes.
        let cases =
            Case::all().into_iter().filter(|case| shape == Shape::One || case.kind == KINDS[0]);
        let (good, cases): (Vec<_>, Vec<_>) = cases.partition(|case| case.fault.3 == Never);
        // What is opened once and kept is open before the count, our own connections too.
        for (case, (status, told)) in good.iter().zip(ask(&system, &good).await) {
            case.check(status, &told);
        }
        system.spent("local").await.unwrap();
        let mut before = Vec::new();
        for process in &system.processes {
            left(&system, process).await;
            before.push(left(&system, process).await);
        }

        for (case, (status, told)) in cases.iter().zip(ask(&system, &cases).await) {
            case.check(status, &told);
        }
        for case in good.iter().chain(&cases) {
            let spent = system.spent(&case.model).await.unwrap();
            let (least, most) = case.cost();
            assert!(spent > least - 1e-12 && spent < most + 1e-12, "{}: {spent}", case.model);
        }
        let gone = async {
            while faulty.open() > 0 {
                tokio::task::yield_now().await;
            }
            for (process, (files, tasks)) in system.processes.iter().zip(&before) {
                loop {
                    let now = left(&system, process).await;
                    if now.0 <= *files && now.1 <= *tasks {
                        break;
                    }
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), gone).await.is_err() {
            let open = faulty.open();
            let mut after = Vec::new();
            for process in &system.processes {
                after.push(left(&system, process).await);
            }
            panic!("{shape:?}: {open} connections to it; before {before:?}, after {after:?}");
        }
    }
}
