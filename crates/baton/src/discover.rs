//! Which models this machine offers without being told.

use std::collections::BTreeMap;

use router::{Found, Kind, Provider};

use crate::node::Config;

/// Environment variables that other programs keep provider keys in.
const KEYS: [&str; 6] = [
    "ANTHROPIC_API_KEY",
    "FIREWORKS_API_KEY",
    "GEMINI_API_KEY",
    "GROQ_API_KEY",
    "OPENAI_API_KEY",
    "TOGETHER_API_KEY",
];

/// Returns where Ollama and Jan listen by default.
pub(crate) fn local() -> BTreeMap<String, String> {
    [("ollama", "http://127.0.0.1:11434/v1"), ("jan", "http://127.0.0.1:1337/v1")]
        .map(|(name, url)| (name.to_owned(), url.to_owned()))
        .into()
}

/// Adds the local servers to the configured providers; the router asks them for their models. A
/// provider that is configured under a server's name stays as it is.
pub fn local_servers(config: &mut Config) {
    for (name, base_url) in &config.local_models {
        if base_url.is_empty() || config.router.providers.contains_key(name) {
            continue;
        }
        let server = Provider {
            kind: Kind::Openai,
            base_url: base_url.clone(),
            api_key: None,
            tier: 0,
            batch_discount_percent: None,
            models: Vec::new(),
            list_models: true,
        };
        config.router.providers.insert(name.clone(), server);
    }
}

/// Says what the router found, a line each; a local server that does not listen is nothing to tell.
pub fn told(config: &Config, found: &[Found]) -> Vec<String> {
    let line = |one: &Found| {
        let (name, models) = (&one.provider, one.models.join(", "));
        let provider = config.router.providers.get(name)?;
        let base_url = &provider.base_url;
        // What was added above has no models of its own; what an operator wrote may list them too.
        let added = config.local_models.get(name) == Some(base_url) && provider.list_models;
        match (&one.fault, added) {
            (Some(fault), true) if fault == "cannot connect" => None,
            (Some(fault), true) => Some(format!("{name} at {base_url} is not used: {fault}")),
            (None, true) if models.is_empty() => {
                Some(format!("{name} at {base_url}: no model yet"))
            }
            (None, true) => Some(format!("{name} at {base_url}: {models}")),
            (Some(fault), false) => Some(format!("{name} (configured): {models} ({fault})")),
            (None, false) => Some(format!("{name} (configured): {models}")),
        }
    };
    let mut lines: Vec<String> = found.iter().filter_map(line).collect();
    lines.extend(KEYS.into_iter().filter(|key| is_set(key)).map(|key| {
        format!("{key} is set: configure a provider to use it, see docs/configuration.md")
    }));
    lines
}

fn is_set(variable: &str) -> bool {
    std::env::vars_os().any(|(name, value)| name == variable && !value.is_empty())
}
