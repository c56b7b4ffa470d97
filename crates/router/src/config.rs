use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use types::NanoUsd;

use crate::cache::CacheConfig;
use crate::extras::Extra;
use crate::store::Responses;

/// What the router needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Providers by name.
    pub providers: BTreeMap<String, Provider>,
    /// Routes by name: candidates as `provider/model`, in the order of trying. Without any, `auto`,
    /// `fast` and `smart` are made from the providers' tiers.
    pub routes: BTreeMap<String, Vec<String>>,
    /// Models that share one place of a route, by the name that the route has for them: `provider/model`
    /// with its weight. A user always gets the same one; the others come behind it.
    pub splits: BTreeMap<String, BTreeMap<String, u32>>,
    /// Routes whose streams ask a second model when the first is later with its first token than in
    /// nineteen of twenty calls before.
    pub hedged_routes: BTreeSet<String>,
    /// Networks that are as good as this machine for tiers 0 and 2, such as `10.1.0.0/16`: what is
    /// private may be sent there. None by default.
    pub local_networks: Vec<IpNet>,
    /// How often providers are asked for their models that list them, in milliseconds.
    pub list_models_ms: u64,
    /// A file of price lists that are asked before our own; see `prices.toml` for its form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<PathBuf>,
    /// What becomes of a stream whose client went away.
    pub on_disconnect: OnDisconnect,
    /// A local model that costs nothing also answers while no money can be reserved because the ledger
    /// is down. Nobody's limit is in danger, but no refusal of it reaches these calls either.
    pub free_when_down: bool,
    /// The directory where a row a call waits until the budget service has it.
    pub spool: PathBuf,
    /// How many bytes wait there at most.
    pub spool_bytes: u64,
    /// How long calls that nobody waits for any more may go on when the process is to stop, in
    /// milliseconds: each is paid by what its provider counts. What is left ends with its lease.
    pub shutdown_ms: u64,
    /// How long to wait for a provider.
    pub timeouts: Timeouts,
    /// How often to ask again.
    pub retries: Retries,
    /// What replicas share breakers and kept answers through: `redis://HOST:PORT/DATABASE`, or
    /// `redis+unix:///PATH`. Without it each is on its own.
    #[serde(skip_serializing)]
    pub redis: Option<SecretString>,
    /// How long a call waits for it at most, in milliseconds.
    pub redis_wait_ms: u64,
    /// Which answers are given again.
    pub cache: CacheConfig,
    /// Responses that are kept.
    pub responses: Responses,
    /// Where the budget service is, when it is another process.
    pub peers: PeerAddresses,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            providers: BTreeMap::new(),
            routes: BTreeMap::new(),
            splits: BTreeMap::new(),
            hedged_routes: BTreeSet::new(),
            local_networks: Vec::new(),
            list_models_ms: 30_000,
            prices: None,
            on_disconnect: OnDisconnect::Drain,
            free_when_down: false,
            spool: "data/spool".into(),
            spool_bytes: 64 * 1024 * 1024,
            shutdown_ms: 30_000,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            redis: None,
            redis_wait_ms: 50,
            cache: CacheConfig::default(),
            responses: Responses::default(),
            peers: PeerAddresses::default(),
        }
    }
}

/// What becomes of a stream whose client went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// It is read to its end, and costs what the provider says.
    Drain,
    /// It is given up, and costs what is estimated of what came.
    Cancel,
}

/// A server of models.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its dialect.
    pub kind: Kind,
    /// Up to and with the version, such as `/v1` or `/v1beta`.
    pub base_url: String,
    /// Sent as the provider's dialect has it: a bearer token, `x-api-key` or `x-goog-api-key`.
    #[serde(default, skip_serializing)]
    pub api_key: Option<SecretString>,
    /// 0 to 4.
    pub tier: u32,
    /// By how much its batch API is cheaper, in percent, 1 to 99; without it, that is not used.
    #[serde(default)]
    pub batch_discount_percent: Option<u32>,
    /// What it offers.
    #[serde(default)]
    pub models: Vec<Model>,
    /// It is asked for its models too; those are offered beside the ones above. Where a tier costs
    /// money, only those whose price the table knows.
    #[serde(default)]
    pub list_models: bool,
}

impl Provider {
    /// Returns by how many percent its batch API is cheaper, if that is to be used.
    pub(crate) fn batch_discount(&self) -> anyhow::Result<Option<u32>> {
        let Some(percent) = self.batch_discount_percent else { return Ok(None) };
        if is_local(self.tier) || !matches!(self.kind, Kind::Openai | Kind::Anthropic) {
            bail!(
                "batch_discount_percent: for kinds \"openai\" and \"anthropic\", of a tier that is not local"
            );
        }
        if !(1..=99).contains(&percent) {
            bail!("batch_discount_percent: {percent} is not 1 to 99");
        }
        Ok(Some(percent))
    }
}

/// A provider's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// OpenAI's chat completions: also Ollama, Jan, Fireworks, Together, vLLM.
    Openai,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's Gemini.
    Gemini,
}

/// A model and its prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// As the provider calls it.
    pub name: String,
    /// USD a million tokens read, such as "0.15"; at most three decimal places.
    #[serde(default)]
    pub input_usd_per_million: Option<String>,
    /// USD a million tokens read from a cache; as others when absent.
    #[serde(default)]
    pub cached_input_usd_per_million: Option<String>,
    /// USD a million tokens read and written to a cache; as others when absent.
    #[serde(default)]
    pub cache_write_usd_per_million: Option<String>,
    /// USD a million tokens written.
    #[serde(default)]
    pub output_usd_per_million: Option<String>,
    /// USD a million tokens that are thought and not shown; as others written when absent.
    #[serde(default)]
    pub reasoning_usd_per_million: Option<String>,
    /// The most it writes when a request does not say; it is told so.
    #[serde(default = "max_output_tokens")]
    pub max_output_tokens: u64,
    /// The most tokens that it reads and writes together; a longer request is not sent to it.
    #[serde(default)]
    pub context_tokens: Option<u64>,
    /// It embeds, and does not converse.
    #[serde(default)]
    pub embeddings: bool,
    /// Whether it takes pictures; one is not sent where it is not taken.
    #[serde(default = "yes")]
    pub vision: bool,
    /// What it may be asked for though the provider bills it beyond the prices here: nobody holds or
    /// counts that. Without a word a request for it is not sent to it, unless its tier is free.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub extras: BTreeSet<Extra>,
}

fn yes() -> bool {
    true
}

fn max_output_tokens() -> u64 {
    4096
}

/// How long to wait for a provider, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For the connection.
    pub connect_ms: u64,
    /// For the first piece of a stream.
    pub first_token_ms: u64,
    /// For the first piece of an answer of tier 0 or 1 when another model can answer instead.
    pub failover_ms: u64,
    /// For a whole answer to begin: most providers say nothing until they have it all.
    pub answer_ms: u64,
    /// Between two pieces.
    pub idle_ms: u64,
    /// For everything.
    pub total_ms: u64,
    /// What differs in a tier, by its number; the batch tier is given ten times as long to begin.
    pub tiers: BTreeMap<String, TierTimeouts>,
}

/// How long to wait for a provider of one tier, in milliseconds, where it differs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TierTimeouts {
    /// As [`Timeouts::connect_ms`].
    pub connect_ms: Option<u64>,
    /// As [`Timeouts::first_token_ms`].
    pub first_token_ms: Option<u64>,
    /// As [`Timeouts::failover_ms`].
    pub failover_ms: Option<u64>,
    /// As [`Timeouts::answer_ms`].
    pub answer_ms: Option<u64>,
    /// As [`Timeouts::idle_ms`].
    pub idle_ms: Option<u64>,
    /// As [`Timeouts::total_ms`].
    pub total_ms: Option<u64>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 1_000,
            first_token_ms: 30_000,
            failover_ms: 1_500,
            answer_ms: 120_000,
            idle_ms: 30_000,
            total_ms: 300_000,
            tiers: [("4".to_owned(), TierTimeouts::batch())].into(),
        }
    }
}

impl TierTimeouts {
    /// Rented machines may have to start first.
    fn batch() -> Self {
        let (first_token_ms, answer_ms) = (Some(300_000), Some(300_000));
        Self { first_token_ms, answer_ms, total_ms: Some(900_000), ..Self::default() }
    }
}

impl Timeouts {
    /// Returns those of a tier.
    pub(crate) fn of_tier(&self, tier: u32) -> Self {
        let other = self.tiers.get(&tier.to_string()).cloned().unwrap_or_default();
        Self {
            connect_ms: other.connect_ms.unwrap_or(self.connect_ms),
            first_token_ms: other.first_token_ms.unwrap_or(self.first_token_ms),
            failover_ms: other.failover_ms.unwrap_or(self.failover_ms),
            answer_ms: other.answer_ms.unwrap_or(self.answer_ms),
            idle_ms: other.idle_ms.unwrap_or(self.idle_ms),
            total_ms: other.total_ms.unwrap_or(self.total_ms),
            tiers: BTreeMap::new(),
        }
    }

    pub(crate) fn first_token(&self) -> Duration {
        Duration::from_millis(self.first_token_ms)
    }

    pub(crate) fn failover(&self) -> Duration {
        Duration::from_millis(self.failover_ms)
    }

    pub(crate) fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms)
    }

    pub(crate) fn total(&self) -> Duration {
        Duration::from_millis(self.total_ms)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}

/// How often candidates that are down for the moment are asked again, when nobody else answered.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// So many times.
    pub times: u32,
    /// Within so many milliseconds since the call began, pauses included.
    pub within_ms: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self { times: 2, within_ms: 2_000 }
    }
}

/// Addresses such as `http://127.0.0.1:50053`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerAddresses {
    /// Money.
    pub budget: String,
}

impl Default for PeerAddresses {
    fn default() -> Self {
        Self { budget: "http://127.0.0.1:50053".to_owned() }
    }
}

/// Returns whether a tier's calls stay on this machine, or what the operator calls as good.
pub(crate) fn is_local(tier: u32) -> bool {
    matches!(tier, 0 | 2)
}

/// Tells a model's name that Ollama lists beside local ones and passes on to its makers' servers.
#[must_use]
pub fn is_passed_on(model: &str) -> bool {
    model.rsplit_once(':').is_some_and(|(_, tag)| tag == "cloud" || tag.ends_with("-cloud"))
}

/// The highest price of a token: with it no cost can be too high to be counted.
const DEAREST: NanoUsd = NanoUsd::new(10_000_000);

/// What a token costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) input: NanoUsd,
    /// Read from a cache.
    pub(crate) cached: NanoUsd,
    /// Read, and written to a cache.
    pub(crate) stored: NanoUsd,
    pub(crate) output: NanoUsd,
    /// Written, and not shown.
    pub(crate) reasoning: NanoUsd,
}

impl Price {
    /// Returns the price of what is read, and written to a cache for an hour: of the one provider that
    /// offers it, twice what is read costs, where a few minutes cost five quarters:
    /// <https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#pricing> (read November
    /// 2026). It follows the price of a few minutes, since a contract's may differ.
    pub(crate) fn stored_long(&self) -> NanoUsd {
        let most = NanoUsd::new(i64::MAX);
        let long =
            |price: NanoUsd| NanoUsd::new(price.nanos().saturating_mul(8).saturating_add(4) / 5);
        let twice = self.input.checked_mul(2).unwrap_or(most);
        if self.stored > self.input { long(self.stored) } else { twice }
    }
}

impl Model {
    /// Returns a model that costs nothing, as those of a local server.
    #[must_use]
    pub fn free(name: String) -> Self {
        Self {
            name,
            input_usd_per_million: None,
            cached_input_usd_per_million: None,
            cache_write_usd_per_million: None,
            output_usd_per_million: None,
            reasoning_usd_per_million: None,
            max_output_tokens: max_output_tokens(),
            context_tokens: None,
            embeddings: false,
            vision: true,
            extras: BTreeSet::new(),
        }
    }

    /// Tells whether it says what it costs, or a part of it.
    pub(crate) fn has_price(&self) -> bool {
        let all = [
            &self.input_usd_per_million,
            &self.cached_input_usd_per_million,
            &self.cache_write_usd_per_million,
            &self.output_usd_per_million,
            &self.reasoning_usd_per_million,
        ];
        all.into_iter().any(Option::is_some)
    }

    /// Returns its prices a token; free only where a tier is free.
    pub(crate) fn price(&self, tier: u32) -> anyhow::Result<Price> {
        let read = |field: &str, usd: Option<&String>| -> anyhow::Result<NanoUsd> {
            let Some(usd) = usd else {
                if is_local(tier) {
                    return Ok(NanoUsd::ZERO);
                }
                bail!(
                    "model {:?} of tier {tier} has no {field}: its cost could not be counted",
                    self.name
                );
            };
            let million: NanoUsd =
                usd.parse().with_context(|| format!("model {:?}: {field}", self.name))?;
            // A millionth of nano-dollars a million tokens: exact, or refused.
            if million.nanos() < 0 || million.nanos() % 1_000_000 != 0 {
                bail!("model {:?}: {field} {usd:?} is negative or finer than $0.001", self.name);
            }
            let token = NanoUsd::new(million.nanos() / 1_000_000);
            if token > DEAREST {
                bail!("model {:?}: {field} {usd:?} is more than $10000", self.name);
            }
            Ok(token)
        };
        let input = read("input_usd_per_million", self.input_usd_per_million.as_ref())?;
        let output = match (self.embeddings, &self.output_usd_per_million) {
            (true, None) => NanoUsd::ZERO,
            (_, usd) => read("output_usd_per_million", usd.as_ref())?,
        };
        let read_or = |field: &str, usd: Option<&String>, other| match usd {
            Some(_) => read(field, usd),
            None => Ok(other),
        };
        let reasoning = self.reasoning_usd_per_million.as_ref();
        let (cached, stored) =
            (&self.cached_input_usd_per_million, &self.cache_write_usd_per_million);
        Ok(Price {
            input,
            cached: read_or("cached_input_usd_per_million", cached.as_ref(), input)?,
            stored: read_or("cache_write_usd_per_million", stored.as_ref(), input)?,
            output,
            reasoning: read_or("reasoning_usd_per_million", reasoning, output)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_passed_on_to_a_cloud_is_told_apart() {
        for (model, wanted) in [
            ("gpt-oss:120b-cloud", true),
            ("kimi:cloud", true),
            ("llama3.2:3b", false),
            ("m", false),
        ] {
            assert_eq!(is_passed_on(model), wanted, "{model}");
        }
    }

    #[test]
    fn a_tier_waits_as_long_as_it_says_and_else_as_all_do() {
        let slow = TierTimeouts { idle_ms: Some(7), ..TierTimeouts::default() };
        let timeouts = Timeouts {
            connect_ms: 5,
            idle_ms: 6,
            tiers: [("3".to_owned(), slow)].into(),
            ..Timeouts::default()
        };
        let (three, one) = (timeouts.of_tier(3), timeouts.of_tier(1));
        assert_eq!((three.connect_ms, three.idle_ms, one.idle_ms), (5, 7, 6));
        assert_eq!(Timeouts::default().of_tier(4).first_token_ms, 300_000);
    }

    #[test]
    fn a_price_line_is_exact_or_refused() {
        let model = |input: Option<&str>| Model {
            input_usd_per_million: input.map(str::to_owned),
            output_usd_per_million: Some("75".to_owned()),
            cached_input_usd_per_million: Some("0.015".to_owned()),
            ..Model::free("m".to_owned())
        };
        let price = model(Some("0.15")).price(1).unwrap();
        assert_eq!((price.input.nanos(), price.output.nanos()), (150, 75_000));
        assert_eq!((price.cached.nanos(), price.stored.nanos()), (15, 150));
        assert!(model(None).price(1).is_err(), "no price is not free");
        assert_eq!(model(None).price(0).unwrap().input, NanoUsd::ZERO);
        assert!(model(Some("0.0001")).price(1).is_err());
        assert!(model(Some("-1")).price(1).is_err());
        assert!(model(Some("10001")).price(1).is_err());
    }
}
