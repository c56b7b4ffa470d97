//! `baton maintenance on|off|status`: what every replica of a running system tells its clients.

use reqwest::Method;
use serde_json::json;

use super::client::Server;
use crate::cli::{Common, Failure, Wanted};

const PATH: &str = "/api/v1/maintenance";

pub(crate) async fn run(
    common: Common,
    wanted: Wanted,
    (message, retry_after): (String, u32),
    server: Server,
) -> Result<(), Failure> {
    let body = match wanted {
        Wanted::Status => None,
        Wanted::Off => Some(json!({ "on": false })),
        Wanted::On => Some(json!({ "on": true, "message": message, "retry_after_s": retry_after })),
    };
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let holds = server.ask(method, PATH, body.as_ref()).await?;
    if common.json {
        println!("{holds}");
    } else if holds["on"] == true {
        let (message, seconds) = (holds["message"].as_str(), &holds["retry_after_s"]);
        println!("on: {:?}, come back after {seconds} s", message.unwrap_or_default());
    } else {
        println!("off: work is taken");
    }
    Ok(())
}
