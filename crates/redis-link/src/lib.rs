//! A connection to Redis that no call waits for longer than it says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use fred::prelude::{Builder, ClientLike as _, FredResult, ReconnectPolicy};
use fred::types::config::{Config as Address, ServerConfig, UnresponsiveConfig};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

/// How long what no call waits for may take.
const PATIENCE: Duration = Duration::from_secs(1);

pub use fred;
pub use fred::prelude::Client;

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// The setting that holds the address, such as `router.redis`.
    pub setting: &'static str,
    /// What holds while Redis does not answer, for the log.
    pub without: &'static str,
}

/// Redis, or its absence: one that does not answer is not asked by calls until it does again.
#[allow(missing_debug_implementations, reason = "an address may hold a password")]
pub struct Link {
    client: Client,
    /// It answered the last time.
    is_up: AtomicBool,
    is_local: bool,
    wait: Duration,
    without: &'static str,
    /// Who this is, for as long as it runs.
    replica: String,
}

impl Link {
    /// Begins to connect, and goes on until it does; `networks` are as good as this machine.
    ///
    /// # Errors
    /// If the address is malformed. It is not repeated: it may hold a password.
    pub fn open(
        Purpose { setting, without }: Purpose,
        url: &SecretString,
        wait: Duration,
        networks: &[IpNet],
    ) -> anyhow::Result<Self> {
        let url = url.expose_secret();
        let known = ["redis://", "redis+unix://"].iter().any(|scheme| url.starts_with(scheme));
        ensure!(known, "{setting}: redis://HOST:PORT/DATABASE or redis+unix:///PATH is needed");
        let address = Address::from_url(url).ok();
        let address = address.with_context(|| format!("{setting} is malformed"))?;
        let is_local = is_local(&address.server, networks);
        let client = Builder::from_config(address)
            .with_connection_config(|connection| {
                connection.connection_timeout = PATIENCE;
                connection.internal_command_timeout = PATIENCE;
                connection.max_command_attempts = 1;
                connection.unresponsive =
                    UnresponsiveConfig { max_timeout: Some(PATIENCE * 2), interval: PATIENCE / 2 };
            })
            .with_performance_config(|commands| commands.default_command_timeout = PATIENCE)
            .set_policy(ReconnectPolicy::new_constant(0, 100))
            .build()?;
        client.connect();
        let replica = types::RequestId::generate().to_string();
        Ok(Self { client, is_up: AtomicBool::new(false), is_local, wait, without, replica })
    }

    /// Says commands, to be passed to [`Link::ask`].
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns a name for this process that no other one has.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Returns whether what is sent there stays here.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Returns what a call's command brings; nothing when Redis does not answer in time.
    pub async fn ask<T>(&self, command: impl Future<Output = FredResult<T>>) -> Option<T> {
        if !self.is_up() {
            return None;
        }
        self.within(self.wait, command).await
    }

    /// As [`Link::ask`], for what no call waits for: also when it did not answer before.
    pub async fn try_again<T>(&self, command: impl Future<Output = FredResult<T>>) -> Option<T> {
        self.within(PATIENCE, command).await
    }

    /// Returns whether it answers now; calls do not ask before [`Link::try_again`] has succeeded.
    pub async fn answers(&self) -> bool {
        let pong = self.client.ping::<String>(None);
        matches!(tokio::time::timeout(PATIENCE, pong).await, Ok(Ok(_)))
    }

    /// Returns whether it answered the last time.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Waits until it answers: calls do not ask before.
    pub async fn up(&self) {
        while self.try_again(self.client.ping::<String>(None)).await.is_none() {
            tokio::task::yield_now().await;
        }
    }

    async fn within<T>(
        &self,
        wait: Duration,
        command: impl Future<Output = FredResult<T>>,
    ) -> Option<T> {
        let answer = tokio::time::timeout(wait, command).await;
        let answer = answer.map_err(|_| "no answer in time".to_owned());
        let answer = answer.and_then(|answer| answer.map_err(|fault| fault.to_string()));
        let was_up = self.is_up.swap(answer.is_ok(), Ordering::Relaxed);
        match &answer {
            Ok(_) if !was_up => tracing::info!("redis answers"),
            Err(fault) if was_up => tracing::warn!(fault, "redis fails: {}", self.without),
            _ => {}
        }
        answer.ok()
    }
}

/// Tells an address that is surely here: a socket, or a number. A name may be anybody's tomorrow.
fn is_local(server: &ServerConfig, networks: &[IpNet]) -> bool {
    match server {
        ServerConfig::Unix { .. } => true,
        ServerConfig::Centralized { server } => {
            let host = server.host.trim_start_matches('[').trim_end_matches(']');
            host.parse().is_ok_and(|address: std::net::IpAddr| {
                let address = address.to_canonical();
                address.is_loopback() || networks.iter().any(|network| network.contains(&address))
            })
        }
        ServerConfig::Clustered { .. } | ServerConfig::Sentinel { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_or_a_socket_is_surely_here() {
        let networks = ["10.1.0.0/16".parse().unwrap()];
        for (url, wanted) in [
            ("redis+unix:///run/redis.sock", true),
            ("redis://127.0.0.1:6379/1", true),
            ("redis://[::1]:6379", true),
            ("redis://user:secret@10.1.2.3:6379", true),
            ("redis://10.2.2.3:6379", false),
            ("redis://localhost:6379", false),
            ("redis://redis:6379", false),
        ] {
            let address = Address::from_url(url).unwrap();
            assert_eq!(is_local(&address.server, &networks), wanted, "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for url in ["rediss://u:secret@host", "secret", "redis://host:secret"] {
            let purpose = Purpose { setting: "router.redis", without: "" };
            let fault = Link::open(purpose, &url.into(), PATIENCE, &[]).err().unwrap();
            assert!(format!("{fault:#}").contains("router.redis"), "{fault:?}");
            assert!(!format!("{fault:#} {fault:?}").contains("secret"), "{fault:?}");
        }
    }
}
