//! Measures the search on judged queries: the same passages, index and ranking as a tenant's documents have.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let dataset = retriever::evaluate::Dataset::read("judged".as_ref())?;
//! let report = retriever::evaluate::evaluate(&dataset, None, None, |_| ()).await?;
//! println!("{:.3}", report.configurations[0].measures.ndcg_10);
//! # Ok(())
//! # }
//! ```

mod dataset;
mod measure;

use std::collections::HashSet;

use rustc_hash::FxHashMap;
use serde::Serialize;

pub use self::dataset::{Dataset, Fault};
pub use self::measure::Measures;
use self::measure::{mean, measure, significance};
use crate::chunk::{chunk, indexed};
use crate::embed::{Local, Side, normalise};
use crate::fuse::{self, Candidate, DOCUMENT_WEIGHT, Fusion, Ranked, rank};
use crate::index::embedded::Embedded;
use crate::index::{Entries, Entry, Query};
use crate::parse::parse;
use crate::rerank::{self, reorder};

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How many documents were searched.
    pub documents: usize,
    /// Into how many passages they were cut.
    pub passages: usize,
    /// How many queries have a relevant document.
    pub queries: usize,
    /// The default first.
    pub configurations: Vec<Configuration>,
    /// The best weight of the vectors; none without a model.
    pub fusion: Option<Tuned>,
}

/// One way to search.
#[derive(Debug, Clone, Serialize)]
pub struct Configuration {
    /// What it is called.
    pub name: String,
    /// Means over the queries.
    #[serde(flatten)]
    pub measures: Measures,
    /// How likely a difference of nDCG@10 from the default's as large as this is by chance, 0 to 1; none for
    /// the default itself.
    pub p_value: Option<f64>,
}

/// What weight of the vectors suits these queries.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tuned {
    /// The best for all queries.
    pub dense_weight: f32,
    /// The mean nDCG@10 of each fifth of the queries with the weight that is best for the other four: what to
    /// expect of the best weight on queries that were not asked yet.
    #[serde(rename = "cross_validated_ndcg@10")]
    pub ndcg_10: f64,
    /// How likely its difference from the default is chance.
    pub p_value: f64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A document cannot be cut into passages.
    #[error("document {0:?}: {1}")]
    Document(String, String),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] crate::embed::Fault),
    /// The reranker failed.
    #[error(transparent)]
    Rerank(#[from] rerank::Fault),
}

/// Indexes the documents and asks every query in every configuration. `progress` hears how far it is.
///
/// # Errors
/// If a document cannot be cut or a model fails.
pub async fn evaluate(
    dataset: &Dataset,
    model: Option<&Local>,
    reranker: Option<&rerank::Local>,
    progress: impl Fn(String),
) -> Result<Report, Broken> {
    let Built { index, owners, texts } = build(dataset, model, &progress).await?;
    let vectors = match model {
        Some(model) => {
            let texts = dataset.queries.iter().map(|query| query.text.clone()).collect();
            let mut vectors = model.embed(texts, Side::Query).await?;
            vectors.iter_mut().for_each(|vector| normalise(vector));
            vectors.into_iter().map(Some).collect()
        }
        None => vec![None; dataset.queries.len()],
    };
    let run = Run { dataset, index: &index, owners: &owners, vectors: &vectors };
    let reranked = match reranker {
        Some(reranker) => Some(run.reranked(reranker, &texts, &progress).await?),
        None => None,
    };
    let keyword =
        |name: &str, weight| (name.to_owned(), run.measured(false, Fusion::default(), weight));
    let apart = keyword("words, documents apart", 0.0);
    let words = keyword("words", DOCUMENT_WEIGHT);
    let mut all = Vec::new();
    let mut fusion = None;
    if model.is_some() {
        let hybrid = |fusion| run.measured(true, fusion, DOCUMENT_WEIGHT);
        let convex = |dense_weight| hybrid(Fusion::Convex { dense_weight });
        all.push(("hybrid".to_owned(), hybrid(Fusion::default())));
        all.push(("hybrid, reciprocal ranks".to_owned(), hybrid(Fusion::Rrf { k: fuse::K })));
        all.push(("vectors".to_owned(), convex(1.0)));
        all.push(words);
        let weights: Vec<(f32, Vec<f64>)> = (0..=10_u8)
            .map(|tenths| f32::from(tenths) / 10.0)
            .map(|weight| (weight, gains(&convex(weight))))
            .collect();
        fusion = tuned(&weights, &gains(&all[0].1));
    } else {
        all.push(words);
    }
    all.push(apart);
    if let Some(reranked) = reranked {
        all.push((format!("{}, reranked", all[0].0), reranked));
    }
    let default = gains(&all[0].1);
    let configurations = all.into_iter().enumerate().map(|(at, (name, measures))| Configuration {
        name,
        measures: mean(&measures),
        p_value: (at > 0).then(|| significance(&gains(&measures), &default)),
    });
    Ok(Report {
        documents: dataset.documents.len(),
        passages: index.len(),
        queries: dataset.queries.len(),
        configurations: configurations.collect(),
        fusion,
    })
}

/// Which document of the corpus each passage is of.
type Owners = FxHashMap<String, usize>;

/// So many of the best passages are reranked.
const RERANKED: usize = 50;

struct Built {
    index: Embedded,
    owners: Owners,
    /// What is indexed of each passage.
    texts: FxHashMap<String, String>,
}

/// Cuts and indexes. What was cut from one file before (`metadata.doc`) is one document again.
async fn build(
    dataset: &Dataset,
    model: Option<&Local>,
    progress: impl Fn(String),
) -> Result<Built, Broken> {
    let mut texts = FxHashMap::default();
    let mut owners = Owners::default();
    let mut files: Vec<(&str, Vec<Entry>)> = Vec::new();
    let mut known: FxHashMap<&str, usize> = FxHashMap::default();
    for (document, number) in dataset.documents.iter().zip(0..) {
        let file = document.metadata.doc.as_deref().unwrap_or(&document.id);
        let at = *known.entry(file).or_insert_with(|| {
            files.push((file, Vec::new()));
            files.len() - 1
        });
        let parsed = parse(&document.id, "text/plain", document.text.as_bytes())
            .map_err(|fault| Broken::Document(document.id.clone(), fault.to_string()))?;
        let title: Vec<String> =
            Some(&document.title).filter(|title| !title.is_empty()).into_iter().cloned().collect();
        for (cut, position) in chunk(&parsed).into_iter().zip(0_u32..) {
            let id = format!("{}-{position}", document.id);
            owners.insert(id.clone(), number);
            let text = indexed(&title, &parsed.text[cut.range]);
            texts.insert(id.clone(), text.clone());
            files[at].1.push(Entry { id, text, vector: None });
        }
    }
    if let Some(model) = model {
        let mut entries: Vec<&mut Entry> =
            files.iter_mut().flat_map(|(_, entries)| entries).collect();
        let mut done = 0;
        for some in entries.chunks_mut(256) {
            let texts = some.iter().map(|entry| entry.text.clone()).collect();
            for (entry, vector) in some.iter_mut().zip(model.embed(texts, Side::Document).await?) {
                entry.vector = Some(vector);
            }
            done += some.len();
            progress(format!("{done} passages have their vectors"));
        }
    }
    let mut index = Embedded::default();
    for (file, passages) in files {
        index.replace(file, Entries { passages, ..Entries::default() });
    }
    Ok(Built { index, owners, texts })
}

struct Run<'a> {
    dataset: &'a Dataset,
    index: &'a Embedded,
    owners: &'a Owners,
    vectors: &'a [Option<Vec<f32>>],
}

impl Run<'_> {
    /// Asks every query, and measures what comes.
    fn measured(&self, vectors: bool, fusion: Fusion, document_weight: f32) -> Vec<Measures> {
        let asked = self.dataset.queries.iter().zip(self.vectors);
        let of = |(query, vector): (&dataset::Query, &Option<Vec<f32>>)| {
            let vector = vector.clone().filter(|_| vectors);
            let asked = Query { text: query.text.clone(), vector, ..Query::default() };
            let found = self.index.search(&asked);
            measure(&self.documents(found.candidates, fusion, document_weight), &query.relevant)
        };
        asked.map(of).collect()
    }

    /// Asks every query as by default, has the best passages reranked, and measures what comes.
    async fn reranked(
        &self,
        reranker: &rerank::Local,
        texts: &FxHashMap<String, String>,
        progress: impl Fn(String),
    ) -> Result<Vec<Measures>, Broken> {
        let mut measures = Vec::new();
        for (query, vector) in self.dataset.queries.iter().zip(self.vectors) {
            let asked =
                Query { text: query.text.clone(), vector: vector.clone(), ..Query::default() };
            let found = self.index.search(&asked).candidates;
            let mut ranked = rank(found, Fusion::default(), DOCUMENT_WEIGHT);
            let best = ranked.iter().take(RERANKED);
            let best = best.map(|one| texts.get(&one.candidate.id).cloned().unwrap_or_default());
            let scores = reranker.score(&query.text, best.collect()).await?;
            reorder(&mut ranked, &scores);
            measures.push(measure(&self.of(&ranked), &query.relevant));
            progress(format!("{} queries are reranked", measures.len()));
        }
        Ok(measures)
    }

    /// Ranks documents, each by its best passage.
    fn documents(
        &self,
        candidates: Vec<Candidate>,
        fusion: Fusion,
        document_weight: f32,
    ) -> Vec<&str> {
        self.of(&rank(candidates, fusion, document_weight))
    }

    /// Returns the documents of ranked passages, each once.
    fn of(&self, ranked: &[Ranked]) -> Vec<&str> {
        let mut seen = HashSet::new();
        ranked
            .iter()
            .filter_map(|ranked| self.owners.get(&ranked.candidate.id))
            .filter(|document| seen.insert(**document))
            .map(|document| self.dataset.documents[*document].id.as_str())
            .collect()
    }
}

fn gains(measures: &[Measures]) -> Vec<f64> {
    measures.iter().map(|measures| measures.ndcg_10).collect()
}

/// Finds the best of some weights, each with its gain at every query.
fn tuned(weights: &[(f32, Vec<f64>)], default: &[f64]) -> Option<Tuned> {
    const FOLDS: usize = 5;
    let best = |taken: &dyn Fn(usize) -> bool| {
        let sum = |gains: &[f64]| -> f64 {
            gains.iter().enumerate().filter(|(at, _)| taken(*at)).map(|(_, gain)| gain).sum()
        };
        weights.iter().max_by(|a, b| sum(&a.1).total_cmp(&sum(&b.1)))
    };
    let mut unseen = vec![0.0; default.len()];
    for fold in 0..FOLDS {
        let (_, gains) = best(&|at| at % FOLDS != fold)?;
        for at in (fold..unseen.len()).step_by(FOLDS) {
            unseen[at] = gains[at];
        }
    }
    Some(Tuned {
        dense_weight: best(&|_| true)?.0,
        ndcg_10: unseen.iter().sum::<f64>() / unseen.len().max(1) as f64,
        p_value: significance(&unseen, default),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_judged_by_queries_that_did_not_choose_it() {
        let one = (0..10).map(|at| if at % 5 == 0 { 1.0 } else { 0.5 }).collect();
        let other = (0..10).map(|at| if at % 5 == 0 { 0.0 } else { 0.6 }).collect();
        let tuned = tuned(&[(0.1, one), (0.9, other)], &[0.5; 10]).unwrap();
        assert!((tuned.dense_weight - 0.1).abs() < 1e-6, "0.6 and 0.48");
        // Without the first fifth the other is better, and fails at it.
        assert!((tuned.ndcg_10 - 0.4).abs() < 1e-9, "{}", tuned.ndcg_10);
    }
}
