//! What the reading tools say that the reference server has not, and how the server is reached.

use rmcp::model::ProtocolVersion;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _};
use serde_json::json;
use testkit::Process;

use crate::support::{Site, call, serve};

const READING: [&str; 9] = [
    "git_status",
    "git_diff_unstaged",
    "git_diff_staged",
    "git_diff",
    "git_log",
    "git_show",
    "git_branch",
    "git_blame",
    "git_search",
];

#[tokio::test]
async fn it_reads_unless_it_is_told_to_write() {
    let site = Site::new();
    let names = async |client: &crate::support::Client| {
        let tools = client.list_all_tools().await.unwrap();
        tools.iter().map(|tool| tool.name.to_string()).collect::<Vec<_>>()
    };
    let reader = serve(&site.root(), &[]).await;
    assert_eq!(names(&reader).await, READING);
    site.write("a.txt", "two\n");
    for (tool, arguments) in [
        ("git_add", json!({ "files": ["."] })),
        ("git_commit", json!({ "message": "m" })),
        ("git_reset", json!({})),
        ("git_create_branch", json!({ "branch_name": "b" })),
        ("git_checkout", json!({ "branch_name": "main" })),
    ] {
        let told = call(&reader, tool, arguments).await.unwrap_err();
        assert!(told.contains(tool) && told.contains("mcp_git.write is false"), "{told}");
    }
    assert_eq!(site.git(&["diff", "--cached"]), "");
    assert_eq!(names(&site.serve().await).await.len(), 14);
}

#[tokio::test]
async fn it_is_discovered_over_http() {
    runtime::http::use_ring();
    let site = Site::new();
    let process = Process::service("mcp-git", |command| {
        command.env("BATON_MCP_GIT__ROOT", site.root());
    });
    let process = process.await.unwrap();
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp", process.url));
    let discover =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = ().serve_with_lifecycle(transport, discover).await.unwrap();
    let answer = rmcp::model::CallToolRequestParams::new("git_status")
        .with_arguments(json!({ "repo_path": "repo" }).as_object().unwrap().clone());
    let answer = client.call_tool(answer).await.unwrap();
    assert!(answer.content[0].as_text().unwrap().text.contains("nothing to commit"));
    let unknown = client.call_tool(rmcp::model::CallToolRequestParams::new("git_stauts")).await;
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .contains("unknown tool \"git_stauts\"; there is git_status")
    );
    drop(client);
    let (status, log) = process.stop().await.unwrap();
    assert!(status.success(), "{status} {log}");
}

#[tokio::test]
async fn blame_is_that_of_git() {
    let site = Site::new();
    site.commit("a.txt", "one\ntwo\nthree\n");
    site.git(&["-c", "user.name=Grace Hopper", "commit", "-q", "--allow-empty", "-m", "nothing"]);
    site.write("a.txt", "one\n2\nthree\nfour");
    site.git(&["-c", "user.name=Grace Hopper", "commit", "-q", "-a", "-m", "more"]);
    let client = site.serve().await;
    let blame = call(&client, "git_blame", json!({ "path": "a.txt" })).await.unwrap();
    let wanted = site.git(&["blame", "a.txt"]);
    assert_eq!(blame, format!("Blame of a.txt:\n{wanted}\n"));
    let some = json!({ "path": "a.txt", "start_line": 2, "end_line": 3, "revision": "HEAD~1" });
    let blame = call(&client, "git_blame", some).await.unwrap();
    let wanted = site.git(&["blame", "-L2,3", "HEAD~1", "--", "a.txt"]);
    assert_eq!(blame, format!("Blame of a.txt:\n{wanted}\n"));
    for (arguments, wanted) in [
        (json!({ "path": "b.txt" }), "Ref 'HEAD:b.txt' did not resolve"),
        (json!({ "path": "../a.txt" }), "did not resolve"),
        (json!({ "path": "a.txt", "start_line": 9 }), "has the lines 1 to 4"),
        (json!({ "path": "a.txt", "start_line": 0 }), "has the lines 1 to 4"),
    ] {
        let told = call(&client, "git_blame", arguments).await.unwrap_err();
        assert!(told.contains(wanted), "{told}");
    }
}

#[tokio::test]
async fn the_files_of_a_commit_are_searched() {
    let site = Site::new();
    site.commit("src/a.rs", "fn main() {}\nlet Main = 1;\n// a.b\n");
    site.commit("src_evil/b.rs", "fn main() {}\n");
    site.commit("bin", b"main\0main");
    site.commit("big", "main\n".repeat(300_000));
    site.write("src/a.rs", "main is not committed");
    let client = site.serve().await;
    let search = async |arguments| call(&client, "git_search", arguments).await;
    let skipped = "\n[1 files of more than 1048576 bytes were not searched]";
    for (arguments, wanted) in [
        (json!({ "query": "main", "path": "src" }), "1 lines in HEAD:\nsrc/a.rs:1:fn main() {}"),
        (
            json!({ "query": "main", "path": "src/", "case_sensitive": false }),
            "2 lines in HEAD:\nsrc/a.rs:1:fn main() {}\nsrc/a.rs:2:let Main = 1;",
        ),
        (json!({ "query": "a.b", "path": "src/a.rs" }), "1 lines in HEAD:\nsrc/a.rs:3:// a.b"),
        (
            json!({ "query": "^fn m..n", "regex": true }),
            &format!(
                "2 lines in HEAD:\nsrc/a.rs:1:fn main() {{}}\nsrc_evil/b.rs:1:fn main() {{}}{skipped}"
            ),
        ),
        (
            json!({ "query": "main", "max_count": 1, "path": "src_evil" }),
            "1 lines in HEAD:\nsrc_evil/b.rs:1:fn main() {}\n[cut: there may be more; max_count lines were found]",
        ),
        (json!({ "query": "main", "revision": "HEAD~4" }), "0 lines in HEAD~4:"),
        (json!({ "query": "nowhere", "path": "src" }), "0 lines in HEAD:"),
    ] {
        assert_eq!(search(arguments).await.unwrap(), format!("Found {wanted}"));
    }
    for (arguments, wanted) in [
        (json!({ "query": "" }), "query is not"),
        (json!({ "query": "(", "regex": true }), "unclosed group"),
        (json!({ "query": "x{1000}{1000}", "regex": true }), "size limit"),
        (json!({ "query": "x", "max_count": 0 }), "max_count is not 1 to 1000"),
        (json!({ "query": "x", "revision": "nope" }), "Ref 'nope' did not resolve"),
    ] {
        let told = search(arguments).await.unwrap_err();
        assert!(told.contains(wanted), "{told}");
    }
}

#[tokio::test]
async fn what_is_no_repository_is_named() {
    let site = Site::new();
    std::fs::create_dir(site.root().join("plain")).unwrap();
    site.write("file", "x");
    let client = site.serve().await;
    for (path, wanted) in [
        ("nowhere", "'nowhere' does not exist"),
        ("plain", "it is not a git repository"),
        ("repo/file", "it is not a git repository"),
        ("", "it is not a git repository"),
        ("nul\0", "not a path"),
    ] {
        let told = call(&client, "git_status", json!({ "repo_path": path })).await.unwrap_err();
        assert!(told.contains(wanted), "{path:?}: {told}");
    }
    let absolute = json!({ "repo_path": site.repo() });
    assert!(call(&client, "git_status", absolute).await.is_ok());
    let told = call(&client, "git_show", json!({ "revision": 7 })).await.unwrap_err();
    assert!(told.contains("invalid arguments: /revision: invalid type: integer `7`"), "{told}");
}

#[test]
fn a_configuration_that_answers_nothing_is_refused_by_name() {
    let good = mcp_git::Config::default;
    for (config, wanted) in [
        (mcp_git::Config { root: "/nowhere".into(), ..good() }, "mcp_git.root: /nowhere"),
        (mcp_git::Config { workers: 0, ..good() }, "mcp_git.workers"),
        (mcp_git::Config { author_name: "A".into(), ..good() }, "mcp_git.author_email"),
    ] {
        let told = mcp_git::Git::open(&config).unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
    }
}
