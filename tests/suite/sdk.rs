//! Clients and judges of others, unchanged.

use std::path::{Path, PathBuf};

use journeys::{Shape, System, priced};
use testkit::provider::Provider;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Pinned, so that a release elsewhere breaks no test here.
const PACKAGES: [&str; 3] =
    ["anthropic==2.12.0", "openai==3.54.0", "openapi-spec-validator==0.9.0"];
/// They want newer SDKs than those above, so they are installed apart.
const LANGCHAIN: [&str; 5] = [
    "anthropic==2.14.0",
    "langchain-anthropic==1.7.10",
    "langchain-core==1.8.3",
    "langchain-openai==1.7.4",
    "openai==3.57.0",
];
const SCHEMATHESIS: [&str; 1] = ["schemathesis==4.32.5"];
const NODE_PACKAGES: [&str; 1] = ["openai@7.57.0"];

/// Returns a Python that has the packages.
async fn python() -> &'static Path {
    static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
    PYTHON.get_or_init(|| python_with("python", &PACKAGES)).await
}

/// Makes a Python of its own that has `packages`.
async fn python_with(name: &str, packages: &[&str]) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = place.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&place)).await;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(install).args(packages)).await;
    python
}

/// Returns a directory in which Node finds the packages.
async fn node() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
    let install = ["install", "--silent", "--no-fund", "--no-audit", "--prefix"];
    run(Command::new("npm").args(install).arg(&place).args(NODE_PACKAGES)).await;
    place
}

async fn run(command: &mut Command) {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

async fn script(name: &str, url: &str) {
    run(Command::new(python().await).arg(source(name)).arg(url)).await;
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(name)
}

#[tokio::test]
async fn the_sdks_work_unchanged_whatever_the_provider_speaks() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        for kind in ["openai", "anthropic", "gemini"] {
            let settings = priced(&provider.url).replace("'openai'", &format!("'{kind}'"));
            let system = System::start(shape, &settings).await.unwrap();
            script("openai_sdk.py", &format!("{}/v1", system.url)).await;
            script("anthropic_sdk.py", &system.url).await;
        }
    }
}

#[tokio::test]
async fn the_sdk_for_javascript_works_unchanged() {
    let provider = Provider::start().await.unwrap();
    // Node looks for packages beside the script.
    let script = node().await.join("openai_sdk.mjs");
    std::fs::copy(source("openai_sdk.mjs"), &script).unwrap();
    for kind in ["openai", "anthropic", "gemini"] {
        let settings = priced(&provider.url).replace("'openai'", &format!("'{kind}'"));
        let system = System::start(Shape::One, &settings).await.unwrap();
        run(Command::new("node").arg(&script).arg(format!("{}/v1", system.url))).await;
    }
}

#[tokio::test]
async fn the_chat_models_of_langchain_work_unchanged_whatever_the_provider_speaks() {
    let provider = Provider::start().await.unwrap();
    let python = python_with("langchain", &LANGCHAIN).await;
    for shape in Shape::ALL {
        for kind in ["openai", "anthropic", "gemini"] {
            let settings = priced(&provider.url).replace("'openai'", &format!("'{kind}'"));
            let system = System::start(shape, &settings).await.unwrap();
            run(Command::new(&python).arg(source("langchain_models.py")).arg(&system.url)).await;
        }
    }
}

#[tokio::test]
async fn the_openapi_document_is_valid_and_its_pages_need_no_internet() {
    let system = System::start(Shape::One, "").await.unwrap();
    script("openapi.py", &system.url).await;
}

#[tokio::test]
async fn whatever_is_sent_by_the_openapi_document_or_against_it_is_answered_by_it() {
    const ADMIN: &str = "an-admin-of-the-configuration";
    const MEMBER: &str = "a-member-of-the-configuration";
    let provider = Provider::start().await.unwrap();
    let key = |secret: &str, role: &str| {
        format!(
            "[gateway.keys.{role}]\nsecret = '{secret}'\ntenant = 'acme'\nuser = '{role}'\nrole = '{role}'\n"
        )
    };
    let settings = priced(&provider.url) + &key(ADMIN, "admin") + &key(MEMBER, "member");
    let system = System::start(Shape::One, &settings).await.unwrap();
    let python = python_with("schemathesis", &SCHEMATHESIS).await;
    for secret in [ADMIN, MEMBER] {
        let mut schemathesis = Command::new(python.with_file_name("st"));
        schemathesis.arg("--config-file").arg(source("schemathesis.toml")).arg("--no-color");
        schemathesis.args(["run", &format!("{}/openapi.json", system.url)]).env("KEY", secret);
        // It keeps what it found wherever it is.
        run(schemathesis.current_dir(system.data())).await;
    }
}
