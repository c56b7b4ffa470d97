//! Servers of models: what others call them, where they are, and which tier that makes.

use std::net::IpAddr;

use egress::Reach;
use reqwest::Url;
use router::Kind;

/// A kind of server.
#[derive(Debug)]
pub(super) struct Family {
    /// As the provider in our configuration is called.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Its address; empty where the source must say one.
    home: &'static str,
}

const fn family(name: &'static str, kind: Kind, home: &'static str) -> Family {
    Family { name, kind, home }
}

/// The addresses as LiteLLM and TensorZero have them, 2026-11.
const FAMILIES: [Family; 25] = [
    family("anthropic", Kind::Anthropic, "https://api.anthropic.com/v1"),
    family("gemini", Kind::Gemini, "https://generativelanguage.googleapis.com/v1beta"),
    family("openai", Kind::Openai, "https://api.openai.com/v1"),
    family("cerebras", Kind::Openai, "https://api.cerebras.ai/v1"),
    family("deepinfra", Kind::Openai, "https://api.deepinfra.com/v1/openai"),
    family("deepseek", Kind::Openai, "https://api.deepseek.com/v1"),
    family("fireworks", Kind::Openai, "https://api.fireworks.ai/inference/v1"),
    family("groq", Kind::Openai, "https://api.groq.com/openai/v1"),
    family("hyperbolic", Kind::Openai, "https://api.hyperbolic.xyz/v1"),
    family("mistral", Kind::Openai, "https://api.mistral.ai/v1"),
    family("nvidia_nim", Kind::Openai, "https://integrate.api.nvidia.com/v1"),
    family("openrouter", Kind::Openai, "https://openrouter.ai/api/v1"),
    family("perplexity", Kind::Openai, "https://api.perplexity.ai"),
    family("sambanova", Kind::Openai, "https://api.sambanova.ai/v1"),
    family("together", Kind::Openai, "https://api.together.xyz/v1"),
    family("xai", Kind::Openai, "https://api.x.ai/v1"),
    family("litellm_proxy", Kind::Openai, ""),
    family("llamafile", Kind::Openai, "http://127.0.0.1:8080/v1"),
    family("lm_studio", Kind::Openai, ""),
    family("ollama", Kind::Openai, "http://127.0.0.1:11434/v1"),
    family("openai_like", Kind::Openai, ""),
    family("sglang", Kind::Openai, ""),
    family("tgi", Kind::Openai, ""),
    family("vllm", Kind::Openai, ""),
    family("xinference", Kind::Openai, "http://127.0.0.1:9997/v1"),
];

/// Returns the servers of this name.
pub(super) fn named(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name)
}

/// What the source says of a server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing: it is where such servers are.
    Home,
    /// An address.
    Said(String),
    /// An environment variable of this name has it.
    Variable(String),
}

/// What the source says of a server's key. A secret is here to tell servers apart, and goes nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Nothing, or nothing that we could tell.
    Unsaid,
    /// That there is none.
    Nothing,
    /// An environment variable of this name has it.
    Variable(String),
    /// The key itself.
    Secret(String),
}

/// Returns whether this may be the name of an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(starts) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Where a server is, as our configuration says it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) base_url: String,
    pub(super) tier: u32,
    /// What the reader should know of it.
    pub(super) remarks: Vec<&'static str>,
}

impl Family {
    /// Returns where such a server is, up to and with the version, and its tier.
    ///
    /// # Errors
    /// If `place` is no address, or has to say one.
    pub(super) fn address(&self, place: &Place) -> Result<Address, &'static str> {
        let said = match place {
            Place::Said(said) => said.as_str(),
            Place::Home if self.home.is_empty() => return Err("no address is said for it"),
            Place::Home => self.home,
            Place::Variable(name) => {
                // Reserved for what leads nowhere (RFC 2606), so that a forgotten one fails.
                let host = name.to_ascii_lowercase().replace('_', "-");
                let base_url = format!("https://{}.invalid/v1", host.trim_matches('-'));
                return Ok(Address { base_url, tier: self.tier(None), remarks: Vec::new() });
            }
        };
        let mut remarks = Vec::new();
        let mut url = Url::parse(said).map_err(|_| "not an address")?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("not an http address");
        }
        if !url.username().is_empty() || url.password().is_some() {
            let bare = url.set_username("").and_then(|()| url.set_password(None));
            bare.map_err(|()| "not an http address")?;
            remarks.push("the credentials in it were left out: keys come from the environment");
        }
        if url.query().is_some() || url.fragment().is_some() {
            url.set_query(None);
            url.set_fragment(None);
            remarks.push("what follows its path was left out");
        }
        if url.host_str() == Some("0.0.0.0") {
            url.set_host(Some("127.0.0.1")).map_err(|_| "not an http address")?;
            remarks.push("0.0.0.0 is where one listens; 127.0.0.1 took its place");
        }
        let tier = self.tier(Some(&url));
        if tier != 0 && is_near(&url) {
            remarks.push(
                "not this machine, so not of tier 0: if its network is as good, add it to router.local_networks and set the tier",
            );
        }
        Ok(Address { base_url: self.versioned(url.as_str()), tier, remarks })
    }

    /// Returns the environment variable that such a server's key is usually in.
    pub(super) fn usual_key(&self) -> Option<String> {
        let cloud = self.home.starts_with("https://");
        cloud.then(|| format!("{}_API_KEY", self.name.to_ascii_uppercase()))
    }

    /// Adds the version where the source's dialect adds it itself, and takes away what ours adds.
    fn versioned(&self, url: &str) -> String {
        let mut base = url.trim_end_matches('/');
        for path in ["/chat/completions", "/messages"] {
            base = base.strip_suffix(path).unwrap_or(base);
        }
        let adds = matches!(self.kind, Kind::Anthropic) || self.name == "ollama";
        match adds && !base.ends_with("/v1") {
            true => format!("{base}/v1"),
            false => base.to_owned(),
        }
    }

    fn tier(&self, url: Option<&Url>) -> u32 {
        let host = url.and_then(Url::host_str).unwrap_or_default();
        // A proxy sends on what it is sent, wherever it runs.
        if is_local(host) && self.name != "litellm_proxy" {
            return 0;
        }
        let premium = matches!(self.kind, Kind::Anthropic | Kind::Gemini)
            || host == "api.openai.com"
            || host.ends_with(".api.openai.com");
        if premium { 3 } else { 1 }
    }
}

fn parsed(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Returns whether `host` is this machine.
fn is_local(host: &str) -> bool {
    match parsed(host) {
        Some(address) => Reach::Local([].into()).covers(address),
        None => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Returns whether this looks like a network of one's own.
fn is_near(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    match parsed(host) {
        Some(IpAddr::V4(address)) => address.is_private() || address.is_link_local(),
        Some(IpAddr::V6(address)) => address.is_unique_local() || address.is_unicast_link_local(),
        None => {
            (!host.contains('.') && !is_local(host))
                || [".internal", ".lan", ".local"].iter().any(|end| host.ends_with(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_version_and_its_tier() {
        for (name, said, wanted, tier) in [
            ("openai", "", "https://api.openai.com/v1", 3),
            ("openai", "https://eu.api.openai.com/v1/", "https://eu.api.openai.com/v1", 3),
            ("openai", "https://example.com/v1/chat/completions", "https://example.com/v1", 1),
            ("openai", "http://localhost:8000/v1", "http://localhost:8000/v1", 0),
            ("openai", "http://[::1]:8000", "http://[::1]:8000", 0),
            ("openai", "https://localhost.example.com/v1", "https://localhost.example.com/v1", 1),
            ("anthropic", "https://example.com/v1/messages", "https://example.com/v1", 3),
            ("anthropic", "https://example.com", "https://example.com/v1", 3),
            ("gemini", "", "https://generativelanguage.googleapis.com/v1beta", 3),
            ("groq", "", "https://api.groq.com/openai/v1", 1),
            ("ollama", "", "http://127.0.0.1:11434/v1", 0),
            ("ollama", "http://127.0.0.1:11434/", "http://127.0.0.1:11434/v1", 0),
            ("litellm_proxy", "http://localhost:4000", "http://localhost:4000", 1),
        ] {
            let place = match said {
                "" => Place::Home,
                said => Place::Said(said.to_owned()),
            };
            let found = named(name).unwrap().address(&place).unwrap();
            assert_eq!((found.base_url.as_str(), found.tier), (wanted, tier), "{name} {said}");
            assert_eq!(found.remarks, Vec::<&str>::new(), "{name} {said}");
        }
    }

    #[test]
    fn secrets_in_an_address_are_left_out() {
        let said = Place::Said("https://me:hidden@example.com/v1?key=hidden#hidden".to_owned());
        let found = named("openai").unwrap().address(&said).unwrap();
        assert_eq!(found.base_url, "https://example.com/v1");
        assert_eq!(found.remarks.len(), 2);
    }

    #[test]
    fn a_network_of_ones_own_is_not_taken_for_this_machine() {
        let vllm = named("vllm").unwrap();
        for said in
            ["http://10.0.0.5:8000/v1", "http://ollama:11434/v1", "http://host.docker.internal/v1"]
        {
            let found = vllm.address(&Place::Said(said.to_owned())).unwrap();
            assert_eq!((found.tier, found.remarks.len()), (1, 1), "{said}");
        }
        let all = vllm.address(&Place::Said("http://0.0.0.0:8000/v1".to_owned())).unwrap();
        assert_eq!((all.base_url.as_str(), all.tier), ("http://127.0.0.1:8000/v1", 0));
    }

    #[test]
    fn an_unknown_address_leads_nowhere() {
        let place = Place::Variable("VLLM_API_BASE".to_owned());
        let found = named("vllm").unwrap().address(&place).unwrap();
        assert_eq!((found.base_url.as_str(), found.tier), ("https://vllm-api-base.invalid/v1", 1));
        for said in ["", "<your-endpoint>", "ftp://example.com", "/v1", "http://"] {
            let refused = named("vllm").unwrap().address(&Place::Said(said.to_owned()));
            assert!(refused.is_err(), "{said}");
        }
        assert!(named("vllm").unwrap().address(&Place::Home).is_err());
    }
}
