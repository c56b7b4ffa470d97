//! Programs that are servers, or only look like ones, and what becomes of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mcp_bridge::Config;
use proto::bridge::ListToolsRequest;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use runtime::metrics::Metrics;
use runtime::transport::{Peer, in_process};
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, getuid, kill_process_group, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use types::{CallContext, TenantId, UserId};

const LAUNCHER: &str = env!("CARGO_BIN_EXE_mcp-bridge");

/// A bridge to one program, and the directory that the program may write.
struct Bridge {
    service: BridgeServiceClient<Peer>,
    home: PathBuf,
    _place: TempDir,
}

impl Bridge {
    async fn new(mut server: Value) -> Self {
        let place = tempfile::tempdir().unwrap();
        let wait = server["start_timeout_ms"].as_u64().unwrap_or(30_000);
        (server["start_timeout_ms"], server["list_wait_ms"]) = (wait.into(), wait.into());
        let config = json!({ "servers": { "s": server }, "directory": place.path(), "store": "sqlite::memory:" });
        let mut config: Config = serde_json::from_value(config).unwrap();
        config.launcher = Some(LAUNCHER.into());
        let service = mcp_bridge::server(config, &Metrics::default()).await.unwrap();
        let service = BridgeServiceClient::new(in_process(service));
        Self { service, home: place.path().join("s"), _place: place }
    }

    /// A program that does what `script` says.
    async fn script(script: &str, sandbox: Value) -> Self {
        Self::new(json!({
            "command": "sh",
            "args": ["-c", script],
            "env": { "GIVEN": "yes" },
            "sandbox": sandbox,
            "restart_ms": 0,
        }))
        .await
    }

    /// Starts the program and returns why it is no server.
    async fn fault(&self) -> String {
        let context = CallContext::new(TenantId::new("t").unwrap(), UserId::new("u").unwrap());
        let request = runtime::context::request(&context, ListToolsRequest {});
        let list = self.service.clone().list_tools(request).await.unwrap().into_inner();
        let reason = &list.degraded[0].reason;
        reason.strip_prefix("server \"s\": ").unwrap_or(reason).to_owned()
    }

    /// Runs the program and returns what it wrote into the file `out`.
    async fn out(&self) -> String {
        self.fault().await;
        std::fs::read_to_string(self.home.join("out")).unwrap()
    }
}

#[tokio::test]
async fn a_program_has_little_of_ours() {
    let script =
        "{ tr '\\0' '\\n' </proc/self/environ; pwd; grep -E 'NoNewPrivs|CapEff' /proc/self/status
        cat /proc/self/limits; } >out 2>&1";
    let sandbox = json!({ "files": 77, "cpu_seconds": 7, "address_space_bytes": 999_997_440, "file_bytes": 99_999 });
    let bridge = Bridge::script(script, sandbox).await;
    let out = bridge.out().await;
    let home = bridge.home.canonicalize().unwrap();
    let mut environment: Vec<_> = out.lines().take_while(|line| !line.starts_with('/')).collect();
    environment.sort_unstable();
    let names: Vec<_> =
        environment.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(names, ["GIVEN", "HOME", "PATH", "TMPDIR"], "{out}");
    assert!(environment.contains(&format!("HOME={}", home.display()).as_str()), "{out}");
    assert!(out.contains(&format!("\n{}\n", home.display())), "it starts there: {out}");
    assert!(out.contains("CapEff:\t0000000000000000\nNoNewPrivs:\t1\n"), "{out}");
    let limit = |name: &str| {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    for (name, most) in [
        ("Max open files", "77"),
        ("Max cpu time", "7"),
        ("Max address space", "999997440"),
        ("Max data size", "4294967296"),
        ("Max file size", "99999"),
        ("Max core file size", "0"),
    ] {
        assert_eq!(limit(name), most, "{out}");
    }
    assert_ne!(limit("Max processes"), "unlimited");
}

#[tokio::test]
async fn a_program_reads_and_writes_what_it_is_given_and_signals_nobody_else() {
    // Fails where the kernel has no Landlock: there nothing keeps programs to these.
    let (given, theirs, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for place in [&given, &theirs, &other] {
        std::fs::write(place.path().join("file"), "text").unwrap();
    }
    let [given_, theirs_, other_] = [&given, &theirs, &other].map(|place| place.path().display());
    let script = format!(
        "try() {{ if \"$@\" >/dev/null 2>&1; then echo \"$*: done\"; else echo \"$*: denied\"; fi; }}
         {{ try cat {given_}/file; try touch {given_}/new
            try cat {theirs_}/file; try touch {theirs_}/new; try cp {theirs_}/file here
            try cat {other_}/file; try touch {other_}/new; try ls {other_}
            try cat /etc/shadow; try cat /proc/{us}/environ; try kill -0 {us}
            try ln -sf {other_}/file link; try cat link; }} >out",
        us = std::process::id(),
    );
    let sandbox = json!({
        "read": [given.path()], "write": [theirs.path()], "landlock": "required",
    });
    let out = Bridge::script(&script, sandbox).await.out().await;
    let expected = [
        format!("cat {given_}/file: done"),
        format!("touch {given_}/new: denied"),
        format!("cat {theirs_}/file: done"),
        format!("touch {theirs_}/new: done"),
        format!("cp {theirs_}/file here: done"),
        format!("cat {other_}/file: denied"),
        format!("touch {other_}/new: denied"),
        format!("ls {other_}: denied"),
        "cat /etc/shadow: denied".to_owned(),
        format!("cat /proc/{}/environ: denied", std::process::id()),
        format!("kill -0 {}: denied", std::process::id()),
        format!("ln -sf {other_}/file link: done"),
        "cat link: denied".to_owned(),
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    // What the script does is possible without.
    let out = Bridge::script(&script, json!({ "landlock": "off" })).await.out().await;
    assert!(out.contains(&format!("cat {other_}/file: done")), "{out}");
}

#[tokio::test]
async fn a_program_has_no_file_of_ours_open() {
    // As a shell, or another library, may leave one.
    let secret = tempfile::NamedTempFile::new().unwrap();
    rustix::io::fcntl_setfd(secret.as_file(), FdFlags::empty()).unwrap();
    let name = secret.path().to_str().unwrap();
    let without = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(String::from_utf8(without.stdout).unwrap().contains(name), "it would be there");
    let out = Bridge::script("ls -l /proc/self/fd >out", json!({})).await.out().await;
    let open: Vec<_> = out.lines().filter_map(|line| line.split_once(" -> ")).collect();
    let open: Vec<_> = open.iter().filter_map(|(one, _)| one.rsplit(' ').next()).collect();
    assert_eq!(open, ["0", "1", "2", "3"], "its own, and what it lists: {out}");
    assert!(!out.contains(name), "{out}");
}

#[tokio::test]
async fn a_program_writes_no_larger_file_than_it_may() {
    let script = "head -c 4000 /dev/zero >large; echo $? >out";
    let bridge = Bridge::script(script, json!({ "file_bytes": 1000 })).await;
    assert_ne!(bridge.out().await.trim(), "0");
    assert_eq!(bridge.home.join("large").metadata().unwrap().len(), 1000);
}

#[tokio::test]
async fn a_program_without_network_reaches_nothing_and_is_who_it_was() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "{{ id -u; bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' && echo connected; }} >out 2>&1"
    );
    let user = getuid().as_raw();
    let out = Bridge::script(&script, json!({ "network": true })).await.out().await;
    assert_eq!(out, format!("{user}\nconnected\n"));
    let out = Bridge::script(&script, json!({ "network": false })).await.out().await;
    assert!(out.starts_with(&format!("{user}\n")), "{out}");
    assert!(out.contains("unreachable") && !out.contains("connected"), "{out}");
    // Also where no superuser starts it.
    let home = everyones();
    let order = json!({ "home": home.path(), "sandbox": { "network": false } }).to_string();
    let mut out = nobody(&home);
    out.args(["launch-tool", &order, "sh", "-c", "id -u; readlink /proc/self/ns/net"]);
    let out = out.output().unwrap();
    let told = String::from_utf8(out.stdout).unwrap();
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let (who, network) = told.split_once('\n').unwrap_or_else(|| panic!("{told} {:?}", out.stderr));
    assert_eq!(who.parse(), Ok(if user == 0 { 65_534 } else { user }));
    assert!(network.starts_with("net:") && network.trim() != ours.to_str().unwrap(), "{told}");
}

#[tokio::test]
async fn where_no_program_can_be_kept_from_the_network_none_is_started_that_is_to_be() {
    // A kernel that gives nobody a network: of a user's own, in which that user says so.
    let kernel = "echo 0 >/proc/sys/user/max_net_namespaces && exec \"$@\"";
    let order =
        json!({ "home": "/", "sandbox": { "network": false, "landlock": "off" } }).to_string();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", kernel, "sh", LAUNCHER]);
    let out = command.args(["launch-tool", &order, "echo", "started"]).output().unwrap();
    let (said, told) = (String::from_utf8(out.stderr).unwrap(), String::from_utf8(out.stdout));
    assert!(said.contains("not launched: the kernel gives it no network of its own"), "{said}");
    assert_eq!((out.status.code(), told.unwrap().as_str()), (Some(126), ""));

    let place = tempfile::tempdir().unwrap();
    let refusing = place.path().join("launcher");
    std::fs::write(&refusing, "#!/bin/sh\necho 'not launched: no network' >&2; exit 126").unwrap();
    std::fs::set_permissions(&refusing, PermissionsExt::from_mode(0o755)).unwrap();
    for (launcher, fault) in [(None, "no launcher"), (Some(refusing), "not launched: no network")] {
        let server = json!({ "command": "true", "sandbox": { "network": false } });
        let config = json!({ "servers": { "s": server }, "store": "sqlite::memory:" });
        let mut config: Config = serde_json::from_value(config).unwrap();
        config.launcher = launcher;
        let refused = mcp_bridge::server(config, &Metrics::default()).await.err().unwrap();
        let refused = format!("{refused:#}");
        assert!(refused.contains("mcp_bridge.servers.s.sandbox.network"), "{refused}");
        assert!(refused.contains(fault), "{refused}");
    }
}

#[tokio::test]
async fn what_a_program_is_given_is_there() {
    let bridge = Bridge::script("", json!({ "read": ["/no/such/place"] })).await;
    assert_eq!(bridge.fault().await, "it cannot be started");
}

#[test]
fn a_fork_bomb_is_bounded() {
    let home = everyones();
    let order = json!({ "home": home.path(), "sandbox": { "processes": 20 } }).to_string();
    let bomb = "for i in $(seq 1000); do sleep 1000 & done; echo all";
    // The kernel does not count root's.
    let mut command = nobody(&home);
    command.args(["launch-tool", &order, "sh", "-c", bomb]).process_group(0);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = child.wait().unwrap();
    let group = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    let members = members(group);
    kill_process_group(group, Signal::KILL).unwrap();
    let (mut out, mut errors) = (String::new(), String::new());
    child.stdout.unwrap().read_to_string(&mut out).unwrap();
    child.stderr.unwrap().read_to_string(&mut errors).unwrap();
    assert!(!status.success() && !out.contains("all"), "{status} {out} {errors}");
    // Others of this user may have ended meanwhile.
    assert!((1..=100).contains(&members), "{members}: {errors}");
}

#[tokio::test]
async fn a_thousand_restarts_leave_nothing_behind() {
    let bridge = Bridge::script("echo >>started", json!({})).await;
    let started = || std::fs::read_to_string(bridge.home.join("started")).unwrap().lines().count();
    bridge.fault().await;
    gone().await;
    let before = descriptors();
    let first = started();
    for _ in 0..1000 {
        bridge.fault().await;
    }
    gone().await;
    assert!(started() - first >= 1000, "{} starts", started() - first);
    let closed = async {
        while descriptors() > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), closed).await.unwrap();
}

#[tokio::test]
async fn a_program_that_keeps_ending_is_left_alone() {
    let bridge = Bridge::new(json!({ "command": "true", "restart_ms": 60_000 })).await;
    let rested = async {
        loop {
            let fault = bridge.fault().await;
            if fault.contains("it ended 2 times in a row and is started again in ") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), rested).await.unwrap();
}

#[tokio::test]
async fn what_a_program_started_ends_with_it_however_it_ends() {
    // One ends by itself, the other neither with its input nor when it is told to.
    for stays in ["", "trap '' TERM; while :; do sleep 1000; done"] {
        let script = format!("sleep 1000 & echo $! >started; mv started out; {stays}");
        let bridge = Bridge::new(json!({
            "command": "sh", "args": ["-c", script], "start_timeout_ms": 2000,
        }))
        .await;
        let pid = bridge.out().await.trim().parse().unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        let ended = async {
            while is_alive(pid) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
        gone().await;
    }
}

#[tokio::test]
async fn an_endless_line_is_not_kept() {
    let script = "tr '\\0' x </dev/zero";
    let bridge = Bridge::script(script, json!({})).await;
    assert_eq!(bridge.fault().await, "it does not speak MCP, or cannot be reached");
    gone().await;
    let most = std::fs::read_to_string("/proc/self/status").unwrap();
    let most = most.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 512 * 1024, "{most}");
}

/// A directory that every user may write.
fn everyones() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o777)).unwrap();
    home
}

/// The launcher, as another user where this one is root; who may not be able to reach where it was built.
fn nobody(home: &TempDir) -> Command {
    let launcher = home.path().join("launcher");
    // Not by this process: a child that another test starts meanwhile would have it open to write, and nobody could run it.
    assert!(Command::new("cp").arg(LAUNCHER).arg(&launcher).status().unwrap().success());
    let mut command = Command::new(launcher);
    if getuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command
}

/// Tells whether a process runs; one that nobody has waited for yet does not.
fn is_alive(pid: Pid) -> bool {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let state =
        |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'));
    test_kill_process(pid).is_ok() && std::fs::read_to_string(stat).is_ok_and(state)
}

/// Counts the processes of a group that run.
fn members(group: Pid) -> usize {
    let stats = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|one| {
        let stat = std::fs::read_to_string(one.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        Some((fields.next()? != "Z", fields.nth(1)?.parse::<i32>().ok()?))
    });
    stats.filter(|stat| *stat == (true, group.as_raw_nonzero().get())).count()
}

/// Waits until no child of this thread is left, not even one that has ended.
async fn gone() {
    let gone = async {
        while !std::fs::read_to_string("/proc/thread-self/children").unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
}

fn descriptors() -> usize {
    Path::new("/proc/self/fd").read_dir().unwrap().count()
}
