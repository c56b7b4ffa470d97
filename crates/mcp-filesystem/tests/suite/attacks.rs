//! A test for each way out, and for each way to hang or to destroy.
//!
//! [`naive`] is what a server does that joins the path to its root, looks how it begins, and opens it;
//! where it can be asked without harm, a test says that it would have been lost.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{Connection, Place};

/// Reads what `path` names from `root` on as long as it begins with `root`.
fn naive(root: &Path, path: &str) -> Option<Vec<u8>> {
    let joined = root.join(path);
    let begins = joined.to_str()?.starts_with(root.to_str()?);
    begins.then(|| std::fs::read(joined).ok())?
}

/// Asserts that every tool refuses every path in these words, and that nothing is touched.
async fn refused(place: &Place, server: &Connection, paths: &[&str], words: &[&str]) {
    let before = place.everything();
    for path in paths {
        for (tool, told) in server.every(path).await {
            let fault = told.unwrap_err();
            assert!(words.iter().any(|word| fault.contains(word)), "{tool} {path:?}: {fault}");
            assert!(!fault.contains("secret\""), "{tool} {path:?} tells what is there: {fault}");
        }
    }
    assert!(place.everything() == before, "something was touched");
}

#[tokio::test]
async fn a_directory_whose_name_begins_like_the_root_is_outside() {
    let place = Place::new();
    let evil = place.at("data_evil/secret.txt");
    let evil = evil.to_str().unwrap();
    assert_eq!(naive(&place.root(), evil).unwrap(), b"secret", "a naive server is lost");
    let server = place.connect().await;
    let new = place.at("data_evil/new");
    let itself = place.at("data_evil");
    let paths = [evil, new.to_str().unwrap(), itself.to_str().unwrap()];
    refused(&place, &server, &paths, &["outside"]).await;
}

#[tokio::test]
async fn no_path_leads_up_and_out() {
    let place = Place::new();
    assert_eq!(naive(&place.root(), "../secret.txt").unwrap(), b"secret", "a naive server is lost");
    let server = place.connect().await;
    let above = format!("{}/../secret.txt", place.root().display());
    let paths =
        ["../secret.txt", "sub/../../secret.txt", "..", "../data_evil", &above, "/etc/passwd", "/"];
    refused(&place, &server, &paths, &["outside", "no name"]).await;
}

#[tokio::test]
async fn no_link_leads_out_alone_or_in_a_chain() {
    let place = Place::new();
    place.link("../secret.txt", "data/link");
    place.link("../data_evil", "data/door");
    place.link(place.at("secret.txt"), "data/absolute");
    place.link("sub/second", "data/first");
    place.link("third", "data/sub/second");
    place.link("../../secret.txt", "data/sub/third");
    place.link("/proc/self/root", "data/magic");
    place.link("/proc/self/cwd", "data/sub/here");
    for path in ["link", "door/secret.txt", "absolute", "first"] {
        assert_eq!(naive(&place.root(), path).unwrap(), b"secret", "a naive server is lost");
    }
    let server = place.connect().await;
    let before = place.everything();
    let paths = [
        "link",
        "door/secret.txt",
        "door",
        "door/new",
        "absolute",
        "first",
        "magic/etc/passwd",
        "magic",
        "sub/here/Cargo.toml",
    ];
    for path in paths {
        for (tool, told) in server.every(path).await {
            match told {
                Err(fault) => assert!(
                    fault.contains("outside") || fault.contains("exists"),
                    "{tool} {path}: {fault}"
                ),
                // The link itself has another name now, and leads nowhere else.
                Ok(_) => {
                    assert_eq!(tool, "move_file", "{path}");
                    std::fs::rename(place.at("data/moved"), place.at("data").join(path)).unwrap();
                }
            }
        }
    }
    assert!(place.everything() == before, "something was touched");
    let listed = server.ask("list_directory_with_sizes", json!({ "path": "." })).await.unwrap();
    assert!(listed.contains(&format!("[FILE] {:<30} {:>10}", "link", "0 B")), "{listed}");
    let found = server.ask("search_files", json!({ "path": ".", "pattern": "*" })).await.unwrap();
    assert!(!found.contains("data/link") && found.contains("data/notes.txt"), "{found}");
}

#[tokio::test]
async fn a_link_that_stays_is_followed() {
    let place = Place::new();
    place.link("sub/inner.txt", "data/inside");
    place.link("../sub", "data/sub/again");
    let server = place.connect().await;
    assert_eq!(server.read("inside").await.unwrap(), "inner");
    assert_eq!(server.read("sub/again/again/inner.txt").await.unwrap(), "inner");
    server.write("inside", "written").await.unwrap();
    server.edit("sub/again/inner.txt", "writ", "WRIT").await.unwrap();
    assert_eq!(place.bytes("data/sub/inner.txt"), b"WRITten");
    assert!(place.at("data/inside").is_symlink(), "it leads where it led");
    server.write("sub/again/new.txt", "new").await.unwrap();
    assert_eq!(place.bytes("data/sub/new.txt"), b"new");
}

#[tokio::test]
async fn nothing_comes_to_be_at_the_end_of_a_link_to_nothing() {
    let place = Place::new();
    place.link("../new.txt", "data/out");
    place.link("nowhere", "data/in");
    std::fs::write(place.root().join("out"), "lost").unwrap();
    assert_eq!(place.bytes("new.txt"), b"lost", "a naive server writes there");
    std::fs::remove_file(place.at("new.txt")).unwrap();
    let server = place.connect().await;
    let before = place.everything();
    for path in ["out", "in"] {
        for told in [
            server.read(path).await,
            server.write(path, "x").await,
            server.edit(path, "a", "b").await,
            server.make(path).await,
            server.make(&format!("{path}/deeper")).await,
            server.rename("notes.txt", path).await,
        ] {
            let fault = told.unwrap_err();
            let words =
                ["outside", "link to what does not exist", "does not exist", "exists already"];
            assert!(words.iter().any(|word| fault.contains(word)), "{path}: {fault}");
        }
    }
    assert!(place.everything() == before, "something was touched");
}

#[tokio::test]
async fn a_pipe_and_a_socket_are_refused_at_once() {
    let place = Place::new();
    let made = std::process::Command::new("mkfifo").arg(place.at("data/pipe")).status().unwrap();
    assert!(made.success());
    let _socket = UnixListener::bind(place.at("data/socket")).unwrap();
    let server = place.connect().await;
    let before = place.everything();
    // A naive server opens the pipe and waits for ever.
    let asked = async {
        for path in ["pipe", "socket"] {
            for (tool, told) in server.every(path).await {
                match (tool, told) {
                    ("get_file_info", told) => assert!(told.unwrap().contains("isFile: false")),
                    (_, Err(fault)) => {
                        let words = ["not a regular file", "not a directory", "exists already"];
                        assert!(words.iter().any(|word| fault.contains(word)), "{tool}: {fault}");
                    }
                    (tool, Ok(told)) => panic!("{tool}: {told}"),
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap();
    assert!(place.everything() == before, "something was touched");
}

#[tokio::test]
async fn a_device_is_not_read() {
    let place = Place::new();
    // It must not write there, so it is told not to.
    let config = mcp_filesystem::Config {
        root: Path::new("/dev").to_owned().into(),
        read_only: true,
        ..place.config()
    };
    let server = Connection::to(&config).await;
    // A naive server reads zeros until it has no memory left.
    for device in ["zero", "full", "null", "tty"] {
        for arguments in [json!({ "path": device }), json!({ "path": device, "head": 1 })] {
            let told = server.ask("read_text_file", arguments).await.unwrap_err();
            assert!(told.contains("not a regular file"), "{device}: {told}");
        }
    }
}

#[tokio::test]
async fn what_is_larger_than_allowed_is_neither_read_nor_written() {
    let place = Place::new();
    let huge = std::fs::File::create(place.at("data/huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    place.make("data/long", "x\n".repeat(1000).as_bytes());
    place.make("data/wide", "x".repeat(2000).as_bytes());
    let config = mcp_filesystem::Config { max_file_bytes: 1000, ..place.config() };
    let server = Connection::to(&config).await;
    for path in ["huge", "long", "wide"] {
        for (tool, arguments) in [
            ("read_text_file", json!({ "path": path })),
            ("read_media_file", json!({ "path": path })),
            ("edit_file", json!({ "path": path, "edits": [{ "oldText": "x", "newText": "y" }] })),
            ("read_text_file", json!({ "path": path, "head": 1001 })),
            ("read_text_file", json!({ "path": path, "tail": 1001 })),
        ] {
            let told = server.ask(tool, arguments).await.unwrap_err();
            assert!(told.contains("more than 1000 bytes"), "{tool} {path}: {told}");
        }
    }
    let part = |part: &str| json!({ "path": "long", part: 2 });
    assert_eq!(server.ask("read_text_file", part("head")).await.unwrap(), "x\nx");
    assert_eq!(server.ask("read_text_file", part("tail")).await.unwrap(), "x\nx\n");
    // It says that it is empty, and is not.
    let config = mcp_filesystem::Config {
        root: Path::new("/proc/self").to_owned().into(),
        read_only: true,
        ..config
    };
    let told = Connection::to(&config).await.read("maps").await.unwrap_err();
    assert!(told.contains("more than 1000 bytes"), "{told}");
    let told = server.write("notes.txt", &"x".repeat(1001)).await.unwrap_err();
    assert!(told.contains("more than 1000 bytes"), "{told}");
    assert_eq!(place.bytes("data/notes.txt"), b"one\ntwo\nthree\n");
    let many = vec!["sub/inner.txt"; 201];
    let told = server.ask("read_multiple_files", json!({ "paths": many })).await.unwrap_err();
    assert!(told.contains("more than 1000 bytes of files"), "{told}");
}

#[tokio::test]
async fn trees_that_are_too_wide_too_deep_or_too_slow_are_refused() {
    let place = Place::new();
    for number in 0..20 {
        place.make(&format!("data/wide/{number}"), b"");
    }
    place.make(&format!("data/deep/{}x", "d/".repeat(9)), b"");
    place.link("..", "data/sub/loop");
    let config = mcp_filesystem::Config { max_entries: 15, max_depth: 5, ..place.config() };
    let server = Connection::to(&config).await;
    for (tool, path, fault) in [
        ("list_directory", "wide", "more than 15 entries"),
        ("list_directory_with_sizes", "wide", "more than 15 entries"),
        ("directory_tree", "wide", "more than 15 entries"),
        ("directory_tree", "deep", "more than 5 levels"),
    ] {
        let told = server.ask(tool, json!({ "path": path })).await.unwrap_err();
        assert!(told.contains(fault), "{tool}: {told}");
    }
    for (path, fault) in [("wide", "more than 15 entries"), ("deep", "more than 5 levels")] {
        let asked = json!({ "path": path, "pattern": "**" });
        let told = server.ask("search_files", asked).await.unwrap_err();
        assert!(told.contains(fault), "{told}");
    }
    let tree = server.ask("directory_tree", json!({ "path": "sub" })).await.unwrap();
    assert!(!tree.contains("children"), "a link to a directory is not entered: {tree}");

    let config = mcp_filesystem::Config { timeout_ms: 0, ..place.config() };
    let server = Connection::to(&config).await;
    let told = server.ask("directory_tree", json!({ "path": "." })).await.unwrap_err();
    assert!(told.contains("takes too long") || told.contains("longer than 0 s"), "{told}");
}

#[tokio::test]
async fn a_file_with_a_second_name_is_not_read_or_written() {
    let place = Place::new();
    std::fs::hard_link(place.at("secret.txt"), place.at("data/alias")).unwrap();
    assert_eq!(naive(&place.root(), "alias").unwrap(), b"secret", "a naive server is lost");
    let server = place.connect().await;
    let before = place.everything();
    for told in [
        server.read("alias").await,
        server.ask("read_media_file", json!({ "path": "alias" })).await,
        server.write("alias", "x").await,
        server.edit("alias", "secret", "x").await,
    ] {
        assert!(told.unwrap_err().contains("more than one name"));
    }
    assert!(place.everything() == before, "something was touched");

    let config = mcp_filesystem::Config { hard_links: true, ..place.config() };
    let server = Connection::to(&config).await;
    assert_eq!(server.read("alias").await.unwrap(), "secret");
    server.write("alias", "mine").await.unwrap();
    assert_eq!(place.bytes("secret.txt"), b"secret", "only the name was given to another file");
}

#[tokio::test]
async fn what_belongs_to_git_is_read_and_never_written() {
    let place = Place::new();
    place.make("data/.git/config", b"[core]\n");
    place.make("data/.git/hooks/pre-commit.sample", b"exit 1\n");
    place.make("data/vendor/lib/.git", b"gitdir: ../../.git/modules/lib\n");
    place.make("data/tools/hook", b"#!/bin/sh\n");
    place.link(".git", "data/alias");
    place.link("tools", "data/sub/.git");
    let server = place.connect().await;
    assert_eq!(server.read(".git/config").await.unwrap(), "[core]\n");
    let before = place.everything();
    for path in [
        ".git/config",
        ".git/hooks/pre-commit",
        ".git/new/deeper",
        ".GIT/config",
        "sub/../.git/config",
        "alias/config",
        "alias/hooks/pre-commit",
        "vendor/lib/.git",
        "vendor/.Git",
        "sub/.git/hook",
        "new/.git/config",
        ".git",
    ] {
        for told in [
            server.write(path, "[core]\nfsmonitor = ./x\n").await,
            server.edit(path, "core", "x").await,
            server.make(path).await,
            server.rename("tools/hook", path).await,
            server.rename(path, "moved").await,
        ] {
            let fault = told.unwrap_err();
            // What is not there behind the link cannot be edited or moved.
            let missing = path.starts_with("alias/hooks") && fault.contains("does not exist");
            assert!(fault.contains("belongs to git") || missing, "{path}: {fault}");
        }
    }
    assert!(server.rename("tools", "vendor/.git").await.unwrap_err().contains("git"));
    assert!(place.everything() == before, "something was touched");
    server.write(".gitignore", "target\n").await.unwrap();
}

#[tokio::test]
async fn names_that_are_none_are_refused_and_nothing_is_touched() {
    use std::os::unix::ffi::OsStrExt as _;

    let place = Place::new();
    let odd = std::ffi::OsStr::from_bytes(b"data/caf\xe9");
    std::fs::write(place.at("").join(odd), "latin").unwrap();
    let server = place.connect().await;
    let long = "x".repeat(256);
    let far = "x/".repeat(2100) + "x";
    let before = place.everything();
    for (path, word) in [
        ("notes.txt\0", "NUL"),
        ("\0", "NUL"),
        (long.as_str(), "too long"),
        (far.as_str(), "too long"),
        ("C:\\Windows\\win.ini", "another system"),
        ("c:/boot.ini", "another system"),
        ("notes.txt/x", "not a directory"),
    ] {
        for (tool, told) in server.every(path).await {
            let fault = told.unwrap_err();
            assert!(fault.contains(word), "{tool} {path:?}: {fault}");
        }
    }
    for told in [
        server.read("caf\u{fffd}").await,
        server.edit("caf\u{fffd}", "latin", "x").await,
        server.rename("caf\u{fffd}", "moved").await,
    ] {
        assert!(told.unwrap_err().contains("not UTF-8"));
    }
    for path in ["", ".", "./", "sub/.."] {
        for told in [
            server.write(path, "x").await,
            server.rename(path, "moved").await,
            server.rename("notes.txt", path).await,
            server.read(path).await,
        ] {
            let fault = told.unwrap_err();
            assert!(
                fault.contains("no name") || fault.contains("not a regular file"),
                "{path:?}: {fault}"
            );
        }
    }
    assert!(place.everything() == before, "something was touched");
    let listed = server.ask("list_directory", json!({ "path": "" })).await.unwrap();
    assert!(listed.contains("[FILE] caf\u{fffd}"), "{listed}");
}

#[tokio::test]
async fn a_forbidden_name_is_not_reached_by_any_way() {
    let place = Place::new();
    place.make("data/.env", b"TOKEN=secret");
    place.make("data/app/.ENV.local", b"TOKEN=secret");
    place.make("data/deploy.pem", b"secret");
    place.make("data/.ssh/config", b"secret");
    place.make("data/sub/plain", b"plain");
    place.link(".env", "data/innocent");
    place.link(".ssh", "data/door");
    for path in [".env", "innocent"] {
        assert_eq!(naive(&place.root(), path).unwrap(), b"TOKEN=secret", "a naive server is lost");
    }
    let server = place.connect().await;
    let paths =
        [".env", "app/.ENV.local", "deploy.pem", ".ssh/config", ".ssh", "new.key", "sub/.env/x"];
    refused(&place, &server, &paths, &["are forbidden"]).await;
    for path in ["innocent", "door/config"] {
        for told in [server.read(path).await, server.write(path, "x").await] {
            assert!(told.unwrap_err().contains("are forbidden"), "{path}");
        }
    }
    // Their names are told, and what is below them is not.
    let tree = server.ask("directory_tree", json!({ "path": "." })).await.unwrap();
    assert!(tree.contains("\".env\"") && !tree.contains("\"config\""), "{tree}");
    let asked = json!({ "path": ".", "pattern": "**/config" });
    assert_eq!(server.ask("search_files", asked).await.unwrap(), "No matches found");
    // Not even with all above it.
    server.rename("app", "renamed").await.unwrap();
    assert!(server.read("renamed/.ENV.local").await.unwrap_err().contains("are forbidden"));
}

#[tokio::test]
async fn nothing_is_written_when_it_is_to_be_read_only() {
    let place = Place::new();
    let config = mcp_filesystem::Config { read_only: true, ..place.config() };
    let server = Connection::to(&config).await;
    let tools = server.client.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), 10);
    assert!(tools.iter().all(|t| t.annotations.as_ref().unwrap().read_only_hint == Some(true)));
    let arguments = json!({ "path": "x", "content": "x" }).as_object().unwrap().clone();
    let request = rmcp::model::CallToolRequestParams::new("write_file").with_arguments(arguments);
    let told = server.client.call_tool(request).await.unwrap_err();
    assert!(told.to_string().contains("unknown tool"), "{told}");
    assert!(!place.at("data/x").exists());
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_and_one_that_works_keeps_the_mode() {
    let place = Place::new();
    let server = place.connect().await;
    let mode = |path: &str| place.at(path).metadata().unwrap().permissions().mode() & 0o777;
    for wanted in [0o755, 0o600, 0o444] {
        let permissions = std::fs::Permissions::from_mode(wanted);
        std::fs::set_permissions(place.at("data/notes.txt"), permissions).unwrap();
        server.write("notes.txt", "one").await.unwrap();
        assert_eq!(mode("data/notes.txt"), wanted);
        server.edit("notes.txt", "one", "two").await.unwrap();
        assert_eq!(mode("data/notes.txt"), wanted);
    }
    let before = place.everything();
    assert!(server.write("sub", "x").await.unwrap_err().contains("not a regular file"));
    assert!(server.write("nowhere/x", "x").await.unwrap_err().contains("does not exist"));
    assert!(server.make("nowhere/../x").await.unwrap_err().contains("does not exist"));
    assert!(server.rename("notes.txt", "sub").await.unwrap_err().contains("exists already"));
    assert!(server.rename("sub", "sub/below").await.unwrap_err().contains("lies in"));
    assert!(server.rename("nothing", "x").await.unwrap_err().contains("does not exist"));
    assert!(place.everything() == before, "something was touched");
}
