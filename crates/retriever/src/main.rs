//! The retriever, alone.

use retriever::Config;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::service("retriever", |config: Config| retriever::server(config)).await
}
