//! Which models this machine offers without being told.

use std::collections::BTreeMap;
use std::time::Duration;

use egress::Reach;
use router::{Kind, Model, Provider};
use serde::Deserialize;

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

/// How long a local server may take to name its models; a port that is closed takes no time.
const WAIT: Duration = Duration::from_secs(1);

/// Returns where Ollama and Jan listen by default.
pub(crate) fn local() -> BTreeMap<String, String> {
    [("ollama", "http://127.0.0.1:11434/v1"), ("jan", "http://127.0.0.1:1337/v1")]
        .map(|(name, url)| (name.to_owned(), url.to_owned()))
        .into()
}

/// Adds the local servers that answer to the configured providers and returns what there is, a line
/// each. A provider that is configured under a server's name stays as it is.
pub async fn models(config: &mut Config) -> Vec<String> {
    let described = |(name, provider): (&String, &Provider)| {
        format!("{name} (configured): {}", listed(&provider.models))
    };
    let mut found: Vec<String> = config.router.providers.iter().map(described).collect();
    for (name, base_url) in &config.local_models {
        if base_url.is_empty() || config.router.providers.contains_key(name) {
            continue;
        }
        match models_at(base_url).await {
            Ok(models) if models.is_empty() => {
                found.push(format!("{name} at {base_url}: no model yet"));
            }
            Ok(models) => {
                found.push(format!("{name} at {base_url}: {}", listed(&models)));
                let provider = Provider {
                    kind: Kind::Openai,
                    base_url: base_url.clone(),
                    api_key: None,
                    tier: 0,
                    models,
                };
                config.router.providers.insert(name.clone(), provider);
            }
            Err(error) if error.is_connect() => {}
            Err(error) => found.push(format!("{name} at {base_url} is not used: {error}")),
        }
    }
    found.extend(KEYS.into_iter().filter(|key| is_set(key)).map(|key| {
        format!("{key} is set: configure a provider to use it, see docs/configuration.md")
    }));
    found
}

async fn models_at(base_url: &str) -> reqwest::Result<Vec<Model>> {
    #[derive(Deserialize)]
    struct List {
        data: Option<Vec<Entry>>,
    }
    #[derive(Deserialize)]
    struct Entry {
        id: String,
    }
    let client = egress::client(Reach::Local([].into())).timeout(WAIT).build()?;
    let list = client.get(format!("{base_url}/models")).send().await?.error_for_status()?;
    let list: List = list.json().await?;
    // Embedding models do not converse; nothing but their names tells them apart here.
    let model = |id: String| Model { embeddings: id.contains("embed"), ..Model::free(id) };
    let ids = list.data.unwrap_or_default().into_iter().map(|entry| entry.id);
    Ok(ids.filter(|id| !router::is_passed_on(id)).map(model).collect())
}

fn listed(models: &[Model]) -> String {
    models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn is_set(variable: &str) -> bool {
    std::env::vars_os().any(|(name, value)| name == variable && !value.is_empty())
}
