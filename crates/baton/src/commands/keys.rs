//! `baton keys`: API keys of a running system.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use types::NanoUsd;

use crate::cli::{Common, Failure};
use crate::commands::client::Server;
use crate::commands::columns::{date, lined_up};

const DAY_MS: i64 = 24 * 3_600_000;
const HOUR_MS: u64 = 3_600_000;
/// How many keys are asked for at once.
const PAGE: usize = 1000;

/// What is done with keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Keys {
    /// Make a key; its secret is shown once
    Create(Box<Create>),
    /// List keys, also those that were revoked
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Give a key another secret, which is shown once
    Rotate {
        /// The key's id
        id: String,
        /// How many hours the secret until now is good yet
        #[arg(long, default_value_t = 24)]
        overlap_hours: u64,
        #[command(flatten)]
        server: Server,
    },
    /// End a key for good, everywhere within a second
    Revoke {
        /// The key's id
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Whom a new key stands for, and what it may do.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// What people call it; the user's name unless said
    #[arg(long)]
    name: Option<String>,
    /// Who pays; whoever asks unless said
    #[arg(long)]
    user: Option<String>,
    /// The user's team
    #[arg(long)]
    team: Option<String>,
    /// admin, operator, member or read_only
    #[arg(long, default_value = "member")]
    role: String,
    /// A route or model that it may ask, such as auto or ollama/*; all unless said
    #[arg(long = "model")]
    models: Vec<String>,
    /// A tool that it may call; all unless said
    #[arg(long = "tool")]
    tools: Vec<String>,
    /// A collection of documents that it may use; all unless said
    #[arg(long = "collection")]
    collections: Vec<String>,
    /// All of its calls are private
    #[arg(long)]
    private: bool,
    /// None of its calls is answered from what was kept
    #[arg(long)]
    no_cache: bool,
    /// Requests in a window
    #[arg(long)]
    requests: Option<u64>,
    /// The window, in seconds
    #[arg(long, requires = "requests")]
    window_seconds: Option<u64>,
    /// Tokens in a minute
    #[arg(long)]
    tokens_per_minute: Option<u64>,
    /// Requests at once
    #[arg(long)]
    concurrency: Option<u64>,
    /// What it may spend, in USD, such as daily=5; daily, weekly, monthly or total
    #[arg(long = "limit", value_name = "PERIOD=USD")]
    limits: Vec<String>,
    /// It ends after so many days
    #[arg(long)]
    expires_days: Option<u32>,
    #[command(flatten)]
    server: Server,
}

/// What is asked for; amounts are written as they were.
#[derive(Serialize)]
struct Body {
    #[serde(flatten)]
    terms: Value,
    limits: BTreeMap<String, Box<RawValue>>,
}

pub(crate) async fn run(common: &Common, command: Keys) -> Result<(), Failure> {
    match command {
        Keys::Create(create) => {
            let body = serde_json::to_string(&create.body()?).map_err(anyhow::Error::from)?;
            let key = create.server.text(Method::POST, "/api/v1/keys", Some(body), None).await?;
            print_secret(common, &serde_json::from_str(&key).unwrap_or_default());
        }
        Keys::List { server } => {
            let keys = all(&server).await?;
            match common.json {
                true => println!("{}", json!({ "keys": keys })),
                false => print!("{}", table(&keys)),
            }
        }
        Keys::Rotate { id, overlap_hours, server } => {
            let body = json!({ "overlap_ms": overlap_hours.saturating_mul(HOUR_MS) });
            let path = format!("/api/v1/keys/{}/rotate", plain(&id)?);
            print_secret(common, &server.ask(Method::POST, &path, Some(&body)).await?);
        }
        Keys::Revoke { id, server } => {
            let path = format!("/api/v1/keys/{}", plain(&id)?);
            server.ask(Method::DELETE, &path, None).await?;
            match common.json {
                true => println!("{}", json!({ "id": id, "revoked": true })),
                false => println!("{id} is revoked"),
            }
        }
    }
    Ok(())
}

impl Create {
    fn body(&self) -> anyhow::Result<Body> {
        let some = |names: &[String]| (!names.is_empty()).then(|| names.to_vec());
        let mut limits = BTreeMap::new();
        for limit in &self.limits {
            let wanted = || format!("--limit {limit}: not PERIOD=USD, such as daily=5");
            let (period, usd) = limit.split_once('=').with_context(wanted)?;
            let usd: NanoUsd = usd.parse().with_context(wanted)?;
            limits.insert(period.to_owned(), RawValue::from_string(usd.to_string())?);
        }
        let expires =
            self.expires_days.map(|days| now_ms().saturating_add(i64::from(days) * DAY_MS));
        let terms = json!({
            "name": self.name,
            "user": self.user,
            "team": self.team,
            "role": self.role,
            "models": some(&self.models),
            "tools": some(&self.tools),
            "collections": some(&self.collections),
            "privacy": if self.private { "private" } else { "public" },
            "cache": !self.no_cache,
            "rate_limits": {
                "requests": self.requests,
                "window_ms": self.window_seconds.map(|seconds| seconds.saturating_mul(1000)),
                "tokens_per_minute": self.tokens_per_minute,
                "concurrency": self.concurrency,
            },
            "expires_at_ms": expires,
        });
        Ok(Body { terms, limits })
    }
}

async fn all(server: &Server) -> Result<Vec<Value>, Failure> {
    let (mut keys, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/keys?limit={PAGE}&after={after}");
        let mut page = server.ask(Method::GET, &path, None).await?;
        let page = page["keys"].as_array_mut().map(std::mem::take);
        let page = page.ok_or_else(|| anyhow!("{} lists no keys", server.url))?;
        let whole = page.len() == PAGE;
        keys.extend(page);
        match keys.last() {
            Some(last) if whole => plain(text(last, "id"))?.clone_into(&mut after),
            _ => return Ok(keys),
        }
    }
}

/// Checks what goes into an address: ids need no escapes.
fn plain(id: &str) -> anyhow::Result<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    anyhow::ensure!(!id.is_empty() && id.bytes().all(is_plain), "{id:?} is not a key's id");
    Ok(id)
}

fn print_secret(common: &Common, key: &Value) {
    if common.json {
        println!("{key}");
        return;
    }
    println!("id      {}", text(key, "id"));
    println!("name    {}", text(key, "name"));
    println!("user    {}", text(key, "user"));
    println!("role    {}", text(key, "role"));
    println!("secret  {}", text(key, "secret"));
    if let Some(until) = key["old_secret_until_ms"].as_i64() {
        println!("\nThe secret until now is good until {}.", date(until));
    }
    println!("\nThe secret is shown this once: keep it where secrets are kept.");
}

fn table(keys: &[Value]) -> String {
    let now = now_ms();
    let head = ["ID", "NAME", "USER", "ROLE", "SECRET", "STATE"];
    let row = |key: &Value| {
        let [id, name, user, role] =
            ["id", "name", "user", "role"].map(|of| text(key, of).to_owned());
        [id, name, user, role, format!("{}…", text(key, "begins")), state(key, now)]
    };
    lined_up(head, keys.iter().map(row), &[])
}

fn state(key: &Value, now: i64) -> String {
    let time = |of: &str| key[of].as_i64();
    match (time("revoked_at_ms"), time("expires_at_ms")) {
        (Some(at), _) => format!("revoked {}", date(at)),
        (None, Some(at)) if at <= now => format!("ended {}", date(at)),
        (None, Some(at)) => format!("good until {}", date(at)),
        (None, None) => "good".to_owned(),
    }
}

fn text<'a>(key: &'a Value, of: &str) -> &'a str {
    key[of].as_str().unwrap_or_default()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lined_up_and_say_how_they_are() {
        let key = |id: &str, revoked: Option<i64>, expires: Option<i64>| {
            json!({ "id": id, "name": "Ünal", "user": "u", "role": "member", "begins": "bk-Ab12",
                "revoked_at_ms": revoked, "expires_at_ms": expires })
        };
        let keys = [
            key("key_1", None, None),
            key("key_22", Some(1_795_521_600_000), None),
            key("key_3", None, Some(1_795_521_600_000)),
        ];
        let wanted = "\
ID      NAME  USER  ROLE    SECRET    STATE
key_1   Ünal  u     member  bk-Ab12…  good
key_22  Ünal  u     member  bk-Ab12…  revoked 2026-11-24 12:00 UTC
key_3   Ünal  u     member  bk-Ab12…  ended 2026-11-24 12:00 UTC
";
        let shown = table(&keys);
        // Whatever the day is: the third may be good yet.
        assert_eq!(shown.replace("good until", "ended"), wanted);
    }

    #[test]
    fn what_is_no_id_goes_into_no_address() {
        for id in ["", "../audit", "a?b", "ä"] {
            assert!(plain(id).is_err(), "{id}");
        }
        assert!(plain("key_0192-ab").is_ok());
    }
}
