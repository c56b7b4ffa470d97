use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use egress::Reach;
use identity::{Issuer, Issuers, Resource};
use ipnet::IpNet;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use types::{KeyId, TenantId, UserId};

use crate::Sandbox;
use crate::gate::{Auditing, Otherwise, Pinning, RuleConfig, Scan};
use crate::upstream::{Apart, Program};

/// What the bridge needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// MCP servers by name: lower-case letters, digits and hyphens, at most 32.
    pub servers: BTreeMap<String, Server>,
    /// The largest result of a tool that is passed on, in bytes of JSON.
    pub max_result_bytes: usize,
    /// Where pins and the audit of calls lie: `sqlite:PATH`, made when missing, `sqlite::memory:`, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE`, printed without its password.
    #[serde(serialize_with = "runtime::address::without_password")]
    pub store: SecretString,
    /// How many connections to PostgreSQL are held at most.
    pub connections: u32,
    /// How definitions of tools are pinned.
    pub pins: Pinning,
    /// What becomes of definitions in which something is found.
    pub scan: Scan,
    /// Who may call what: the first rule that is about the caller and names the tool decides.
    pub rules: Vec<RuleConfig>,
    /// What holds where no rule does.
    pub otherwise: Otherwise,
    /// Tools of local servers that stay on this machine, as patterns of `server__tool`, and which a
    /// private call may use; all of them when absent.
    pub local_tools: Option<Vec<String>>,
    /// Networks that are as good as this machine: a local server's address may be in one of them.
    pub local_networks: Vec<IpNet>,
    /// How calls are audited.
    pub audit: Auditing,
    /// Where each server that is a program has a directory of its own, its `HOME`; made when missing.
    pub directory: PathBuf,
    /// The program that confines the servers' programs, whose `main` calls [`crate::launch_tool`]; none:
    /// they are started as they are. No configuration says it: see [`Config::isolated`].
    #[serde(skip)]
    pub launcher: Option<PathBuf>,
    /// What seals the state that servers have clients keep, at least 32 bytes, the same for every
    /// replica. Without it a process has one of its own.
    #[serde(skip_serializing)]
    pub state_key: Option<SecretString>,
    /// Where MCP clients reach the bridge itself, such as `127.0.0.1:3010`; nowhere when absent.
    pub listen: Option<SocketAddr>,
    /// Which MCP clients are let in there.
    pub clients: Clients,
    /// How many sessions one caller's clients of before 2026-07-28 have at once at one address.
    pub sessions: usize,
}

/// Which MCP clients are let in.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clients {
    /// What clients show, by a name for each. Without any, and without identity providers, whoever
    /// reaches the loopback address is tenant and user `local`.
    pub tokens: BTreeMap<String, Client>,
    /// Identity providers by name, whose tokens are taken of those who may call: members and above.
    pub jwt: BTreeMap<String, Issuer>,
    /// Where clients reach the listener, such as `https://mcp.example.com/mcp`: those without a token are
    /// told who gives tokens for it. Needed where identity providers' are taken.
    pub url: Option<String>,
    /// Host names, with or without port, besides loopback ones.
    pub hosts: Vec<String>,
    /// Origins of web pages, such as `https://app.example.com`, besides the listener's own.
    pub origins: Vec<String>,
}

/// A client that shows a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// What it shows as a bearer token, at least 32 characters.
    #[serde(skip_serializing)]
    pub token: SecretString,
    /// For whom it calls.
    pub tenant: String,
    /// As whom it calls.
    pub user: String,
    /// Whether all its calls are private.
    #[serde(default)]
    pub private: bool,
}

impl Clients {
    /// Checks the tokens, and reads whose others are taken and what clients are told of them.
    ///
    /// # Errors
    /// If one is malformed; the message names it.
    pub(crate) fn check(&self) -> anyhow::Result<(Issuers, Option<Resource>)> {
        for (name, client) in &self.tokens {
            if client.token.expose_secret().len() < 32 {
                bail!("mcp_bridge.clients.tokens.{name}: a token has at least 32 characters");
            }
            KeyId::new(name.as_str())
                .with_context(|| format!("mcp_bridge.clients.tokens.{name:?}"))?;
            TenantId::new(&client.tenant)
                .with_context(|| format!("mcp_bridge.clients.tokens.{name}.tenant"))?;
            UserId::new(&client.user)
                .with_context(|| format!("mcp_bridge.clients.tokens.{name}.user"))?;
        }
        let issuers = Issuers::new("mcp_bridge.clients.jwt", &self.jwt)?;
        let resource = self.url.as_ref().map(|url| Resource::new(url, &issuers)).transpose();
        let resource = resource.context("mcp_bridge.clients.url")?;
        if resource.is_none() && !issuers.is_empty() {
            bail!("mcp_bridge.clients.url is needed with mcp_bridge.clients.jwt");
        }
        Ok((issuers, resource))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: BTreeMap::new(),
            max_result_bytes: 1024 * 1024,
            store: "sqlite:data/tools.db".into(),
            connections: 8,
            pins: Pinning::default(),
            scan: Scan::default(),
            rules: Vec::new(),
            otherwise: Otherwise::default(),
            local_networks: Vec::new(),
            local_tools: None,
            audit: Auditing::default(),
            directory: "data/tools".into(),
            launcher: None,
            state_key: None,
            listen: None,
            clients: Clients::default(),
            sessions: 256,
        }
    }
}

impl Config {
    /// Has this very program confine the servers' programs: for programs whose `main` calls
    /// [`crate::launch_tool`].
    #[must_use]
    pub fn isolated(mut self) -> Self {
        self.launcher = Some("/proc/self/exe".into());
        self
    }
}

/// An MCP server: a program that is started (`command`), or an address (`url`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The program; it speaks over its standard input and output.
    #[serde(default)]
    pub command: Option<String>,
    /// The program's arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The program's environment, besides `PATH` and `HOME`; it inherits nothing else.
    #[serde(default, skip_serializing)]
    pub env: BTreeMap<String, String>,
    /// Where it speaks over HTTP, such as `http://127.0.0.1:3001/mcp`.
    #[serde(default)]
    pub url: Option<String>,
    /// Whether what it sees stays on this machine; private calls use no other. By default so for
    /// programs and loopback addresses.
    #[serde(default)]
    pub local: Option<bool>,
    /// Whether what it gives is private: whatever reads it is private from there on.
    #[serde(default)]
    pub private: bool,
    /// How long a call may take, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// How long a start or a connection may take, in milliseconds.
    #[serde(default = "start_timeout_ms")]
    pub start_timeout_ms: u64,
    /// What the program may use and reach.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// How long the program is left alone when it has failed or ended twice in a row in one caller's
    /// hands, in milliseconds; twice as long each time after, up to a minute, less a chance half. 0: it
    /// is started whenever it is needed.
    #[serde(default = "restart_ms")]
    pub restart_ms: u64,
    /// How long a list of all servers' tools waits for this one's, in milliseconds.
    #[serde(default = "list_wait_ms")]
    pub list_wait_ms: u64,
    /// What it is shown as a bearer token; never a caller's own.
    #[serde(default, skip_serializing)]
    pub token: Option<SecretString>,
    /// A file that holds the token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Whether it is told in `x-baton-tenant` for which tenant a call is; it has to have a token.
    #[serde(default)]
    pub tenant_header: bool,
    /// Whether all callers share one session: for a server of before 2026-07-28 that keeps nothing
    /// between two calls.
    #[serde(default)]
    pub shared: bool,
    /// How many sessions it has at once, at most; one caller has a quarter of them, rounded up.
    #[serde(default = "max_sessions")]
    pub max_sessions: usize,
    /// After how long without a call a session is ended, in milliseconds.
    #[serde(default = "idle_ms")]
    pub idle_ms: u64,
    /// The largest message that is read from it, in bytes.
    #[serde(default = "max_message_bytes")]
    pub max_message_bytes: usize,
}

fn timeout_ms() -> u64 {
    30_000
}

fn start_timeout_ms() -> u64 {
    10_000
}

fn restart_ms() -> u64 {
    500
}

fn list_wait_ms() -> u64 {
    1_500
}

fn max_sessions() -> usize {
    64
}

fn idle_ms() -> u64 {
    300_000
}

fn max_message_bytes() -> usize {
    16 * 1024 * 1024
}

/// Where a server is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Program(Program),
    Address(Url),
}

/// A server that is known to be well described.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) local: bool,
    pub(crate) private: bool,
    pub(crate) reach: Reach,
    pub(crate) timeout: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) list_wait: Duration,
    pub(crate) token: Option<SecretString>,
    pub(crate) tenant_header: bool,
    pub(crate) shared: bool,
    pub(crate) max_sessions: usize,
    pub(crate) idle: Duration,
    pub(crate) max_message_bytes: usize,
}

impl Server {
    pub(crate) fn describe(&self, name: &str, config: &Config) -> anyhow::Result<Described> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 32 || !name.chars().all(good) {
            bail!(
                "mcp_bridge.servers.{name}: a name has 1 to 32 lower-case letters, digits and hyphens"
            );
        }
        let place = match (&self.command, &self.url) {
            (Some(command), None) => {
                let wrong = || format!("mcp_bridge.servers.{name}");
                self.sandbox.check().with_context(wrong)?;
                let home = config.directory.join(name);
                Place::Program(Program {
                    server: name.to_owned(),
                    command: command.clone(),
                    args: self.args.clone(),
                    env: self.env.clone(),
                    sandbox: self.sandbox.clone(),
                    apart: config.launcher.clone().map(|launcher| Apart { launcher, home }),
                    restart: Duration::from_millis(self.restart_ms),
                    max_message_bytes: self.max_message_bytes,
                })
            }
            (None, Some(url)) => {
                if !(self.args.is_empty() && self.env.is_empty()) {
                    bail!(
                        "mcp_bridge.servers.{name}: args and env are a program's, and it is an address"
                    );
                }
                let url = Url::parse(url)
                    .with_context(|| format!("mcp_bridge.servers.{name}.url: {url:?}"))?;
                if !matches!(url.scheme(), "http" | "https") {
                    bail!("mcp_bridge.servers.{name}.url: {url} is neither http nor https");
                }
                Place::Address(url)
            }
            _ => bail!("mcp_bridge.servers.{name}: give either command or url"),
        };
        let local = self.local.unwrap_or(match &place {
            Place::Program(_) => true,
            Place::Address(url) => is_loopback(url),
        });
        // What is called local has to be so when it is connected to, whatever its name means by then.
        let reach = match local {
            true => Reach::Local(config.local_networks.clone().into()),
            false => Reach::Anywhere,
        };
        if let (Place::Address(url), true) = (&place, local)
            && let Some(address) = literal(url).filter(|address| !reach.covers(*address))
        {
            bail!(
                "mcp_bridge.servers.{name}: {address} is not local: add its network to \
                 mcp_bridge.local_networks, or take local away"
            );
        }
        Ok(Described {
            name: name.to_owned(),
            place,
            local,
            private: self.private,
            reach,
            timeout: Duration::from_millis(self.timeout_ms),
            start_timeout: Duration::from_millis(self.start_timeout_ms),
            list_wait: Duration::from_millis(self.list_wait_ms),
            token: self.token(name)?,
            tenant_header: self.tenant_header,
            shared: self.shared,
            max_sessions: self.max_sessions.max(2),
            idle: Duration::from_millis(self.idle_ms),
            max_message_bytes: self.max_message_bytes,
        })
    }

    fn token(&self, name: &str) -> anyhow::Result<Option<SecretString>> {
        let token = match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => {
                bail!("mcp_bridge.servers.{name}: give either token or token_file")
            }
            (Some(token), None) => Some(token.clone()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).with_context(|| {
                    format!("mcp_bridge.servers.{name}.token_file: {}", file.display())
                })?;
                Some(text.trim().into())
            }
            (None, None) => None,
        };
        if token.is_some() && self.url.is_none() {
            bail!("mcp_bridge.servers.{name}: a token is shown to an address alone");
        }
        if self.tenant_header && token.is_none() {
            bail!(
                "mcp_bridge.servers.{name}.tenant_header: the server believes it with a token alone"
            );
        }
        Ok(token)
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || literal(url).is_some_and(|address| address.is_loopback())
}

/// Returns the address that stands in `url`, if that is no name.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(toml: serde_json::Value) -> Server {
        serde_json::from_value(toml).unwrap()
    }

    #[test]
    fn a_server_is_a_program_or_an_address_and_local_by_where_it_is() {
        for (server_, local) in [
            (serde_json::json!({ "command": "x" }), true),
            (serde_json::json!({ "url": "http://127.0.0.1:3001/mcp" }), true),
            (serde_json::json!({ "url": "http://[::1]:3001/mcp" }), true),
            (serde_json::json!({ "url": "https://tools.example.com/mcp" }), false),
            (serde_json::json!({ "url": "http://127.0.0.1.example.com/mcp" }), false),
            (serde_json::json!({ "url": "http://10.0.0.7/mcp", "local": true }), true),
            (serde_json::json!({ "url": "http://tools.internal/mcp", "local": true }), true),
        ] {
            let near = ["10.0.0.0/8".parse().unwrap()].into();
            let config = Config { local_networks: near, ..Config::default() };
            let described = server(server_.clone()).describe("a", &config).unwrap();
            assert_eq!(described.local, local, "{server_}");
            let away = "203.0.113.1".parse().unwrap();
            assert_eq!(described.reach.covers(away), !local, "{server_}: called so is not enough");
        }
        let program = || server(serde_json::json!({ "command": "x" }));
        for name in ["", "A", "a_b", "a__b", "a b"] {
            assert!(program().describe(name, &Config::default()).is_err(), "{name}");
        }
        for wrong in [
            serde_json::json!({}),
            serde_json::json!({ "command": "x", "url": "http://127.0.0.1/mcp" }),
            serde_json::json!({ "url": "file:///etc/passwd" }),
            serde_json::json!({ "url": "http://127.0.0.1/mcp", "args": ["x"] }),
            serde_json::json!({ "url": "http://10.0.0.7/mcp", "local": true }),
            serde_json::json!({ "url": "here" }),
            serde_json::json!({ "command": "x", "sandbox": { "read": ["documents"] } }),
            serde_json::json!({ "command": "x", "token": "t" }),
            serde_json::json!({ "url": "http://127.0.0.1/mcp", "tenant_header": true }),
            serde_json::json!({ "url": "http://127.0.0.1/mcp", "token": "t", "token_file": "f" }),
        ] {
            assert!(server(wrong.clone()).describe("a", &Config::default()).is_err(), "{wrong}");
        }
    }
}
