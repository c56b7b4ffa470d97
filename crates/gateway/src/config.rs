use std::collections::BTreeMap;

use identity::Issuer;
use ipnet::IpNet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::limiter::{LimitsConfig, Scope};

/// What the gateway needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long a request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a shutdown waits for requests in flight, in milliseconds.
    pub shutdown_ms: u64,
    /// Keys by name; without any the gateway serves this machine alone, as tenant `local`.
    pub keys: BTreeMap<String, Key>,
    /// Identity providers by name, whose tokens are taken beside keys.
    pub jwt: BTreeMap<String, Issuer>,
    /// Where MCP clients reach `/mcp`, such as `https://baton.example.com/mcp`: those without a token are
    /// told who gives tokens for it.
    pub mcp_url: Option<String>,
    /// Host names besides loopback ones that a request may address when there is no key.
    pub allowed_hosts: Vec<String>,
    /// Proxies of one's own, whose word on where a request comes from is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How much there may be of what.
    pub limits: LimitsConfig,
    /// For each user on a route, by the route's path.
    pub endpoint_limits: BTreeMap<String, Scope>,
    /// Where the other services are, when they are other processes.
    pub peers: PeerAddresses,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: 10 * 1024 * 1024,
            request_timeout_ms: 300_000,
            shutdown_ms: 30_000,
            keys: BTreeMap::new(),
            jwt: BTreeMap::new(),
            mcp_url: None,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            limits: LimitsConfig::default(),
            endpoint_limits: crate::limiter::routes(),
            peers: PeerAddresses::default(),
        }
    }
}

/// An API key and whom it stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What the client sends as `Authorization: Bearer …`; at least 20 characters.
    #[serde(skip_serializing)]
    pub secret: SecretString,
    /// Whose data and money.
    pub tenant: String,
    /// Who pays.
    pub user: String,
    /// The user's team, if any.
    pub team: Option<String>,
    /// What it may do: `admin` (the default), `operator`, `member` or `read_only`.
    pub role: Option<String>,
    /// Whether its calls may be answered from what was kept, and kept.
    #[serde(default = "yes")]
    pub cache: bool,
    /// How much it may ask for.
    #[serde(default)]
    pub rate_limits: Scope,
}

fn yes() -> bool {
    true
}

/// Addresses such as `http://127.0.0.1:50051`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a service's name")]
pub struct PeerAddresses {
    pub router: String,
    pub retriever: String,
    pub budget: String,
    pub orchestrator: String,
    pub bridge: String,
}

impl Default for PeerAddresses {
    fn default() -> Self {
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        Self {
            router: local(50051),
            retriever: local(50052),
            budget: local(50053),
            orchestrator: local(50055),
            bridge: local(50054),
        }
    }
}
