//! Repositories that want to have something executed. In each test git itself falls into the trap
//! first; whoever calls git would.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;

use crate::support::{Client, Site, call, command};

/// A program that says that it was started.
struct Trap {
    program: PathBuf,
    mark: PathBuf,
}

impl Trap {
    fn set(site: &Site) -> Self {
        let (program, mark) = (site.root().join("trap"), site.root().join("sprung"));
        let script = format!("#!/bin/sh\ntouch '{}'\ncat >/dev/null 2>&1\ntrue\n", mark.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { program, mark }
    }

    fn program(&self) -> &str {
        self.program.to_str().unwrap()
    }

    /// Lets git fall into it.
    fn catches_git(&self, site: &Site, arguments: &[&str]) {
        // Whether git then works does not matter.
        let _ = command(&site.repo(), arguments).output().unwrap();
        assert!(self.mark.exists(), "git {arguments:?} does not fall into the trap");
        std::fs::remove_file(&self.mark).unwrap();
    }
}

/// Calls every tool that touches files, the index or commits; some may refuse.
async fn do_everything(client: &Client) -> Vec<Result<String, String>> {
    let mut said = Vec::new();
    for (tool, arguments) in [
        ("git_status", json!({})),
        ("git_diff_unstaged", json!({})),
        ("git_diff", json!({ "target": "HEAD~1" })),
        ("git_add", json!({ "files": ["a.txt"] })),
        ("git_diff_staged", json!({})),
        ("git_commit", json!({ "message": "m" })),
        ("git_show", json!({ "revision": "HEAD" })),
        ("git_log", json!({})),
        ("git_blame", json!({ "path": "a.txt" })),
        ("git_search", json!({ "query": "e" })),
        ("git_create_branch", json!({ "branch_name": "b", "base_branch": "v1" })),
        ("git_reset", json!({})),
        ("git_checkout", json!({ "branch_name": "b" })),
        ("git_branch", json!({ "branch_type": "all" })),
    ] {
        said.push(call(client, tool, arguments).await);
    }
    said
}

/// A repository with two commits of `a.txt`, a tag at the first, and a change that is not staged.
fn site() -> Site {
    let site = Site::new();
    site.git(&["tag", "v1"]);
    site.commit("a.txt", "two\n");
    site.write("a.txt", "three\n");
    site
}

#[tokio::test]
async fn hooks_are_not_run() {
    let site = site();
    let trap = Trap::set(&site);
    let hooks = site.root().join("hooks");
    std::fs::create_dir(&hooks).unwrap();
    for hook in [
        "pre-commit",
        "prepare-commit-msg",
        "commit-msg",
        "post-commit",
        "post-checkout",
        "post-index-change",
        "reference-transaction",
    ] {
        for place in [&hooks, &site.repo().join(".git/hooks")] {
            std::fs::create_dir_all(place).unwrap();
            std::os::unix::fs::symlink(&trap.program, place.join(hook)).unwrap();
        }
    }
    trap.catches_git(&site, &["branch", "seen"]);
    site.git(&["config", "core.hooksPath", hooks.to_str().unwrap()]);
    trap.catches_git(&site, &["branch", "seen-too"]);
    for said in do_everything(&site.serve().await).await {
        said.unwrap();
    }
    assert!(!trap.mark.exists());
}

#[tokio::test]
async fn clean_and_smudge_filters_are_not_run() {
    let site = site();
    let trap = Trap::set(&site);
    site.git(&["config", "filter.evil.clean", trap.program()]);
    site.git(&["config", "filter.evil.smudge", trap.program()]);
    site.write(".git/info/attributes", "*.txt filter=evil\n");
    trap.catches_git(&site, &["diff"]);
    // Git would wait for its answer.
    site.git(&["config", "filter.evil.process", trap.program()]);
    let client = site.serve().await;
    do_everything(&client).await;
    assert!(!trap.mark.exists());
    // What would be other bytes than git's own is not staged.
    site.write("a.txt", "four\n");
    let told = call(&client, "git_add", json!({ "files": ["a.txt"] })).await.unwrap_err();
    assert!(told.contains("'a.txt' goes through the filter 'evil'"), "{told}");
}

#[tokio::test]
async fn text_conversions_are_not_run() {
    let site = site();
    let trap = Trap::set(&site);
    site.git(&["config", "diff.evil.textconv", trap.program()]);
    site.write(".git/info/attributes", "*.txt diff=evil\n");
    trap.catches_git(&site, &["diff"]);
    for said in do_everything(&site.serve().await).await {
        said.unwrap();
    }
    assert!(!trap.mark.exists());
}

#[tokio::test]
async fn external_programs_for_differences_are_not_run() {
    let site = site();
    let trap = Trap::set(&site);
    site.git(&["config", "diff.external", trap.program()]);
    trap.catches_git(&site, &["diff"]);
    site.git(&["config", "--unset", "diff.external"]);
    site.git(&["config", "diff.evil.command", trap.program()]);
    site.write(".git/info/attributes", "*.txt diff=evil\n");
    trap.catches_git(&site, &["diff"]);
    site.git(&["config", "diff.external", trap.program()]);
    for said in do_everything(&site.serve().await).await {
        said.unwrap();
    }
    assert!(!trap.mark.exists());
}

#[tokio::test]
async fn the_monitor_of_files_is_not_started() {
    let site = site();
    let trap = Trap::set(&site);
    site.git(&["config", "core.fsmonitor", trap.program()]);
    trap.catches_git(&site, &["status"]);
    for said in do_everything(&site.serve().await).await {
        said.unwrap();
    }
    assert!(!trap.mark.exists());
}

#[tokio::test]
async fn programs_for_signatures_pagers_and_editors_are_not_run() {
    let site = site();
    let trap = Trap::set(&site);
    for key in ["gpg.program", "core.pager", "core.editor", "core.sshCommand", "alias.status"] {
        site.git(&["config", key, trap.program()]);
    }
    site.git(&["config", "commit.gpgSign", "true"]);
    trap.catches_git(&site, &["commit", "-q", "-a", "-m", "m"]);
    for said in do_everything(&site.serve().await).await {
        said.unwrap();
    }
    assert!(!trap.mark.exists());
}

#[tokio::test]
async fn nothing_is_taken_for_an_option() {
    let site = site();
    // Names that a repository may really have, as whoever writes its files decides.
    let head = site.git(&["rev-parse", "HEAD"]);
    for name in ["--output=stolen", "-d", "--force"] {
        site.write(&format!(".git/refs/heads/{name}"), format!("{head}\n"));
        site.write(name, "x\n");
    }
    let client = site.serve().await;
    for value in ["--output=stolen", "--output=a.txt", "-d", "--force", "-", "--"] {
        for (tool, key, more) in [
            ("git_show", "revision", json!({})),
            ("git_diff", "target", json!({})),
            ("git_log", "start_timestamp", json!({})),
            ("git_log", "end_timestamp", json!({})),
            ("git_branch", "contains", json!({ "branch_type": "all" })),
            ("git_branch", "not_contains", json!({ "branch_type": "all" })),
            ("git_checkout", "branch_name", json!({})),
            ("git_create_branch", "branch_name", json!({})),
            ("git_create_branch", "base_branch", json!({ "branch_name": "b" })),
            ("git_blame", "path", json!({})),
            ("git_blame", "revision", json!({ "path": "a.txt" })),
            ("git_search", "revision", json!({ "query": "x" })),
        ] {
            let mut arguments = more;
            arguments[key] = value.into();
            let told = call(&client, tool, arguments).await.unwrap_err();
            assert!(told.contains("cannot start with '-'"), "{tool} {key} {value}: {told}");
        }
    }
    // Files may be called so; they are files.
    let files = json!({ "files": ["--force", "--output=stolen"] });
    assert_eq!(call(&client, "git_add", files).await.unwrap(), "Files staged successfully");
    assert!(!site.repo().join("stolen").exists() && !site.root().join("stolen").exists());
    assert_eq!(site.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(std::fs::read(site.repo().join("a.txt")).unwrap(), b"three\n");
}

#[tokio::test]
async fn negative_and_huge_counts_are_refused() {
    let site = site();
    let client = site.serve().await;
    for (tool, arguments) in [
        ("git_log", json!({ "max_count": -1 })),
        ("git_log", json!({ "max_count": 1001 })),
        ("git_log", json!({ "max_count": 1e12 })),
        ("git_diff_unstaged", json!({ "context_lines": -1 })),
        ("git_diff_staged", json!({ "context_lines": -1 })),
        ("git_diff", json!({ "target": "HEAD", "context_lines": 4_294_967_295_u32 })),
        ("git_blame", json!({ "path": "a.txt", "start_line": -1 })),
        ("git_search", json!({ "query": "x", "max_count": -1 })),
    ] {
        let told = call(&client, tool, arguments.clone()).await.unwrap_err();
        assert!(told.contains("invalid") || told.contains("more than"), "{arguments}: {told}");
    }
    assert_eq!(
        call(&client, "git_log", json!({ "max_count": 0 })).await.unwrap(),
        "Commit history:\n"
    );
}
