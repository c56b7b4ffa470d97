//! `baton maintenance on|off|status`: what every replica of a running system tells its clients.

use std::time::Duration;

use anyhow::Context as _;
use egress::Reach;
use serde_json::{Value, json};

use crate::cli::{Common, Failure, Wanted};

pub(crate) async fn run(
    common: Common,
    wanted: Wanted,
    (message, retry_after): (String, u32),
    url: String,
    key: Option<String>,
) -> Result<(), Failure> {
    let client = egress::client(Reach::Anywhere).timeout(Duration::from_secs(10)).build();
    let client = client.map_err(anyhow::Error::from)?;
    let address = format!("{url}/api/v1/maintenance");
    let request = match wanted {
        Wanted::Status => client.get(address),
        Wanted::Off => client.post(address).json(&json!({ "on": false })),
        Wanted::On => {
            let body = json!({ "on": true, "message": message, "retry_after_s": retry_after });
            client.post(address).json(&body)
        }
    };
    let request = match key {
        Some(key) => request.bearer_auth(key),
        None => request,
    };
    let reply = request.send().await;
    let reply = reply.map_err(|_| Failure::unreachable(format!("{url} does not answer")))?;
    let status = reply.status();
    let body: Value = reply.json().await.context("no answer of ours").map_err(Failure::from)?;
    if !status.is_success() {
        let message = body["error"]["message"].as_str().unwrap_or_default();
        return Err(anyhow::anyhow!("{}: {message}", status.as_u16()).into());
    }
    if common.json {
        println!("{body}");
    } else if body["on"] == true {
        let (message, seconds) = (body["message"].as_str(), &body["retry_after_s"]);
        println!("on: {:?}, come back after {seconds} s", message.unwrap_or_default());
    } else {
        println!("off: work is taken");
    }
    Ok(())
}
