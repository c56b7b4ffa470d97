//! A connection to Redis that no call waits for longer than it says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use fred::prelude::{
    Builder, ClientLike as _, EventInterface as _, FredResult, PubsubInterface as _,
    ReconnectPolicy,
};
use fred::types::Message;
use fred::types::config::{Config as Address, Server, ServerConfig, UnresponsiveConfig};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How long what no call waits for may take, unless calls wait longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many publications wait to be heard.
const HEARD: usize = 16_384;
/// After so long without a publication a connection is made anew: one whose other end is gone says nothing either.
const QUIET: Duration = Duration::from_secs(30);

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
    patience: Duration,
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
        let patience = wait.max(PATIENCE);
        let client = builder(address, patience).build()?;
        client.connect();
        let replica = types::RequestId::generate().to_string();
        let is_up = AtomicBool::new(false);
        Ok(Self { client, is_up, is_local, wait, patience, without, replica })
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

    /// Prepares a connection of its own that hears what is published in a channel.
    ///
    /// # Errors
    /// If no connection can be prepared.
    pub fn subscribe(&self, channel: &str) -> anyhow::Result<Subscription> {
        let mut builder = builder(self.client.client_config(), self.patience);
        builder.with_performance_config(|channels| channels.broadcast_channel_capacity = HEARD);
        let client = builder.build()?;
        let (connected, published) = (client.reconnect_rx(), client.message_rx());
        client.connect();
        Ok(Subscription { client, channel: channel.to_owned(), connected, published })
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
        self.within(self.patience, command).await
    }

    /// Returns whether it answers now; calls do not ask before [`Link::try_again`] has succeeded.
    pub async fn answers(&self) -> bool {
        let pong = self.client.ping::<String>(None);
        matches!(tokio::time::timeout(self.patience, pong).await, Ok(Ok(_)))
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

/// Hears what is published in a channel while it is connected, as it is after each absence of Redis.
#[allow(missing_debug_implementations, reason = "an address may hold a password")]
pub struct Subscription {
    client: Client,
    channel: String,
    connected: broadcast::Receiver<Server>,
    published: broadcast::Receiver<Message>,
}

impl Subscription {
    /// Returns what is published next. What is published while there is no connection is lost, and so is the
    /// oldest where too much waits to be heard.
    pub async fn next(&mut self) -> String {
        loop {
            tokio::select! {
                biased;
                connected = self.connected.recv() => match connected {
                    Ok(_) => self.subscribe().await,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                },
                heard = tokio::time::timeout(QUIET, self.published.recv()) => match heard {
                    Ok(Ok(message)) => {
                        if let Some(text) = message.value.into_string() {
                            return text;
                        }
                    }
                    Ok(Err(RecvError::Lagged(count))) => {
                        tracing::warn!(count, channel = self.channel, "too much was published at once");
                    }
                    Ok(Err(RecvError::Closed)) => std::future::pending().await,
                    // Redis that is away is connected to anyway.
                    Err(_) => drop(self.client.force_reconnection().await),
                },
            }
        }
    }

    /// Subscribes, and does not give up: Redis may be busy, or forbid it for now.
    async fn subscribe(&self) {
        let mut told = false;
        while let Err(fault) = self.client.subscribe(self.channel.as_str()).await {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(%fault, channel = self.channel, "redis publishes nothing to us");
            }
            tokio::time::sleep(PATIENCE).await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Its task would go on connecting.
        let client = self.client.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { client.quit().await });
        }
    }
}

/// A connection that says after its `patience` that it has no answer, and that is made again.
fn builder(address: Address, patience: Duration) -> Builder {
    let mut builder = Builder::from_config(address);
    builder
        .with_connection_config(|connection| {
            connection.connection_timeout = patience;
            connection.internal_command_timeout = patience;
            connection.max_command_attempts = 1;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(patience * 2), interval: patience / 2 };
        })
        .with_performance_config(|commands| commands.default_command_timeout = patience)
        .set_policy(ReconnectPolicy::new_constant(0, 100));
    builder
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
