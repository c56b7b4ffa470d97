//! Clients and judges of others, unchanged.

use std::path::{Path, PathBuf};

use journeys::{Shape, System, priced};
use testkit::provider::Provider;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::packages::{node_with, python_with, run, script as source};

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
pub(crate) async fn python() -> &'static Path {
    static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
    PYTHON.get_or_init(|| python_with("python", &PACKAGES)).await
}

async fn script(name: &str, url: &str) {
    run(Command::new(python().await).arg(source(name)).arg(url)).await;
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
async fn vector_stores_are_filled_and_searched_by_the_sdk_and_are_their_tenants_alone() {
    const KEYS: [&str; 2] = ["a-key-of-the-first-tenant", "a-key-of-the-second-tenant"];
    let key = |number: usize| {
        let secret = KEYS[number];
        format!("[gateway.keys.k{number}]\nsecret = '{secret}'\ntenant = 't{number}'\nuser = 'u'\n")
    };
    for shape in Shape::ALL {
        let system = System::start(shape, &(key(0) + &key(1))).await.unwrap();
        let mut command = Command::new(python().await);
        command.arg(source("vector_stores.py")).arg(format!("{}/v1", system.url)).args(KEYS);
        run(&mut command).await;
    }
}

#[tokio::test]
async fn the_sdk_for_javascript_works_unchanged() {
    let provider = Provider::start().await.unwrap();
    // Node looks for packages beside the script.
    let script = node_with("node", &NODE_PACKAGES).await.join("openai_sdk.mjs");
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
