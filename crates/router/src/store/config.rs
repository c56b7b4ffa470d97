use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::Terms;

/// Responses that are kept, so that `previous_response_id` can name them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Responses {
    /// Where: `sqlite:PATH`, made when missing, or `postgres://USER:PASSWORD@HOST/DATABASE`, printed
    /// without its password; nothing is kept when empty.
    #[serde(serialize_with = "runtime::address::without_password")]
    pub store: SecretString,
    /// How many connections to PostgreSQL are held at most.
    pub connections: u32,
    /// After how many days a response is removed that nothing continues.
    pub expire_days: u32,
    /// How often what has expired is removed, in milliseconds; it is gone at once all the same.
    pub sweep_ms: u64,
    /// How many bytes one response may have, with its input.
    pub max_bytes: u64,
    /// How many bytes a tenant may keep.
    pub tenant_bytes: u64,
    /// How many responses a conversation may have.
    pub conversation: u32,
    /// How many bytes a conversation may have.
    pub conversation_bytes: u64,
}

impl Default for Responses {
    fn default() -> Self {
        Self {
            store: "sqlite:data/responses.db".into(),
            connections: 8,
            expire_days: 30,
            sweep_ms: 60_000,
            max_bytes: 16 * 1024 * 1024,
            tenant_bytes: 1024 * 1024 * 1024,
            conversation: 500,
            conversation_bytes: 32 * 1024 * 1024,
        }
    }
}

impl Responses {
    /// Refuses what would keep nothing, or never stop.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let counts = [
            ("connections", self.connections.into()),
            ("expire_days", self.expire_days.into()),
            ("sweep_ms", self.sweep_ms),
            ("max_bytes", self.max_bytes),
            ("tenant_bytes", self.tenant_bytes),
            ("conversation", u64::from(self.conversation)),
            ("conversation_bytes", self.conversation_bytes),
        ];
        for (name, given) in counts {
            anyhow::ensure!(given > 0, "router.responses.{name}: 0 is too few");
        }
        Ok(())
    }

    pub(crate) fn terms(&self) -> Terms {
        let lifetime = Duration::from_secs(u64::from(self.expire_days) * 24 * 3600);
        Terms { lifetime, tenant_bytes: self.tenant_bytes }
    }
}
