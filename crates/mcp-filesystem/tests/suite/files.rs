//! What the tools do for who means well.

use mcp_filesystem::{Config, Roots};
use serde_json::{Value, json};

use super::{Connection, Place};

#[tokio::test]
async fn the_tools_are_those_of_the_reference_server() {
    let place = Place::new();
    let tools = place.connect().await.client.list_all_tools().await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    let wanted = [
        "create_directory",
        "directory_tree",
        "edit_file",
        "get_file_info",
        "list_allowed_directories",
        "list_directory",
        "list_directory_with_sizes",
        "move_file",
        "read_file",
        "read_media_file",
        "read_multiple_files",
        "read_text_file",
        "search_files",
        "write_file",
    ];
    assert_eq!(names, wanted);
    for tool in tools {
        let listed = serde_json::to_string(&tool).unwrap();
        assert!(!listed.contains("$ref") && tool.output_schema.is_some(), "{listed}");
    }
}

#[tokio::test]
async fn files_are_read_whole_or_in_part() {
    let place = Place::new();
    place.make("data/latin", b"caf\xe9\n");
    place.make("data/binary", b"a\0b");
    place.make("data/empty", b"");
    place.make("data/windows", b"one\r\ntwo\r\n");
    place.make("data/long", "0123456789\n".repeat(30_000).as_bytes());
    let server = place.connect().await;
    let absolute = place.root().join("sub/../sub/inner.txt");
    for (path, wanted) in [
        ("notes.txt", "one\ntwo\nthree\n"),
        ("./sub//inner.txt", "inner"),
        (absolute.to_str().unwrap(), "inner"),
        ("latin", "caf\u{fffd}\n"),
        ("empty", ""),
        ("windows", "one\r\ntwo\r\n"),
    ] {
        assert_eq!(server.read(path).await.unwrap(), wanted, "{path}");
    }
    for (path, part, lines, wanted) in [
        ("notes.txt", "head", json!(2), "one\ntwo"),
        ("notes.txt", "head", json!(9), "one\ntwo\nthree"),
        ("notes.txt", "head", json!(2.0), "one\ntwo"),
        ("notes.txt", "head", json!(0), "one\ntwo\nthree\n"),
        ("notes.txt", "head", json!(null), "one\ntwo\nthree\n"),
        ("notes.txt", "tail", json!(2), "two\nthree\n"),
        ("notes.txt", "tail", json!(3), "one\ntwo\nthree\n"),
        ("notes.txt", "tail", json!(9), "one\ntwo\nthree\n"),
        ("sub/inner.txt", "tail", json!(1), "inner"),
        ("empty", "tail", json!(1), ""),
        ("empty", "head", json!(1), ""),
    ] {
        let told = server.ask("read_text_file", json!({ "path": path, part: lines })).await;
        assert_eq!(told.unwrap(), wanted, "{path} {part} {lines}");
    }
    let told = server.ask("read_text_file", json!({ "path": "long", "tail": 20_000 })).await;
    assert_eq!(told.unwrap(), "0123456789\n".repeat(20_000));
    assert!(server.read("binary").await.unwrap_err().contains("read_media_file"));
    assert!(server.read("missing").await.unwrap_err().contains("does not exist"));
    let several = json!({ "paths": ["sub/inner.txt", "missing", "latin"] });
    assert_eq!(
        server.ask("read_multiple_files", several).await.unwrap(),
        "sub/inner.txt:\ninner\n\n---\nmissing: Error - \"missing\" does not exist\n---\n\
         latin:\ncaf\u{fffd}\n\n"
    );
}

#[tokio::test]
async fn what_is_not_text_is_an_image_a_sound_or_a_resource() {
    let place = Place::new();
    place.make("data/a.PNG", b"\x89PNG");
    place.make("data/b.mp3", b"ID3");
    place.make("data/c d.bin", b"\0\x01");
    let server = place.connect().await;
    let url = format!("file://{}/c%20d.bin", place.root().display());
    for (path, wanted) in [
        ("a.PNG", json!({ "type": "image", "data": "iVBORw==", "mimeType": "image/png" })),
        ("b.mp3", json!({ "type": "audio", "data": "SUQz", "mimeType": "audio/mpeg" })),
        (
            "c d.bin",
            json!({ "type": "resource", "resource":
                { "uri": url, "mimeType": "application/octet-stream", "blob": "AAE=" } }),
        ),
    ] {
        let answer = server.call("read_media_file", json!({ "path": path })).await;
        assert_eq!(serde_json::to_value(&answer.content).unwrap(), json!([wanted]));
        assert_eq!(answer.structured_content.unwrap(), json!({ "content": [wanted] }));
    }
}

#[tokio::test]
async fn directories_are_listed_searched_and_drawn() {
    let place = Place::new();
    place.make("data/B.rs", &[b'x'; 1536]);
    place.make("data/sub/deep/a.rs", b"");
    place.make("data/sub/deep/skip/b.rs", b"");
    std::fs::create_dir(place.at("data/empty")).unwrap();
    let server = place.connect().await;
    let at = json!({ "path": "." });
    assert_eq!(
        server.ask("list_directory", at.clone()).await.unwrap(),
        "[FILE] B.rs\n[DIR] empty\n[FILE] notes.txt\n[DIR] sub"
    );
    let sizes = server.ask("list_directory_with_sizes", at.clone()).await.unwrap();
    let lines: Vec<_> = sizes.lines().collect();
    assert_eq!(lines[0], format!("[FILE] {:<30} {:>10}", "B.rs", "1.50 KB"));
    assert_eq!(lines[3], format!("[DIR] {:<30} ", "sub"));
    assert_eq!(lines[5..], ["Total: 2 files, 2 directories", "Combined size: 1.51 KB"]);
    let tree = |excluded: Value| json!({ "path": "sub", "excludePatterns": excluded });
    let told = server.ask("directory_tree", tree(json!(["skip"]))).await.unwrap();
    let wanted = json!([
        { "name": "deep", "type": "directory", "children": [{ "name": "a.rs", "type": "file" }] },
        { "name": "inner.txt", "type": "file" },
    ]);
    assert_eq!(told, serde_json::to_string_pretty(&wanted).unwrap());
    for (pattern, excluded, wanted) in [
        ("*.rs", json!([]), vec!["B.rs"]),
        ("**/*.rs", json!([]), vec!["B.rs", "sub/deep/a.rs", "sub/deep/skip/b.rs"]),
        ("**/*.rs", json!(["**/skip"]), vec!["B.rs", "sub/deep/a.rs"]),
        ("s?b/**/{a,x}.rs", json!([]), vec!["sub/deep/a.rs"]),
        ("*", json!(["*.txt"]), vec!["B.rs", "empty", "sub"]),
        ("nothing", json!([]), vec![]),
    ] {
        let asked = json!({ "path": ".", "pattern": pattern, "excludePatterns": excluded });
        let whole = wanted.iter().map(|path| place.root().join(path).display().to_string());
        let wanted = match wanted.is_empty() {
            true => "No matches found".to_owned(),
            false => whole.collect::<Vec<_>>().join("\n"),
        };
        assert_eq!(server.ask("search_files", asked).await.unwrap(), wanted, "{pattern}");
    }
    let info = server.ask("get_file_info", json!({ "path": "B.rs" })).await.unwrap();
    assert!(info.starts_with("size: 1536\ncreated: ") && info.contains("isFile: true"), "{info}");
}

#[tokio::test]
async fn files_are_written_edited_and_moved() {
    let place = Place::new();
    let server = place.connect().await;
    assert_eq!(server.make("a/b/c").await.unwrap(), "Successfully created directory a/b/c");
    server.make("a/b/c").await.unwrap();
    assert!(server.make("notes.txt").await.is_err());
    assert_eq!(server.write("a/b/new", "one\r\n").await.unwrap(), "Successfully wrote to a/b/new");
    let told = server.rename("a/b/new", "a/moved").await.unwrap();
    assert_eq!(told, "Successfully moved a/b/new to a/moved");
    assert_eq!(place.bytes("data/a/moved"), b"one\r\n");

    place.make("data/mixed", b"caf\xe9\r\none\r\ntwo\r\n");
    let edits = json!([
        { "oldText": "one\n", "newText": "1\n1.5\n" },
        { "oldText": "1.5", "newText": "half" },
    ]);
    let dry = json!({ "path": "mixed", "edits": edits, "dryRun": true });
    let path = place.root().join("mixed").display().to_string();
    let wanted = format!(
        "```diff\nIndex: {path}\n{}\n--- {path}\toriginal\n+++ {path}\tmodified\n@@ -1,3 +1,4 @@\n caf\u{fffd}\n-one\n+1\n+half\n two\n```\n\n",
        "=".repeat(67)
    );
    assert_eq!(server.ask("edit_file", dry).await.unwrap(), wanted);
    assert_eq!(place.bytes("data/mixed"), b"caf\xe9\r\none\r\ntwo\r\n");
    let wet = json!({ "path": "mixed", "edits": edits });
    assert_eq!(server.ask("edit_file", wet.clone()).await.unwrap(), wanted);
    assert_eq!(place.bytes("data/mixed"), b"caf\xe9\r\n1\r\nhalf\r\ntwo\r\n");
    // The first would work, the second does not: nothing is done.
    let half = json!({ "path": "mixed", "edits": [
        { "oldText": "two", "newText": "2" }, { "oldText": "\n", "newText": "" },
    ]});
    let told = server.ask("edit_file", half).await.unwrap_err();
    assert!(told.contains("edit 2 of \"mixed\": oldText is in the file more than once"), "{told}");
    assert_eq!(place.bytes("data/mixed"), b"caf\xe9\r\n1\r\nhalf\r\ntwo\r\n");
}

#[tokio::test]
async fn several_roots_are_served_and_relative_paths_are_of_the_first() {
    let place = Place::new();
    place.make("other/file", b"other");
    place.link("other", "alias");
    let roots = Roots::Many(vec![place.root(), place.at("alias")]);
    let server = Connection::to(&Config { root: roots, ..place.config() }).await;
    let (alias, other) = (place.at("alias/file"), place.at("other/file"));
    for path in [alias.to_str().unwrap(), other.to_str().unwrap()] {
        assert_eq!(server.read(path).await.unwrap(), "other");
    }
    assert!(server.read("file").await.unwrap_err().contains("does not exist"));
    server.rename("notes.txt", place.at("other/notes").to_str().unwrap()).await.unwrap();
    assert_eq!(place.bytes("other/notes"), b"one\ntwo\nthree\n");
    let listed = server.ask("list_allowed_directories", json!({})).await.unwrap();
    let [root, alias, other] =
        [place.root(), place.at("alias"), place.at("other")].map(|path| path.display().to_string());
    assert_eq!(listed, format!("Allowed directories:\n{root}\n{alias}\n{other}"));
}
