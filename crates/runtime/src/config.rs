//! Configuration: defaults in code, then a TOML file, then `BATON_*`.

use std::path::Path;

use anyhow::{Context as _, bail};
use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use figment::value::{Dict, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Sections that a file shared by several services may have besides the reader's own.
const SECTIONS: [&str; 11] = [
    "budget",
    "data",
    "gateway",
    "local_models",
    "mcp_bridge",
    "mcp_filesystem",
    "mcp_git",
    "mcp_memory",
    "orchestrator",
    "retriever",
    "router",
];

/// Sections of programs that never run within another.
const PROGRAMS: [&str; 3] = ["mcp_filesystem", "mcp_git", "mcp_memory"];

/// Reads a `C`: `BATON_BUDGET__LEDGER` sets `ledger` in section `budget`. Variables that start with
/// `BATON_TEST_` are for tests, and `BATON_API_KEY` is a client's: both are skipped.
///
/// # Errors
/// If the file is missing or a key is unknown or malformed; the message names it.
pub fn load<C>(file: Option<&Path>) -> anyhow::Result<C>
where
    C: Serialize + DeserializeOwned + Default,
{
    load_over(&C::default(), file)
}

/// Reads a `C` over `defaults` of one's own; otherwise as [`load`].
///
/// # Errors
/// As [`load`].
pub fn load_over<C>(defaults: &C, file: Option<&Path>) -> anyhow::Result<C>
where
    C: Serialize + DeserializeOwned,
{
    let mut root: Dict = given(file)?.extract().map_err(precise)?;
    root.retain(|key, _| !PROGRAMS.contains(&key.as_str()));
    let given = Serialized::defaults(root);
    Figment::from(Serialized::defaults(defaults)).merge(given).extract().map_err(precise)
}

/// Reads the root keys into a `P` and one section into a `C`; the sections of other services are
/// skipped, so that one file serves all.
///
/// # Errors
/// As [`load`].
pub fn load_section<P, C>(section: &str, file: Option<&Path>) -> anyhow::Result<(P, C)>
where
    P: Serialize + DeserializeOwned + Default,
    C: Serialize + DeserializeOwned + Default,
{
    let mut root: Dict = given(file)?.extract().map_err(precise)?;
    let own = root.remove(section).unwrap_or_else(|| Dict::new().into());
    root.retain(|key, _| !SECTIONS.contains(&key.as_str()));
    let own =
        own.into_dict().with_context(|| format!("configuration: {section} is not a table"))?;
    Ok((
        with_defaults(Figment::from(Serialized::defaults(root)))?,
        with_defaults(Figment::from(Serialized::defaults(own)))
            .with_context(|| format!("section {section}"))?,
    ))
}

fn given(file: Option<&Path>) -> anyhow::Result<Figment> {
    let mut figment = Figment::new();
    if let Some(file) = file {
        if !file.is_file() {
            bail!("configuration file {} does not exist", file.display());
        }
        figment = figment.merge(Toml::file(file));
    }
    // Compared without case.
    let ours = |key: &figment::value::UncasedStr| key != "api_key" && !key.starts_with("test_");
    let env = Env::prefixed("BATON_").filter(ours).split("__");
    Ok(figment.merge(env))
}

fn with_defaults<C>(given: Figment) -> anyhow::Result<C>
where
    C: Serialize + DeserializeOwned + Default,
{
    Figment::from(Serialized::defaults(C::default())).merge(given).extract().map_err(precise)
}

/// What the file and the environment say, to tell what has changed.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it has secrets")]
pub struct Given(Dict);

impl Given {
    /// Reads it.
    ///
    /// # Errors
    /// If the file is missing or is no TOML.
    pub fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self(given(file)?.extract().map_err(precise)?))
    }

    /// Returns the keys whose values are others than in `before`, such as `budget.ledger`. For a service
    /// with a section of its `own`, those of other services are left out.
    #[must_use]
    pub fn changed_from(&self, before: &Self, own: Option<&str>) -> Vec<String> {
        let mut keys = Vec::new();
        differ("", &before.0, &self.0, &mut keys);
        keys.retain(|key| {
            let section = key.split('.').next().unwrap_or_default();
            match own {
                Some(own) => section == own || !SECTIONS.contains(&section),
                None => !PROGRAMS.contains(&section),
            }
        });
        keys
    }
}

fn differ(path: &str, before: &Dict, now: &Dict, keys: &mut Vec<String>) {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (before.get(name), now.get(name)) {
            (Some(Value::Dict(_, before)), Some(Value::Dict(_, now))) => {
                differ(&at, before, now, keys);
            }
            (before, now) if before != now => keys.push(at),
            _ => {}
        }
    }
}

/// Returns `config` as TOML. Secrets are not serialised, so they are not in it.
///
/// # Errors
/// If it cannot be written as TOML.
pub fn to_text<C: Serialize>(config: &C) -> anyhow::Result<String> {
    Ok(toml::to_string_pretty(config)?)
}

fn precise(error: figment::Error) -> anyhow::Error {
    let faults: Vec<String> = error.into_iter().map(|fault| fault.to_string()).collect();
    anyhow::anyhow!("configuration: {}", faults.join("; "))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Root {
        budget: Section,
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Section {
        ledger: String,
        #[serde(skip_serializing)]
        secret: String,
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Nothing {}

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_file_is_read_and_an_unknown_key_is_named() {
        let good: Root = load(Some(file("[budget]\nledger = 'x'\nsecret = 's'").path())).unwrap();
        assert_eq!((good.budget.ledger.as_str(), good.budget.secret.as_str()), ("x", "s"));
        assert!(!to_text(&good).unwrap().contains("secret"));
        let shared = load::<Root>(Some(file("[mcp_git]\nx = 1").path()));
        assert!(shared.is_ok(), "a program that never runs within another");
        let fault = load::<Root>(Some(file("[budget]\nledgre = 'x'").path())).unwrap_err();
        assert!(fault.to_string().contains("ledgre"), "{fault}");
    }

    #[test]
    fn what_changed_is_named_without_its_value() {
        let given = |text: &str| Given::read(Some(file(text).path())).unwrap();
        let before =
            given("listen = 'a'\n[budget]\nledger = 'x'\n[router]\non = 1\n[mcp_git]\nx = 1");
        let after = given("listen = 'b'\n[budget]\nledger = 'y'\n[router]\non = 1\noff = 2");
        let changed = |own| after.changed_from(&before, own);
        assert_eq!(changed(None), ["budget.ledger", "listen", "router.off"]);
        assert_eq!(changed(Some("router")), ["listen", "router.off"]);
        assert!(before.changed_from(&before, None).is_empty());
    }

    #[test]
    fn sections_of_other_services_are_skipped_but_not_unknown_ones() {
        let text = "[budget]\nledger = 'x'\n[router]\nanything = 1";
        let (_, own): (Nothing, Section) = load_section("budget", Some(file(text).path())).unwrap();
        assert_eq!(own.ledger, "x");
        let unknown =
            load_section::<Nothing, Section>("budget", Some(file("[ruoter]\na = 1").path()));
        assert!(unknown.is_err());
    }
}
