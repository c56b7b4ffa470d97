//! Our configuration while it is made from that of others.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use router::Kind;
use serde_json::Value;
use types::NanoUsd;

use super::servers::{Family, Key, Place};
use super::{Imported, LeftOut, price};

pub(super) const INPUT: &str = "input_usd_per_million";
pub(super) const CACHED: &str = "cached_input_usd_per_million";
pub(super) const STORED: &str = "cache_write_usd_per_million";
pub(super) const OUTPUT: &str = "output_usd_per_million";

#[derive(Default)]
pub(super) struct Draft {
    providers: Vec<Provider>,
    routes: Vec<(String, Vec<String>)>,
    splits: Vec<(String, Vec<(String, u32)>)>,
    timeouts: BTreeMap<&'static str, u64>,
    /// Whether the source had keys for clients.
    pub(super) client_keys: bool,
    left_out: Vec<LeftOut>,
}

struct Provider {
    name: String,
    family: &'static Family,
    place: Place,
    key: Key,
    base_url: String,
    tier: u32,
    models: Vec<Model>,
}

/// A model at a server.
pub(super) struct Model {
    /// Where it stands in the source.
    pub(super) path: String,
    pub(super) name: String,
    /// USD a million tokens, by the name of our field.
    pub(super) prices: BTreeMap<&'static str, NanoUsd>,
    pub(super) max_output_tokens: Option<u64>,
}

impl Draft {
    /// Notes that the setting at `path` is not in our configuration, and why.
    pub(super) fn leave(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.left_out.push(LeftOut { path: path.into(), why: why.into() });
    }

    /// Reads what a million tokens cost, or notes at `path` why it cannot be said here.
    pub(super) fn price(&mut self, path: &str, value: &Value, shift: i32) -> Option<NanoUsd> {
        let million = price::exact(value, shift).ok_or_else(|| "not a price".to_owned());
        match million.and_then(price::countable) {
            Ok(price) => Some(price),
            Err(why) => {
                self.leave(path, why);
                None
            }
        }
    }

    /// Adds a model and returns what routes call it; `None`, with a note, if its server cannot be
    /// told. The same server and model a second time are the same candidate. A place and a key come
    /// with where they stand; nowhere is no path.
    pub(super) fn candidate(
        &mut self,
        family: &'static Family,
        place: (&str, Place),
        key: (&str, Key),
        model: Model,
    ) -> Option<String> {
        if model.name.is_empty() || model.name.chars().any(char::is_control) {
            self.leave(model.path, "its model has no name");
            return None;
        }
        let same = |known: &Provider| {
            known.family.name == family.name && known.place == place.1 && known.key == key.1
        };
        let found = match self.providers.iter().position(same) {
            Some(found) => found,
            None => match family.address(&place.1) {
                Ok(address) => {
                    let name = self.free_name(family.name);
                    let setting = format!("BATON_ROUTER__PROVIDERS__{}", name.to_uppercase());
                    for remark in address.remarks {
                        self.leave(place.0, remark);
                    }
                    if let Place::Variable(_) = place.1 {
                        self.leave(place.0, format!("set {setting}__BASE_URL, and the tier"));
                    }
                    match &key.1 {
                        Key::Variable(_) if key.0.is_empty() => {}
                        Key::Variable(name) => {
                            self.leave(key.0, format!("set {setting}__API_KEY to what {name} has"));
                        }
                        Key::Secret(_) => self.leave(
                            key.0,
                            format!("secrets are not copied: set {setting}__API_KEY"),
                        ),
                        Key::Unsaid | Key::Nothing => {}
                    }
                    self.providers.push(Provider {
                        name,
                        family,
                        place: place.1,
                        key: key.1,
                        base_url: address.base_url,
                        tier: address.tier,
                        models: Vec::new(),
                    });
                    self.providers.len() - 1
                }
                Err(why) => {
                    self.leave(place.0, format!("{why}: the model is left out"));
                    return None;
                }
            },
        };
        let provider = &mut self.providers[found];
        let candidate = format!("{}/{}", provider.name, model.name);
        match provider.models.iter_mut().find(|known| known.name == model.name) {
            None => provider.models.push(model),
            Some(known) => {
                let path = model.path.clone();
                if !known.complete(model) {
                    let kept = format!("{} says otherwise of this model: that is kept", known.path);
                    self.leave(path, kept);
                }
            }
        }
        Some(candidate)
    }

    /// Sets what `name` stands for, once for each candidate; a route of the same name is replaced.
    pub(super) fn route(&mut self, name: &str, candidates: impl IntoIterator<Item = String>) {
        let mut unique: Vec<String> = Vec::new();
        for candidate in candidates {
            if !unique.contains(&candidate) {
                unique.push(candidate);
            }
        }
        self.routes.retain(|(known, _)| known != name);
        self.routes.push((name.to_owned(), unique));
    }

    /// Returns the places of a route in which candidates have weights: those that have one share the
    /// first place, those that have none come behind.
    pub(super) fn by_weight(&mut self, name: &str, weights: Vec<(String, f64)>) -> Vec<String> {
        let mut members: Vec<(String, f64)> = Vec::new();
        let mut places: Vec<String> = Vec::new();
        for (candidate, weight) in weights {
            match members.iter_mut().find(|(known, _)| *known == candidate) {
                Some((_, sum)) => *sum += weight,
                None if weight > 0.0 => members.push((candidate, weight)),
                None => places.push(candidate),
            }
        }
        members.sort_by(|one, other| other.1.total_cmp(&one.1));
        if members.len() < 2 {
            return members.into_iter().map(|(only, _)| only).chain(places).collect();
        }
        let split = name.replace('/', "-");
        let members = whole_numbers(members);
        self.splits.retain(|(known, _)| *known != split);
        self.splits.push((split.clone(), members));
        places.insert(0, split);
        places
    }

    /// Returns what `name` stands for.
    pub(super) fn routed(&self, name: &str) -> Option<&[String]> {
        let found = self.routes.iter().find(|(known, _)| known == name);
        found.map(|(_, candidates)| candidates.as_slice())
    }

    /// Sets a timeout of the router, in milliseconds.
    pub(super) fn timeout(&mut self, field: &'static str, milliseconds: u64) {
        self.timeouts.insert(field, milliseconds);
    }

    /// Writes it down.
    pub(super) fn finish(mut self, source: &str) -> Imported {
        let mut missing = Vec::new();
        for provider in self.providers.iter().filter(|provider| provider.tier != 0) {
            for model in provider.models.iter().filter(|model| !model.is_priced()) {
                let why = format!(
                    "no price: fill in {INPUT} and {OUTPUT}; the router refuses {:?} without them",
                    model.name
                );
                missing.push(LeftOut { path: model.path.clone(), why });
            }
        }
        self.left_out.append(&mut missing);
        Imported { config: self.text(source), left_out: self.left_out }
    }

    fn free_name(&self, wanted: &str) -> String {
        let taken = |name: &str| self.providers.iter().any(|provider| provider.name == name);
        let numbered = (2..).map(|number| format!("{wanted}_{number}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        names.find(|name| !taken(name)).unwrap_or_else(|| wanted.to_owned())
    }

    fn text(&self, source: &str) -> String {
        let mut text = format!(
            "# Made by `baton import {source}`, which also said what has no equivalent.\n\
             # Keys come from the environment, by the names below. Check the tiers: 0 is this machine and\n\
             # free, where private requests may go; a proxy on this machine that asks a cloud is not.\n"
        );
        if !self.timeouts.is_empty() {
            text.push_str("\n[router.timeouts]\n");
            for (field, milliseconds) in &self.timeouts {
                let _ = writeln!(text, "{field} = {milliseconds}");
            }
        }
        for provider in &self.providers {
            provider.write(&mut text);
        }
        if !self.routes.is_empty() {
            text.push_str("\n[router.routes]\n");
            if self.routed("auto").is_none() {
                text.push_str(
                    "# What is asked when nobody chooses; by tier, as without any route.\n",
                );
                write_route(&mut text, "auto", &self.by_tier());
            }
            for (name, candidates) in &self.routes {
                write_route(&mut text, name, candidates);
            }
        }
        for (name, members) in &self.splits {
            let _ = writeln!(text, "\n[router.splits.{}]", key(name));
            for (candidate, weight) in members {
                let _ = writeln!(text, "{} = {weight}", key(candidate));
            }
        }
        if self.client_keys {
            text.push_str(
                "\n# Clients' keys, each with a secret of its own in BATON_GATEWAY__KEYS__MAIN__SECRET:\n\
                 # [gateway.keys.main]\n# tenant = \"local\"\n# user = \"main\"\n",
            );
        }
        text
    }

    /// Returns every candidate, local ones first.
    fn by_tier(&self) -> Vec<String> {
        let mut providers: Vec<&Provider> = self.providers.iter().collect();
        providers.sort_by_key(|provider| provider.tier);
        let names = |provider: &&Provider| {
            let name = provider.name.clone();
            let candidate = move |model: &Model| format!("{name}/{}", model.name);
            provider.models.iter().map(candidate).collect::<Vec<_>>()
        };
        providers.iter().flat_map(names).collect()
    }
}

impl Provider {
    fn write(&self, text: &mut String) {
        let setting = format!("BATON_ROUTER__PROVIDERS__{}", self.name.to_uppercase());
        text.push('\n');
        let _ = match &self.key {
            Key::Variable(name) => writeln!(text, "# Key: {setting}__API_KEY, which was {name}."),
            Key::Secret(_) => writeln!(text, "# Key: {setting}__API_KEY."),
            Key::Unsaid if self.tier != 0 => writeln!(text, "# Key: {setting}__API_KEY."),
            Key::Unsaid | Key::Nothing => Ok(()),
        };
        if let Place::Variable(name) = &self.place {
            let _ = writeln!(text, "# Address: {setting}__BASE_URL, which was {name}.");
        }
        let kind = match self.family.kind {
            Kind::Openai => "openai",
            Kind::Anthropic => "anthropic",
            Kind::Gemini => "gemini",
        };
        let Self { name, base_url, tier, .. } = self;
        let base_url = quoted(base_url);
        let _ = writeln!(text, "[router.providers.{name}]");
        let _ = writeln!(text, "kind = \"{kind}\"\nbase_url = {base_url}\ntier = {tier}");
        for model in &self.models {
            let _ = writeln!(text, "\n[[router.providers.{name}.models]]");
            let _ = writeln!(text, "name = {}", quoted(&model.name));
            for field in [INPUT, CACHED, STORED, OUTPUT] {
                if let Some(price) = model.prices.get(field) {
                    let _ = writeln!(text, "{field} = \"{price}\"");
                }
            }
            if *tier != 0 && !model.is_priced() {
                let _ = writeln!(
                    text,
                    "# TODO: {INPUT} and {OUTPUT}, \"0\" where it is free; without them the router refuses what is not in its price table."
                );
            }
            if let Some(most) = model.max_output_tokens {
                let _ = writeln!(text, "max_output_tokens = {most}");
            }
        }
    }
}

impl Model {
    fn is_priced(&self) -> bool {
        self.prices.contains_key(INPUT) && self.prices.contains_key(OUTPUT)
    }

    /// Takes what was not said before and returns whether nothing contradicts it.
    fn complete(&mut self, other: Self) -> bool {
        let mut agrees = true;
        for (field, price) in other.prices {
            agrees &= *self.prices.entry(field).or_insert(price) == price;
        }
        if let Some(most) = other.max_output_tokens {
            agrees &= *self.max_output_tokens.get_or_insert(most) == most;
        }
        agrees
    }
}

/// Returns weights that have about the same proportions as these.
fn whole_numbers(weights: Vec<(String, f64)>) -> Vec<(String, u32)> {
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1000")]
    let share = |weight: f64| (weight / sum * 1000.0).round().clamp(1.0, 1000.0) as u32;
    let shares: Vec<_> = weights.into_iter().map(|(name, weight)| (name, share(weight))).collect();
    let divisor = |a: u32, b: u32| {
        (1..=a.min(b)).rev().find(|d| a.is_multiple_of(*d) && b.is_multiple_of(*d))
    };
    let common = shares.iter().map(|(_, share)| *share).reduce(|a, b| divisor(a, b).unwrap_or(1));
    let common = common.unwrap_or(1);
    shares.into_iter().map(|(name, share)| (name, share / common)).collect()
}

fn write_route(text: &mut String, name: &str, candidates: &[String]) {
    let candidates: Vec<String> = candidates.iter().map(|candidate| quoted(candidate)).collect();
    let _ = writeln!(text, "{} = [{}]", key(name), candidates.join(", "));
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// Returns a basic string of TOML, which JSON's strings are but for one character.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
