//! Ways out of the root. Beside it lies a repository with a secret, and none of it is seen.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::support::{Client, Site, call, git, init};

/// Asserts that the repository at `path` is not worked on, whatever is called.
async fn is_refused(client: &Client, path: &str, wanted: &str) {
    for (tool, arguments) in [
        ("git_status", json!({})),
        ("git_log", json!({})),
        ("git_show", json!({ "revision": "HEAD" })),
        ("git_branch", json!({ "branch_type": "all" })),
        ("git_diff_unstaged", json!({})),
        ("git_search", json!({ "query": "secret" })),
        ("git_add", json!({ "files": ["."] })),
        ("git_commit", json!({ "message": "m" })),
        ("git_create_branch", json!({ "branch_name": "mine" })),
    ] {
        let mut arguments = arguments;
        arguments["repo_path"] = path.into();
        let told = call(client, tool, arguments).await.unwrap_err();
        assert!(told.contains(wanted), "{tool}: {told}");
        assert!(!told.contains("secret commit"), "{told}");
    }
}

#[tokio::test]
async fn repositories_elsewhere_are_refused() {
    let site = Site::new();
    let outside = site.outside();
    // Its name begins like the root's.
    let evil = site.place().join("root_evil");
    std::fs::create_dir(&evil).unwrap();
    init(&evil);
    symlink(&outside, site.root().join("link")).unwrap();
    symlink("../outside", site.root().join("relative")).unwrap();
    let client = site.serve().await;
    for path in [
        outside.to_str().unwrap(),
        evil.to_str().unwrap(),
        "../outside",
        "../root_evil",
        "repo/../../outside",
        "link",
        "relative",
        "/",
    ] {
        is_refused(&client, path, &format!("repository '{path}' is outside the allowed directory"))
            .await;
    }
    // Nor is the one found that lies around a directory.
    std::fs::create_dir(site.repo().join("inner")).unwrap();
    is_refused(&client, "repo/inner", "not a git repository").await;
    assert_eq!(git(&outside, &["branch"]), "* main");
}

#[tokio::test]
async fn a_repository_of_another_owner_is_refused() {
    assert!(
        rustix::process::getuid().is_root(),
        "this test gives a repository away: run it as root"
    );
    let site = Site::new();
    let status =
        std::process::Command::new("chown").args(["-R", "12345"]).arg(site.repo()).status();
    assert!(status.unwrap().success());
    is_refused(&site.serve().await, "repo", "not owned by current user").await;
}

#[tokio::test]
async fn a_nested_git_file_does_not_lead_out() {
    let site = Site::new();
    let outside = site.outside();
    let nested = site.repo().join("nested");
    std::fs::create_dir(&nested).unwrap();
    let client = site.serve().await;
    for target in [outside.join(".git").display().to_string(), "../../../outside/.git".to_owned()] {
        std::fs::write(nested.join(".git"), format!("gitdir: {target}\n")).unwrap();
        assert!(git(&nested, &["log"]).contains("secret commit"), "git follows it");
        is_refused(&client, "repo/nested", "is outside the allowed directory").await;
    }
    // Nor does the repository around it look into it, or stage it.
    let said = call(&client, "git_status", json!({})).await.unwrap();
    assert!(said.ends_with("nothing to commit, working tree clean"), "{said}");
    let said = call(&client, "git_add", json!({ "files": ["."] })).await.unwrap();
    assert!(said.starts_with("No changes were staged"), "{said}");
    let told = call(&client, "git_add", json!({ "files": ["nested"] })).await.unwrap_err();
    assert!(told.contains("pathspec 'nested' did not match any files"), "{told}");
    std::fs::remove_file(nested.join(".git")).unwrap();
    symlink(outside.join(".git"), nested.join(".git")).unwrap();
    is_refused(&client, "repo/nested", "is outside the allowed directory").await;
}

#[tokio::test]
async fn a_work_tree_of_a_repository_inside_is_served() {
    let site = Site::new();
    site.git(&["worktree", "add", "-q", "-b", "side", "../side"]);
    let client = site.serve().await;
    let said = call(&client, "git_status", json!({ "repo_path": "side" })).await.unwrap();
    assert!(said.contains("On branch side"), "{said}");
}

#[tokio::test]
async fn a_common_directory_outside_is_refused() {
    let site = Site::new();
    let outside = site.outside();
    git(
        &outside,
        &["worktree", "add", "-q", "-b", "side", site.root().join("side").to_str().unwrap()],
    );
    let client = site.serve().await;
    is_refused(&client, "side", "is outside the allowed directory").await;
    // Its own directory inside, what it shares outside.
    let own = site.root().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    std::fs::write(own.join("commondir"), outside.join(".git").display().to_string()).unwrap();
    std::fs::write(site.root().join("side/.git"), "gitdir: ../own\n").unwrap();
    is_refused(&client, "side", "common directory").await;
}

#[tokio::test]
async fn alternates_outside_are_refused() {
    let site = Site::new();
    let outside = site.outside();
    let secret = git(&outside, &["rev-parse", "HEAD"]);
    let objects = outside.join(".git/objects").display().to_string();
    site.write(".git/objects/info/alternates", format!("# a comment\n{objects}\n"));
    assert!(site.git(&["show", &secret]).contains("secret commit"), "git follows it");
    let client = site.serve().await;
    is_refused(&client, "repo", "alternate").await;
    site.write(".git/objects/info/alternates", "../../../../outside/.git/objects\n");
    is_refused(&client, "repo", "alternate").await;
    // By way of one that lies inside.
    let between = site.root().join("between/info");
    std::fs::create_dir_all(&between).unwrap();
    std::fs::write(between.join("alternates"), format!("{objects}\n")).unwrap();
    site.write(".git/objects/info/alternates", "../../../between\n");
    assert!(site.git(&["show", &secret]).contains("secret commit"), "git follows it");
    is_refused(&client, "repo", "alternate").await;
    std::fs::remove_file(between.join("alternates")).unwrap();
    call(&client, "git_log", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_work_tree_outside_is_refused() {
    let site = Site::new();
    let outside = site.outside();
    let client = site.serve().await;
    for tree in [outside.to_str().unwrap(), "../../../outside"] {
        site.git(&["config", "core.worktree", tree]);
        site.git(&["add", "secret.txt"]);
        is_refused(&client, "repo", "work tree").await;
    }
}

#[tokio::test]
async fn files_outside_are_not_staged() {
    let site = Site::new();
    let outside = site.outside();
    symlink(&outside, site.repo().join("door")).unwrap();
    symlink(outside.join("secret.txt"), site.repo().join("link.txt")).unwrap();
    let client = site.serve().await;
    let absolute = outside.join("secret.txt").display().to_string();
    for (file, wanted) in [
        ("../../outside/secret.txt", "is outside the repository"),
        ("../repo_evil", "is outside the repository"),
        (absolute.as_str(), "is outside the repository"),
        ("/etc/passwd", "is outside the repository"),
        ("door/secret.txt", "is beyond a symbolic link"),
        (".git/config", "is the repository's own"),
        ("nested/.GIT/config", "is the repository's own"),
        ("nul\0", "Invalid path"),
        ("nowhere", "did not match any files"),
    ] {
        // One that is good does not help it.
        let files = json!({ "files": ["link.txt", file] });
        let told = call(&client, "git_add", files).await.unwrap_err();
        assert!(told.contains(wanted), "{file:?}: {told}");
        assert_eq!(site.git(&["diff", "--cached", "--name-only"]), "", "{file:?}");
    }
    // A link is staged as what it is.
    call(&client, "git_add", json!({ "files": ["link.txt", "door"] })).await.unwrap();
    assert_eq!(site.git(&["cat-file", "blob", ":link.txt"]), absolute);
}

#[tokio::test]
async fn links_of_a_repository_do_not_lead_out() {
    let outside_of = |site: &Site| site.outside().join(".git");
    for (name, target) in [
        ("objects", "objects"),
        ("objects/pack", "objects"),
        ("refs", "refs"),
        ("refs/heads", "refs/heads"),
        ("refs/heads/theirs", "refs/heads/main"),
        ("HEAD", "HEAD"),
        ("config", "config"),
        ("index", "index"),
        ("packed-refs", "nowhere"),
    ] {
        let site = Site::new();
        let target = outside_of(&site).join(target);
        let link = site.repo().join(".git").join(name);
        if link.is_dir() {
            std::fs::remove_dir_all(&link).unwrap();
        } else if link.exists() {
            std::fs::remove_file(&link).unwrap();
        }
        symlink(target, link).unwrap();
        is_refused(&site.serve().await, "repo", "is outside the allowed directory").await;
    }
}

#[tokio::test]
async fn a_configuration_does_not_lead_out() {
    let site = Site::new();
    let client = site.serve().await;
    let secret = site.outside().join("secret.txt").display().to_string();
    for key in ["core.excludesFile", "core.attributesFile"] {
        site.git(&["config", key, &secret]);
        is_refused(&client, "repo", "a file of its configuration").await;
        site.git(&["config", "--unset", key]);
    }
    let config = std::fs::read_to_string(site.repo().join(".git/config")).unwrap();
    for include in
        ["[include]\n\tpath = x\n", "[includeIf \"gitdir:/\"] path = x\n", "[InClude]path=x\n"]
    {
        site.write(".git/config", format!("{config}{include}"));
        is_refused(&client, "repo", "includes other files").await;
    }
}

/// What no list of checks knows: the kernel keeps the process that does the work in the root.
#[tokio::test]
async fn the_kernel_keeps_the_work_in_the_root() {
    let site = Site::new();
    let outside = site.outside();
    let secret = git(&outside, &["rev-parse", "HEAD:secret.txt"]);
    let object = Path::new("objects").join(&secret[..2]).join(&secret[2..]);
    let link = site.repo().join(".git").join(&object);
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(outside.join(".git").join(&object), &link).unwrap();
    assert_eq!(site.git(&["cat-file", "blob", &secret]), "secret", "git follows it");
    let client = site.serve().await;
    let told = call(&client, "git_show", json!({ "revision": secret })).await;
    assert!(told.is_err(), "this kernel has no Landlock: {told:?}");
}
