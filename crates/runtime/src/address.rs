//! Addresses of databases, which hold passwords.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Serializer;

/// Returns an address without everything that may be a password: between the user's name and the
/// host, and behind `?`.
#[must_use]
pub fn shown(address: &str) -> String {
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

/// Writes an address as it is [`shown`]; a configuration's field names it in `serialize_with`.
///
/// # Errors
/// If `to` does not take it.
pub fn without_password<S: Serializer>(address: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&shown(address.expose_secret()))
}

/// As [`without_password`], of an address that may be absent.
///
/// # Errors
/// If `to` does not take it.
pub fn optional_without_password<S: Serializer>(
    address: &Option<SecretString>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => to.serialize_some(&shown(address.expose_secret())),
        None => to.serialize_none(),
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
