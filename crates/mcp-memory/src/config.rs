use std::collections::BTreeMap;
use std::path::PathBuf;

use mcp_server::Access;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use types::TenantId;

/// What the server needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where: `sqlite:PATH`, made when missing, or `postgres://USER:PASSWORD@HOST/DATABASE`, printed
    /// without its password.
    #[serde(serialize_with = "runtime::address::without_password")]
    pub store: SecretString,
    /// How many connections to PostgreSQL are held at most.
    pub connections: u32,
    /// Whose memory it is, where no header says it.
    pub tenant: String,
    /// What whoever says by a header whose memory it is has to show; none may when absent.
    #[serde(skip_serializing)]
    pub bridge_token: Option<SecretString>,
    /// Keys that contents are sealed with, a line of 64 hexadecimal digits each: the first seals, all
    /// open. Contents lie as they are when absent.
    pub key_file: Option<PathBuf>,
    /// After how many days without a change an entity is deleted, by its type; `*` is any other.
    pub retention_days: BTreeMap<String, u32>,
    /// For how many days what was deleted can be restored.
    pub deleted_days: u32,
    /// How often what is too old is removed, in milliseconds.
    pub sweep_ms: u64,
    /// How many entities or relations one answer has at most.
    pub max_items: usize,
    /// How many bytes of names and contents one answer has at most.
    pub max_bytes: usize,
    /// Who may reach it over HTTP.
    pub access: Access,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: "sqlite:data/memory.db".into(),
            connections: 8,
            tenant: "local".to_owned(),
            bridge_token: None,
            key_file: None,
            retention_days: BTreeMap::new(),
            deleted_days: 30,
            sweep_ms: 60_000,
            max_items: 10_000,
            max_bytes: 4 * 1024 * 1024,
            access: Access::default(),
        }
    }
}

impl Config {
    /// Refuses what would answer nothing, or never stop.
    pub(crate) fn check(&self) -> anyhow::Result<TenantId> {
        let counts = [
            ("connections", u64::from(self.connections)),
            ("sweep_ms", self.sweep_ms),
            ("max_items", self.max_items as u64),
            ("max_bytes", self.max_bytes as u64),
        ];
        for (name, given) in counts {
            anyhow::ensure!(given > 0, "mcp_memory.{name}: 0 is too few");
        }
        for (kind, days) in &self.retention_days {
            anyhow::ensure!(*days > 0, "mcp_memory.retention_days.{kind}: 0 is too few");
        }
        TenantId::new(&self.tenant).map_err(|fault| anyhow::anyhow!("mcp_memory.tenant: {fault}"))
    }
}
