//! What the writing tools do, as git itself sees it afterwards.

use serde_json::json;

use crate::support::{Site, call, serve};

#[tokio::test]
async fn a_branch_that_cannot_be_read_is_not_taken_for_one_without_a_commit() {
    let site = Site::new();
    site.commit("a.txt", "x\n");
    site.write("a.txt", "y\n");
    site.git(&["add", "a.txt"]);
    let staged = site.git(&["ls-files", "--stage"]);
    let branch = site.repo().join(".git/refs/heads/main");
    let id = std::fs::read(&branch).unwrap();
    // As after a power cut.
    std::fs::write(&branch, "").unwrap();
    let client = site.serve().await;
    for (tool, arguments) in [
        ("git_reset", json!({})),
        ("git_diff_staged", json!({})),
        ("git_commit", json!({ "message": "m" })),
    ] {
        let told = call(&client, tool, arguments).await.unwrap_err();
        assert!(told.contains("corrupted"), "{tool}: {told}");
    }
    std::fs::write(&branch, id).unwrap();
    assert_eq!(site.git(&["ls-files", "--stage"]), staged);
}

#[tokio::test]
async fn work_is_staged_committed_and_left_for_another_branch() {
    let site = Site::new();
    site.commit("gone.txt", "x\n");
    site.write("a.txt", "two\n");
    site.write("sub/new.txt", "new\n");
    std::fs::remove_file(site.repo().join("gone.txt")).unwrap();
    let client = site.serve().await;
    let add = async |files: &[&str]| call(&client, "git_add", json!({ "files": files })).await;
    assert_eq!(add(&["sub", "gone.txt"]).await.unwrap(), "Files staged successfully");
    assert_eq!(site.git(&["status", "--short"]), " M a.txt\nD  gone.txt\nA  sub/new.txt");
    assert!(add(&["sub"]).await.unwrap().starts_with("No changes were staged"));
    assert_eq!(call(&client, "git_reset", json!({})).await.unwrap(), "All staged changes reset");
    assert_eq!(site.git(&["status", "--short"]), " M a.txt\n D gone.txt\n?? sub/");
    assert_eq!(add(&["."]).await.unwrap(), "Files staged successfully");
    let said = call(&client, "git_commit", json!({ "message": "all\n\nof it" })).await.unwrap();
    let head = site.git(&["rev-parse", "HEAD"]);
    assert_eq!(said, format!("Changes committed successfully with hash {head}"));
    assert_eq!(
        site.git(&["log", "-1", "--format=%an <%ae>%n%B"]),
        "Ada Lovelace <ada@example.com>\nall\n\nof it"
    );
    let again = call(&client, "git_commit", json!({ "message": "m" })).await.unwrap_err();
    assert!(again.contains("No changes staged for commit"), "{again}");

    let make = json!({ "branch_name": "feature/x", "base_branch": "main" });
    let said = call(&client, "git_create_branch", make).await.unwrap();
    assert_eq!(said, "Created branch 'feature/x' from 'main'");
    let checkout =
        async |name: &str| call(&client, "git_checkout", json!({ "branch_name": name })).await;
    assert_eq!(checkout("feature/x").await.unwrap(), "Switched to branch 'feature/x'");
    site.commit("a.txt", "three\n");
    site.write("a.txt", "mine\n");
    let told = checkout("main").await.unwrap_err();
    assert!(told.contains("would be overwritten by checkout: a.txt"), "{told}");
    assert_eq!(std::fs::read(site.repo().join("a.txt")).unwrap(), b"mine\n");
    assert_eq!(site.git(&["fsck", "--strict"]), "");
}

#[tokio::test]
async fn the_author_is_whom_the_operator_names() {
    let site = Site::new();
    site.git(&["config", "--unset", "user.name"]);
    site.write("a.txt", "two\n");
    site.git(&["add", "."]);
    let commit = json!({ "message": "m" });
    let told = call(&site.serve().await, "git_commit", commit.clone()).await.unwrap_err();
    assert!(told.contains("mcp_git.author_name"), "{told}");
    let settings =
        [("WRITE", "true"), ("AUTHOR_NAME", "Baton"), ("AUTHOR_EMAIL", "baton@example.com")];
    let client = serve(&site.root(), &settings).await;
    call(&client, "git_commit", commit).await.unwrap();
    assert_eq!(
        site.git(&["log", "-1", "--format=%an <%ae> %cn"]),
        "Baton <baton@example.com> Baton"
    );
}

#[tokio::test]
async fn a_first_commit_and_a_merge_are_committed() {
    let site = Site::empty();
    site.write("a.txt", "one\n");
    let client = site.serve().await;
    let all = json!({ "files": ["."] });
    call(&client, "git_add", all.clone()).await.unwrap();
    call(&client, "git_reset", json!({})).await.unwrap();
    assert_eq!(site.git(&["status", "--short"]), "?? a.txt");
    call(&client, "git_add", all.clone()).await.unwrap();
    call(&client, "git_commit", json!({ "message": "first" })).await.unwrap();

    site.git(&["checkout", "-q", "-b", "other"]);
    site.commit("a.txt", "theirs\n");
    site.git(&["checkout", "-q", "main"]);
    site.commit("a.txt", "ours\n");
    assert!(
        !crate::support::command(&site.repo(), &["merge", "-q", "other"])
            .status()
            .unwrap()
            .success()
    );
    let told = call(&client, "git_commit", json!({ "message": "m" })).await.unwrap_err();
    assert!(told.contains("unmerged paths"), "{told}");
    site.write("a.txt", "both\n");
    call(&client, "git_add", all).await.unwrap();
    call(&client, "git_commit", json!({ "message": "merged" })).await.unwrap();
    assert_eq!(site.git(&["log", "-1", "--format=%p"]).split(' ').count(), 2);
    assert_eq!(site.git(&["status", "--short"]), "");
    assert!(!site.repo().join(".git/MERGE_HEAD").exists());
}

#[tokio::test]
async fn names_that_are_no_branches_are_refused() {
    let site = Site::new();
    let client = site.serve().await;
    for name in ["", "a b", "a..b", "a.lock", "@{-1}", "x~1", "HEAD", "/a", "a\nb", "a:b", "-a"] {
        let make = json!({ "branch_name": name });
        let told = call(&client, "git_create_branch", make).await.unwrap_err();
        assert!(told.contains("Invalid branch name"), "{name:?}: {told}");
    }
    assert_eq!(site.git(&["branch"]), "* main");
}
