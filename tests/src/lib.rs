//! A whole Baton, as its users run it, for journeys through the gateway.

pub mod measure;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::Process;
use tokio::process::Command;

/// A file in a system's directory that signs the certificates that are believed, if it is there.
pub const AUTHORITY: &str = "authority.pem";

/// How the services are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `baton up`.
    One,
    /// Each service a process of its own, over TCP.
    Separate,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 2] = [Self::One, Self::Separate];
}

/// A running system on free ports; it ends with this value.
#[derive(Debug)]
pub struct System {
    /// Where its HTTP API is.
    pub url: String,
    /// Its processes, the gateway's first.
    pub processes: Vec<Process>,
    client: Client,
    /// Dropped last: the processes lie in it.
    data: TempDir,
}

impl System {
    /// Starts a system with what `settings` (TOML) say.
    ///
    /// # Errors
    /// If a program is not built or does not start.
    pub async fn start(shape: Shape, settings: &str) -> anyhow::Result<Self> {
        Self::start_in(tempfile::tempdir()?, shape, settings).await
    }

    /// As [`System::start`], on the data in a directory, which may have an [`AUTHORITY`].
    ///
    /// # Errors
    /// As [`System::start`].
    pub async fn start_in(data: TempDir, shape: Shape, settings: &str) -> anyhow::Result<Self> {
        std::fs::write(data.path().join("baton.toml"), whole(settings))?;
        let processes = match shape {
            Shape::One => vec![Process::up(|up| in_directory(up, data.path())).await?],
            Shape::Separate => separate(data.path()).await?,
        };
        runtime::http::use_ring();
        #[expect(clippy::disallowed_methods, reason = "a client from outside")]
        let client = Client::builder().timeout(Duration::from_secs(60)).no_proxy().build()?;
        Ok(Self { url: processes[0].url.clone(), processes, client, data })
    }

    /// Kills every process as `kill -9` does and returns the data.
    ///
    /// # Errors
    /// If one had ended before.
    pub async fn kill(self) -> anyhow::Result<TempDir> {
        for process in self.processes {
            process.kill().await?;
        }
        Ok(self.data)
    }

    /// Replaces the configuration file at once, as a good editor does.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn configure(&self, settings: &str) -> std::io::Result<()> {
        let (new, file) = (self.data.path().join("new.toml"), self.data.path().join("baton.toml"));
        std::fs::write(&new, whole(settings))?;
        std::fs::rename(new, file)
    }

    /// Sends SIGHUP to every process.
    ///
    /// # Errors
    /// If one has ended.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        for process in &self.processes {
            rustix::process::kill_process(process.pid(), rustix::process::Signal::HUP)?;
        }
        Ok(())
    }

    /// Waits until the list of providers is as `wanted` says, and returns it.
    ///
    /// # Errors
    /// As [`System::send`], or if it is not within a minute.
    pub async fn providers(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let seen = async {
            loop {
                let (_, list) = self.get("/api/v1/providers").await?;
                if wanted(&list["providers"]) {
                    return Ok(list["providers"].clone());
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), seen).await?
    }

    /// Waits until an ingest job is as `wanted` says, and returns it.
    ///
    /// # Errors
    /// As [`System::send`], or if it is not within two minutes; the error says how it was last.
    pub async fn job(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let seen = async {
            loop {
                (_, last) = self.get(&format!("/api/v1/ingest/{id}")).await?;
                if wanted(&last) {
                    return anyhow::Ok(());
                }
                tokio::task::yield_now().await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(120), seen).await;
        seen.with_context(|| format!("job {id} is not as wanted: {last}"))??;
        Ok(last)
    }

    /// Returns where the data lies.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Posts JSON and returns the answer as it comes.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn send(&self, path: &str, body: &Value) -> reqwest::Result<Response> {
        self.client.post(format!("{}{path}", self.url)).json(body).send().await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// As [`System::send`].
    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Result<(StatusCode, String)> {
        let reply = self.send(path, body).await?;
        Ok((reply.status(), reply.text().await?))
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// As [`System::send`].
    pub async fn get(&self, path: &str) -> reqwest::Result<(StatusCode, Value)> {
        let reply = self.client.get(format!("{}{path}", self.url)).send().await?;
        Ok((reply.status(), reply.json().await.unwrap_or_default()))
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// As [`System::send`].
    pub async fn delete(&self, path: &str) -> reqwest::Result<StatusCode> {
        Ok(self.client.delete(format!("{}{path}", self.url)).send().await?.status())
    }

    /// Uploads a document and returns its description.
    ///
    /// # Errors
    /// As [`System::send`], or if it is refused.
    pub async fn upload(&self, source: &str, text: &str) -> reqwest::Result<Value> {
        let url = format!("{}/api/v1/documents?source={source}", self.url);
        let reply = self.client.post(url).body(text.to_owned()).send().await?;
        reply.error_for_status()?.json().await
    }

    /// Asks model `m` for a completion.
    ///
    /// # Errors
    /// As [`System::send`].
    pub async fn chat(&self, asked: &str, stream: bool) -> reqwest::Result<(StatusCode, String)> {
        self.post("/v1/chat/completions", &conversation(asked, stream)).await
    }

    /// Waits until a user holds nothing and returns what was spent today, in USD: settlements and
    /// releases are made behind the answer.
    ///
    /// # Errors
    /// As [`System::send`], or if something is held for a minute.
    pub async fn spent(&self, user: &str) -> anyhow::Result<f64> {
        let settled = async {
            loop {
                let path = format!("/api/v1/budget/user/{user}?period=daily");
                let (_, state) = self.get(&path).await?;
                if state["held"] == 0.0 {
                    return Ok(state["current_spend"].as_f64().unwrap_or(f64::NAN));
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), settled).await?
    }

    /// The client, for what has no method here.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// Returns the settings with what holds for every test that does not say otherwise: whatever else runs on
/// this machine is no part of it, and it may ask faster than people do.
#[must_use]
pub fn whole(settings: &str) -> String {
    let quiet = match settings.contains("local_models") {
        true => "",
        false => "local_models = { ollama = '', jan = '' }\n",
    };
    let generous = match settings.contains("limits.") {
        true => "",
        false => {
            "\n[gateway.limits.user]\nrequests = 100000000\n[gateway.limits.failures]\n\
             requests = 100000000\n[gateway.endpoint_limits]\n\
             '/api/search' = { requests = 100000000 }\n'/api/v1/search' = { requests = 100000000 }\n\
             '/v1/vector_stores/{id}/search' = { requests = 100000000 }\n"
        }
    };
    format!("{quiet}{settings}{generous}")
}

/// Returns a chat completions request to model `m`.
#[must_use]
pub fn conversation(asked: &str, stream: bool) -> Value {
    let messages = json!([{ "role": "user", "content": asked }]);
    json!({ "model": "m", "messages": messages, "stream": stream })
}

/// Returns the settings for a provider of which a request costs $0.004: at most a thousand tokens
/// out, at $4 a million.
#[must_use]
pub fn priced(provider: &str) -> String {
    format!(
        "[router.providers.mock]\nkind = 'openai'\nbase_url = '{provider}/v1'\ntier = 1\n\
         models = [{{ name = 'm', input_usd_per_million = '0', output_usd_per_million = '4', \
         max_output_tokens = 1000 }}]\n"
    )
}

fn in_directory(command: &mut Command, data: &Path) {
    command.current_dir(data).args(["--config", "baton.toml"]);
    if data.join(AUTHORITY).exists() {
        command.env("SSL_CERT_FILE", AUTHORITY).env_remove("SSL_CERT_DIR");
    }
    // A line for each call between services, unless the settings say what is logged.
    let settings = std::fs::read_to_string(data.join("baton.toml")).unwrap_or_default();
    if !settings.contains("[telemetry]") {
        command.env("BATON_TELEMETRY__LOG", "info,runtime=debug");
    }
}

/// Starts the services, the called before their callers, and returns the gateway first.
async fn separate(data: &Path) -> anyhow::Result<Vec<Process>> {
    let start = async |name: &str, peers: &[(&str, &Process)]| {
        let section = name.replace('-', "_").to_uppercase();
        let addresses = peers.iter().map(|(peer, process)| {
            (format!("BATON_{section}__PEERS__{peer}"), process.url.clone())
        });
        let addresses: Vec<_> = addresses.collect();
        Process::service(name, |command| {
            in_directory(command, data);
            command.envs(addresses);
        })
        .await
    };
    let budget = start("budget", &[]).await?;
    let router = start("router", &[("BUDGET", &budget)]).await?;
    let retriever = start("retriever", &[("ROUTER", &router)]).await?;
    let bridge = start("mcp-bridge", &[]).await?;
    let peers = [("ROUTER", &router), ("RETRIEVER", &retriever), ("BRIDGE", &bridge)];
    let orchestrator = start("orchestrator", &peers).await?;
    let peers = [
        ("BUDGET", &budget),
        ("ROUTER", &router),
        ("RETRIEVER", &retriever),
        ("ORCHESTRATOR", &orchestrator),
        ("BRIDGE", &bridge),
    ];
    let gateway = start("gateway", &peers).await?;
    Ok(vec![gateway, orchestrator, router, retriever, budget, bridge])
}
