//! The budget service, alone.

use budget::Config;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::service("budget", |config: Config| budget::server(config)).await
}
