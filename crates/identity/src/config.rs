use std::collections::BTreeMap;

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use types::{Role, TenantId};

/// An identity provider whose tokens are taken, and whom they stand for. A claim is named as it is called;
/// `a.b` is `b` within `a`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What its tokens say as `iss`, letter for letter.
    pub issuer: String,
    /// One of these is what its tokens say as `aud`.
    pub audience: Vec<String>,
    /// Its public keys: an address (`https://…`), or a file.
    pub jwks: String,
    /// How far its clock may be off, in seconds.
    #[serde(default = "minute")]
    pub leeway_s: u64,
    /// How long to wait at least before its keys are looked for again, in milliseconds.
    #[serde(default = "ten_seconds")]
    pub refresh_floor_ms: u64,
    /// Whose data and money, when no claim says so.
    pub tenant: Option<String>,
    /// Which claim says whose.
    pub tenant_claim: Option<String>,
    /// Which claim says who pays.
    #[serde(default = "sub")]
    pub user_claim: String,
    /// Which claim says the user's team.
    pub team_claim: Option<String>,
    /// Which claim says roles: a text, or a list of texts.
    pub role_claim: Option<String>,
    /// What those are here; without any they are called as they are here.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// The role of whoever has none of them; nobody without is let in when absent.
    pub role: Option<String>,
}

fn minute() -> u64 {
    60
}

fn ten_seconds() -> u64 {
    10_000
}

fn sub() -> String {
    "sub".to_owned()
}

impl Issuer {
    /// Checks what no type holds.
    ///
    /// # Errors
    /// If it could let in whoever it should not, or nobody.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.issuer.is_empty(), "issuer is empty");
        ensure!(
            !self.audience.is_empty() && self.audience.iter().all(|one| !one.is_empty()),
            "audience is empty: a token that is for anybody would do"
        );
        ensure!(self.leeway_s <= 600, "leeway_s: {} is more than ten minutes", self.leeway_s);
        ensure!(
            self.refresh_floor_ms >= 1000,
            "refresh_floor_ms: {} is less than a second",
            self.refresh_floor_ms
        );
        ensure!(
            self.tenant.is_some() != self.tenant_claim.is_some(),
            "one of tenant and tenant_claim is needed"
        );
        self.tenant.as_ref().map(TenantId::new).transpose()?;
        ensure!(
            self.role.is_some() || self.role_claim.is_some(),
            "one of role and role_claim is needed"
        );
        for role in self.roles.values().chain(&self.role) {
            role.parse::<Role>()?;
        }
        Ok(())
    }
}
