//! The server as a client meets it, and as an attacker does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

mod attacks;
mod files;
mod races;
mod serving;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use mcp_filesystem::{Config, Filesystem};
use mcp_server::Access;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

type Client = RunningService<RoleClient, ()>;

/// A directory `data` beside a file and a directory that are not to be reached.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.make("data/notes.txt", b"one\ntwo\nthree\n");
        place.make("data/sub/inner.txt", b"inner");
        place.make("secret.txt", b"secret");
        place.make("data_evil/secret.txt", b"secret");
        place
    }

    /// Returns a path beside the root.
    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(path)
    }

    fn root(&self) -> PathBuf {
        self.at("data")
    }

    fn make(&self, path: &str, bytes: &[u8]) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, path: &str) {
        std::os::unix::fs::symlink(target, self.at(path)).unwrap();
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.at(path)).unwrap()
    }

    /// Returns all that is there, of files what is in them.
    fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut found, mut directories) = (BTreeMap::new(), vec![self.at("")]);
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                let content = if kind.is_dir() {
                    directories.push(path.clone());
                    Vec::new()
                } else if kind.is_symlink() {
                    std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
                } else if kind.is_file() && entry.metadata().unwrap().len() < 100_000 {
                    std::fs::read(&path).unwrap()
                } else {
                    Vec::new()
                };
                found.insert(path, content);
            }
        }
        found
    }

    fn config(&self) -> Config {
        Config { root: self.root().into(), ..Config::default() }
    }

    async fn connect(&self) -> Connection {
        Connection::to(&self.config()).await
    }
}

/// A server and a client of it; both end with this value.
struct Connection {
    client: Client,
    url: String,
    _guard: DropGuard,
}

impl Connection {
    async fn to(config: &Config) -> Self {
        runtime::http::use_ring();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let handler = Filesystem::open(config).unwrap();
        tokio::spawn(mcp_server::serve(handler, Access::default(), listener, stop.clone()));
        let transport = StreamableHttpClientTransport::from_uri(url.clone());
        Self { client: ().serve(transport).await.unwrap(), url, _guard: stop.drop_guard() }
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let arguments = arguments.as_object().unwrap().clone();
        let request = CallToolRequestParams::new(tool).with_arguments(arguments);
        self.client.call_tool(request).await.unwrap()
    }

    /// Returns what is answered in words, or what is wrong.
    async fn ask(&self, tool: &'static str, arguments: Value) -> Result<String, String> {
        let answer = self.call(tool, arguments).await;
        let text = answer.content[0].as_text().unwrap().text.clone();
        match answer.is_error {
            Some(true) => Err(text),
            _ => {
                assert_eq!(answer.structured_content.unwrap(), json!({ "content": text }));
                Ok(text)
            }
        }
    }

    async fn read(&self, path: &str) -> Result<String, String> {
        self.ask("read_text_file", json!({ "path": path })).await
    }

    async fn write(&self, path: &str, content: &str) -> Result<String, String> {
        self.ask("write_file", json!({ "path": path, "content": content })).await
    }

    async fn edit(&self, path: &str, old: &str, new: &str) -> Result<String, String> {
        let edits = json!([{ "oldText": old, "newText": new }]);
        self.ask("edit_file", json!({ "path": path, "edits": edits })).await
    }

    async fn make(&self, path: &str) -> Result<String, String> {
        self.ask("create_directory", json!({ "path": path })).await
    }

    async fn rename(&self, source: &str, destination: &str) -> Result<String, String> {
        self.ask("move_file", json!({ "source": source, "destination": destination })).await
    }

    /// Asks every tool for `path`, in every place in which it takes one, and returns what each says.
    async fn every(&self, path: &str) -> Vec<(&'static str, Result<String, String>)> {
        let edits = json!([{ "oldText": "e", "newText": "E" }]);
        let calls = [
            ("read_file", json!({ "path": path })),
            ("read_text_file", json!({ "path": path, "head": 1 })),
            ("read_text_file", json!({ "path": path, "tail": 1 })),
            ("read_media_file", json!({ "path": path })),
            ("write_file", json!({ "path": path, "content": "written" })),
            ("edit_file", json!({ "path": path, "edits": edits })),
            ("create_directory", json!({ "path": path })),
            ("list_directory", json!({ "path": path })),
            ("list_directory_with_sizes", json!({ "path": path })),
            ("directory_tree", json!({ "path": path })),
            ("search_files", json!({ "path": path, "pattern": "**" })),
            ("get_file_info", json!({ "path": path })),
            ("move_file", json!({ "source": "notes.txt", "destination": path })),
            ("move_file", json!({ "source": path, "destination": "moved" })),
        ];
        let several = self.ask("read_multiple_files", json!({ "paths": [path] })).await.unwrap();
        let fault = several.split_once(": Error - ").map(|(_, fault)| fault.to_owned());
        let mut told = vec![("read_multiple_files", fault.map_or(Ok(several), Err))];
        for (tool, arguments) in calls {
            told.push((tool, self.ask(tool, arguments).await));
        }
        told
    }
}
