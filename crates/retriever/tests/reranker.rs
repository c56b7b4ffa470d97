//! The local reranker against plain loops over the same weights, and what it is refused for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::collections::HashMap;
use std::path::Path;

use retriever::rerank::Local;
use safetensors::SafeTensors;

const WORDS: [&str; 6] = ["apple", "pear", "plum", "fig", "kiwi", "lime"];
const HIDDEN: usize = 8;
const HEADS: usize = 2;

/// BERT with a classifier, written down once more in the simplest way, in f64.
struct Reference(HashMap<String, Vec<f64>>);

impl Reference {
    fn read(directory: &Path) -> Self {
        let file = std::fs::read(directory.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let numbers = |data: &[u8]| {
            let (numbers, _) = data.as_chunks::<4>();
            numbers.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
        };
        Self(
            tensors
                .iter()
                .map(|(name, tensor)| (name.to_owned(), numbers(tensor.data())))
                .collect(),
        )
    }

    fn row(&self, name: &str, at: usize) -> &[f64] {
        &self.0[&format!("bert.embeddings.{name}.weight")][at * HIDDEN..(at + 1) * HIDDEN]
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (weights, bias) =
            (&self.0[&format!("{name}.weight")], &self.0[&format!("{name}.bias")]);
        let row = |at: usize| &weights[at * x.len()..(at + 1) * x.len()];
        (0..bias.len()).map(|at| bias[at] + dot(row(at), x)).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let (scale, bias) = (&self.0[&format!("{name}.weight")], &self.0[&format!("{name}.bias")]);
        let scaled = |at: usize| (x[at] - mean) / (variance + 1e-12).sqrt() * scale[at] + bias[at];
        (0..x.len()).map(scaled).collect()
    }

    fn score(&self, tokens: &[usize], types: &[usize]) -> f64 {
        let embed = |at: usize| {
            let sum: Vec<f64> = (0..HIDDEN)
                .map(|part| {
                    self.row("word_embeddings", tokens[at])[part]
                        + self.row("position_embeddings", at)[part]
                        + self.row("token_type_embeddings", types[at])[part]
                })
                .collect();
            self.norm("bert.embeddings.LayerNorm", &sum)
        };
        let x: Vec<Vec<f64>> = (0..tokens.len()).map(embed).collect();
        let layer = |part: &str| format!("bert.encoder.layer.0.{part}");
        let all = |part: &str| -> Vec<Vec<f64>> {
            x.iter()
                .map(|one| self.linear(&layer(&format!("attention.self.{part}")), one))
                .collect()
        };
        let (query, key, value) = (all("query"), all("key"), all("value"));
        // Only the first token is looked at in the end.
        let mut seen = Vec::new();
        for head in 0..HEADS {
            let part = head * HIDDEN / HEADS..(head + 1) * HIDDEN / HEADS;
            let size = (part.len() as f64).sqrt();
            let weights: Vec<f64> = key
                .iter()
                .map(|key| (dot(&query[0][part.clone()], &key[part.clone()]) / size).exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            for at in part {
                seen.push(weights.iter().zip(&value).map(|(w, v)| w / sum * v[at]).sum());
            }
        }
        let joined = self.linear(&layer("attention.output.dense"), &seen);
        let joined = self.norm(&layer("attention.output.LayerNorm"), &add(&joined, &x[0]));
        let inner: Vec<f64> =
            self.linear(&layer("intermediate.dense"), &joined).into_iter().map(gelu).collect();
        let outer = add(&self.linear(&layer("output.dense"), &inner), &joined);
        let first = self.norm(&layer("output.LayerNorm"), &outer);
        let pooled: Vec<f64> =
            self.linear("bert.pooler.dense", &first).into_iter().map(f64::tanh).collect();
        1.0 / (1.0 + (-self.linear("classifier", &pooled)[0]).exp())
    }
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

fn add(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(a, b)| a + b).collect()
}

/// x times the normal distribution at x, whose integral is summed up in small steps.
fn gelu(x: f64) -> f64 {
    const STEPS: u32 = 2000;
    let density = |at: f64| (-at * at / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let step = x / f64::from(STEPS);
    let middle = |at: u32| density((f64::from(at) + 0.5) * step) * step;
    x * (0.5 + (0..STEPS).map(middle).sum::<f64>())
}

#[tokio::test]
async fn scores_are_those_of_the_plain_computation() {
    let directory = tempfile::tempdir().unwrap();
    testkit::model::write_reranker(directory.path(), &WORDS, HIDDEN, 3).unwrap();
    let (model, reference) =
        (Local::open(directory.path(), None, 1).unwrap(), Reference::read(directory.path()));
    let passages = ["plum fig apple", "kiwi", "unheard lime lime", ""];
    let scores = model.score("apple pear", passages.map(str::to_owned).to_vec()).await.unwrap();
    for (passage, score) in [
        (vec![7, 8, 5], scores[0]),
        (vec![9], scores[1]),
        (vec![1, 10, 10], scores[2]),
        (vec![], scores[3]),
    ] {
        let tokens = [vec![2, 5, 6, 3], passage.clone(), vec![3]].concat();
        let types = [vec![0; 4], vec![1; passage.len() + 1]].concat();
        let wanted = reference.score(&tokens, &types);
        assert!((f64::from(score) - wanted).abs() < 2e-6, "{score} {wanted}");
    }
    let mut distinct = scores.clone();
    distinct.sort_by(f32::total_cmp);
    assert!(distinct.windows(2).all(|two| two[1] - two[0] > 5e-5), "{scores:?}");
    // What is longer than the model reads is cut off, of the longer text.
    let long = model.score("apple", vec!["plum ".repeat(100), "plum ".repeat(28)]).await.unwrap();
    assert!((long[0] - long[1]).abs() < 1e-6, "{long:?}");
}

#[test]
fn what_is_no_reranker_is_refused_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let refused = |wanted: &str| {
        let told = Local::open(place, None, 1).unwrap_err().to_string();
        assert!(told.starts_with("reranker ") && told.contains(wanted), "{told}");
    };
    refused("has no config.json, tokenizer.json, model.safetensors");
    testkit::model::write(place, &WORDS, HIDDEN, 1).unwrap();
    refused("model.safetensors has no tensor \"pooler.dense.weight\"");
    testkit::model::write_reranker(place, &WORDS, HIDDEN, 1).unwrap();
    Local::open(place, None, 1).unwrap();
    let config = std::fs::read_to_string(place.join("config.json")).unwrap();
    let three = config.replace("\"0\":", "\"0\":\"a\",\"1\":\"b\",\"2\":");
    std::fs::write(place.join("config.json"), three).unwrap();
    refused("config.json has 3 labels, a reranker has one");
}
