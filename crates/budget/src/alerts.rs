//! Tells somebody that a limit is nearly spent: the log, a metric, and a webhook.
//!
//! What is to be told lies in the ledger (an outbox) from the very transaction in which so much was spent,
//! so that no crash loses it. A webhook is asked again until it says that it has it, and may get one twice:
//! the same id says so.

use std::sync::Weak;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use egress::Reach;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use reqwest::{Client, Url};
use ring::hmac;
use runtime::metrics::Metrics;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::ledger::{Alert, Ledger};

/// How often it is looked what is to be told.
const LOOK: Duration = Duration::from_secs(1);

/// How many are told one after the other between two looks.
const TOGETHER: u32 = 50;

/// Where alerts go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// An address that takes a POST of JSON.
    pub url: String,
    /// What requests are signed with, as `whsec_` and base64, or any text of 16 characters or more.
    #[serde(skip_serializing)]
    pub secret: SecretString,
    /// How long it may take to answer, in milliseconds.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
}

fn ten_seconds() -> u64 {
    10_000
}

/// Signed requests (<https://www.standardwebhooks.com>, version 1).
pub(crate) struct Webhook {
    client: Client,
    url: Url,
    key: hmac::Key,
}

impl Webhook {
    /// # Errors
    /// If the address or the secret is malformed.
    pub(crate) fn new(config: &WebhookConfig) -> anyhow::Result<Self> {
        let url: Url = config.url.parse().context("budget.webhook.url")?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "budget.webhook.url: {:?} is neither http nor https",
            url.scheme()
        );
        let secret = config.secret.expose_secret();
        let key = match secret.strip_prefix("whsec_") {
            Some(coded) => BASE64_STANDARD.decode(coded).context("budget.webhook.secret")?,
            None => secret.as_bytes().to_vec(),
        };
        anyhow::ensure!(key.len() >= 16, "budget.webhook.secret: 16 bytes at least are needed");
        let timeout = Duration::from_millis(config.timeout_ms);
        let client = egress::client(Reach::Anywhere).timeout(timeout).build()?;
        Ok(Self { client, url, key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// Sends an alert at a time in milliseconds since 1970.
    ///
    /// # Errors
    /// If it was not taken.
    async fn send(&self, alert: &Alert, now_ms: i64) -> anyhow::Result<()> {
        let (id, body) = (id(alert), body(alert));
        let seconds = now_ms / 1000;
        let signed = hmac::sign(&self.key, format!("{id}.{seconds}.{body}").as_bytes());
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(signed)))
            .body(body);
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        anyhow::ensure!(response.status().is_success(), "status {}", response.status().as_u16());
        Ok(())
    }
}

/// Returns the same for the same alert, however often it is told.
fn id(alert: &Alert) -> String {
    let Alert { tenant, scope, period, starts_at_ms, percent, .. } = alert;
    let named = json!([tenant, scope.to_string(), period.as_str(), starts_at_ms, percent]);
    let hash = Sha256::digest(named.to_string().as_bytes());
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("alert_{hex}")
}

fn body(alert: &Alert) -> String {
    let body = json!({
        "type": "budget.alert",
        "data": {
            "tenant": alert.tenant,
            "scope": { "kind": alert.scope.kind().as_str(), "name": alert.scope.name() },
            "period": alert.period.as_str(),
            "starts_at_ms": alert.starts_at_ms,
            "percent": alert.percent,
            "limit_usd": alert.limit.to_string(),
            "spent_usd": alert.spent.to_string(),
            "at_ms": alert.at_ms,
        },
    });
    body.to_string()
}

/// How many alerts were told, by share and period.
#[derive(Clone)]
pub(crate) struct Told(Family<Vec<(&'static str, String)>, Counter>);

impl Told {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let help = "Limits of which so much was spent";
        Self(metrics.register("baton_budget_alerts", help, Family::default()))
    }
}

/// Tells what is to be told until the ledger is gone. Several may do so at once.
pub(crate) async fn tell(ledger: Weak<dyn Ledger>, webhook: Option<Webhook>, told: Told) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(ledger) = ledger.upgrade() else { return };
        let alerts = match ledger.alerts(TOGETHER).await {
            Ok(alerts) => alerts,
            Err(error) => {
                tracing::debug!(%error, "alerts were not looked for");
                continue;
            }
        };
        for alert in alerts {
            let (tenant, scope, period) = (&alert.tenant, &alert.scope, alert.period.as_str());
            if alert.attempts == 1 {
                let Alert { percent, limit, spent, .. } = &alert;
                tracing::warn!(%tenant, %scope, period, percent, %limit, %spent, "a budget is nearly spent");
                let labels = vec![("percent", percent.to_string()), ("period", period.to_owned())];
                told.0.get_or_create(&labels).inc();
            }
            let sent = match &webhook {
                Some(webhook) => webhook.send(&alert, ledger.now_ms()).await,
                None => Ok(()),
            };
            let noted = match sent {
                Ok(()) => ledger.told(&alert).await.map_err(anyhow::Error::from),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = noted {
                tracing::warn!(%tenant, %scope, period, %fault, "an alert is told again later");
            }
        }
    }
}
