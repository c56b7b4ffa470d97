//! Servers that do what no server should, over every way to one: their callers are told, the others
//! notice nothing, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use mcp_bridge::Config;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{CallToolRequest, CallToolResponse, ListToolsRequest, ListToolsResponse};
use runtime::metrics::Metrics;
use runtime::transport::{Peer, in_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use types::{CallContext, TenantId, UserId};

const LAUNCHER: &str = env!("CARGO_BIN_EXE_mcp-bridge");
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/server.py");

const MIB: usize = 1024 * 1024;

/// How long anything may take that is to end.
const LONG: Duration = Duration::from_secs(30);

/// What stands in the error, or in the result, of a call of the tool `act`, and how many tools are listed.
type Expected = Option<(Result<&'static str, &'static str>, usize)>;

struct Row {
    fault: &'static str,
    /// Of a program; none where a program cannot do so.
    program: Expected,
    /// Of an address of revision 2026-07-28, which answers with JSON.
    json: Expected,
    /// Of one of before, which answers with a stream of events.
    events: Expected,
}

const LATE: Result<&str, &str> = Err("\"bad\" did not answer within 1000 ms");
const NOT_READY: Result<&str, &str> = Err("\"bad\" did not answer within 1500 ms");
const LOST: Result<&str, &str> = Err("the connection was lost");
const UNREAD: Result<&str, &str> = Err("it answered what cannot be read");
const TOO_LONG: Result<&str, &str> = Err("it sent a message of more than 16777216 bytes");
const NO_SERVER: Result<&str, &str> = Err("it does not speak MCP, or cannot be reached");
const BEGGAR: Result<&str, &str> = Err("it asks more than 64 things at once");
const DONE: Result<&str, &str> = Ok("done");

/// What is the same over every way.
const fn all(fault: &'static str, call: Result<&'static str, &'static str>, tools: usize) -> Row {
    let expected = Some((call, tools));
    Row { fault, program: expected, json: expected, events: expected }
}

/// What a program alone can do.
const fn program(
    fault: &'static str,
    call: Result<&'static str, &'static str>,
    tools: usize,
) -> Row {
    Row { fault, program: Some((call, tools)), json: None, events: None }
}

/// What has one tool, and three ends.
const fn each(
    fault: &'static str,
    program: Result<&'static str, &'static str>,
    json: Result<&'static str, &'static str>,
    events: Result<&'static str, &'static str>,
) -> Row {
    Row { fault, program: Some((program, 1)), json: Some((json, 1)), events: Some((events, 1)) }
}

/// Several at once.
const TABLE: [Row; 23] = [
    all("does-nothing-wrong", DONE, 1),
    all("fails", Err("answered with an error: no such luck"), 1),
    all("hangs", LATE, 1),
    all("never-reads", NOT_READY, 0),
    program("reads-no-more", LATE, 1),
    // An address that is gone has no list; what was listed in another session of before is kept.
    Row {
        fault: "is-killed",
        program: Some((LOST, 1)),
        json: Some((LOST, 0)),
        events: Some((LOST, 1)),
    },
    all("dies-at-start", NO_SERVER, 0),
    all("breaks-off", LOST, 1),
    each("answers-another", LATE, LATE, LOST),
    all("answers-twice", DONE, 1),
    program("answers-unasked", NO_SERVER, 0),
    program("speaks-unasked", DONE, 1),
    all("chatters", DONE, 1),
    each("answers-no-json", LATE, UNREAD, LOST),
    Row {
        program: None,
        ..each("answers-a-page", DONE, Err("HTTP status 500"), Err("HTTP status 500"))
    },
    all("answers-a-number", Err("it answered something else"), 1),
    each("answers-too-deep", LATE, UNREAD, LOST),
    all("floods", DONE, 1),
    // Over HTTP what it asks for is answered as fast as it takes the answers.
    program("asks-for-ever", BEGGAR, 1),
    all("offers-nonsense", DONE, 1),
    all("offers-pages-for-ever", DONE, 100),
    all("changes", DONE, 2),
    all("closes", DONE, 1),
];

/// One at a time: what keeps a processor busy, or much memory.
const HEAVY: [Row; 4] = [
    each("answers-100-mb", TOO_LONG, TOO_LONG, LOST),
    each("answers-without-end", TOO_LONG, TOO_LONG, LOST),
    all("offers-ten-thousand", DONE, 5_000),
    program("logs-for-ever", DONE, 1),
];

/// A Python as it is, and not a script that looks for one; and where its library is.
struct Python {
    program: String,
    library: String,
}

impl Python {
    async fn find() -> Self {
        let say = "import sys; print(sys.executable); print(sys.base_prefix)";
        let said = Command::new("python3").args(["-c", say]).output().await.unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let (program, library) = said.trim().split_once('\n').unwrap();
        Self { program: program.to_owned(), library: library.to_owned() }
    }
}

/// A way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    program: bool,
    modern: bool,
}

const WAYS: [Way; 4] = [
    Way { program: true, modern: true },
    Way { program: true, modern: false },
    Way { program: false, modern: true },
    Way { program: false, modern: false },
];

impl Way {
    fn words(self) -> [&'static str; 2] {
        let Self { program, modern } = self;
        [if modern { "modern" } else { "older" }, if program { "program" } else { "address" }]
    }
}

/// A fixture that serves HTTP; it ends with this value.
struct Served {
    url: String,
    _child: Child,
}

impl Served {
    async fn start(python: &Python, mark: &str, fault: &str, way: Way) -> Self {
        let mut command = Command::new(&python.program);
        command.args(arguments(mark, fault, way)).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().unwrap();
        Self { url: format!("http://127.0.0.1:{port}/mcp"), _child: child }
    }
}

fn arguments<'a>(mark: &'a str, fault: &'a str, way: Way) -> Vec<&'a str> {
    let [era, way] = way.words();
    vec!["-S", "-E", SERVER, mark, fault, era, way]
}

struct Bridge(BridgeServiceClient<Peer>);

impl Bridge {
    /// A bridge before both; the bad one has little time where it is to be given up.
    async fn before(
        place: &Path,
        mut bad: Value,
        expected: Result<&str, &str>,
        good: &str,
    ) -> Self {
        let time = |late, tight: u64| if expected == late { tight } else { 30_000 };
        bad["timeout_ms"] = time(LATE, 1000).into();
        bad["start_timeout_ms"] = time(NOT_READY, 1500).into();
        bad["list_wait_ms"] = 30_000.into();
        let config = json!({
            "store": "sqlite::memory:", "directory": place,
            "servers": { "bad": bad, "good": { "url": good } },
        });
        let mut config: Config = serde_json::from_value(config).unwrap();
        config.launcher = Some(LAUNCHER.into());
        let bridge = mcp_bridge::server(config, &Metrics::default()).await.unwrap();
        Self(BridgeServiceClient::new(in_process(bridge)))
    }

    async fn list(&self) -> ListToolsResponse {
        let request = runtime::context::request(&context(), ListToolsRequest {});
        self.0.clone().list_tools(request).await.unwrap().into_inner()
    }

    async fn call(&self, name: &str, text: &str) -> tonic::Result<CallToolResponse> {
        let arguments_json = json!({ "text": text }).to_string();
        let call = CallToolRequest { name: name.to_owned(), arguments_json };
        let request = runtime::context::request(&context(), call);
        Ok(self.0.clone().call_tool(request).await?.into_inner())
    }
}

fn context() -> CallContext {
    CallContext::new(TenantId::new("t").unwrap(), UserId::new("u").unwrap())
}

/// Has a bridge call a server with a fault, while others call a good one.
async fn check(row: &Row, way: Way, python: &Python, place: &Path, good: &str) {
    let expected = match way {
        Way { program: true, .. } => row.program,
        Way { modern: true, .. } => row.json,
        Way { modern: false, .. } => row.events,
    };
    let Some((expected, tools)) = expected else { return };
    let (fault, mark) = (row.fault, place.to_str().unwrap());
    let [era, kind] = way.words();
    let told = format!("{fault}, {era} {kind}");
    let mut _served = None;
    let bad = if way.program {
        json!({
            "command": python.program, "args": arguments(mark, fault, way), "restart_ms": 0,
            "sandbox": { "read": [SERVER, python.library] },
        })
    } else {
        let served = Served::start(python, mark, fault, way).await;
        let bad = json!({ "url": served.url });
        _served = Some(served);
        bad
    };
    let home = place.join(format!("{fault}-{era}-{kind}"));
    let bridge = Bridge::before(&home, bad, expected, good).await;
    let fine = async {
        for _ in 0..10 {
            let answer = bridge.call("good__act", "").await.unwrap();
            assert!(answer.content_json.contains("done"), "{told}: {answer:?}");
        }
    };
    // More than a pipe holds.
    let long = "x".repeat(128 * 1024);
    let both = async { tokio::join!(bridge.call("bad__act", &long), fine).0 };
    let called = timeout(LONG, both).await.unwrap_or_else(|_| panic!("{told}: it takes too long"));
    match (called, expected) {
        (Ok(answer), Ok(text)) => {
            assert!(answer.content_json.contains(text), "{told}: {answer:?}");
        }
        (Err(status), Err(text)) => {
            assert!(status.message().contains(text), "{told}: {status:?}");
        }
        (called, _) => panic!("{told}: {called:?}"),
    }
    let listed = bridge.list().await;
    let of = |server: &str| listed.tools.iter().filter(|tool| tool.server == server).count();
    assert_eq!((of("bad"), of("good")), (tools, 1), "{told}: {:?}", listed.degraded);
    let named = listed.degraded.iter().any(|one| one.server == "bad");
    assert_eq!(named, tools == 0 || tools >= 100, "{told}: {:?}", listed.degraded);
}

/// The most memory that this process had at once so far, in bytes.
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn descriptors() -> usize {
    Path::new("/proc/self/fd").read_dir().unwrap().count()
}

/// Returns the processes that were told `mark`, whoever their parents are by now.
fn processes(mark: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let told = all.filter_map(|one| std::fs::read_to_string(one.path().join("cmdline")).ok());
    told.filter(|told| told.contains(mark)).map(|told| told.replace('\0', " ")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_does_its_caller_is_told_and_the_others_notice_nothing() {
    let (place, marked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let well = Way { program: false, modern: true };
    let python = Python::find().await;
    let good = Served::start(&python, "good", "does-nothing-wrong", well).await;
    let each = |row: &'static Row| WAYS.map(|way| (row, way));
    // What is opened once and kept, such as for signals, is there from then on.
    check(&TABLE[0], WAYS[0], &python, marked.path(), &good.url).await;
    let (memory, open) = (most_memory(), descriptors());

    let check = async |(row, way)| check(row, way, &python, place.path(), &good.url).await;
    let light = stream::iter(TABLE.iter().flat_map(each)).map(check);
    light.buffer_unordered(8).collect::<()>().await;
    let heavy = stream::iter(HEAVY.iter().flat_map(each)).then(check);
    heavy.collect::<()>().await;

    // Several hundreds of megabytes were sent, twice without end, and 40,000 tools offered.
    let grown = most_memory().saturating_sub(memory);
    assert!(grown < 160 * MIB, "{} MiB", grown / MIB);
    let mark = place.path().to_str().unwrap();
    let ended = async {
        while !processes(mark).is_empty() || descriptors() > open {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let left = || format!("{:?}, {} descriptors of {open}", processes(mark), descriptors());
    timeout(LONG, ended).await.unwrap_or_else(|_| panic!("{}", left()));
}
