use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// What the budget service needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the ledger is: `sqlite:PATH`, made when missing, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE`; printed without its password.
    #[serde(serialize_with = "without_password")]
    pub ledger: SecretString,
    /// How many connections to PostgreSQL are held at most.
    pub connections: u32,
    /// How often expired holds are swept, in milliseconds; they stop counting at once all the same.
    pub sweep_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let ledger = "sqlite:data/ledger.db".into();
        Self { ledger, connections: 16, sweep_ms: 5_000 }
    }
}

impl Config {
    /// Returns the ledger's address without its password.
    pub(crate) fn shown(&self) -> String {
        shown(self.ledger.expose_secret())
    }
}

fn without_password<S: Serializer>(address: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&shown(address.expose_secret()))
}

/// Hides everything that may be a password: between the user's name and the host, and behind `?`.
fn shown(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let place = rest.split('?').next().unwrap_or_default();
    match place.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}")
        }
        None => format!("{scheme}://{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (address, wanted) in [
            ("sqlite:data/ledger.db", "sqlite:data/ledger.db"),
            ("postgres://baton@db/baton", "postgres://baton@db/baton"),
            ("postgres://baton:p:a@s@db:5432/baton", "postgres://baton@db:5432/baton"),
            ("postgres://db/baton?password=secret", "postgres://db/baton"),
        ] {
            assert_eq!(shown(address), wanted);
        }
    }
}
