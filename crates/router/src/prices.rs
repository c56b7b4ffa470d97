//! What models cost whose configuration does not say: a dated table, and a file of the operator's own
//! before it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use url::Url;

use crate::config::{Kind, Model, Provider, is_local};

/// The table that is ours.
const OURS: &str = include_str!("prices.toml");

/// The largest file of one's own, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// Price lists, those that are asked first before others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prices(Vec<List>);

/// Where a price comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Who published it.
    pub(crate) source: Arc<str>,
    /// When it was so, as 2026-01-31.
    pub(crate) date: Arc<str>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    lists: Vec<List>,
}

/// What one provider charges.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// The host names in its base address.
    hosts: Vec<String>,
    kind: Kind,
    #[serde(rename = "currency")]
    _currency: Currency,
    source: Arc<str>,
    date: Arc<str>,
    models: Vec<Line>,
}

/// What prices are in: nothing is converted.
#[derive(Debug, Clone, Deserialize)]
enum Currency {
    #[serde(rename = "USD")]
    Usd,
}

/// What one model costs, a million tokens, and what it takes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// A name, which stands for its dated snapshots too; or a beginning of names and "*".
    name: String,
    input: String,
    cached_input: Option<String>,
    cache_write: Option<String>,
    output: Option<String>,
    reasoning: Option<String>,
    context_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    #[serde(default)]
    embeddings: bool,
    #[serde(default = "yes")]
    vision: bool,
}

fn yes() -> bool {
    true
}

impl Prices {
    /// Reads our table, and before it the one in `own`.
    ///
    /// # Errors
    /// If the file cannot be read, is malformed, or a price in it is none.
    pub(crate) fn load(own: Option<&Path>) -> anyhow::Result<Self> {
        let mut lists = Vec::new();
        if let Some(path) = own {
            let place = || format!("router.prices: {}", path.display());
            let bytes = std::fs::metadata(path).with_context(place)?.len();
            if bytes > LARGEST {
                bail!("{}: {bytes} bytes, at most {LARGEST} are read", place());
            }
            let text = std::fs::read_to_string(path).with_context(place)?;
            lists = read(&text).with_context(place)?;
        }
        lists.extend(read(OURS).context("the price table")?);
        Ok(Self(lists))
    }

    /// Returns `model` with the prices and limits of the table and where they come from, if it is of a
    /// tier that costs money, says no price itself, and is in the table; else as it is.
    pub(crate) fn complete(&self, provider: &Provider, model: &Model) -> (Model, Option<Origin>) {
        if is_local(provider.tier) || model.has_price() {
            return (model.clone(), None);
        }
        match self.find(provider, &model.name) {
            None => (model.clone(), None),
            Some((list, line)) => {
                let Origin { source, date } = list.origin();
                (line.priced(model), Some(Origin { source, date }))
            }
        }
    }

    /// Returns the line that fits best: a name, then a snapshot of it, then the longest beginning.
    fn find(&self, provider: &Provider, name: &str) -> Option<(&List, &Line)> {
        let url = Url::parse(&provider.base_url).ok()?;
        let host = url.host_str()?;
        let of_it =
            |list: &&List| list.kind == provider.kind && list.hosts.iter().any(|h| h == host);
        let lists = self.0.iter().filter(of_it);
        let lines = lists.flat_map(|list| list.models.iter().map(move |line| (list, line)));
        // Of equals the first: a list of one's own stands before ours.
        let fitting = lines.filter_map(|(list, line)| Some((line.fits(name)?, list, line)));
        let best = fitting.reduce(|best, other| if other.0 > best.0 { other } else { best })?;
        Some((best.1, best.2))
    }
}

impl List {
    fn origin(&self) -> Origin {
        Origin { source: Arc::clone(&self.source), date: Arc::clone(&self.date) }
    }
}

impl Line {
    /// Tells how well it fits a name, if it does.
    fn fits(&self, name: &str) -> Option<usize> {
        if let Some(beginning) = self.name.strip_suffix('*') {
            return name.starts_with(beginning).then_some(beginning.len());
        }
        let rest = name.strip_prefix(self.name.as_str())?;
        match rest {
            "" => Some(usize::MAX),
            rest if is_date(rest) => Some(usize::MAX - 1),
            _ => None,
        }
    }

    fn priced(&self, model: &Model) -> Model {
        let most = self.max_output_tokens.unwrap_or(u64::MAX);
        Model {
            input_usd_per_million: Some(self.input.clone()),
            cached_input_usd_per_million: self.cached_input.clone(),
            cache_write_usd_per_million: self.cache_write.clone(),
            output_usd_per_million: self.output.clone(),
            reasoning_usd_per_million: self.reasoning.clone(),
            max_output_tokens: model.max_output_tokens.min(most),
            context_tokens: model.context_tokens.or(self.context_tokens),
            embeddings: model.embeddings || self.embeddings,
            vision: model.vision && self.vision,
            ..model.clone()
        }
    }
}

/// Tells the end of a snapshot's name: "-2024-11-20", "-20241120".
fn is_date(rest: &str) -> bool {
    let Some(date) = rest.strip_prefix('-') else { return false };
    let shaped = |shape: &str| {
        date.len() == shape.len()
            && date.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                wanted => byte == wanted,
            })
    };
    date.starts_with("20") && (shaped("0000-00-00") || shaped("00000000"))
}

fn read(text: &str) -> anyhow::Result<Vec<List>> {
    let file: File = toml::from_str(text)?;
    for list in &file.lists {
        if !is_date(&format!("-{}", list.date)) || list.date.len() != 10 {
            bail!("date {:?} is none such as 2026-01-31", list.date);
        }
        for line in &list.models {
            line.priced(&Model::free(line.name.clone())).price(1)?;
        }
    }
    Ok(file.lists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Price;

    fn provider(kind: Kind, base_url: &str, tier: u32) -> Provider {
        Provider {
            kind,
            base_url: base_url.to_owned(),
            api_key: None,
            tier,
            models: Vec::new(),
            batch_discount_percent: None,
            list_models: false,
        }
    }

    fn price(provider: &Provider, name: &str) -> Option<(Price, Origin)> {
        let prices = Prices::load(None).unwrap();
        let (model, origin) = prices.complete(provider, &Model::free(name.to_owned()));
        Some((model.price(provider.tier).ok()?, origin?))
    }

    const OPENAI: &str = "https://api.openai.com/v1";
    const ANTHROPIC: &str = "https://api.anthropic.com/v1";
    const GEMINI: &str = "https://generativelanguage.googleapis.com/v1beta";

    /// Nano-USD a token: input, cached, written to a cache, output. Written down a second time, so that
    /// a slip in the table does not pass.
    #[rustfmt::skip]
    const LINES: [(&str, [i64; 4]); 38] = [
        ("gpt-3.5-turbo", [500, 500, 500, 1_500]),
        ("gpt-4-turbo", [10_000, 10_000, 10_000, 30_000]),
        ("gpt-4o", [2_500, 1_250, 2_500, 10_000]),
        ("gpt-4o-2024-05-13", [5_000, 5_000, 5_000, 15_000]),
        ("gpt-4o-mini", [150, 75, 150, 600]),
        ("gpt-4.1", [2_000, 500, 2_000, 8_000]),
        ("gpt-4.1-mini", [400, 100, 400, 1_600]),
        ("gpt-4.1-nano", [100, 25, 100, 400]),
        ("gpt-5", [1_250, 125, 1_250, 10_000]),
        ("gpt-5-mini", [250, 25, 250, 2_000]),
        ("gpt-5-nano", [50, 5, 50, 400]),
        ("gpt-5.1", [1_250, 125, 1_250, 10_000]),
        ("gpt-5.2", [1_750, 175, 1_750, 14_000]),
        ("gpt-5.4", [2_500, 250, 2_500, 15_000]),
        ("gpt-5.4-mini", [750, 75, 750, 4_500]),
        ("gpt-5.4-nano", [200, 20, 200, 1_250]),
        ("gpt-5.5", [5_000, 500, 5_000, 30_000]),
        ("o3", [2_000, 500, 2_000, 8_000]),
        ("o3-mini", [1_100, 550, 1_100, 4_400]),
        ("o4-mini", [1_100, 275, 1_100, 4_400]),
        ("text-embedding-3-small", [20, 20, 20, 0]),
        ("text-embedding-3-large", [130, 130, 130, 0]),
        ("claude-haiku-4-5", [1_000, 100, 1_250, 5_000]),
        ("claude-sonnet-4-5", [3_000, 300, 3_750, 15_000]),
        ("claude-sonnet-4-6", [3_000, 300, 3_750, 15_000]),
        ("claude-sonnet-5", [2_000, 200, 2_500, 10_000]),
        ("claude-opus-4-1", [15_000, 1_500, 18_750, 75_000]),
        ("claude-opus-4-5", [5_000, 500, 6_250, 25_000]),
        ("claude-opus-4-6", [5_000, 500, 6_250, 25_000]),
        ("claude-opus-4-7", [5_000, 500, 6_250, 25_000]),
        ("claude-opus-4-8", [5_000, 500, 6_250, 25_000]),
        ("claude-opus-5", [5_000, 500, 6_250, 25_000]),
        ("claude-fable-5", [10_000, 1_000, 12_500, 50_000]),
        ("gemini-2.5-pro", [1_250, 125, 1_250, 10_000]),
        ("gemini-2.5-flash", [300, 30, 300, 2_500]),
        ("gemini-2.5-flash-lite", [100, 10, 100, 400]),
        ("gemini-3.1-flash-lite", [250, 25, 250, 1_500]),
        ("gemini-3.5-flash", [1_500, 150, 1_500, 9_000]),
    ];

    #[test]
    fn every_line_is_exact_and_none_is_untested() {
        let lists = read(OURS).unwrap();
        let names: Vec<_> =
            lists.iter().flat_map(|list| &list.models).map(|line| &line.name).collect();
        assert_eq!(names, LINES.iter().map(|line| line.0).collect::<Vec<_>>());
        for (name, wanted) in LINES {
            let (kind, url) = match name.split('-').next().unwrap() {
                "claude" => (Kind::Anthropic, ANTHROPIC),
                "gemini" => (Kind::Gemini, GEMINI),
                _ => (Kind::Openai, OPENAI),
            };
            let (price, origin) = price(&provider(kind, url, 3), name).unwrap();
            let told = [price.input, price.cached, price.stored, price.output];
            assert_eq!(told.map(types::NanoUsd::nanos), wanted, "{name}");
            assert!(origin.source.starts_with("https://") && *origin.date > *"2024", "{name}");
        }
    }

    #[test]
    fn prices_are_within_reason() {
        for (name, [input, cached, stored, output]) in LINES {
            assert!((5..=100_000).contains(&cached) && cached <= input, "{name}");
            assert!((input..=2 * input).contains(&stored), "{name}");
            assert!(output == 0 || (input..=10 * input).contains(&output), "{name}");
        }
    }

    #[test]
    fn a_line_is_for_its_provider_its_name_and_its_snapshots() {
        let openai = provider(Kind::Openai, OPENAI, 3);
        for (name, input) in [
            ("gpt-4o-2024-11-20", Some(2_500)),
            ("gpt-4o-2024-05-13", Some(5_000)),
            ("gpt-4o-mini-2024-07-18", Some(150)),
            ("gpt-4o-audio-preview", None),
            ("gpt-4o-20", None),
            ("gpt-6", None),
        ] {
            let told = price(&openai, name).map(|(price, _)| price.input.nanos());
            assert_eq!(told, input, "{name}");
        }
        let anthropic = provider(Kind::Anthropic, ANTHROPIC, 3);
        assert!(price(&anthropic, "claude-haiku-4-5-20251001").is_some());
        for other in [
            provider(Kind::Openai, "https://api.openai.com.example/v1", 3),
            provider(Kind::Openai, "http://127.0.0.1:1/v1", 3),
            provider(Kind::Anthropic, OPENAI, 3),
        ] {
            assert!(price(&other, "gpt-4o").is_none(), "{}", other.base_url);
        }
    }

    #[test]
    fn what_the_configuration_says_is_not_touched() {
        let prices = Prices::load(None).unwrap();
        let own = Model {
            output_usd_per_million: Some("1".to_owned()),
            ..Model::free("gpt-4o".to_owned())
        };
        let (told, origin) = prices.complete(&provider(Kind::Openai, OPENAI, 3), &own);
        assert_eq!((told.input_usd_per_million, origin), (None, None));
        let free = Model::free("gpt-4o".to_owned());
        assert_eq!(prices.complete(&provider(Kind::Openai, OPENAI, 0), &free).1, None);
        let small = Model { max_output_tokens: 100, context_tokens: Some(9), ..free };
        let (told, _) = prices.complete(&provider(Kind::Openai, OPENAI, 3), &small);
        assert_eq!((told.max_output_tokens, told.context_tokens), (100, Some(9)));
    }

    #[test]
    fn a_list_of_ones_own_comes_first_or_is_refused() {
        let list = |price: &str, date: &str, currency: &str| {
            format!(
                "[[lists]]\nhosts=['api.openai.com']\nkind='openai'\ncurrency='{currency}'\n\
                 source='a contract'\ndate='{date}'\nmodels=[{{name='gpt-4o', input='{price}', output='9'}}, \
                 {{name='ft:gpt-4o*', input='7', output='9'}}]\n"
            )
        };
        let own = |text: String| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            Prices::load(Some(file.path()))
        };
        let prices = own(list("1", "2026-01-31", "USD")).unwrap();
        let openai = provider(Kind::Openai, OPENAI, 3);
        for (name, wanted) in [("gpt-4o", "1"), ("ft:gpt-4o:me", "7"), ("gpt-4o-mini", "0.15")] {
            let (told, _) = prices.complete(&openai, &Model::free(name.to_owned()));
            assert_eq!(told.input_usd_per_million.as_deref(), Some(wanted), "{name}");
        }
        for (text, fault) in [
            (list("a", "2026-01-31", "USD"), "input_usd_per_million"),
            (list("1", "someday", "USD"), "someday"),
            (list("1", "2026-01-31", "EUR"), "EUR"),
            ("[[lists]]\nprice = 1".to_owned(), "price"),
        ] {
            let told = format!("{:#}", own(text).unwrap_err());
            assert!(told.contains("router.prices: ") && told.contains(fault), "{told}");
        }
        let missing = Prices::load(Some(Path::new("nowhere.toml"))).unwrap_err();
        assert!(format!("{missing:#}").contains("router.prices: nowhere.toml"));
    }
}
