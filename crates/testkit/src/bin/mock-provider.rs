//! The provider of the tests as a program, for measurements: prints its address and serves until
//! its standard input ends.

use testkit::provider::Provider;
use tokio::io::AsyncReadExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    println!("{}", Provider::start().await?.url);
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
