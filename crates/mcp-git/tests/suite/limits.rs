//! What is too much or takes too long, and who does not notice.

use serde_json::json;

use crate::support::{Site, call, init, serve};

/// 40 MB of lines that all differ.
fn huge() -> String {
    (0..2_000_000).map(|line| format!("line {line:>14}\n")).collect()
}

#[tokio::test]
async fn a_huge_difference_is_cut_and_a_huge_file_refused() {
    let site = Site::new();
    site.write("huge.txt", huge());
    site.git(&["add", "."]);
    let client = site.serve().await;
    let diff = call(&client, "git_diff_staged", json!({})).await.unwrap();
    assert!(diff.starts_with("Staged changes:\ndiff --git a/huge.txt b/huge.txt\n"));
    assert!(diff.ends_with("\n[cut: there is more than 1048576 bytes]"));
    assert!(diff.len() < 1_100_000, "{}", diff.len());
    site.git(&["commit", "-q", "-m", "huge"]);
    let shown = call(&client, "git_show", json!({ "revision": "HEAD" })).await.unwrap();
    assert!(shown.ends_with("\n[cut: there is more than 1048576 bytes]"));
    for (tool, arguments) in [
        ("git_show", json!({ "revision": "HEAD:huge.txt" })),
        ("git_blame", json!({ "path": "huge.txt" })),
    ] {
        let told = call(&client, tool, arguments).await.unwrap_err();
        assert!(
            told.contains("'HEAD:huge.txt' has 40000000 bytes, more than the limit of 1048576"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_call_that_hangs_ends_in_time_and_other_repositories_do_not_wait() {
    let site = Site::new();
    let other = site.root().join("other");
    std::fs::create_dir(&other).unwrap();
    init(&other);
    // A reader of this waits until somebody writes.
    let fifo = std::process::Command::new("mkfifo").arg(site.repo().join(".gitignore")).status();
    assert!(fifo.unwrap().success());
    site.write("new.txt", "x");
    let client = serve(&site.root(), &[("TIME_LIMIT_MS", "2000"), ("WORKERS", "2")]).await;
    let hang = || call(&client, "git_status", json!({}));
    let others = async {
        for _ in 0..5 {
            let status = json!({ "repo_path": "other" });
            call(&client, "git_status", status).await.unwrap();
        }
        std::time::Instant::now()
    };
    let (first, second, done) = tokio::join!(hang(), hang(), others);
    let late = std::time::Instant::now();
    for told in [first.unwrap_err(), second.unwrap_err()] {
        assert!(told.contains("longer than 2000 ms"), "{told}");
    }
    assert!(done < late, "they were answered meanwhile");
    // Nothing of it is left.
    std::fs::remove_file(site.repo().join(".gitignore")).unwrap();
    assert!(hang().await.unwrap().contains("new.txt"));
}

#[tokio::test]
async fn a_pipe_in_a_repository_is_refused_at_once() {
    let site = Site::new();
    let client = site.serve().await;
    for name in ["index", "packed-refs", "refs/heads/other"] {
        let path = site.repo().join(".git").join(name);
        let kept = std::fs::read(&path).ok();
        let _ = std::fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let told = call(&client, "git_log", json!({})).await.unwrap_err();
        assert!(told.contains("is a pipe, a socket or a device"), "{told}");
        std::fs::remove_file(&path).unwrap();
        if let Some(kept) = kept {
            std::fs::write(&path, kept).unwrap();
        }
    }
}

#[tokio::test]
async fn what_uses_too_much_memory_ends_alone() {
    let site = Site::new();
    site.commit("huge.txt", huge());
    site.write("huge.txt", huge().replace("line", "Line"));
    // Where memory ends, while a file is read or while it is compared, depends on how much there is.
    for most in ["20000000", "30000000", "45000000", "60000000", "90000000"] {
        let client = serve(&site.root(), &[("MAX_MEMORY_BYTES", most)]).await;
        // It says so; there is no answer that says less than all.
        let told = call(&client, "git_diff_unstaged", json!({})).await.unwrap_err();
        let says = "'huge.txt' could not be compared: there was too little memory (mcp_git.max_mem";
        assert!(told.contains(says), "{most}: {told}");
        assert!(call(&client, "git_log", json!({})).await.unwrap().contains("huge.txt"));
    }
}

#[tokio::test]
async fn what_was_not_read_for_want_of_memory_is_said() {
    let site = Site::new();
    site.commit("huge.txt", huge());
    site.commit("small.txt", "line 2\n");
    // The library has no memory for the file, or it has, and this program has none for a copy.
    for most in ["20000000", "60000000", "80000000", "100000000", "120000000"] {
        let settings = [("MAX_MEMORY_BYTES", most), ("MAX_BYTES", "50000000")];
        let client = serve(&site.root(), &settings).await;
        let show = json!({ "revision": "HEAD:huge.txt" });
        let told = call(&client, "git_show", show).await.unwrap_err();
        assert!(told.contains("more memory"), "{most}: {told}");
        assert!(told.contains("(mcp_git.max_memory_bytes)"), "{most}: {told}");
    }
    let settings = [("MAX_MEMORY_BYTES", "20000000"), ("MAX_BYTES", "50000000")];
    let client = serve(&site.root(), &settings).await;
    let found = call(&client, "git_search", json!({ "query": "line 2" })).await.unwrap();
    let says = "Found 1 lines in HEAD:\nsmall.txt:1:line 2\n\
                [1 files could not be read, the first is 'huge.txt': it takes more memory";
    assert!(found.starts_with(says), "{found}");
}

#[tokio::test]
async fn many_at_once_change_one_repository_one_after_the_other() {
    let site = Site::new();
    let client = site.serve().await;
    let works = (0..10).map(|number| {
        let (client, name) = (client.peer().clone(), format!("f{number}.txt"));
        site.write(&name, "x");
        let request = |tool: &'static str, arguments: serde_json::Value| {
            rmcp::model::CallToolRequestParams::new(tool)
                .with_arguments(arguments.as_object().unwrap().clone())
        };
        tokio::spawn(async move {
            let add = request("git_add", json!({ "repo_path": "repo", "files": [name] }));
            let added = client.call_tool(add).await.unwrap();
            let branch = json!({ "repo_path": "repo", "branch_name": format!("b{number}") });
            let made = client.call_tool(request("git_create_branch", branch)).await.unwrap();
            for answer in [added, made] {
                assert_ne!(answer.is_error, Some(true), "{answer:?}");
            }
        })
    });
    for work in works.collect::<Vec<_>>() {
        work.await.unwrap();
    }
    assert_eq!(site.git(&["diff", "--cached", "--name-only"]).lines().count(), 10);
    assert_eq!(site.git(&["branch"]).lines().count(), 11);
}
