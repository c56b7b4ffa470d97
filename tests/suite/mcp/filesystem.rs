use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::Process;
use testkit::process::program;
use tokio::process::Command;

use super::clients::{Call, list_and_call};
use super::conformance::judge;
use super::reference::Child;
use crate::packages::node_with;

/// Whose place ours takes.
const REFERENCE: [&str; 1] = ["@modelcontextprotocol/server-filesystem@2026.8.31"];

/// Starts a server of ours over HTTP on a directory with one file.
async fn serve() -> (TempDir, Process, String) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("hello.txt"), "hello, reader\n").unwrap();
    let process = Process::service("mcp-filesystem", |command| {
        command.env("BATON_MCP_FILESYSTEM__ROOT", files.path());
    });
    let process = process.await.unwrap();
    let url = format!("{}/mcp", process.url);
    (files, process, url)
}

#[tokio::test]
async fn clients_of_others_list_and_call_the_filesystem_server_in_every_era() {
    let (_files, _process, url) = serve().await;
    let arguments = json!({ "path": "hello.txt", "head": 1 });
    list_and_call(&url, &Call { tool: "read_text_file", arguments, answer: "hello, reader" }).await;
}

#[tokio::test]
async fn the_filesystem_server_conforms_as_far_as_it_can_be_asked() {
    let (_files, _process, url) = serve().await;
    judge(&url).await;
}

#[tokio::test]
async fn the_filesystem_server_answers_as_the_reference_server_does() {
    let place = node_with("mcp-reference", &REFERENCE).await;
    let (theirs, ours) = (tree(), tree());
    let mut command = Command::new("node");
    let package = "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js";
    command.arg(place.join(package)).arg(root(&theirs)).env("TZ", "UTC");
    let reference = Child::start(command).await;
    let mut command = Command::new(program("mcp-filesystem").unwrap());
    command.arg("--stdio").env("BATON_MCP_FILESYSTEM__ROOT", root(&ours));
    let server = Child::start(command).await;

    let (mine, other) = (server.tools().await, reference.tools().await);
    assert_eq!(mine.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let mut differences = Vec::new();
    for (name, tool) in mine {
        if tool != other[&name] {
            differences.push(format!("{name}\n ours: {tool}\n theirs: {}", other[&name]));
        }
    }
    for (tool, arguments) in calls() {
        let mine = at(&server, &root(&ours), tool, &arguments).await;
        let other = at(&reference, &root(&theirs), tool, &arguments).await;
        if mine != other {
            differences.push(format!("{tool} {arguments}\n ours: {mine}\n theirs: {other}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(everything(&root(&ours)), everything(&root(&theirs)));
}

/// Calls of which both say and do the same, one after the other. `ROOT` is the directory.
fn calls() -> Vec<(&'static str, Value)> {
    let edits = |edits: Value, dry_run: bool| json!({ "path": "ROOT/src/main.rs", "edits": edits, "dryRun": dry_run });
    vec![
        ("list_allowed_directories", json!({})),
        ("read_text_file", json!({ "path": "ROOT/notes.txt" })),
        ("read_file", json!({ "path": "notes.txt" })),
        ("read_text_file", json!({ "path": "ROOT/src/../notes.txt", "head": 2 })),
        ("read_text_file", json!({ "path": "notes.txt", "head": 100 })),
        ("read_text_file", json!({ "path": "notes.txt", "head": 0, "tail": 0 })),
        ("read_text_file", json!({ "path": "unended.txt", "tail": 2 })),
        ("read_text_file", json!({ "path": "unended.txt", "tail": 100 })),
        ("read_text_file", json!({ "path": "notes.txt", "head": 1, "tail": 1 })),
        ("read_text_file", json!({ "path": "latin.txt" })),
        ("read_text_file", json!({ "path": "empty" })),
        ("read_text_file", json!({ "path": "missing" })),
        ("read_text_file", json!({ "path": "src" })),
        ("read_text_file", json!({ "path": "../secret" })),
        ("read_text_file", json!({ "path": "/etc/passwd" })),
        ("read_text_file", json!({ "path": "inside" })),
        ("read_text_file", json!({ "path": "outside" })),
        ("read_text_file", json!({})),
        ("read_text_file", json!({ "path": 1 })),
        ("read_media_file", json!({ "path": "picture.png" })),
        ("read_media_file", json!({ "path": "sound.MP3" })),
        ("read_media_file", json!({ "path": "ROOT/with space #1.bin" })),
        ("read_media_file", json!({ "path": "missing.png" })),
        ("read_multiple_files", json!({ "paths": ["notes.txt", "missing", "ROOT/empty"] })),
        ("read_multiple_files", json!({ "paths": [] })),
        ("list_directory", json!({ "path": "ROOT" })),
        ("list_directory", json!({ "path": "." })),
        ("list_directory", json!({ "path": "hollow" })),
        ("list_directory", json!({ "path": "notes.txt" })),
        ("list_directory_with_sizes", json!({ "path": "sized" })),
        ("list_directory_with_sizes", json!({ "path": "sized", "sortBy": "size" })),
        ("list_directory_with_sizes", json!({ "path": "hollow", "sortBy": "name" })),
        ("list_directory_with_sizes", json!({ "path": "sized", "sortBy": "age" })),
        ("directory_tree", json!({ "path": "ROOT" })),
        ("directory_tree", json!({ "path": "ROOT/src" })),
        ("directory_tree", json!({ "path": "ROOT", "excludePatterns": ["deep", "*.txt"] })),
        ("directory_tree", json!({ "path": "ROOT", "excludePatterns": ["**/*.rs", "sized/**"] })),
        ("search_files", json!({ "path": "ROOT", "pattern": "*.txt" })),
        ("search_files", json!({ "path": "ROOT", "pattern": "**/*.rs" })),
        ("search_files", json!({ "path": "src", "pattern": "**" })),
        ("search_files", json!({ "path": "ROOT", "pattern": "src/{main,lib}.?s" })),
        (
            "search_files",
            json!({ "path": "ROOT", "pattern": "**/[a-l]*", "excludePatterns": ["src/**"] }),
        ),
        ("search_files", json!({ "path": "ROOT", "pattern": "**/.hidden" })),
        ("search_files", json!({ "path": "ROOT", "pattern": "nothing*" })),
        ("get_file_info", json!({ "path": "notes.txt" })),
        ("get_file_info", json!({ "path": "src" })),
        ("get_file_info", json!({ "path": "missing" })),
        ("create_directory", json!({ "path": "made/of/many" })),
        ("create_directory", json!({ "path": "ROOT/made/of" })),
        ("create_directory", json!({ "path": "notes.txt" })),
        ("write_file", json!({ "path": "made/new.txt", "content": "new \u{1f980}\r\n" })),
        ("write_file", json!({ "path": "executable", "content": "#!/bin/sh\n" })),
        ("write_file", json!({ "path": "inside", "content": "through a link\n" })),
        ("write_file", json!({ "path": "outside", "content": "x" })),
        ("write_file", json!({ "path": "nowhere/x", "content": "x" })),
        ("write_file", json!({ "path": "src", "content": "x" })),
        ("write_file", json!({ "path": "made/x" })),
        ("edit_file", edits(json!([{ "oldText": "one", "newText": "1" }]), true)),
        ("edit_file", edits(json!([{ "oldText": "    one();\n", "newText": "" }]), false)),
        (
            "edit_file",
            edits(
                json!([
                    { "oldText": "fn main", "newText": "pub fn main" },
                    { "oldText": "ten();\n}", "newText": "ten();\n    ```();\n}" },
                ]),
                false,
            ),
        ),
        ("edit_file", edits(json!([]), false)),
        ("edit_file", edits(json!([{ "oldText": "missing", "newText": "" }]), false)),
        (
            "edit_file",
            json!({ "path": "unended.txt", "edits": [{ "oldText": "three", "newText": "3" }] }),
        ),
        (
            "edit_file",
            json!({ "path": "executable", "edits": [{ "oldText": "sh", "newText": "bash" }] }),
        ),
        ("edit_file", json!({ "path": "notes.txt", "edits": [{ "oldText": "one" }] })),
        ("move_file", json!({ "source": "made/new.txt", "destination": "ROOT/moved.txt" })),
        ("move_file", json!({ "source": "made", "destination": "renamed" })),
        ("move_file", json!({ "source": "notes.txt", "destination": "empty" })),
        ("move_file", json!({ "source": "missing", "destination": "x" })),
        ("move_file", json!({ "source": "notes.txt", "destination": "../x" })),
        ("directory_tree", json!({ "path": "ROOT" })),
    ]
}

/// Makes the same directory each time, beside a file that is not to be reached.
fn tree() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let (long, longer) = ("0123456789\n".repeat(1000), "0123456789\n".repeat(200_000));
    let code: String = "one two three four five six seven eight nine ten"
        .split(' ')
        .map(|word| format!("    {word}();\n"))
        .collect();
    let code = format!("fn main() {{\n{code}}}\n");
    let files: [(&str, &[u8]); 17] = [
        ("../secret", b"secret"),
        ("notes.txt", b"one\ntwo\nthree\n"),
        ("unended.txt", b"one\ntwo\nthree"),
        ("latin.txt", b"caf\xe9\n"),
        ("empty", b""),
        ("picture.png", b"\x89PNG\r\n"),
        ("sound.MP3", b"ID3"),
        ("with space #1.bin", b"\0\x01\xff"),
        ("src/main.rs", code.as_bytes()),
        ("src/lib.rs", b""),
        ("src/deep/inner.rs", b""),
        ("src/deep/.hidden", b""),
        ("sized/a", b"a"),
        ("sized/b", long.as_bytes()),
        ("sized/c", longer.as_bytes()),
        ("executable", b"#!/bin/true\n"),
        ("target", b"reached by a link\n"),
    ];
    std::fs::create_dir_all(root(&place)).unwrap();
    for (path, bytes) in files {
        let path = root(&place).join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
    }
    std::fs::create_dir(root(&place).join("hollow")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o751);
    std::fs::set_permissions(root(&place).join("executable"), mode).unwrap();
    std::os::unix::fs::symlink("target", root(&place).join("inside")).unwrap();
    std::os::unix::fs::symlink("../secret", root(&place).join("outside")).unwrap();
    place
}

fn root(place: &TempDir) -> PathBuf {
    place.path().canonicalize().unwrap().join("root")
}

/// Calls a tool and returns the answer without what two directories or two moments differ in.
async fn at(server: &Child, root: &Path, tool: &str, arguments: &Value) -> Value {
    let root = root.to_str().unwrap();
    let arguments = arguments.to_string().replace("ROOT", root);
    let answer = server.call(tool, &serde_json::from_str(&arguments).unwrap()).await;
    let mut lines = Vec::new();
    for line in answer.to_string().replace(root, "ROOT").split("\\n") {
        lines.push(match line.split_once(": ") {
            Some((name @ ("created" | "accessed"), date)) => {
                // `Sun Sep 13 2020 12:26:40 GMT+0000 (Coordinated Universal Time)`.
                let told: String = date.chars().filter(|c| !c.is_ascii_digit()).skip(8).collect();
                format!("{name}: {told}")
            }
            Some(("modified", _)) if arguments.contains("src") => "modified".to_owned(),
            Some((path, fault)) if fault.starts_with("Error - ") => format!("{path}: Error"),
            _ => line.to_owned(),
        });
    }
    json!(lines)
}

/// Returns everything that is in a directory: paths, modes, and what is in files.
fn everything(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt as _;

    let (mut found, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            let bytes = if about.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            if about.is_dir() {
                directories.push(path.clone());
            }
            let below = path.strip_prefix(root).unwrap().to_owned();
            found.push((below, about.permissions().mode(), bytes));
        }
    }
    found.sort();
    found
}
