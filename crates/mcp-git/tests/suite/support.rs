//! Repositories, made by git itself, and clients of servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use rmcp::model::CallToolRequestParams;
use rmcp::service::RunningService;
use rmcp::transport::TokioChildProcess;
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) type Client = RunningService<RoleClient, ()>;

/// A directory `root` that is served, with a repository `repo`, in a place with things outside.
pub(crate) struct Site {
    place: TempDir,
}

impl Site {
    /// Makes a place with an empty repository.
    pub(crate) fn empty() -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("root/repo")).unwrap();
        let site = Self { place };
        init(&site.repo());
        site
    }

    /// Makes a place whose repository has one commit, of the file `a.txt`.
    pub(crate) fn new() -> Self {
        let site = Self::empty();
        site.commit("a.txt", "one\n");
        site
    }

    pub(crate) fn place(&self) -> PathBuf {
        self.place.path().canonicalize().unwrap()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.place().join("root")
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.root().join("repo")
    }

    /// A repository beside the root, with the file `secret.txt`.
    pub(crate) fn outside(&self) -> PathBuf {
        let outside = self.place().join("outside");
        if !outside.exists() {
            std::fs::create_dir(&outside).unwrap();
            init(&outside);
            std::fs::write(outside.join("secret.txt"), "secret\n").unwrap();
            git(&outside, &["add", "."]);
            git(&outside, &["commit", "-q", "-m", "secret commit"]);
        }
        outside
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.repo().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn commit(&self, name: &str, text: impl AsRef<[u8]>) {
        self.write(name, text);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", &format!("change {name}")]);
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.repo(), arguments)
    }

    /// Starts the server, which may write.
    pub(crate) async fn serve(&self) -> Client {
        serve(&self.root(), &[("WRITE", "true")]).await
    }
}

pub(crate) fn init(at: &Path) {
    git(at, &["init", "-q", "-b", "main"]);
    git(at, &["config", "user.name", "Ada Lovelace"]);
    git(at, &["config", "user.email", "ada@example.com"]);
}

/// Runs git, with nobody's configuration and at a fixed time, and returns what it printed.
pub(crate) fn git(at: &Path, arguments: &[&str]) -> String {
    let output = command(at, arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned()
}

pub(crate) fn command(at: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.current_dir(at).args(arguments);
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_DATE", "2024-01-15T10:00:00+0100"),
        ("GIT_COMMITTER_DATE", "2024-01-15T10:00:00+0100"),
    ] {
        git.env(name, value);
    }
    git
}

/// Starts the server over standard input and output, with settings of one's own.
pub(crate) async fn serve(root: &Path, settings: &[(&str, &str)]) -> Client {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-git"));
    command.arg("--stdio").env("BATON_MCP_GIT__ROOT", root).env("HOME", root);
    for (name, value) in settings {
        command.env(format!("BATON_MCP_GIT__{name}"), value);
    }
    ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap()
}

/// Calls a tool on the repository `repo` unless the arguments name another, and returns its text;
/// as an error, if it is one.
pub(crate) async fn call(
    client: &Client,
    tool: &'static str,
    arguments: Value,
) -> Result<String, String> {
    let mut all = json!({ "repo_path": "repo" });
    all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
    let all = all.as_object().unwrap().clone();
    let request = CallToolRequestParams::new(tool).with_arguments(all);
    let answer = client.call_tool(request).await.unwrap();
    let text = answer.content[0].as_text().unwrap().text.clone();
    assert_eq!(answer.content.len(), 1);
    match answer.is_error {
        Some(true) => Err(text),
        _ => Ok(text),
    }
}
