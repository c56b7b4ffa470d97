//! The reference server beside ours: the same tools, the same texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rmcp::ServiceExt as _;
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::support::{Client, Site, call, command, git};

/// Pinned, so that a release elsewhere breaks no test here.
const PACKAGE: &str = "mcp-server-git==2026.10.19";

/// How long a server may think.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns where the reference server is, installed once.
async fn installed() -> &'static Path {
    static PLACE: OnceCell<PathBuf> = OnceCell::const_new();
    let install = async || {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mcp-server-git");
        let run = async |command: &mut Command| {
            let output = command.output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}: {said}");
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&place)).await;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE];
        run(Command::new(place.join("bin/python")).args(install)).await;
        place
    };
    PLACE.get_or_init(install).await
}

async fn reference() -> Client {
    let mut server = Command::new(installed().await.join("bin/mcp-server-git"));
    server.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    server.env("LC_ALL", "C.UTF-8");
    ().serve(TokioChildProcess::new(server).unwrap()).await.unwrap()
}

/// What a client goes by: which parameters there are, of which types, and which have to be given.
fn shape(schema: &Value) -> (BTreeMap<String, (Value, Value)>, Value) {
    let kind = |property: &Value| match &property["anyOf"] {
        Value::Array(kinds) => kinds.iter().map(|kind| kind["type"].clone()).collect(),
        _ => property["type"].clone(),
    };
    let properties = schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, property)| (name.clone(), (kind(property), property["default"].clone())));
    let mut required: Vec<_> = schema["required"].as_array().unwrap().clone();
    required.sort_by_key(Value::to_string);
    (properties.collect(), required.into())
}

#[tokio::test]
async fn the_tools_of_the_reference_are_there_in_its_order() {
    let site = Site::new();
    let (theirs, ours) = (reference().await, site.serve().await);
    let (theirs, ours) =
        (theirs.list_all_tools().await.unwrap(), ours.list_all_tools().await.unwrap());
    let names = |tools: &[rmcp::model::Tool]| {
        tools.iter().map(|tool| tool.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&ours)[..12], names(&theirs));
    assert_eq!(names(&ours)[12..], ["git_blame", "git_search"]);
    for (theirs, ours) in theirs.iter().zip(&ours) {
        let (theirs, ours) = (json!(theirs), json!(ours));
        for key in ["name", "description", "annotations", "outputSchema"] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
        assert_eq!(shape(&ours["inputSchema"]), shape(&theirs["inputSchema"]), "{}", ours["name"]);
    }
}

/// How alike a renamed file is, is measured otherwise by libgit2: `similarity index 87%`.
fn without_measure(text: &str) -> String {
    let lines = text.split('\n').filter(|line| !line.starts_with("similarity index "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Makes the same repository twice and calls the same on both. Paths are told apart by nothing else.
struct Pair {
    _site: Site,
    ours: (Client, PathBuf),
    theirs: (Client, PathBuf),
}

impl Pair {
    async fn new(site: Site) -> Self {
        let copy = site.root().join("copy");
        let copied =
            std::process::Command::new("cp").arg("-a").arg(site.repo()).arg(&copy).status();
        assert!(copied.unwrap().success());
        let ours = (site.serve().await, site.repo());
        Self { ours, theirs: (reference().await, copy), _site: site }
    }

    /// Does the same to both work trees.
    fn both(&self, change: impl Fn(&Path)) {
        change(&self.ours.1);
        change(&self.theirs.1);
    }

    async fn same(&self, tool: &'static str, arguments: Value) {
        let (ours, theirs) = self.said(tool, arguments.clone()).await;
        assert_eq!(ours, theirs, "{tool} {arguments}");
    }

    async fn both_refuse(&self, tool: &'static str, arguments: Value) {
        let (ours, theirs) = self.said(tool, arguments.clone()).await;
        let prefix = format!("Error executing tool {tool}: ");
        for told in [ours, theirs] {
            let told = told.unwrap_err();
            assert!(told.starts_with(&prefix), "{arguments}: {told}");
        }
    }

    async fn said(
        &self,
        tool: &'static str,
        arguments: Value,
    ) -> (Result<String, String>, Result<String, String>) {
        let ask = async |(client, path): &(Client, PathBuf)| {
            let mut arguments = arguments.clone();
            arguments["repo_path"] = path.to_str().unwrap().into();
            let waited =
                tokio::time::timeout(PATIENCE, call(client, tool, arguments.clone())).await;
            let said = waited.unwrap_or_else(|_| panic!("no answer to {tool} {arguments}"));
            said.map(|text| without_measure(&text)).map_err(|text| without_measure(&text))
        };
        (ask(&self.ours).await, ask(&self.theirs).await)
    }
}

/// Names, modes and contents of every kind.
fn rich() -> Site {
    let site = Site::new();
    let rust: String =
        (0..30).map(|line| format!("fn f{line}() {{\n    g({line});\n}}\n")).collect();
    site.write("src/main.rs", &rust);
    site.write("bin", b"\0\x01\x02");
    site.write("no-newline", "x");
    site.write("old name.txt", "1\n2\n3\n4\n5\n6\n7\n8\n");
    site.write("mode.sh", "#!/bin/sh\n");
    // Never changed afterwards: the reference gives no answer to a difference that is not UTF-8.
    site.write("latin1.txt", b"caf\xe9\n");
    site.commit("dir/ü.txt", "ü\n");
    site.git(&["tag", "v1"]);
    site.git(&["branch", "other"]);
    site.git(&["mv", "old name.txt", "new name.txt"]);
    site.git(&["rm", "-q", "a.txt"]);
    site.git(&["update-index", "--chmod=+x", "mode.sh"]);
    site.git(&["checkout", "-q", "--", "mode.sh"]);
    std::os::unix::fs::symlink("bin", site.repo().join("link")).unwrap();
    site.write("bin", b"\0\x01\x03");
    site.write("no-newline", "y");
    site.write("new name.txt", "1\n2\n3\n4\n5\n6\n7\neight\n");
    site.write("empty", "");
    site.write(
        "src/main.rs",
        rust.replace("g(7)", "h(7)").replace("g(9)", "h(9)").replace("g(25)", "h(25)"),
    );
    site.git(&["add", "-A"]);
    site.git(&["commit", "-q", "-m", "second\n\n  body ü\n\nlast line"]);
    site.git(&["tag", "-a", "v2", "-m", "annotated"]);
    site
}

#[tokio::test]
async fn what_is_read_is_said_in_the_same_words() {
    let pair = Pair::new(rich()).await;
    for (tool, arguments) in [
        ("git_status", json!({})),
        ("git_log", json!({})),
        ("git_log", json!({ "max_count": 1 })),
        ("git_log", json!({ "max_count": 0 })),
        ("git_log", json!({ "start_timestamp": "2024-01-15T09:00:00Z" })),
        ("git_log", json!({ "start_timestamp": "2 weeks ago" })),
        ("git_log", json!({ "end_timestamp": "Jan 1 2024" })),
        ("git_log", json!({ "end_timestamp": "yesterday", "start_timestamp": null })),
        ("git_show", json!({ "revision": "HEAD" })),
        ("git_show", json!({ "revision": "HEAD~1" })),
        ("git_show", json!({ "revision": "v1^" })),
        ("git_show", json!({ "revision": "v2" })),
        ("git_show", json!({ "revision": "HEAD:" })),
        ("git_show", json!({ "revision": "HEAD:src" })),
        ("git_show", json!({ "revision": "HEAD:src/main.rs" })),
        ("git_show", json!({ "revision": "HEAD:latin1.txt" })),
        ("git_show", json!({ "revision": "HEAD:empty" })),
        ("git_show", json!({ "revision": "nope" })),
        ("git_show", json!({ "revision": "--output=x" })),
        ("git_diff", json!({ "target": "HEAD" })),
        ("git_diff", json!({ "target": "HEAD~1" })),
        ("git_diff", json!({ "target": "HEAD~1", "context_lines": 0 })),
        ("git_diff", json!({ "target": "v1", "context_lines": 20 })),
        ("git_diff", json!({ "target": "other" })),
        ("git_diff", json!({ "target": "nope" })),
        ("git_diff", json!({ "target": "v1..v2" })),
        ("git_diff_unstaged", json!({})),
        ("git_diff_staged", json!({})),
        ("git_branch", json!({ "branch_type": "local" })),
        ("git_branch", json!({ "branch_type": "remote" })),
        ("git_branch", json!({ "branch_type": "all" })),
        ("git_branch", json!({ "branch_type": "local", "contains": "HEAD" })),
        ("git_branch", json!({ "branch_type": "local", "contains": "v1" })),
        ("git_branch", json!({ "branch_type": "local", "not_contains": "HEAD" })),
        ("git_branch", json!({ "branch_type": "some" })),
    ] {
        pair.same(tool, arguments).await;
    }
    for (tool, arguments) in [
        ("git_branch", json!({ "branch_type": "local", "contains": "nope" })),
        ("git_show", json!({ "revision": "HEAD:nope" })),
        ("git_log", json!({ "max_count": "many" })),
        ("git_diff", json!({})),
    ] {
        pair.both_refuse(tool, arguments).await;
    }
}

#[tokio::test]
async fn what_is_changed_is_said_in_the_same_words() {
    let pair = Pair::new(rich()).await;
    let write = |name: &'static str, text: &'static str| {
        move |repo: &Path| std::fs::write(repo.join(name), text).unwrap()
    };
    pair.both(write("src/main.rs", "new\n"));
    pair.both(write("untracked ü", "x"));
    pair.both(|repo| std::fs::remove_file(repo.join("bin")).unwrap());
    pair.same("git_status", json!({})).await;
    pair.same("git_diff_unstaged", json!({})).await;
    pair.same("git_add", json!({ "files": ["src", "bin"] })).await;
    pair.same("git_add", json!({ "files": ["src"] })).await;
    pair.same("git_status", json!({})).await;
    pair.same("git_diff_staged", json!({})).await;
    pair.same("git_diff", json!({ "target": "v1" })).await;
    pair.same("git_reset", json!({})).await;
    pair.same("git_status", json!({})).await;
    pair.both_refuse("git_add", json!({ "files": ["nope"] })).await;
    pair.both_refuse("git_add", json!({ "files": [] })).await;
    pair.both_refuse("git_add", json!({ "files": ["../x"] })).await;
    pair.same("git_commit", json!({ "message": "m" })).await;
    pair.same("git_add", json!({ "files": ["."] })).await;
    pair.same("git_add", json!({ "files": ["."] })).await;
    pair.both(|repo| drop(git(repo, &["mv", "no-newline", "renamed"])));
    pair.same("git_status", json!({})).await;
    let (ours, theirs) = pair.said("git_commit", json!({ "message": "a message" })).await;
    let first = |said: Result<String, String>| said.unwrap().rsplit_once(' ').unwrap().0.to_owned();
    assert_eq!(first(ours), first(theirs));
    let same_tree = |pair: &Pair| {
        let tree = |repo| git(repo, &["log", "-1", "--format=%T %an %ae %B"]);
        assert_eq!(tree(&pair.ours.1), tree(&pair.theirs.1));
    };
    same_tree(&pair);

    for (name, base) in
        [("f", Some("v1")), ("g", None), ("f", None), ("h", Some("nope")), ("-x", None)]
    {
        let arguments = json!({ "branch_name": name, "base_branch": base });
        match base {
            Some("nope") => pair.both_refuse("git_create_branch", arguments).await,
            _ => pair.same("git_create_branch", arguments).await,
        }
    }
    pair.both_refuse("git_create_branch", json!({ "branch_name": "a b" })).await;
    for name in ["f", "other", "v1", "v2", "main", "nope", "--force"] {
        pair.same("git_checkout", json!({ "branch_name": name })).await;
        pair.same("git_status", json!({})).await;
        pair.same("git_branch", json!({ "branch_type": "local" })).await;
    }
    // By its id, and a commit on it.
    pair.both(|repo| drop(git(repo, &["checkout", "-q", "HEAD~1"])));
    pair.same("git_status", json!({})).await;
    pair.same("git_branch", json!({ "branch_type": "all" })).await;
    pair.both(|repo| drop(git(repo, &["commit", "-q", "--allow-empty", "-m", "x"])));
    pair.same("git_status", json!({})).await;
    pair.same("git_create_branch", json!({ "branch_name": "i" })).await;
}

#[tokio::test]
async fn a_status_of_every_kind_is_said_in_the_same_words() {
    // Nothing yet.
    let site = Site::empty();
    let pair = Pair::new(site).await;
    pair.same("git_status", json!({})).await;
    pair.same("git_diff_staged", json!({})).await;
    pair.both(|repo| std::fs::write(repo.join("a"), "x\n").unwrap());
    pair.same("git_status", json!({})).await;
    pair.same("git_add", json!({ "files": ["a"] })).await;
    pair.same("git_status", json!({})).await;
    pair.same("git_diff_staged", json!({})).await;

    // Behind, before and beside another's branch.
    let site = rich();
    let upstream = site.place().join("upstream");
    git(
        &site.place(),
        &["clone", "-q", "--bare", site.repo().to_str().unwrap(), upstream.to_str().unwrap()],
    );
    site.git(&["remote", "add", "origin", upstream.to_str().unwrap()]);
    site.git(&["fetch", "-q", "origin"]);
    site.git(&["branch", "-q", "-u", "origin/main"]);
    site.git(&["remote", "set-head", "origin", "main"]);
    let pair = Pair::new(site).await;
    for kind in ["local", "remote", "all"] {
        pair.same("git_branch", json!({ "branch_type": kind })).await;
    }
    for step in [
        &["status"][..],
        &["commit", "-q", "--allow-empty", "-m", "ahead"],
        &["commit", "-q", "--allow-empty", "-m", "ahead again"],
        &["reset", "-q", "--hard", "HEAD~3"],
        &["commit", "-q", "--allow-empty", "-m", "beside"],
        &["update-ref", "-d", "refs/remotes/origin/main"],
    ] {
        pair.both(|repo| drop(git(repo, step)));
        pair.same("git_status", json!({})).await;
    }

    // Conflicts of every kind, and what resolves them.
    let site = Site::new();
    for name in ["both", "ours-gone", "theirs-gone"] {
        site.commit(name, "one\n");
    }
    site.git(&["checkout", "-q", "-b", "theirs"]);
    site.write("ours-gone", "changed\n");
    site.write("both", "theirs\n");
    site.write("added", "theirs\n");
    std::fs::remove_file(site.repo().join("theirs-gone")).unwrap();
    site.commit("clean", "x\n");
    site.git(&["checkout", "-q", "main"]);
    site.write("theirs-gone", "changed\n");
    site.write("added", "ours\n");
    std::fs::remove_file(site.repo().join("ours-gone")).unwrap();
    site.commit("both", "ours\n");
    let pair = Pair::new(site).await;
    pair.both(|repo| {
        assert!(!command(repo, &["merge", "-q", "theirs"]).status().unwrap().success())
    });
    pair.same("git_status", json!({})).await;
    pair.both(|repo| drop(git(repo, &["add", "both", "added"])));
    pair.same("git_status", json!({})).await;
    pair.both(|repo| drop(git(repo, &["add", "-A"])));
    pair.same("git_status", json!({})).await;
    pair.both(|repo| drop(git(repo, &["reset", "-q", "--hard", "MERGE_HEAD"])));
    pair.same("git_status", json!({})).await;
    pair.same("git_log", json!({})).await;
}
